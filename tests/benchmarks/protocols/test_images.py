"""The benchmark of images deals them out as documented and refuses files of another form."""

import numpy as np
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.protocols import images


def surfaces():
    """Thirty drawn parts under three lights each."""
    return images.spotted_tiles()


def test_images_under_other_lights_are_the_same_part():
    """Twenty normal parts are told apart, each by its three images."""
    drawn = surfaces()

    parts = images.same_parts(drawn.test[~drawn.is_anomaly])

    np.testing.assert_array_equal(parts, np.repeat(np.arange(20), 3))


def test_no_part_is_on_both_sides():
    """No part has images both in the training and in the test samples."""
    drawn = surfaces()

    dealt = images.half_of_parts(drawn, seed=0)

    together = np.concatenate([dealt.train, dealt.test[~dealt.is_anomaly]])
    parts = images.same_parts(together)
    assert len(dealt.train) == 30
    assert not set(parts[:30]) & set(parts[30:])


def test_half_of_the_normal_images_is_drawn():
    """The split is that of T2 for rows, and masks stay with their images."""
    drawn = surfaces()

    dealt = images.half_of_images(drawn, seed=3)

    normal = np.random.RandomState(3).permutation(np.flatnonzero(~drawn.is_anomaly))
    np.testing.assert_array_equal(dealt.train, drawn.test[normal[:30]])
    assert len(dealt.test) == 60
    np.testing.assert_array_equal(dealt.mask.any(axis=(1, 2)), dealt.is_anomaly)


def test_every_class_of_a_file_is_a_set(tmp_path):
    """A set is named after file and class; other files of the folder are ignored."""
    shapes = {"x_train": (6, 4, 4), "x_test": (3, 4, 4)}
    arrays = {name: np.zeros(shape, np.uint8) for name, shape in shapes.items()}
    np.savez(tmp_path / "two.npz", **arrays, y_train=[0, 0, 7, 7, 7, 7], y_test=[0, 7, 1])
    np.savez(tmp_path / "other.npz", X=np.zeros(3))

    sets = images.find_classes(tmp_path)

    assert [data.name for data in sets] == ["two-0", "two-7"]
    loaded = sets[1].load()
    assert loaded.train.shape == (4, 4, 4)
    assert loaded.is_anomaly.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"X": np.zeros((4, 8, 8))}, "X must hold 8-bit images"),
        ({"y": np.zeros(4)}, "y must hold 0 and 1 of shape (4,)"),
        ({"mask": np.zeros((4, 8))}, "mask must have shape (4, 8, 8), got (4, 8)"),
    ],
)
def test_another_form_is_refused(tmp_path, change, words):
    """The error names the file and the array, the expected form and the given one."""
    arrays = {"X": np.zeros((4, 8, 8), np.uint8), "y": [0, 0, 0, 1], "mask": np.zeros((4, 8, 8))}
    np.savez(tmp_path / "tiles.npz", **{**arrays, **change})

    with pytest.raises(BenchmarkError) as error:
        images.find_surfaces(tmp_path)[0].load()

    assert "tiles.npz" in str(error.value)
    assert words in str(error.value)


def test_pixels_are_ranked_over_all_images_and_within_each():
    """A map equal to the mask is perfect; a method without a map has no figure."""
    mask = np.zeros((2, 3, 3), dtype=bool)
    mask[1, 1, 1] = True

    assert images.map_figures(mask, mask.astype(float)[..., None]) == {"pixel_auroc": 1, "map_auroc": 1}
    assert set(images.map_figures(mask, None).values()) == {None}


@pytest.mark.slow
def test_both_of_ours_and_the_baselines_find_spots():
    """One run of each cheap method through the whole protocol."""
    protocol = images.PROTOCOLS["I5"]
    for method in ("residual", "pca", "knn1"):
        row = protocol.measure(surfaces(), 0, method)

        assert row["auroc"] > 0.9
        assert (row["pixel_auroc"] is None) == (method == "knn1")

"""Pseudo-anomalies are near to normal samples, and differ from them as they should."""

import numpy as np
import pytest

from training.figures.pseudo import make_pseudo_anomalies


def numbered(shape, n_samples=200):
    """Return samples of one constant each, so that the origin of a value is visible."""
    return np.broadcast_to(np.arange(n_samples).reshape(-1, *[1] * len(shape)), (n_samples, *shape)).copy()


@pytest.mark.parametrize("shape", [(8, 10), (9, 9, 3)])
def test_images_get_a_box_of_another_one(shape):
    """Boxes have all channels and many sizes, up to half of each side; the images stay unchanged."""
    images = numbered(shape)

    copies = make_pseudo_anomalies(images, "image", images.mean(axis=0), np.random.default_rng(0))

    np.testing.assert_array_equal(images, numbered(shape))
    differs = copies != images
    for number, (copy, changed) in enumerate(zip(copies, differs, strict=True)):
        places = [np.unique(axis) for axis in np.nonzero(changed)]
        assert len(set(np.unique(copy)) - {number}) == 1
        assert changed.sum() == np.prod([axis.size for axis in places])
        assert [axis.size for axis in places[2:]] == list(shape[2:])
    shares = differs.reshape(len(copies), -1).mean(axis=1)
    assert shares.min() < shares.max() / 4
    assert shares.max() <= 0.25


@pytest.mark.parametrize(("kind", "shape"), [("vector", (6,)), ("sequence", (16, 3))])
def test_rows_and_windows_are_exaggerated(kind, shape):
    """Away from the mean in the sample's own direction, by 1.25 to 3 times its distance."""
    rng = np.random.default_rng(0)
    samples, mean = rng.normal(5, 1, size=(300, *shape)), np.full(shape, 5.0)

    copies = make_pseudo_anomalies(samples, kind, mean, rng)

    factors = ((copies - mean) / (samples - mean)).reshape(300, -1)
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1], factors.shape), rtol=1e-2)
    assert 1.24 < factors.min() < 1.3
    assert 2.9 < factors.max() < 3.01

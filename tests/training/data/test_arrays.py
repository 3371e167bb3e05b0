"""The arrays of an archive are told apart by their names, and none is dropped without a word."""

import zipfile

import numpy as np
import pytest

from detector.sources import array_names
from training.data.load import load_dataset
from training.errors import DataError

X, T = np.arange(24.0).reshape(8, 3), np.arange(12.0).reshape(4, 3) / 7
Y, TY = np.array([0, 0, 0, 0, 0, 0, 1, 1]), np.array([0, 1, 0, 1])


@pytest.fixture
def archive(tmp_path):
    """Write arrays into an .npz."""

    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return str(tmp_path / "data.npz")

    return write


@pytest.mark.parametrize(
    "names",
    [
        "X y",
        "x labels",
        "data target",
        "Features LABEL",
        "samples anomaly",
        "arr_0 arr_1",
        "images class",
        "x_train y",
        "x_test y_test",
    ],
)
def test_samples_and_labels_have_many_names(archive, names):
    """An array called `labels` is no accident."""
    dataset = load_dataset(archive(**dict(zip(names.split(), (X, Y), strict=True))))

    np.testing.assert_array_equal(dataset.samples, X)
    assert dataset.is_anomaly.tolist() == (Y == 1).tolist()
    assert dataset.notes == ()
    assert not dataset.held_out.any()


@pytest.mark.parametrize(
    "names",
    [
        "x_train y_train x_test y_test",
        "X_TRAIN Y_TRAIN X_TEST Y_TEST",
        "train train_label test test_label",
        "trainX trainY testX testY",
        "train_images train_labels test_images test_labels",
        "x_train y_train x_val y_val",
        "Xtrain ytrain Xtest ytest",
    ],
)
def test_splits_have_many_names(archive, names):
    """The test split is held out, and so is a validation split if there is no other."""
    dataset = load_dataset(archive(**dict(zip(names.split(), (X, Y, T, TY), strict=True))))

    np.testing.assert_allclose(dataset.samples, np.concatenate([X, T]), rtol=1e-6)
    assert dataset.held_out.tolist() == [False] * 8 + [True] * 4
    assert dataset.is_anomaly.tolist() == [*(Y == 1), *(TY == 1)]


@pytest.mark.parametrize(
    "names", [("x_train", "x_test", "y_test"), ("train", "test", "test_label"), ("train", "test", "label")]
)
@pytest.mark.parametrize(("labels", "normal_label"), [(TY, None), (np.array(["ok", "bad"] * 2), "ok")])
def test_labels_of_the_test_split_are_enough(archive, names, labels, normal_label):
    """Training samples without a label are normal."""
    path = archive(**dict(zip(names, (X, T, labels), strict=True)))

    dataset = load_dataset(path, normal_label=normal_label)

    assert dataset.is_anomaly.tolist() == [False] * 8 + [False, True] * 2
    assert set(dataset.labels[:8]) == {normal_label or "0"}
    assert dataset.notes == ("training samples have no labels and count as normal",)


def test_validation_samples_join_the_training_split_of_a_test_split(archive):
    """As in MedMNIST's archives."""
    dataset = load_dataset(
        archive(train=X, train_labels=Y, val=T, val_labels=TY, test=T[:2], test_labels=TY[:2])
    )

    assert dataset.held_out.tolist() == [False] * 12 + [True] * 2
    assert dataset.is_anomaly.tolist() == [*(Y == 1), *(TY == 1), False, True]
    assert "the validation samples join the training split" in dataset.notes[0]


@pytest.mark.parametrize(
    ("more", "unused"),
    [
        ({"feature_names": np.array(["a", "b", "c"]), "mean": np.zeros(3)}, "'feature_names', 'mean'"),
        ({"data": X[:2]}, "'data'"),
        ({"x_train": X[:2]}, "'x_train'"),
        ({"test_label": TY}, "'test_label'"),
    ],
)
def test_arrays_that_are_not_used_are_named(archive, more, unused):
    """`X` is preferred to others."""
    dataset = load_dataset(archive(X=X, y=Y, **more))

    np.testing.assert_array_equal(dataset.samples, X)
    assert dataset.notes == (f"arrays of data.npz that are not used: {unused}",)


def test_an_archive_without_samples_lists_its_arrays(archive):
    """Nothing is taken for samples because of its shape."""
    with pytest.raises(DataError, match=r"must hold X and optionally y, .*; got 'spectra', 'wavelengths'$"):
        load_dataset(archive(spectra=X, wavelengths=T))


@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (5, 1, 9, 8)])
def test_images_with_channels_first_get_the_transpose(archive, shape):
    """PyTorch puts channels first."""
    with pytest.raises(DataError, match=r"channels come last, so save numpy\.moveaxis\(X, 1, -1\)$"):
        load_dataset(archive(X=np.zeros(shape, np.uint8)))


def test_images_with_an_alpha_channel_are_refused_with_a_hint(archive):
    """Whether it is opaque is not looked at."""
    with pytest.raises(DataError, match="leave out the alpha channel"):
        load_dataset(archive(X=np.zeros((5, 8, 8, 4), np.uint8)))


def test_compressed_arrays_have_a_limit(tmp_path, monkeypatch):
    """A few megabytes of zeros become gigabytes; arrays that are not compressed have the size of the file."""
    monkeypatch.setattr(array_names, "MOST_INFLATED", 10**6)
    large = np.zeros((200_000, 1))
    np.savez_compressed(tmp_path / "bomb.npz", X=large)
    np.savez(tmp_path / "large.npz", X=large)

    with pytest.raises(
        DataError, match=r"bomb\.npz has 0\.00\d+ MB and inflates to 0\.0016 GB: .*numpy\.savez"
    ):
        load_dataset(str(tmp_path / "bomb.npz"))
    assert len(load_dataset(str(tmp_path / "large.npz")).samples) == 200_000


def test_other_members_of_an_archive_are_not_inflated(tmp_path):
    """A damaged array that nobody needs does no harm."""
    np.savez(tmp_path / "data.npz", X=X)
    with zipfile.ZipFile(tmp_path / "data.npz", "a") as archive:
        archive.writestr("notes.npy", b"no array")

    dataset = load_dataset(str(tmp_path / "data.npz"))

    assert dataset.notes == ("arrays of data.npz that are not used: 'notes'",)

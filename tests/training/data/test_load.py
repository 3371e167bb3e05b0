"""A path or a name becomes samples, labels and anomalies."""

import numpy as np
import pytest

from training.data.categories import Cells
from training.data.load import load_dataset
from training.errors import DataError

RNG = np.random.default_rng(0)


@pytest.fixture
def archive(tmp_path):
    """Writes arrays into an .npz."""

    def write(**arrays):
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return str(path)

    return write


def test_digits_are_images_of_values_0_to_16():
    """All ten digits are normal unless one is named."""
    dataset = load_dataset("digits")

    assert dataset.kind == "image"
    assert dataset.sample_shape == (8, 8)
    assert dataset.value_range == (0.0, 16.0)
    assert not dataset.is_anomaly.any()
    assert "CC BY" in dataset.provenance
    assert "name the normal label with --normal-label" in dataset.label_notes[0]


def test_breast_cancer_takes_benign_as_normal():
    """It is the only built-in set with a label for normal samples."""
    dataset = load_dataset("breast-cancer")

    assert dataset.kind == "vector"
    assert dataset.feature_names[0] == "mean_radius"
    assert dataset.is_anomaly.sum() == 212
    assert "Wisconsin" in dataset.provenance


def test_normal_label_makes_all_others_anomalies(archive):
    """Labels are compared as text: 3 and "3" are the same."""
    path = archive(X=RNG.normal(size=(6, 2)), y=np.array([3, 3, 3, 5, 7, 3]))

    dataset = load_dataset(path, normal_label="3")

    assert dataset.is_anomaly.tolist() == [False, False, False, True, True, False]


def test_labels_0_and_1_mean_normal_and_anomaly(archive):
    """Labelled anomaly data have this convention."""
    dataset = load_dataset(archive(X=RNG.normal(size=(3, 2)), y=np.array([0, 1, 0])))

    assert dataset.is_anomaly.tolist() == [False, True, False]
    assert dataset.notes == ()


def test_x_test_is_held_out(archive):
    """Every sample of the data's own test split is marked as held out."""
    x = RNG.integers(0, 255, size=(5, 4, 4), dtype=np.uint8)
    dataset = load_dataset(
        archive(x_train=x, y_train=np.zeros(5), x_test=x[:2], y_test=np.array([0, 1])), kinds=["image"]
    )

    assert dataset.held_out.tolist() == [False] * 5 + [True] * 2
    assert dataset.is_anomaly.tolist() == [False] * 6 + [True]


def test_npy_of_bytes_in_three_dimensions_is_an_image(tmp_path):
    """8-bit three-dimensional data needs no --kind."""
    np.save(tmp_path / "data.npy", np.zeros((3, 4, 4), dtype=np.uint8))

    dataset = load_dataset(str(tmp_path / "data.npy"))

    assert dataset.kind == "image"
    assert dataset.value_range == (0.0, 255.0)
    assert dataset.samples.dtype == np.uint8


def test_images_of_floats_take_their_range_from_what_is_not_held_out(archive):
    """Assumed with a note; a held-out pixel beyond it is no fault."""
    x_train = np.linspace(0, 16, 32).reshape(2, 4, 4)
    dataset = load_dataset(archive(x_train=x_train, x_test=x_train * 2), kinds=["image"])

    assert dataset.value_range == (0.0, 16.0)
    assert "name others with --value-range" in dataset.notes[0]


@pytest.mark.parametrize(
    ("arrays", "options", "sentence"),
    [
        ({"Z": np.zeros((3, 2))}, {}, "must hold X and optionally y"),
        ({"X": np.zeros((3, 2)), "y": np.zeros(2)}, {}, "y must have 3 labels, got 2"),
        (
            {"X": np.zeros((3, 2)), "y": np.array([0, 1, np.nan])},
            {},
            "a label for every sample, got 'nan' in row 2",
        ),
        ({"X": np.zeros((2, 2)), "y": np.array(["ok", ""])}, {}, "a label for every sample, got '' in row 1"),
        ({"X": np.array(["a", "b"])}, {}, "must be real numbers"),
        ({"X": np.zeros(3)}, {}, "must have shape (n, ...), got (3,)"),
        ({"X": np.zeros((0, 3))}, {}, "must have shape (n, ...), got (0, 3)"),
        ({"X": np.array([[1.0, np.nan]])}, {}, "got nan in row 0, position [1]"),
        ({"X": np.array([[1.0, 1e39]])}, {}, "finite float32"),
        ({"X": np.zeros((3, 4, 4))}, {}, "name the kind with --kind"),
        ({"X": np.zeros((3, 4, 4))}, {"kinds": ["image"]}, "every pixel of every image has the same value"),
        ({"X": np.full((3, 4, 4), np.nan)}, {"kinds": ["image"]}, "finite float32 values, got nan"),
        ({"X": np.ones((3, 4, 4))}, {"kinds": ["image"], "value_range": (1, 0)}, "two ascending numbers"),
        (
            {"X": np.ones((3, 4, 4)) * 9},
            {"kinds": ["image"], "value_range": (0, 1)},
            "within the value range",
        ),
        (
            {"X": np.ones((3, 4, 4))},
            {"kinds": ["image"], "value_range": (0, np.inf)},
            "two ascending numbers",
        ),
        (
            {"X": np.ones((3, 4, 4))},
            {"kinds": ["image"], "value_range": (0, np.nan)},
            "two ascending numbers",
        ),
        (
            {"X": np.ones((3, 4, 4))},
            {"kinds": ["image"], "value_range": (0, 1e-50)},
            "float32 can tell apart",
        ),
        ({"X": np.full((3, 2), 7)}, {"value_range": (0, 1)}, "samples must lie within the value range"),
        ({"X": np.zeros((3, 4))}, {"kinds": ["image"]}, "an image has shape"),
        ({"X": np.zeros((3, 1, 16), np.uint8)}, {}, "at least 2 x 2 pixels, got shape (1, 16)"),
        ({"X": np.zeros((3, 1))}, {"kinds": ["sequence"]}, "a window has shape (steps, channels)"),
        ({"X": np.zeros((3, 2))}, {"normal_label": "0"}, "the data have none"),
        ({"X": np.zeros((2, 2)), "y": np.array([0, 1])}, {"normal_label": "7"}, "not among the labels 0, 1"),
        ({"X": np.zeros((2, 2))}, {"columns": ["a"]}, "are only for tables"),
        (
            {"x_train": np.zeros((2, 2)), "x_test": np.zeros((2, 3))},
            {},
            "training and test samples must have one shape",
        ),
        (
            {"x_train": np.zeros((2, 2)), "y_train": np.zeros(2), "x_test": np.zeros((2, 2))},
            {},
            "the training samples have labels, so the test samples must have labels too",
        ),
    ],
)
def test_load_dataset_names_what_is_wrong(archive, arrays, options, sentence):
    """Every fault of arrays is one sentence."""
    with pytest.raises(DataError) as caught:
        load_dataset(archive(**arrays), **options)

    assert sentence in str(caught.value)


def test_labels_of_train_and_test_are_read_together(archive):
    """0.0 is the 0 of the other half also where that holds 0.5."""
    x = np.zeros((2, 2))

    dataset = load_dataset(
        archive(x_train=x, y_train=np.array([0.0, 1.0]), x_test=x, y_test=np.array([0.0, 0.5]))
    )

    assert dataset.labels.tolist() == ["0.0", "1.0", "0.0", "0.5"]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", ">i4"])
def test_arrays_of_any_byte_order_and_layout_are_the_same_data(archive, order, dtype):
    """A file of another machine or of Fortran has the fingerprint of its values."""
    values = np.arange(12).reshape(4, 3)

    dataset = load_dataset(archive(X=values.astype(dtype, order=order)))

    np.testing.assert_array_equal(dataset.samples, values)
    assert dataset.fingerprint() == load_dataset(archive(X=values.astype(np.float32))).fingerprint()


@pytest.mark.parametrize(("content", "name"), [("npz", "data.npy"), ("npy", "DATA.NPZ"), ("npy", "data.NPY")])
def test_arrays_are_told_by_their_content(tmp_path, content, name):
    """A file under the other suffix, or in capitals, is read all the same."""
    with (tmp_path / name).open("wb") as file:
        np.savez(file, X=np.zeros((3, 2))) if content == "npz" else np.save(file, np.zeros((3, 2)))

    assert load_dataset(str(tmp_path / name)).samples.shape == (3, 2)


def test_built_in_sets_of_keras_bring_their_test_split(monkeypatch):
    """Labels in a column, as cifar10 has them; the test images are held out."""
    import keras

    train = (np.zeros((3, 4, 4, 3), dtype=np.uint8), np.array([[7], [1], [7]]))
    test = (np.ones((2, 4, 4, 3), dtype=np.uint8), np.array([[7], [1]]))
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", lambda: (train, test))

    dataset = load_dataset("cifar10", normal_label="7")

    assert dataset.kind == "image"
    assert dataset.held_out.tolist() == [False] * 3 + [True] * 2
    assert dataset.is_anomaly.tolist() == [False, True, False, False, True]


def test_built_in_sets_that_cannot_be_downloaded_name_the_way_out(monkeypatch):
    """Keras raises a plain Exception without a network."""
    import keras

    def fail():
        raise Exception("URL fetch failure")

    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", fail)

    with pytest.raises(DataError, match=r"URL fetch failure\).*--data PATH/fashion_mnist\.npz"):
        load_dataset("fashion-mnist")


def test_load_dataset_refuses_pickles(tmp_path):
    """An object array is not read."""
    np.save(tmp_path / "data.npy", np.array([{}], dtype=object), allow_pickle=True)

    with pytest.raises(DataError, match="without pickles"):
        load_dataset(str(tmp_path / "data.npy"))


@pytest.mark.parametrize("data", ["nowhere.csv", "iris"])
def test_load_dataset_lists_the_built_in_names(data):
    """A typing error in a name lists the valid ones."""
    with pytest.raises(DataError, match="digits, breast-cancer, mnist"):
        load_dataset(data)


def test_load_dataset_refuses_other_suffixes(tmp_path):
    """A workbook of an old form is not guessed at."""
    (tmp_path / "data.xls").write_bytes(b"x")

    with pytest.raises(DataError, match=r"must be one of \.csv"):
        load_dataset(str(tmp_path / "data.xls"))


def test_normal_label_of_a_boolean_column_may_be_a_word(tmp_path):
    """The label may be written as in the file, although booleans are read as 0 and 1."""
    (tmp_path / "data.csv").write_text("a,good\n1,true\n2,false\n")

    dataset = load_dataset(str(tmp_path / "data.csv"), label_column="good", normal_label="True")

    assert dataset.is_anomaly.tolist() == [False, True]


def test_notes_of_a_table_are_those_of_the_data(tmp_path):
    """Notes about reading and about labels are told apart."""
    (tmp_path / "data.csv").write_text(",a,state\n0,1,ok\n1,2,bad\n")

    dataset = load_dataset(str(tmp_path / "data.csv"), label_column="state")

    assert "saved index" in dataset.notes[0]
    assert "every sample counts as normal" in dataset.label_notes[0]


def test_fingerprint_follows_the_data(archive):
    """The same samples have the same fingerprint, one other value another."""
    samples = RNG.normal(size=(4, 2))
    first = load_dataset(archive(X=samples)).fingerprint()
    second = load_dataset(archive(X=samples)).fingerprint()
    samples[0, 0] += 1
    third = load_dataset(archive(X=samples)).fingerprint()

    assert first == second != third


@pytest.mark.parametrize(
    ("shape", "kinds", "kind", "sample_shape"),
    [
        ((28, 28), ["vector", "image"], "image", (28, 28)),
        ((28, 28), ["vector"], "vector", (784,)),
        ((28, 28), ["sequence"], "sequence", (28, 28)),
        ((4, 5, 3), ["sequence"], "sequence", (4, 15)),
        ((140,), ["sequence"], "sequence", (140, 1)),
        ((30,), ["vector", "image"], "vector", (30,)),
    ],
)
def test_samples_take_the_form_of_a_kind_that_is_wanted(archive, shape, kinds, kind, sample_shape):
    """Their own kind where it is among those wanted, the first of these else."""
    samples = np.random.default_rng(0).integers(0, 255, size=(6, *shape)).astype(np.uint8)

    dataset = load_dataset(archive(X=samples), kinds=kinds)

    assert (dataset.kind, dataset.sample_shape) == (kind, sample_shape)
    np.testing.assert_array_equal(dataset.samples.ravel(), samples.ravel())
    reshaped = sample_shape != shape and len(shape) > 1
    assert any("are taken as" in note for note in dataset.notes) == reshaped


@pytest.mark.parametrize("kinds", [("sequence",), ("image", "sequence")])
@pytest.mark.parametrize("missing", [None, "gaps", "interpolate"])
def test_windows_and_images_hold_no_missing_value(tmp_path, kinds, missing):
    """Only a series of steps can leave out the windows that touch one."""
    samples = np.random.default_rng(0).uniform(0, 255, size=(30, 8, 6))
    np.savez(tmp_path / "whole.npz", X=samples if kinds == ("sequence",) else samples.astype(np.uint8))
    samples[3, 2, 1] = np.nan
    np.savez(tmp_path / "holed.npz", X=samples)

    assert load_dataset(str(tmp_path / "whole.npz"), kinds=kinds, cells=Cells(missing)).missing == "refuse"
    with pytest.raises(
        DataError, match=r"must be finite float32 values, got nan in row 3, position \[2, 1\]"
    ):
        load_dataset(str(tmp_path / "holed.npz"), kinds=kinds, cells=Cells(missing))

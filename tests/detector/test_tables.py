"""Rows with text and missing values, and tables of other libraries, score like the equivalent numbers."""

import numpy as np
import pyarrow as pa
import pytest

from detector import Detector, InputError
from detector.tables import to_cells
from tests.model_folder import MIXED, expected_score, write_model_folder


@pytest.fixture
def make(tmp_path):
    """Detectors of the hand-made model, their manifest changed."""

    def load(**changes):
        folder = tmp_path / "mixed" / "1"
        write_model_folder(folder, **changes)
        return Detector.load(folder)

    return load


@pytest.fixture
def mixed(make) -> Detector:
    """`a` is measured, `b` is idle or run, `c` is 0, 2.5 or 7; any may be missing, or another category."""
    return make(**MIXED)


class Frame:
    """The interface that all data frames share, without one of their libraries."""

    def __init__(self, columns):
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name):
        return self._columns[name]


class NA:
    """pandas' missing value: it equals nothing, and says neither yes nor no to that."""

    def __eq__(self, other):
        return self

    def __hash__(self):
        return 0

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")


ROWS = [[1.5, "idle", 0], [None, "run", 2.5], [2, "stop", 3]]
NUMBERS = [[1.5, 0, 0], [np.nan, 1, 2.5], [2, 2, 3]]
FORMS = {
    "lists": ROWS,
    "objects": np.array(ROWS, dtype=object),
    "numbers": np.array(NUMBERS),
    "mapping": {"c": [0, 2.5, 3], "a": [1.5, None, 2], "b": ["idle", "run", "stop"]},
    "objects in a mapping": {"c": (0, 2.5, 3), "a": [1.5, np.nan, 2], "b": ["idle", "run", "stop"]},
    "empty text": [[1.5, "idle", 0], ["", "run", 2.5], [2, "stop", 3]],
    "frame": Frame({"b": np.array(["idle", "run", "stop"]), "c": [0, 2.5, 3], "a": [1.5, NA(), 2]}),
    "arrow": pa.table({"b": ["idle", "run", "stop"], "a": [1.5, None, 2], "c": [0, 2.5, 3]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_rows_scores_alike(mixed, form):
    """Words, columns by name and plain numbers are one sample."""
    result = mixed.score(FORMS[form])

    assert result.score.tolist() == mixed.score(np.array(NUMBERS)).score.tolist()
    np.testing.assert_allclose(result.score, expected_score(np.nan_to_num(NUMBERS)), rtol=1e-6)


@pytest.mark.parametrize("form", ["lists", "numbers", "arrow"])
def test_explanation_speaks_as_the_client_does(mixed, form):
    """Categories are texts, missing values are None, and unknown categories stay as given."""
    result = mixed.score(FORMS[form], explain=3)

    told = [{part.feature: part.actual for part in row} for row in result.explanation]
    assert told[0] == {"a": 1.5, "b": "idle", "c": 0}
    assert told[1] == {"a": None, "b": "run", "c": 2.5}
    assert told[2] == {"a": 2, "b": 2 if form == "numbers" else "stop", "c": 3}
    assert {part.feature: part.expected for part in result.explanation[0]} == {"a": 1.5, "b": "idle", "c": 0}


def test_a_missing_category_among_texts_is_missing(mixed):
    """NaN in a list of texts would become the text nan in an array of them."""
    columns = {"a": [1, 2], "b": ["idle", np.nan], "c": [0, 0]}

    assert np.isnan(mixed.engine.check_samples(columns)[1, 1])
    assert np.isnan(mixed.engine.check_samples([[1, "idle", 0], [2, "", 0]])[1, 1])


def test_to_cells_gives_words_back(mixed):
    """The reconstruction has the form in which a client would write it."""
    cells = to_cells(mixed.reconstruct([[1.5, "run", 2.5]]), mixed.manifest)

    assert cells == [[1.5, "run", 0]]


@pytest.mark.parametrize("value", [True, np.True_])
def test_booleans_are_the_words_of_json(make, value):
    """A column of true and false is one of two categories."""
    detector = make(categories={"b": ("false", "true")}, unknown_category="refuse")

    assert detector.engine.check_samples([[0, value, 0]]).tolist() == [[0, 1, 0]]


def test_compression_counts_a_wrong_category_as_one_and_leaves_out_what_is_missing(mixed):
    """The third value is never kept: 7 is two categories from 0, and off by one."""
    assert mixed.compress([[None, "run", 7]]).error == pytest.approx(np.sqrt(1 / 2))


@pytest.mark.parametrize(
    ("rows", "sentence", "index"),
    [
        ([["hot", "idle", 0]], "'a' must be a number, got 'hot' in row 0", (0, 0)),
        ([[1, "idle", 0], [True, "idle", 0]], "'a' must be a number, got True in row 1", (1, 0)),
        ([[1, 0, 0]], "'b' must be a text, one of idle, run or another, got 0 in row 0", (0, 1)),
        ([[1, "idle", "7"]], "'c' must be a number, got '7' in row 0", (0, 2)),
        (
            np.array([[1, 3, 0]]),
            "'b' must be an integer from 0 to 1, the position of one of idle, run, or 2",
            1,
        ),
        (np.array([[1, 0.5, 0]]), "'b' must be an integer from 0 to 1", 1),
        ([[np.inf, "idle", 0]], "samples must be finite float32 values, got inf in row 0, a", (0, 0)),
        ([[1, "idle"]], "samples must have shape (n, 3), got (1, 2)", None),
        ([[1, "idle", 0], [1]], "samples must have shape (n, 3), got (2,)", None),
        ([np.zeros((2, 2)), np.zeros((2, 3))], "samples must be rows of one length", None),
        ({"a": [1], "b": ["idle"]}, "it lacks 'c'", None),
        ({"a": [1], "b": ["idle"], "c": [0], "d": [0]}, "it has the unknown 'd'", None),
        ({"a": [1, 2], "b": ["idle"], "c": [0]}, "columns must have one length, got {'a': 2, 'b': 1", None),
        ({"a": [[1]], "b": ["idle"], "c": [0]}, "a column must have one dimension", None),
    ],
)
def test_rows_that_the_model_cannot_take_are_named(mixed, rows, sentence, index):
    """The error has the column, the expected values, the given one and its place."""
    with pytest.raises(InputError) as caught:
        mixed.score(rows)

    assert sentence in str(caught.value)
    assert caught.value.index == ((0, index) if isinstance(index, int) else index)


def test_rows_of_different_lengths_are_the_callers_error(detector):
    """A model of numbers refuses ragged rows, too."""
    with pytest.raises(InputError, match="samples must be rows of one length"):
        detector.score([[1, 2, 3], [1, 2]])


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([[1, "stop", 0]], "'b' must be one of idle, run, got 'stop' in row 0; unknown categories are for"),
        (
            np.array([[1, 2, 0]]),
            "'b' must be an integer from 0 to 1, the position of one of idle, run, got 2",
        ),
        ([[1, "idle", 3]], "'c' must be one of 0, 2.5, 7, got 3 in row 0; unknown categories are for"),
        (
            [[None, "idle", 0]],
            "got nan in row 0, a; missing values are for models fitted with --missing median",
        ),
        ([[1, None, 0]], "got nan in row 0, b; missing values are for"),
    ],
)
def test_what_a_model_was_not_fitted_for_is_refused_with_the_option(make, rows, sentence):
    """A model that refuses unknown categories and missing values says which option takes them."""
    detector = make(**MIXED | {"missing": "refuse", "unknown_category": "refuse"})

    with pytest.raises(InputError) as caught:
        detector.score(rows)

    assert sentence in str(caught.value)


def test_a_word_in_a_measured_column_is_not_called_an_unknown_category(make):
    """The error names no option, because none would help."""
    detector = make(**MIXED | {"missing": "refuse", "unknown_category": "refuse"})

    with pytest.raises(InputError, match=r"'a' must be a number, got 'hot' in row 0$"):
        detector.score([["hot", "idle", 0]])


def test_measured_rows_take_data_frames_too(detector):
    """Columns may have any order, for a model of numbers, too."""
    table = pa.table({"c": [3, 6], "a": [1.0, 4.0], "b": [2, 5]})

    assert detector.score(table).score.tolist() == detector.score([[1, 2, 3], [4, 5, 6]]).score.tolist()
    assert detector.reconstruct(table).shape == (2, 3)
    assert detector.encode(table).shape == (2, 2)
    assert detector.compress(table).latent.shape == (2, 2)


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ([1, None], "got nan in row 1, a; missing values are for models fitted with --missing median"),
        (["x", 1], "'a' must be a number, got 'x' in row 0"),
    ],
)
def test_measured_rows_of_a_data_frame_are_numbers(detector, column, sentence):
    """The error names the value that the column may not have."""
    with pytest.raises(InputError) as caught:
        detector.score({"a": np.array(column, dtype=object), "b": [1, 2], "c": [1, 2]})

    assert sentence in str(caught.value)


def test_columns_may_be_counted(make):
    """A data frame has numbers for names where it is told no names."""
    detector = make(feature_names=("0", "1", "2"))

    assert (
        detector.score({2: [3], 0: [1], 1: [2]}).score.tolist() == detector.score([[1, 2, 3]]).score.tolist()
    )


def test_a_series_may_be_a_data_frame(make):
    """Each row is a step, and channels are matched by name."""
    detector = make(sample_shape=(4, 2), kind="sequence")
    series = np.arange(12.0).reshape(6, 2)

    framed = detector.score({"b": series[:, 1], "a": series[:, 0]})

    assert framed.score.tolist() == detector.score(series).score.tolist()


def test_images_are_no_table(make):
    """Pixels have no names."""
    detector = make(sample_shape=(4, 5))

    with pytest.raises(InputError, match="of kind image without feature names takes arrays, not a table"):
        detector.score({"a": [1]})

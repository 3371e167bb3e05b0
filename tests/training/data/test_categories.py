"""Texts and codes become categories, gaps become NaN, or a sentence says which option takes them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from detector.reading import Reading
from training.data.categories import Cells
from training.data.load import load_dataset
from training.data.tables import read_table
from training.errors import DataError

MIXED = "t,state,grade,on\n1.5,run,2,true\n,idle,5,false\n3,,2,true\n4,run,,\n"
CELLS = Cells("median", ("state", "grade", "on"))


@pytest.fixture
def table(tmp_path):
    """Writes a text into a CSV."""

    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_texts_codes_and_booleans_are_categories(table):
    """A text is its position in the alphabet, a number is itself, an empty cell is NaN."""
    result = read_table(table(MIXED), cells=CELLS)

    assert result.categories == {"state": ("idle", "run"), "grade": (2, 5), "on": ("false", "true")}
    np.testing.assert_array_equal(
        result.values, [[1.5, 1, 2, 1], [np.nan, 0, 5, 0], [3, np.nan, 2, 1], [4, 1, np.nan, np.nan]]
    )


def test_parquet_with_categories_of_pandas_reads_as_text(tmp_path):
    """A dictionary of texts, and NaN as a missing number."""
    states = pa.array(["run", "idle", None, "run"]).dictionary_encode()
    path = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(pa.table({"state": states, "t": [1.0, np.nan, 2.0, 3.0]}), path)

    result = read_table(path, cells=Cells("median", ("state",)))

    np.testing.assert_array_equal(result.values, [[1, 1], [0, np.nan], [np.nan, 2], [1, 3]])


def test_categories_of_a_model_keep_their_numbers(table):
    """New data have other words, and fewer; a text that looks like a number is one all the same."""
    known = {"state": ("idle", "run"), "grade": (2, 5), "code": ("007", "12")}
    cells = Cells("refuse", tuple(known), known=known)

    result = read_table(table("code,state,grade\n12,run,5\n007,stop,3\n7,run,2\n"), cells=cells)

    assert result.categories == {"code": ("007", "12"), "state": ("idle", "run"), "grade": (2, 5)}
    np.testing.assert_array_equal(result.values, [[1, 1, 5], [0, 2, 3], [2, 1, 2]])


@pytest.mark.parametrize(
    ("text", "cells", "sentence"),
    [
        ("a,state\n1,run\n2,idle\n", Cells(), "for columns that are categories give --categorical state"),
        ("a,on\n1,true\n", Cells(), "for columns that are categories give --categorical on"),
        ("a,b\n1,\n2,3\n", Cells(), "first in row 0 (line 2); give --missing median, fill them"),
        ("a,s\n1,\n2,x\n", Cells(categorical=("s",)), "column 's' has 1 missing value, the first in row 0"),
        ("a,b\n1,2\n", Cells(categorical=("z",)), "--categorical names 'z', which is no feature: only a, b"),
        ("a,b\n1,2\n", Cells(categorical=("b",), known={"b": ("x",)}, unknown="refuse"), "got '2'; unknown"),
        ("a,b\n1,x\n", Cells(categorical=("b",), known={"b": (1, 2)}), "'b' must hold numbers, got string"),
        ("a,b\n1,\n2,\n", Cells("median", ("b",)), "'b' must have 1 to 256 different values"),
        ("a,b\n" + "".join(f"1,n{n}\n" for n in range(300)), Cells(categorical=("b",)), "category, got 300"),
        ("a,b\n1,2\n3,inf\n", Cells("median"), "column 'b' must be finite, got inf in row 1"),
    ],
)
def test_what_cannot_be_a_category_or_a_gap_is_named(table, text, cells, sentence):
    """Each fault is one sentence, with the option that would take it."""
    with pytest.raises(DataError) as caught:
        read_table(table(text), cells=cells)

    assert sentence in str(caught.value)


def test_many_texts_are_not_offered_as_categories(table):
    """A column of names does not hold categories."""
    rows = "".join(f"{n},name {n}\n" for n in range(100))

    with pytest.raises(DataError) as caught:
        read_table(table("a,name\n" + rows), cells=Cells())

    assert "--categorical" not in str(caught.value)


def test_a_series_is_told_of_no_option_that_it_has_not(table):
    """Steps can only hold numbers."""
    with pytest.raises(DataError) as caught:
        load_dataset(str(table("a,b\n1,\n2,3\n")), kinds=["sequence"])

    assert "missing value" in str(caught.value)
    assert "give --missing gaps, fill them" in str(caught.value)
    with pytest.raises(DataError, match="refuse or gaps or interpolate for kind sequence, got median"):
        load_dataset(str(table(MIXED)), kinds=["sequence"], cells=CELLS)
    with pytest.raises(DataError, match=r"--categorical is only for rows .*, got kind sequence"):
        load_dataset(str(table(MIXED)), kinds=["sequence"], cells=Cells(categorical=("state",)))
    with pytest.raises(DataError, match="must be refuse or median for kind vector, got gaps"):
        load_dataset(str(table("a,b\n1,\n2,3\n")), kinds=["vector"], cells=Cells("gaps"))


@pytest.mark.parametrize("name", ["a.csv", "a.npy"])
def test_a_series_may_have_gaps(table, tmp_path, name):
    """By default if it has missing values; interpolation only on demand."""
    path = table("a,b\n1,5\n,6\n3,7\n", name)
    if name == "a.npy":
        np.save(path, np.array([[1, 5], [np.nan, 6], [3, 7]]))
    free = Cells(None)
    gaps = load_dataset(str(path), kinds=["sequence"], cells=free)
    filled = load_dataset(
        str(path), kinds=["sequence"], cells=Cells("interpolate"), reading=Reading(max_gap=1)
    )

    assert (gaps.missing, gaps.timeline.is_missing.tolist()) == ("gaps", [False, True, False])
    assert (filled.missing, filled.samples[:, 0].tolist()) == ("interpolate", [1, 2, 3])
    assert filled.reading.max_gap == 1
    assert load_dataset(str(table("a\n1\n2\n")), kinds=["sequence"], cells=free).missing == "refuse"
    assert load_dataset(str(table("a\n1\n2\n")), kinds=["vector"], cells=free).missing == "refuse"


def test_arrays_have_codes_and_gaps_too(tmp_path):
    """Columns have the default names of arrays."""
    path = tmp_path / "data.npz"
    np.savez(path, X=np.array([[1, 3.0], [np.nan, 5], [2, 3]]))

    dataset = load_dataset(str(path), cells=Cells("median", ("x1",), "refuse"))

    assert (dataset.missing, dataset.categories, dataset.unknown_category) == (
        "median",
        {"x1": (3, 5)},
        "refuse",
    )
    assert np.isnan(dataset.samples[1, 0])


def test_gaps_in_arrays_need_the_option(tmp_path):
    """Missing values need the option, and samples that are rows."""
    np.save(tmp_path / "rows.npy", np.array([[1, 3.0], [np.nan, 5]]))
    np.savez(tmp_path / "windows.npz", X=np.zeros((3, 4, 2)))

    with pytest.raises(DataError, match="for missing values of rows give --missing median"):
        load_dataset(str(tmp_path / "rows.npy"))
    with pytest.raises(DataError, match="refuse or gaps or interpolate for kind sequence, got median"):
        load_dataset(str(tmp_path / "windows.npz"), kinds=["sequence"], cells=Cells("median"))


@pytest.mark.parametrize("name", ["rows.csv", "rows.npy"])
def test_rows_with_missing_values_need_no_option(table, tmp_path, name):
    """They are read with a note; rows without them, windows and images do not allow missing values."""
    path = table("a,b\n1,5\n,6\n3,\n", name)
    if name == "rows.npy":
        np.save(path, np.array([[1, 5], [np.nan, 6], [3, np.nan]]))
    np.savez(tmp_path / "images.npz", X=np.full((3, 4, 4), np.nan))
    np.save(tmp_path / "whole.npy", np.ones((3, 2)))

    dataset = load_dataset(str(path), cells=Cells(None))

    assert dataset.missing == "median"
    assert np.isnan(dataset.samples).sum() == 2
    assert any(note.startswith("2 missing values: replaced by the median") for note in dataset.notes)
    assert load_dataset(str(tmp_path / "whole.npy"), cells=Cells(None)).missing == "refuse"
    with pytest.raises(DataError, match="must be finite float32 values, got nan in row 0"):
        load_dataset(str(tmp_path / "images.npz"), cells=Cells(None))
    with pytest.raises(DataError, match="give --missing median"):
        load_dataset(str(path), cells=Cells("refuse"))

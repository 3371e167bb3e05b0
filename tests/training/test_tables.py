"""Tables become numbers and labels, or a sentence that names file, column and row."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from training.errors import DataError
from training.tables import label_texts, read_table


@pytest.fixture
def table(tmp_path):
    """Writes a text into a file of any suffix."""

    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_read_table_takes_all_columns_but_the_label(table):
    """Features keep the file's order, labels become text."""
    result = read_table(table("a,state,b\n1,ok,2.5\n3,bad,4\n"), label_column="state")

    assert result.columns == ("a", "b")
    np.testing.assert_array_equal(result.values, [[1, 2.5], [3, 4]])
    assert result.labels.tolist() == ["ok", "bad"]


def test_read_table_takes_chosen_columns_in_the_order_asked_for(table):
    """--columns decides order as well as choice."""
    result = read_table(table("a,b,c\n1,2,3\n"), columns=["c", "a"])

    assert result.columns == ("c", "a")
    np.testing.assert_array_equal(result.values, [[3, 1]])


def test_read_table_reads_tsv_and_parquet_alike(table, tmp_path):
    """The suffix decides the format, not what is read."""
    pyarrow.parquet.write_table(pa.table({"a": [1, 2], "b": [0.5, 1.5]}), tmp_path / "data.parquet")

    tsv = read_table(table("a\tb\n1\t0.5\n2\t1.5\n", "data.tsv"))
    parquet = read_table(tmp_path / "data.parquet")

    assert tsv.columns == parquet.columns
    np.testing.assert_array_equal(tsv.values, parquet.values)


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("a,b\n1,2\n3,\n", {}, "column 'b' has 1 missing value, the first in row 2 (line 3)"),
        ("a,b\n1,\n3,\n", {}, "column 'b' has 2 missing values, the first in row 1 (line 2)"),
        ("a,b\n1,2\n3,inf\n", {}, "column 'b' must be finite, got inf in row 2 (line 3)"),
        ("a,b\n1,2\n3,nan\n", {}, "column 'b' has 1 missing value"),
        ("a,b\n1,x\n", {}, "'b' for example 'x'"),
        ("a,day\n1,2026-01-01\n", {}, "got day of type date32[day]"),
        ("a,b\n1,true\n", {}, "got b of type bool"),
        ("a,b\n1,2\n", {"columns": ["a", "z"]}, "data.csv has no column 'z', only a, b"),
        ("a,b\n1,2\n", {"label_column": "z"}, "data.csv has no column 'z', only a, b"),
        ("a,b\n1,2\n", {"columns": ["a"], "label_column": "a"}, "cannot be a feature and the label"),
        ("a\nok\n", {"label_column": "a"}, "has no feature column"),
        ("a;b\n1;2\n", {}, "separated by commas, got the one column 'a;b'"),
        ("a,a\n1,2\n", {}, "column names must differ, got a more than once"),
        ("a,b\n1,2,3\n", {}, "data.csv cannot be read"),
        ("", {}, "data.csv cannot be read"),
    ],
)
def test_read_table_names_what_is_wrong(table, text, options, sentence):
    """Each fault is one sentence with the place of the fault."""
    with pytest.raises(DataError) as caught:
        read_table(table(text), **options)

    assert sentence in str(caught.value)


def test_read_table_refuses_a_missing_label(tmp_path):
    """A label that is null is neither normal nor anomalous."""
    path = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(pa.table({"a": [1, 2], "state": ["ok", None]}), path)

    with pytest.raises(DataError, match="label column 'state' is empty in row 2"):
        read_table(path, label_column="state")


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0, 1, 2], ["0", "1", "2"]),
        ([0.0, 1.0], ["0", "1"]),
        ([0.5, 1.0], ["0.5", "1.0"]),
        ([True, False], ["1", "0"]),
        (["a", "b"], ["a", "b"]),
        ([[3], [4]], ["3", "4"]),
    ],
)
def test_label_texts_are_the_same_for_the_same_label(values, texts):
    """Integers, whole floats, booleans and text meet in one form."""
    assert label_texts(np.array(values)).tolist() == texts

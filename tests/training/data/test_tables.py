"""Tables become numbers and labels, or a sentence that names file, column and row."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from training.data.tables import label_texts, read_table
from training.errors import DataError


@pytest.fixture
def table(tmp_path):
    """Writes a text into a file of any suffix."""

    def write(text, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
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
    """The result does not depend on the format of the file."""
    pyarrow.parquet.write_table(pa.table({"a": [1, 2], "b": [0.5, 1.5]}), tmp_path / "data.parquet")

    tsv = read_table(table("a\tb\n1\t0.5\n2\t1.5\n", "data.tsv"))
    parquet = read_table(tmp_path / "data.parquet")

    assert tsv.columns == parquet.columns
    np.testing.assert_array_equal(tsv.values, parquet.values)


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("a,b\n1,2\n3,\n", {}, "column 'b' has 1 missing value, the first in row 1 (line 3)"),
        ("a,b\n1,\n3,4\n5,\n", {}, "column 'b' has 2 missing values, the first in row 0 (line 2)"),
        ("a,b\n1,2\n3,inf\n", {}, "column 'b' must be finite, got inf in row 1 (line 3)"),
        ("a,b\n1,2\n3,nan\n", {}, "column 'b' has 1 missing value"),
        ("a,b\n1,x\n", {}, "'b' for example 'x' in row 0 (line 2)"),
        ("a,b\n1,2.5\n1,n/a?\n", {}, "in column 'b' 1 of 2 cells is no number, 'n/a?' in row 1 (line 3)"),
        ("a,day\n1,2026-01-01\n", {}, "for a series give --kind sequence --time-column day"),
        ("a,b\n1,true\n", {}, "got 'b', 'b' for example 'True' in row 0 (line 2)"),
        ("a,b\n1,2\n", {"columns": ["a", "z"]}, "data.csv has no column 'z', only 'a', 'b'"),
        ("a,b\n1,2\n", {"label_column": "z"}, "data.csv has no column 'z', only 'a', 'b'"),
        ("a,b\n1,2\n", {"columns": ["a"], "label_column": "a"}, "cannot be a feature and the label"),
        ("a\nok\n", {"label_column": "a"}, "has no feature column"),
        ("a,a\n1,2\n", {}, "column names must differ, got 'a' more than once"),
        ("a,b\n1,2,3\n", {}, "every row must have 2 cells, got 3 in line 2: '1,2,3'"),
        ("a,b\n1,2\n3,4\n5\n", {}, "every row must have 2 cells, got 1 in line 4: '5'"),
        ("", {}, "data.csv is empty"),
        ("a,b\n", {}, "data.csv has no rows, only the columns 'a', 'b'"),
        ("a,b\n1,2\n", {"columns": ["a", "b", "a"]}, "--columns must differ, got 'a' more than once"),
        ("a,s\n1,ok\n2,\n", {"label_column": "s"}, "label column 's' is empty in row 1 (line 3)"),
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

    with pytest.raises(DataError, match="label column 'state' is empty in row 1"):
        read_table(path, label_column="state")


def test_read_table_refuses_a_label_that_is_no_number(tmp_path):
    """A NaN among labels 0 and 1 once made every row a normal one."""
    path = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(pa.table({"a": [1, 2], "state": [0.0, np.nan]}), path)

    with pytest.raises(DataError, match="label column 'state' is empty in row 1"):
        read_table(path, label_column="state")


def test_read_table_takes_integers_that_no_float_holds(table):
    """Identifiers of 64 bits lose digits, as everything does in float32."""
    result = read_table(table("a,b\n9007199254740993,1\n-9223372036854775808,2\n"))

    assert result.values[:, 0].tolist() == [2.0**53, -(2.0**63)]


def test_read_table_reads_line_ends_and_marks_of_other_programs(table):
    """A byte order mark, CRLF and a line end within quotes, in a column that is not asked for."""
    rows = "".join(f'{n},"one\r\ntwo",{n}\r\n' for n in range(100_000))

    result = read_table(table("\ufeffa,comment,b\r\n" + rows), columns=["a", "b"])

    assert result.values.shape == (100_000, 2)


@pytest.mark.parametrize("columns", [{"": [7, 8], "a": [1, 2]}, {"a": [1, 2], "__index_level_0__": [7, 8]}])
def test_read_table_leaves_a_saved_index_out(tmp_path, columns):
    """The index that pandas saves with the columns is not a feature, unless it is requested."""
    content = pa.table(columns)
    pyarrow.parquet.write_table(content, tmp_path / "data.parquet")
    pyarrow.csv.write_csv(content, tmp_path / "data.csv")

    for name in ("data.parquet", "data.csv"):
        result = read_table(tmp_path / name)

        assert result.columns == ("a",)
        assert "is a saved index and was left out" in result.notes[0]
        assert read_table(tmp_path / name, columns=list(columns)).columns == tuple(columns)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0, 1, 2], ["0", "1", "2"]),
        ([0.0, 1.0], ["0", "1"]),
        ([0.5, 1.0], ["0.5", "1.0"]),
        ([1.0, 1e20], ["1.0", "1e+20"]),
        ([True, False], ["1", "0"]),
        (["a", "b"], ["a", "b"]),
        ([[3], [4]], ["3", "4"]),
    ],
)
def test_label_texts_are_the_same_for_the_same_label(values, texts):
    """Integers, whole floats, booleans and text meet in one form."""
    assert label_texts(np.array(values)).tolist() == texts

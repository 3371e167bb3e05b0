"""Tables as people have them: what is certain is done and said, the rest is refused with the option."""

import gzip
import json
import shlex

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from detector.reading import Reading
from training import flags
from training.data.categories import Cells
from training.data.load import load_dataset
from training.data.tables import read_table
from training.data.tabular.options import TableOptions
from training.errors import DataError

MEDIAN = "median"


@pytest.fixture
def write(tmp_path):
    """Writes texts or bytes into a file."""

    def write(content, name="plant.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows(*columns):
    """Join columns of cells to lines of CSV."""
    return "".join(",".join(map(str, cells)) + "\n" for cells in zip(*columns, strict=True))


def numbers(n_rows, seed=0):
    """Return measurements with two decimals."""
    return np.random.default_rng(seed).normal(20, 5, n_rows).round(2).tolist()


def refusal(path, **options):
    """Return the sentence with which a table is refused."""
    with pytest.raises(DataError) as caught:
        read_table(path, **options)
    return str(caught.value)


# --- missing cells ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "NA", " NA ", "N/A", "nan", "None", "null", "#N/A", "<NA>"])
def test_missing_cells_are_missing_in_every_column(write, token):
    """Numbers, categories and labels have one list of texts for a missing cell."""
    path = write(f"t,sex,y\n1,male,ok\n2,{token},ok\n{token},female,bad\n")
    cells = Cells(MEDIAN, ("sex",))

    table = read_table(path, label_column="y", cells=cells)

    np.testing.assert_array_equal(table.values, [[1, 1], [2, np.nan], [np.nan, 0]])
    assert table.categories == {"sex": ("female", "male")}
    sentence = refusal(path, label_column="sex", cells=Cells(MEDIAN), options=TableOptions(ignore=("y",)))
    assert "label column 'sex' is empty in row 1 (line 3)" in sentence


def test_missing_values_of_the_user_are_added(write):
    """They are kept for every later reader."""
    reading = Reading(missing_values=(*Reading().missing_values, "?"))

    table = read_table(write("t,p\n1,?\nNA,2\n"), cells=Cells(MEDIAN), reading=reading)

    np.testing.assert_array_equal(table.values, [[1, np.nan], [np.nan, 2]])
    assert table.reading.missing_values[-1] == "?"


# --- columns that are no features ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "Subject", "Unnamed: 0"])
@pytest.mark.parametrize("first", [0, 1])
def test_a_column_that_counts_the_rows_is_left_out(write, name, first):
    """Every later row would lie outside of what the fit saw."""
    path = write(f"{name},t\n" + rows(range(first, 30 + first), numbers(30)))

    table = read_table(path)

    assert table.columns == ("t",)
    assert f"column {name!r} is a saved index and was left out" in table.notes[-1]
    assert [(each.name, each.role, each.reason) for each in table.other_columns] == [
        (name, "left out", "a saved index")
    ]
    assert table.reading.ignored == (name,)
    assert read_table(path, columns=[name, "t"]).columns == (name, "t")


@pytest.mark.parametrize(
    "values",
    [
        [1959 + n // 4 for n in range(60)],
        [1.7e9 - 60 * n for n in range(60)],
        np.random.default_rng(0).permutation(np.arange(100, 160)).tolist(),
    ],
    ids=["year", "falling", "consecutive"],
)
def test_a_column_that_may_count_the_rows_is_named_with_the_option(write, values):
    """It stays a feature, since it may be a measurement."""
    table = read_table(write("when,t\n" + rows(values, numbers(60))))

    assert table.columns == ("when", "t")
    assert "column 'when' only rises or falls" in table.notes[-1]
    assert "--ignore when" in table.notes[-1]


def test_measurements_are_not_said_to_count(write):
    """Neither numbers in any order nor a few that are sorted by state."""
    table = read_table(write("t,state\n" + rows(numbers(60), sorted([0, 1, 2] * 20))))

    assert table.notes == ()


@pytest.mark.parametrize("name", ["label", "Class", "is_anomaly", "attackFlag", "y", "Normal/Attack"])
def test_a_column_that_looks_like_a_label_is_named_with_the_option(write, name):
    """As a feature it would tell the answer."""
    table = read_table(write(f"t,{name}\n" + rows(numbers(40), [0, 0, 1, 0] * 10)))

    assert f"--label-column {shlex.quote(name)}" in table.notes[-1]
    assert read_table(write(f"t,{name}\n" + rows(numbers(40), [0, 1, 2, 0] * 10))).notes == ()
    assert read_table(write("t,yield\n" + rows(numbers(40), [0, 0, 1, 0] * 10))).notes == ()


@pytest.mark.parametrize("start", [2**60, 10**21])
def test_numbers_that_float32_cannot_tell_apart_are_refused(write, start):
    """They are not called constant."""
    path = write("t,id\n" + rows(numbers(40), [start + n % 7 for n in range(40)]))

    sentence = refusal(path)

    assert f"different numbers, {start} and {start + 1}, that are one in float32" in sentence
    assert "--ignore id" in sentence
    assert read_table(path, options=TableOptions(ignore=("id",))).columns == ("t",)
    assert read_table(write("t,id\n" + rows(numbers(40), [start] * 40))).columns == ("t", "id")


def test_ignored_columns_may_hold_anything(write):
    """They are no features, and a table to score may lack them."""
    path = write("txn id,comment,t\n" + rows("abcd", ["x"] * 4, numbers(4)))

    table = read_table(path, options=TableOptions(ignore=("txn id", "comment")))

    assert table.columns == ("t",)
    assert table.reading.ignored == ("txn id", "comment")
    assert "has no column 'id'" in refusal(path, options=TableOptions(ignore=("id",)))


def test_columns_without_a_name_are_judged_by_their_values(write):
    """An index or an empty one is left out, row names too; measurements need a name."""
    empty = read_table(
        write("temp,press,speed,,\n" + rows(*(numbers(20, n) for n in range(3)), [""] * 20, [""] * 20))
    )
    names = read_table(write(",t\n" + rows([f"car {n}" for n in range(20)], numbers(20))))
    measured = write("temp,press,\n" + rows(*(numbers(20, n) for n in range(3))))

    assert empty.columns == ("temp", "press", "speed")
    assert names.other_columns[0].reason == "names of the rows"
    assert "column 3 of 3 has no name and holds numbers" in refusal(measured)
    assert read_table(measured, columns=["temp", ""]).columns == ("temp", "")
    assert "columns 2 and 3 of 3 have no name" in refusal(
        write("t,,\n" + rows(*(numbers(20, n) for n in range(3))))
    )


# --- text files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("온도,압력\n1.5,2\n3,4\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("온도,압력\n1.5,2\n3,4\n".encode("cp949"), {"encoding": "cp949"}),
        (
            "Höhe;Größe\n1,5;2\n3;4\n".encode("latin-1"),
            {"delimiter": ";", "decimal": ",", "encoding": "cp1252"},
        ),
        (b"t\tp\n1.5\t2\n3\t4\n", {"delimiter": "\t"}),
        (b"Plant 7\n\nt;p\n1,5;2\n3;4\n1;1\n", {"skip_rows": 2, "delimiter": ";", "decimal": ","}),
        (b"sep=;\r\nt;p\r\n1,5;2\r\n3;4\r\n", {"skip_rows": 1, "delimiter": ";", "decimal": ","}),
        (b"t,p\nC,bar\n1.5,2\n3,4\n", {"unit_rows": 1}),
        (b't,p\n1.5,"2,000"\n3,4\n', {"thousands": ","}),
        (b"t;p\n1.000,5;2\n3;4\n", {"decimal": ",", "thousands": ".", "delimiter": ";"}),
        (b"1.5,2\n3,4\n", {"header": False}),
        (gzip.compress(b"t,p\n1.5,2\n3,4\n", mtime=0), {}),
    ],
)
def test_dialects_are_found_and_kept(write, content, found):
    """What differs from plain CSV is in the reading, for every later reader."""
    table = read_table(write(content))

    assert table.values[:, 1].tolist()[0] in (2, 2000)
    assert table.values[0, 0] in (1.5, 1000.5)
    plain = {"delimiter": ",", "encoding": "utf-8", "decimal": ".", "thousands": None, "skip_rows": 0}
    wanted = plain | {"unit_rows": 0, "header": True} | found
    assert {name: getattr(table.reading, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b't,p\n1,"2,000"\n3,4\n', "--decimal , or --thousands ,"),
        ("温度,压\n1,2\n".encode("gbk"), "--encoding cp949 or --encoding latin-1"),
        (b"a,b;c\nx,y;z\n", "--delimiter ';'"),
        (b"5,3\n1,2\n7,7\n", "may be names or a row of data"),
        (b"530\n518\n506\n", "the first line, '530', may be names or a row of data"),
        (b"3,7\n2,9\n1,4\n", "may be names or a row of data"),
        (
            b"3,7,20\n2,9,1\n1,4,1\n",
            "give --no-header if it is a row of data, or choose the columns by these names with --columns",
        ),
        (b"PAR1xxxx", "no text but a Parquet file: rename it to .parquet"),
        (b"PK\x03\x04xx", "rename a workbook to .xlsx"),
        (b"\x1f\x8bxx", "cannot be inflated"),
        (b"t,p\n1,2\n3,4\nTotal 2\n", "every row must have 2 cells, got 1 in line 4: 'Total 2'"),
        (b"t,p\n1,2\n3,4\nt,p\n5,6\n", "the row repeats the header: remove it"),
    ],
)
def test_what_is_not_certain_names_the_option(write, content, words):
    """One sentence that can be acted on."""
    assert words in refusal(write(content))


@pytest.mark.parametrize(
    ("header", "columns"), [("0", None), ("1,2", None), ("400,410,420", None), ("530", ["530"])]
)
def test_numbers_that_count_or_are_chosen_are_names(write, header, columns):
    """As pandas names the columns of an array, instruments their wavelengths, and the user any column."""
    row = ",".join("7" for _ in header.split(","))

    assert read_table(write(f"{header}\n{row}\n{row}\n".encode()), columns).columns == tuple(
        header.split(",")
    )


def test_a_table_without_a_header_needs_an_option(write):
    """No row of data is taken as names; a later reader knows it from the manifest."""
    table = read_table(
        write(b"530\n518\n506\n"), reading=Reading(header=False), options=TableOptions(given=("header",))
    )

    assert (table.columns, table.values.ravel().tolist()) == (("x0",), [530, 518, 506])
    assert table.reading.header is False


def test_options_settle_what_the_file_does_not(write):
    """The same files with the option that the sentence names."""
    path = write(b't,p\n1,"2,000"\n3,4\n')
    grouped = read_table(path, reading=Reading(thousands=","), options=TableOptions(given=("thousands",)))
    decimal = read_table(path, reading=Reading(decimal=","), options=TableOptions(given=("decimal",)))
    chinese = read_table(
        write("温度,压\n1,2\n".encode("gbk")),
        reading=Reading(encoding="gbk"),
        options=TableOptions(given=("encoding",)),
    )

    assert (grouped.values[0, 1], decimal.values[0, 1]) == (2000, 2)
    assert chinese.columns == ("温度", "压")


def test_rows_do_not_vanish_behind_a_quote_that_is_never_closed(write):
    """In rows 100 and 300 of 400: 200 rows would be one cell."""
    lines = [f"{n}.5,x{n},{n % 7}" for n in range(400)]
    lines[99] = '99.5,"x99,1'
    lines[299] = '299.5,"x299,5'
    path = write("t,name,p\n" + "\n".join(lines) + "\n")

    assert "the quote that opens in line 101 is not closed properly before line 301" in refusal(path)
    lines[299] = '299.5,x299",5'
    path = write("t,name,p\n" + "\n".join(lines) + "\n")
    assert "the quote that opens in line 101 is not closed before line 301" in refusal(path)


def test_cells_may_have_several_lines(write):
    """They are no rows, and later rows keep their line."""
    path = write('t,comment,p\n1,"hello\nBob, all is well\nsee you",2\n\n3,x,oops\n4,y,5\n5,z,6\n')

    assert "in column 'p' 1 of 4 cells is no number, 'oops' in row 1 (line 6)" in refusal(
        path, options=TableOptions(ignore=("comment",))
    )


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (
            ["?"] * 8,
            "8 of 400 cells are no numbers, '?' in row 0 (line 2); if they are missing give --missing-"
            "values '?'",
        ),
        (["#DIV/0!"], "1 of 400 cells is no number, '#DIV/0!' in row 0 (line 2); if they are missing give"),
        (["1'5", "2'5"], "name the marks of numbers with --decimal and --thousands"),
        (["about 5 or so, says Bob", "x"], "correct them, or leave the column out with --ignore p"),
    ],
)
def test_a_few_odd_cells_are_counted(write, cells, words):
    """The column is not called a text."""
    values = [*cells, *numbers(400 - len(cells))]

    assert words in refusal(write("t,p\n" + rows(numbers(400, 1), [f'"{value}"' for value in values])))


def test_hints_can_be_pasted(write):
    """Names are quoted for a shell, and for the option that they are a value of."""
    path = write(
        'Time Stamp,"kind, detailed",note\n'
        + rows([f"2024-01-{n + 1:02}" for n in range(20)], ["a", "b"] * 10, [f"note {n}" for n in range(20)])
    )

    sentence = refusal(path, cells=Cells())

    assert "--time-column 'Time Stamp'" in sentence
    assert "--categorical '\"kind, detailed\"';" in sentence
    ignore = shlex.split(sentence.partition("--ignore ")[2])[0]
    assert flags.names(ignore) == ["Time Stamp", "kind, detailed", "note"]


def test_one_sentence_names_all_options_that_a_table_needs(write):
    """A table with texts and missing cells needs two."""
    sentence = refusal(write("t,sex\n1,male\nNA,female\n3,male\n"), cells=Cells())

    assert "--categorical sex; for missing cells, which there are, add --missing median;" in sentence
    assert "--missing" not in refusal(write("t,sex\n1,male\n2,female\n3,male\n"), cells=Cells())


def test_names_are_compared_clean(write):
    """Blanks at the ends, and Hangul in parts or composed."""
    path = write("t, \u1112\u1161\u11ab ,s\n1,2,ok \n3,4, ok\n5,6,bad\n")

    table = read_table(path, columns=["\ud55c", " t"], label_column="s ")

    assert table.columns == ("\ud55c", "t")
    assert table.labels.tolist() == ["ok", "ok", "bad"]


@pytest.mark.parametrize(
    ("cells", "normal", "anomalies"),
    [
        (["01", "02", "01"], "01", [False, True, False]),
        (["01", "02", "01"], "1", [False, True, False]),
        (["1", "2", "1"], "01", [False, True, False]),
        (["true", "FALSE", "True"], "true", [False, True, False]),
        (["1.0", "2.0", "1.0"], "1", [False, True, False]),
    ],
)
def test_labels_are_compared_as_they_are_meant(write, cells, normal, anomalies):
    """Zeros in front stay in the labels."""
    path = write("t,y\n" + rows(numbers(3), cells))

    dataset = load_dataset(str(path), label_column="y", normal_label=normal)

    assert dataset.is_anomaly.tolist() == anomalies
    assert set(dataset.labels) >= ({"01"} if cells[0] == "01" else set())


def test_labels_of_0_and_1_say_what_they_mean(write):
    """Somebody's 1 is good."""
    path = write("t,y\n" + rows(numbers(400), [0] * 20 + [1] * 380))

    note = load_dataset(str(path), label_column="y").label_notes[-1]

    assert (
        note
        == "labels are 0 (20, normal) and 1 (380, anomalies); if 1 is the normal one give --normal-label 1"
    )


# --- other files --------------------------------------------------------------------------------------------


def test_every_form_of_a_table_gives_the_same_values(write, tmp_path):
    """CSV, compressed, lines of JSON, Parquet, Feather and Arrow."""
    table = pa.table({"t": [1.5, 2.0, None], "w": ["a", "NA", "b"]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    pyarrow.feather.write_feather(table, tmp_path / "a.feather")
    with pa.ipc.new_stream(tmp_path / "a.arrow", table.schema) as stream:
        stream.write_table(table)
    write("t,w\n1.5,a\n2,NA\n,b\n", "a.csv")
    write(gzip.compress(b"t,w\n1.5,a\n2,NA\n,b\n"), "a.csv.gz")
    write("".join(json.dumps(row) + "\n" for row in table.to_pylist()), "a.jsonl")

    for path in sorted(tmp_path.iterdir()):
        values = read_table(path, cells=Cells(MEDIAN, ("w",))).values
        np.testing.assert_array_equal(values, [[1.5, 0], [2, np.nan], [np.nan, 1]], str(path))


def test_a_folder_of_tables_is_a_series_of_each_file(write, tmp_path):
    """Rows of tables are joined; of a series each file is an entity."""
    write("t,p\n1,2\n3,4\n", "runs/a.csv")
    write("p;t\n2;1\n4;3\n6;5\n", "runs/b.csv")
    write("about", "runs/README.md")

    rows_of_both = load_dataset(str(tmp_path / "runs"))
    series = load_dataset(str(tmp_path / "runs" / "*.csv"), kinds=["sequence"])

    assert rows_of_both.samples.tolist() == [[1, 2], [3, 4], [1, 2], [3, 4], [5, 6]]
    assert series.timeline.names == ("a", "b")
    write("t,q\n1,2\n", "runs/c.csv")
    assert "c.csv must have the columns of a.csv: it lacks 'p'" in refusal(tmp_path / "runs")
    write("t,p\n1,2\n1,x\n3,4\n", "runs/c.csv")
    assert "'x' in row 6 (line 3 of c.csv)" in refusal(tmp_path / "runs")


def test_rows_of_pixels_are_images(write):
    """As the digits of a competition: a label, and the pixels of a row."""
    images = np.random.default_rng(0).integers(0, 256, (12, 3, 4))
    header = ["label", *(f"p{n}" for n in range(12))]
    path = write(",".join(header) + "\n" + rows(range(12), *images.reshape(12, 12).T))

    dataset = load_dataset(
        str(path), kinds=["image"], label_column="label", options=TableOptions(shape=(3, 4))
    )

    assert dataset.samples.dtype == np.uint8
    np.testing.assert_array_equal(dataset.samples, images)
    assert (dataset.kind, dataset.value_range, dataset.labels[3]) == ("image", (0.0, 255.0), "3")
    with pytest.raises(DataError, match="--shape 3,5 needs 15 columns of pixels, got 12"):
        load_dataset(str(path), kinds=["image"], label_column="label", options=TableOptions(shape=(3, 5)))


def test_ts_files_are_windows(write):
    """One channel or several, with labels or without."""
    head = "# a comment\n@problemName x\n@timeStamps false\n@classLabel {}\n@data\n"
    one = write(head.format("true 1 2") + "1,2,3:1\n4,5,6:2\n", "one.ts")
    two = write(head.format("false") + "1,2,3:7,8,9\n4,5,6:1,1,1\n", "two.ts")

    dataset = load_dataset(str(one), kinds=["sequence"], normal_label="1")
    assert dataset.samples[..., 0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert dataset.is_anomaly.tolist() == [False, True]
    assert load_dataset(str(two), kinds=["sequence"]).samples[0].tolist() == [[1, 7], [2, 8], [3, 9]]
    uneven = write(head.format("true 1") + "1,2,3:1\n4,5:1\n", "uneven.ts")
    with pytest.raises(DataError, match="line 7: every series must have 3 steps and 1 channels, got 2 and 1"):
        load_dataset(str(uneven), kinds=["sequence"])


def test_thousands_of_columns_are_read_in_linear_time(write):
    """5,000 columns took more than 80 seconds when each name was looked up in the whole table."""
    names = [f"c{n}" for n in range(2000)]
    values = np.random.default_rng(0).integers(0, 1000, (20, 2000))
    path = write(",".join(names) + "\n" + "\n".join(",".join(map(str, row)) for row in values.tolist()))

    table = read_table(path)

    np.testing.assert_array_equal(table.values, values)

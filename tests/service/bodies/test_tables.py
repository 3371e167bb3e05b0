"""CSV as rows and as steps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector import InputError
from service.bodies import Decoded, Expected, Limits
from service.bodies.codecs import decoder
from service.http.problems import Problem

LIMITS = Limits(max_rows=1000, max_bytes=100_000)
ROW = Expected((3,), ("a", "b", "c"), rows=True)
MIXED = Expected((3,), ("a", "b", "c"), rows=True, cells=True, texts=frozenset("b"))
SERIES = Expected((4, 2), ("x", "y"), series=True, timestamps=True)


def decode(content: bytes | str, expected: Expected = ROW, parameters: str = "") -> Decoded:
    """`decoder` of a CSV."""
    content = content.encode() if isinstance(content, str) else content
    return decoder("text/csv" + parameters, expected, LIMITS, options=())(content)


def refusal(content: bytes | str, expected: Expected = ROW, parameters: str = "") -> Problem:
    """Return the problem with which a CSV is refused."""
    with pytest.raises(Problem) as caught:
        decode(content, expected, parameters)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "a,b,c\n1,2,3\n4,5,6\n",
        "a,b,c\n1,2,3\n4,5,6",
        "a,b,c\r\n1,2,3\r\n4,5,6\r\n",
        "a,b,c\r1,2,3\r4,5,6\r",
        "\ufeffa,b,c\n1,2,3\n4,5,6\n\n",
        '"a","b","c"\n1,2,3\n4,5,6\n',
        '"a","b","c"\n"1","2","3"\r\n"4","5","6"\r\n\r\n',
        "c,a,b\n3,1,2\n6,4,5\n",
        "a,b,c\n 1 ,2e0,+3.0\n4,.5e1,6.\n",
    ],
    ids=["plain", "no-end", "crlf", "cr", "bom", "names", "cells", "order", "numbers"],
)
def test_csv_of_any_dress_is_the_same_rows(text):
    """Columns are matched by name, quotes and line ends do not matter."""
    samples = decode(text).samples

    assert samples.dtype == np.float64
    np.testing.assert_array_equal(samples, [[1, 2, 3], [4, 5, 6]])


def test_csv_of_many_rows_is_read_in_slices():
    """Every number is equal to the bit, quoted or not."""
    samples = np.random.default_rng(0).normal(size=(1000, 3)) * 10.0 ** np.arange(-150, 150, 100)
    lines = [",".join(map(repr, row)) for row in samples.tolist()]

    np.testing.assert_array_equal(decode("\n".join(["a,b,c", *lines])).samples, samples)
    lines[999] = '"' + lines[999].replace(",", '",', 1)
    np.testing.assert_array_equal(decode("\n".join(["a,b,c", *lines])).samples, samples)


def test_csv_without_feature_names_counts_its_columns():
    """Columns without names are numbered, as by pandas and in answers."""
    np.testing.assert_array_equal(decode("2,0,1\n3,1,2\n", Expected((3,))).samples, [[1, 2, 3]])


@pytest.mark.parametrize("blank", [0, 1, 2**18 - 1, 2**18, 2**18 + 1, 2**19 + 7])
def test_blank_lines_at_the_end_are_none(blank):
    """Any number of blank lines is allowed."""
    text = "a,b,c\n1,2,3\n4,5,6" + "\n" * blank

    np.testing.assert_array_equal(decode(bytearray(text.encode())).samples, [[1, 2, 3], [4, 5, 6]])
    assert decode("a,b,c" + "\n" * blank).samples.shape == (0, 3)


def test_csv_of_a_series_has_channels_as_columns_and_may_have_time_stamps():
    """Time stamps are passed on as text of any form."""
    decoded = decode("timestamp,y,x\n10:15,2,1\n2026-01-01,4,3\n,6,5\n", SERIES)

    np.testing.assert_array_equal(decoded.samples, [[1, 2], [3, 4], [5, 6]])
    assert decoded.timestamps == ["10:15", "2026-01-01", ""]
    assert decode("y,x\n2,1\n", SERIES).timestamps is None


def test_csv_of_a_mixed_table_has_words_and_gaps():
    """A number is a text where the column holds texts, and an empty cell is a missing value."""
    decoded = decode('c,b,a\n7,run,1.5\n,7,\n2.5,"idle, cold",-1\n', MIXED)

    assert decoded.samples.tolist() == [[1.5, "run", 7.0], [None, "7", None], [-1.0, "idle, cold", 2.5]]


def test_csv_without_rows_has_no_samples():
    """The model refuses it later, because it needs one sample."""
    assert decode("a,b,c\n").samples.shape == (0, 3)
    assert decode("a,b,c", MIXED).samples.shape == (0, 3)


@pytest.mark.parametrize(
    ("text", "row", "column", "words"),
    [
        ("a,b,c\n1,2,3\n1,x,3\n", 1, "b", "'b' must be a number, got 'x' in row 1"),
        ("b,a,c\n1,x,3\n", 0, "a", "'a' must be a number, got 'x' in row 0"),
        ("a,b,c\n1,,3\n", 0, "b", "got nothing in row 0; missing values are for models fitted with"),
        ("a,b,c\n1,1_0,3\n", 0, "b", "got '1_0'"),
        ("a,b,c\n1,\u0663,3\n", 0, "b", "got '\u0663'"),
        ("a,b,c\n1,0x10,3\n", 0, "b", "got '0x10'"),
        ("a,b,c\n1,true,3\n", 0, "b", "got 'true'"),
    ],
)
def test_csv_cells_that_are_no_numbers_are_named(text, row, column, words):
    """The error has row, column and the text of the client."""
    problem = refusal(text)

    assert problem.type == "invalid-input"
    assert words in problem.detail
    assert problem.errors == [{"detail": problem.detail, "row": row, "column": column}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,c\n1,2,3\n1,2\n", "row 1 must have 3 cells, got 2"),
        ("a,b,c\n1,2,3\n\n1,2,3\n", "row 1 must have 3 cells, got 1"),
        ("a,b,c\n1,2,3,4\n", "row 0 must have 3 cells, got 4"),
        ("a,b\n1,2\n", "must have exactly the columns 'a', 'b', 'c': it lacks 'c'"),
        ("a,b,c,,d\n1,2,3,4,5\n", "it has the unknown '', 'd'"),
        ("a,b,c,a\n1,2,3,4\n", "it has more than once 'a'"),
        ("1,2,3\n4,5,6\n", "the first line must name the columns"),
        ("a;b;c\n1;2;3\n", "columns must be separated by commas"),
        ("timestamp,a,b,c\n1,2,3,4\n", "has the unknown 'timestamp'"),
    ],
)
def test_csv_of_another_shape_is_refused(text, words):
    """Ragged rows by their number, columns by their names."""
    problem = refusal(text)

    assert problem.type == "invalid-input"
    assert words in problem.detail


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b,c\n1,\xff,3\n", "must be UTF-8: invalid start byte at byte 8"),
        (b'a,b,c\n1,"2,3\n', "cannot be parsed: unexpected end of data"),
        (b'a,b,c\n1,"2"2,3\n', "cannot be parsed"),
        (b'a,b,"c\n1,2,3\n', "cannot be parsed: unexpected end of data"),
        (b'a,b,"c\n' + b"1,2,3\n" * 1000, "the header of the CSV may have at most 1000 lines"),
        (b'a,b,c\n1,2,"' + b"3" * 200_000 + b'"\n', "cannot be parsed: field larger than field limit"),
    ],
)
def test_csv_that_cannot_be_parsed_is_malformed(content, words):
    """The problem has the words of the parser."""
    problem = refusal(content)

    assert problem.type == "malformed-body"
    assert words in problem.detail


@pytest.mark.parametrize("parameters", ["; charset=latin-1", "; header=absent"])
def test_csv_of_another_form_is_not_read(parameters):
    """The two parameters of RFC 4180 are checked."""
    assert refusal("a,b,c\n1,2,3\n", parameters=parameters).type == "unsupported-media-type"
    assert decode("a,b,c\n1,2,3\n", parameters="; Charset=UTF-8; header=present").samples.size == 3


@pytest.mark.parametrize("line", ["1,2,3\n", '"1",2,3\n'])
def test_csv_rows_are_limited(line):
    """The limit holds for both readers."""
    assert refusal("a,b,c\n" + line * 1001).type == "too-many-rows"


@pytest.mark.parametrize(
    "text", ["a,b,c" + "," * 3000, "a,b,c\n1,2" + "," * 3000, 'a,b,c\n"1",2' + "," * 3000]
)
def test_csv_lines_are_limited(text):
    """A million times as many cells as there are columns would fill the memory as texts."""
    problem = refusal(text)

    assert problem.type == "malformed-body"
    assert "may have at most 3000 commas, got 300" in problem.detail


def test_csv_of_many_cells_is_read_in_blocks():
    """Rows and time stamps stay together."""
    text = "timestamp,x,y\n" + "".join(f"t{row},{row},{-row}\n" for row in range(3000))

    decoded = decoder("text/csv", SERIES, Limits(3000, 0), options=())(text.encode())

    assert decoded.timestamps == [f"t{row}" for row in range(3000)]
    np.testing.assert_array_equal(decoded.samples, np.stack([np.arange(3000), -np.arange(3000)], axis=1))


@settings(max_examples=400, deadline=None)
@given(
    text=st.text(st.sampled_from('abcxy12.e-,"\r\n _\x00\u20281٣'), max_size=40),
    expected=st.sampled_from([ROW, MIXED, SERIES]),
)
def test_csv_is_read_or_refused(text, expected):
    """Only problems are raised, and both readers agree."""
    head = ",".join(expected.columns()) + "\n"
    try:
        samples = decode(head + text, expected).samples
    except (Problem, InputError) as problem:
        assert str(problem)  # noqa: PT017
    else:
        quoted = head.replace(head[0], f'"{head[0]}"', 1) + text
        np.testing.assert_array_equal(decode(quoted, expected).samples, samples)
        assert samples.shape[1:] == (len(expected.columns()),)

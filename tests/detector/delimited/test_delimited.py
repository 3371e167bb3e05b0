"""Encoding, layout and cells of text tables."""

import dataclasses

import pytest

from detector.delimited.cells import number_of, read_numbers
from detector.delimited.encodings import encoding_of
from detector.delimited.layout import adapted, count_unit_rows, find_layout
from detector.reading import Reading

KOREAN = "온도,압력\n1,2\n"
GERMAN = "Temperatur °C,Höhe\n1,2\n"


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (b"a,b\n1,2\n", "utf-8"),
        ("\ufeffa,b\n1,2\n".encode(), "utf-8-sig"),
        (KOREAN.encode(), "utf-8"),
        (KOREAN.encode("utf-16"), "utf-16"),
        (KOREAN.encode("utf-16-be"), "utf-16-be"),
        (GERMAN.encode("utf-16-le"), "utf-16-le"),
        (GERMAN.encode("utf-16-be"), "utf-16-be"),
        (KOREAN.encode("cp949"), "cp949"),
        ("주파수 ㎐,전압\n1,2\n".encode("cp949"), "cp949"),
        (GERMAN.encode("latin-1"), "cp1252"),
        ("p,µm²\n".encode("cp1252"), "cp1252"),
        ("温度,压力\n1,2\n".encode("gbk"), None),
        (b"a,\xe9\xe8\n", None),
    ],
)
def test_encoding_is_named_only_if_it_is_certain(content, encoding):
    """Marks, zeros in every other byte, and characters of one language."""
    assert encoding_of(content) == encoding


def test_encoding_of_a_model_is_preferred_where_the_text_does_not_tell():
    """ASCII is both; UTF-8 stays UTF-8."""
    assert encoding_of(b"a,b\n", "cp949") == "cp949"
    assert encoding_of(KOREAN.encode(), "cp949") == "utf-8"
    assert encoding_of("温度\n".encode("gbk"), "gbk") == "gbk"


def test_a_head_may_end_within_a_character():
    """Only the beginning of a large file is looked at."""
    assert encoding_of(KOREAN.encode()[:1]) == "utf-8"


@pytest.mark.parametrize(
    ("head", "delimiter", "skip_rows", "names"),
    [
        ("t,p\n1,2\n3,4\n", ",", 0, ("t", "p")),
        ("t;p\n1,5;2,5\n3,5;4,5\n", ";", 0, ("t", "p")),
        ("t\tp\n1\t2\n", "\t", 0, ("t", "p")),
        ("t|p\n1|2\n", "|", 0, ("t", "p")),
        ("t  p\n 1 2\n3   4\n", " ", 0, ("t", "p")),
        ("when,t\n2020-01-01 10:00,2\n2020-01-01 11:00,3\n", ",", 0, ("when", "t")),
        ('"temp, C",p\n1,2\n', ",", 0, ("temp, C", "p")),
        (" t , p \n1,2\n", ",", 0, ("t", "p")),
        ("t\n1\n2\n", ",", 0, ("t",)),
        ("Plant 7\nmade in June\n\nt,p\n1,2\n3,4\n5,6\n7,8\n", ",", 3, ("t", "p")),
        ("Report,,\nt,p,q\n1,2,3\n4,5,6\n", ",", 1, ("t", "p", "q")),
        ("-1.5,2\n2,3\n", ",", 0, None),
        ("0,0,7\n0,0,8\n", ",", 0, None),
        ("1,tcp\n2,udp\n3,tcp\n", ",", 0, None),
        ("400,401,402\n0.1,0.2,0.3\n", ",", 0, ("400", "401", "402")),
        ("temp,press,\n1,2,9\n3,4,9\n", ",", 0, ("temp", "press", "")),
        ("temp,press\n1,2,\n3,4,\n", ",", 0, ("temp", "press", "")),
        ("temp,press\n1,7,2\n2,8,4\n", ",", 0, ("", "temp", "press")),
    ],
)
def test_layout_is_found(head, delimiter, skip_rows, names):
    """Delimiter, lines above the header, and names, or none if the first line is data."""
    found = find_layout(head)

    assert (found.delimiter, found.skip_rows, found.names) == (delimiter, skip_rows, names)


def test_layout_is_not_guessed():
    """Two delimiters that fit equally well need an option."""
    assert find_layout("a,b;c\nx,y;z\n") is None
    assert find_layout("a,b;c\nx,y;z\n", ";").names == ("a,b", "c")


@pytest.mark.parametrize(
    ("rows", "count"),
    [
        ([("C", "bar"), ("1", "2"), ("3", "4")], 1),
        ([("Units", "", "V"), ("[0]", "x", "y"), ("a", "1", "2"), ("b", "3", "4")], 2),
        ([("1", "2"), ("3", "4")], 0),
        ([("NA", "NA"), ("1", "2"), ("3", "4")], 0),
        ([("?", "2"), ("1", "2"), ("3", "4")], 0),
        ([("C", "bar"), ("1", "x"), ("?", "4")], 0),
    ],
)
def test_rows_of_units_hold_no_number_over_a_column_of_numbers(rows, count):
    """A row with one odd cell is data."""
    assert count_unit_rows(rows) == count


@pytest.mark.parametrize(
    ("text", "marks", "value"),
    [
        ("1.5", {}, 1.5),
        (" +1e3 ", {}, 1000.0),
        ("1,5", {}, None),
        ("1_0", {}, None),
        ("0x1", {}, None),
        ("٣", {}, None),
        ("nan", {}, None),
        ("inf", {}, None),
        ("1e999", {}, None),
        ("1,5", {"decimal": ","}, 1.5),
        ("1.5", {"decimal": ","}, None),
        ("1.234,5", {"decimal": ",", "thousands": "."}, 1234.5),
        ("1.5", {"decimal": ",", "thousands": "."}, None),
        ("-1,234,567.8", {"thousands": ","}, -1234567.8),
        ("12,34", {"thousands": ","}, None),
        ("1 234", {"thousands": " "}, 1234.0),
    ],
)
def test_number_of_takes_only_the_marks_of_the_reading(text, marks, value):
    """A mark in the wrong place is no number, since it may be the other mark."""
    assert number_of(text, Reading(**marks)) == value


def test_read_numbers_leaves_other_texts():
    """Missing cells are None; every column of numbers alone is float64."""
    assert read_numbers(["1", "NA", " ", "x"], Reading()).tolist() == [1.0, None, None, "x"]
    assert read_numbers(["1", "2.5"], Reading()).dtype == float


def test_adapted_follows_the_header():
    """The layout of the fit, plain CSV, or another delimiter; never marks that the delimiter rules out."""
    own = Reading(delimiter=";", decimal=",", thousands=".", skip_rows=2, encoding="cp949")

    assert adapted(own, "x\ny\nt;p\n1,5;2\n", ["t", "p"]) == own
    plain = dataclasses.replace(own, delimiter=",", decimal=".", thousands=None, skip_rows=0)
    assert adapted(own, "t,p\n1.5,2\n", ["t", "p"]) == plain
    assert adapted(own, "t\tp\n1.5\t2\n", ["t", "p"]) == dataclasses.replace(plain, delimiter="\t")
    assert adapted(own, "q;p\n1,5;2\n", ["t", "p"]) == own
    assert adapted(Reading(header=False), "x0,x1\n1,2\n", ["x0", "x1"]).header
    assert not adapted(Reading(header=False), "1,2\n", ["x0", "x1"]).header

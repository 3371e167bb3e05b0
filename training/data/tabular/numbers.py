"""Convert columns of text to numbers, booleans or clean texts."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from detector.delimited.cells import number_of
from detector.reading import Reading
from training.errors import DataError

_BOOLEANS = {"true": True, "false": False}
_MOST_LOOKED_AT = 1000  # different cells of a column, to find its marks
_DECIMAL_COMMA = re.compile(
    r"[+-]?([0-9]{1,3}(\.[0-9]{3})+|0|[0-9]{4,}),[0-9]+|[+-]?[0-9]+,([0-9]{1,2}|[0-9]{4,})"
)
_COMMA_GROUPS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+\.[0-9]*|[+-]?[1-9][0-9]{0,2}(,[0-9]{3}){2,}")
_EITHER = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_DOT_GROUPS = re.compile(r"[+-]?[0-9]{1,3}(\.[0-9]{3})+(,[0-9]*)?")


def typed(column: pa.ChunkedArray, reading: Reading) -> pa.ChunkedArray:
    """Return a column of text as what its cells are.

    Parameters
    ----------
    column : pyarrow.ChunkedArray of string
    reading : Reading

    Returns
    -------
    pyarrow.ChunkedArray
        int64, float64 or bool if all cells that are not missing are; of type null if all are missing; else
        `clean_texts`.
    """
    texts = clean_texts(column, reading)
    if texts.null_count == len(texts):
        return pa.chunked_array([pa.nulls(len(texts))])
    if reading.decimal == "." and reading.thousands is None:
        for kind in (pa.int64(), pa.float64()):
            try:
                return texts.cast(kind)
            except pa.ArrowInvalid:
                continue
    different = texts.unique().drop_null().to_pylist()
    for read in (lambda text: number_of(text, reading), lambda text: _BOOLEANS.get(text.lower())):
        values = {text: read(text) for text in different}
        if None not in values.values():
            return _replaced(texts, values)
    return texts


def clean_texts(column: pa.ChunkedArray, reading: Reading) -> pa.ChunkedArray:
    """Return texts without blanks at their ends, composed (NFC), and null where they are missing."""
    texts = pc.utf8_normalize(pc.utf8_trim_whitespace(column), form="NFC")
    absent = pc.is_in(texts, value_set=pa.array(reading.missing_values, texts.type))
    return pc.if_else(absent, pa.scalar(None, texts.type), texts)


def _replaced(texts: pa.ChunkedArray, values: Mapping[str, float | bool | None]) -> pa.ChunkedArray:
    """Replace each text by its value."""
    keys = list(values)
    places = pc.index_in(texts, value_set=pa.array(keys, texts.type))
    return pc.take(pa.array([values[key] for key in keys]), places)


def with_marks(columns: Mapping[str, pa.ChunkedArray], reading: Reading, source: str) -> Reading:
    """Return the reading with the marks for decimals and thousands that the numbers of a text file have.

    Parameters
    ----------
    columns : mapping of str to pyarrow.ChunkedArray of string
    reading : Reading
    source : str
        Name of the file, for errors.

    Raises
    ------
    DataError
        If a comma may be either mark.
    """
    if not any(_has_comma(column) for column in columns.values()):
        return reading
    cells = {name: _cells_with_marks(column) for name, column in columns.items()}
    marked = {name: texts for name, texts in cells.items() if any("," in text for text in texts)}
    if not marked:
        return reading
    commas = [text for texts in marked.values() for text in texts if "," in text]
    dots = [text for texts in cells.values() for text in texts if "." in text]
    is_decimal = any(map(_DECIMAL_COMMA.fullmatch, commas))
    is_group = any(map(_COMMA_GROUPS.fullmatch, commas))
    if not is_decimal and not is_group and dots and not all(map(_DOT_GROUPS.fullmatch, dots)):
        is_group = True  # the decimals have a point
    if is_decimal and not is_group:
        groups = [text for text in dots if _DOT_GROUPS.fullmatch(text)]
        return dataclasses.replace(reading, decimal=",", thousands="." if groups else None)
    if is_group and not is_decimal:
        return dataclasses.replace(reading, thousands=",")
    if is_group:
        return reading  # neither reads all cells, which are refused one by one
    name, texts = next(iter(marked.items()))
    raise DataError(
        f"{source}: the comma of {texts[0]!r} in column {name!r} may be for decimals or for thousands: give "
        "--decimal , or --thousands ,"
    )


def _has_comma(column: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.match_substring(column.slice(0, _MOST_LOOKED_AT), ",")).as_py())


def _cells_with_marks(column: pa.ChunkedArray) -> list[str]:
    """Return the cells with a comma or a point of a column that holds numbers with marks; else none."""
    texts = clean_texts(column.slice(0, _MOST_LOOKED_AT), Reading()).unique().drop_null().to_pylist()
    return [text for text in texts if "," in text or "." in text] if _are_numbers(texts) else []


def _are_numbers(texts: Iterable[str]) -> bool:
    forms = (Reading(), Reading(decimal=",", thousands="."), Reading(thousands=","))
    return all(any(number_of(text, form) is not None for form in forms) for text in texts)

"""Read numbers and missing cells that are written as text."""

import math
import re
from collections.abc import Collection, Sequence

import numpy as np

from detector.reading import Reading

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ODD = re.compile(r"[^\x00-\x5e\x60-\x7f]|[nN][aA]|[iI][nN]")  # in 1_0, other digits, NaN, infinity


def number_of(text: str, reading: Reading) -> float | None:
    """Return the finite number that a text of decimal digits writes; None for any other text.

    The marks for decimals and thousands are those of the reading; between marks for thousands there must be
    three digits. Blanks at either end are ignored.
    """
    text = text.strip()
    if reading.thousands is not None and reading.thousands in text:
        head, mark, tail = text.partition(reading.decimal)
        groups = head.lstrip("+-").split(reading.thousands)
        if not 1 <= len(groups[0]) <= 3 or any(len(group) != 3 for group in groups[1:]):
            return None
        text = head.replace(reading.thousands, "") + mark + tail
    if reading.decimal != ".":
        if "." in text:
            return None
        text = text.replace(reading.decimal, ".")
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def is_missing_text(text: str, missing_values: Collection[str]) -> bool:
    """Whether a cell of text is missing, without the blanks at its ends."""
    return text.strip() in missing_values


def read_numbers(cells: Sequence[str], reading: Reading) -> np.ndarray:
    """Read a column of texts as numbers.

    Returns
    -------
    ndarray of shape (n_rows,)
        float64 if every cell holds a number; else of objects: numbers, None for missing cells, and texts that
        are neither.
    """
    is_plain = reading.decimal == "." and reading.thousands is None
    if is_plain and not _ODD.search("\n".join(cells)):
        try:
            return np.array(cells, dtype=np.float64)
        except ValueError:
            pass
    read = [_cell(cell, reading) for cell in cells]
    return np.array(read, dtype=np.float64 if all(type(cell) is float for cell in read) else object)


def _cell(cell: str, reading: Reading) -> float | str | None:
    if is_missing_text(cell, reading.missing_values):
        return None
    value = number_of(cell, reading)
    return cell if value is None else value

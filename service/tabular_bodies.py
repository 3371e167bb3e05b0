"""Tables as samples: columns matched by name, in any order, none missing and none unknown; CSV."""

import csv
import dataclasses
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from detector.tables import MISSING_HINT, NUMBER
from service.bodies import TIMESTAMP, Decoded, Expected, Limits, check_rows
from service.problems import Problem

_SLICE_LINES = 256  # so that other threads of the process get their turn
_MOST_NAMED = 5  # columns in a sentence


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the columns of a table stand.

    Attributes
    ----------
    features : tuple of int
        The position in the table of each feature of the model, or channel of its series.
    timestamp : int or None
        The position of the column of time stamps.
    """

    features: tuple[int, ...]
    timestamp: int | None


def match_columns(found: Sequence[str], expected: Expected, hint: str = "") -> Layout:
    """Find the columns of a table by name.

    Parameters
    ----------
    found : sequence of str
        The names of the table, in order.
    expected : Expected
        Of instances that are rows or steps.
    hint : str
        What a refusal ends with.

    Raises
    ------
    Problem
        If one is missing, unknown or there twice.
    """
    wanted = expected.columns()
    positions = {name: position for position, name in enumerate(found)}
    known = {*wanted, TIMESTAMP} if expected.timestamps else set(wanted)
    faults = {
        "lacks": [name for name in wanted if name not in positions],
        "has the unknown": [name for name in positions if name not in known],
        "has more than once": [name for name, times in Counter(found).items() if times > 1],
    }
    words = [f"{what} {_listed(names)}" for what, names in faults.items() if names]
    if words:
        raise Problem(
            "invalid-input",
            f"a table must have exactly the columns {_listed(wanted)}: it {' and '.join(words)}{hint}",
        )
    timestamp = positions.get(TIMESTAMP) if TIMESTAMP not in wanted else None
    return Layout(tuple(positions[name] for name in wanted), timestamp)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(repr(name[:80]) for name in names[:_MOST_NAMED]) + more


# --- CSV ----------------------------------------------------------------------------------------------------


def decode_csv(content: bytes, parameters: Mapping[str, str], expected: Expected, limits: Limits) -> Decoded:
    """Rows, or the steps of a series, of a CSV with a header line.

    Commas part cells, quotes may enclose them (RFC 4180); a line ends with CRLF or LF. An empty cell is a
    missing value. Of a series a column `timestamp` may hold time stamps.

    Parameters
    ----------
    content : bytes
        UTF-8, with or without a byte order mark.
    parameters : mapping
        Of the media type.
    expected : Expected
    limits : Limits

    Raises
    ------
    Problem
        Naming the first cell that is not what its column takes, with row and column.
    """
    _check_parameters(parameters)
    try:
        text = io.StringIO(str(content, "utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise Problem(
            "malformed-body", f"the CSV must be UTF-8: {error.reason} at byte {error.start}"
        ) from error
    header = next(_records(text), [])
    layout = match_columns(header, expected, _header_hint(header))
    body = text.read().rstrip("\r\n")
    plain = '"' not in body and layout.timestamp is None and not expected.cells
    if plain and (samples := _read_numbers(body, layout, len(header), limits)) is not None:
        return Decoded(samples)
    return _read_cells(io.StringIO(body, newline=""), header, layout, expected, limits)


def _check_parameters(parameters: Mapping[str, str]) -> None:
    charset, header = parameters.get("charset", "utf-8"), parameters.get("header", "present")
    if charset.lower() not in ("utf-8", "utf8", "us-ascii") or header.lower() != "present":
        raise Problem(
            "unsupported-media-type",
            f"text/csv must be UTF-8 with a header, got charset={charset[:80]} and header={header[:80]}",
        )


def _records(text: io.StringIO) -> Iterator[list[str]]:
    try:
        yield from csv.reader(text, strict=True)
    except csv.Error as error:
        raise Problem("malformed-body", f"the CSV cannot be parsed: {error}") from error


def _header_hint(header: Sequence[str]) -> str:
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        return "; commas must part the columns"
    is_data = all(_number(name) is not None for name in header)
    return "; the first line must name the columns" if is_data else ""


def _number(text: str) -> float | None:
    """Decimal digits alone: Python also takes 1_000, and digits of other scripts."""
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def _read_numbers(body: str, layout: Layout, n_columns: int, limits: Limits) -> np.ndarray | None:
    """A table of nothing but numbers, fast; None where a closer look must find out what is wrong."""
    lines = body.replace("\r\n", "\n").split("\n") if body else []
    check_rows(len(lines), limits)
    samples = np.empty((len(lines), len(layout.features)))
    for start in range(0, len(lines), _SLICE_LINES):
        part = lines[start : start + _SLICE_LINES]
        if any(line.count(",") != n_columns - 1 for line in part):
            return None
        try:
            values = np.loadtxt(part, delimiter=",", comments=None, ndmin=2)
        except ValueError:
            return None
        if len(values) != len(part):  # it passes over blank lines
            return None
        samples[start : start + len(part)] = values[:, layout.features]
    return samples


def _read_cells(
    text: io.StringIO, header: Sequence[str], layout: Layout, expected: Expected, limits: Limits
) -> Decoded:
    """Any table, cell by cell."""
    names, texts = expected.columns(), expected.texts
    rows: list[list[Any]] = []
    timestamps: list[str] | None = None if layout.timestamp is None else []
    for record in _records(text):
        row = len(rows)
        check_rows(row + 1, limits)
        record = record or [""]  # a blank line
        if len(record) != len(header):
            sentence = f"row {row} must have {len(header)} cells, got {len(record)}"
            raise Problem("invalid-input", sentence, [{"detail": sentence, "row": row}])
        rows.append(
            [
                record[position] or None
                if name in texts
                else _measured(record[position], name, row, expected)
                for name, position in zip(names, layout.features, strict=True)
            ]
        )
        if timestamps is not None:
            timestamps.append(record[layout.timestamp])
    samples = np.array(rows, dtype=object if expected.cells else np.float64)
    return Decoded(samples.reshape(len(rows), len(names)), timestamps=timestamps)


def _measured(cell: str, name: str, row: int, expected: Expected) -> float | None:
    if not cell.strip() and expected.cells:
        return None
    value = _number(cell)
    if value is None:
        got = repr(cell[:80]) if cell.strip() else "nothing"
        hint = MISSING_HINT if expected.rows and got == "nothing" else ""
        raise misplaced(f"{name!r} must be {NUMBER}, got {got} in row {row}{hint}", row, name)
    return value


def misplaced(sentence: str, row: int, column: str) -> Problem:
    """The problem of one cell."""
    return Problem("invalid-input", sentence, [{"detail": sentence, "row": row, "column": column}])

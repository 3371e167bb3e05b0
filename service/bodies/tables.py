"""Read CSV, and match the columns of every kind of table by name: any order, none missing, none unknown."""

import codecs
import csv
import dataclasses
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from detector.columns import compare_columns, listed, spelled
from detector.delimited.cells import is_missing_text, number_of
from detector.delimited.encodings import PLAIN, encoding_of
from detector.delimited.layout import adapted, records
from detector.engine.session import check_stop
from detector.reading import Reading
from detector.tables import MISSING_HINT, NUMBER
from service.bodies import TIMESTAMP, Decoded, Expected, Limits, Timestamp, check_rows, misplaced
from service.bodies.encodings import mark_bytes
from service.bodies.json.numbers import NumberReader
from service.http.messages import Body
from service.http.problems import Problem

# The index in a CSV of pandas, when that is read and written again, after `reset_index`, and in Arrow.
_INDEX_NAMES = frozenset({"", "Unnamed: 0", "index", "__index_level_0__"})
_HEAD_BYTES = 2**16  # in which the header and the encoding show
_SLICE_BYTES = 2**18  # takes under a millisecond, so that other threads of the process get their turn
_LINE_BYTES = 2**20
_BLOCK_ROWS = 1024
_MOST_HEADER_LINES = 1000
_COMMA, _LINE_FEED = b",\n"
_MOST_COMMAS = 1000  # in a line, for each expected column: texts may contain some


@dataclasses.dataclass(frozen=True)
class Layout:
    """The positions of the columns of a table.

    Attributes
    ----------
    features : tuple of int
        For each feature of the model, or channel of its series, its position in the table.
    timestamp : int or None
        The position of the column of time stamps; None where there is none.
    """

    features: tuple[int, ...]
    timestamp: int | None


def match_columns(found: Sequence[str], expected: Expected, hint: str = "") -> Layout:
    """Find the columns of a table of rows or steps by their names, given in order.

    Raise `Problem`, whose sentence ends with the hint, if a column is missing, unknown or repeated.
    """
    wanted = expected.columns()
    optional = (*expected.reading.ignored, *((TIMESTAMP,) if expected.timestamps else ()))
    if not set(wanted) <= set(found):
        found = spelled(found, wanted)
    faults = compare_columns(found, wanted, optional)
    if str(faults):
        if _INDEX_NAMES.intersection(faults.unknown):
            hint = "; pandas writes its index as a column unless it is told index=False"
        sentence = f"a table must have exactly the columns {listed(wanted)}: it {faults}{hint}"
        raise Problem("invalid-input", sentence)
    positions = {name: position for position, name in enumerate(found)}
    timestamp = positions.get(TIMESTAMP) if expected.timestamps and TIMESTAMP not in wanted else None
    return Layout(tuple(positions[name] for name in wanted), timestamp)


# --- CSV ----------------------------------------------------------------------------------------------------


def decode_csv(content: Body, parameters: Mapping[str, str], expected: Expected, limits: Limits) -> Decoded:
    """Read rows, or the steps of a series, from a CSV with a header line.

    Cells are separated by commas and may be quoted (RFC 4180); a line ends with CRLF or LF. An empty cell, or
    a word such as NA, is a missing value. A series may have time stamps in a column `timestamp`. A body may
    also be written as the file that the model was fitted on: its encoding, delimiter, marks of numbers, lines
    above the header.

    Parameters
    ----------
    content : bytes
        UTF-8, with or without a byte order mark, or in the encoding of that file.
    parameters : mapping
        Parameters of the media type.
    expected : Expected
    limits : Limits

    Raises
    ------
    Problem
        With the row and column of the first cell that its column does not take.
    """
    content = _with_line_feeds(_in_utf8(content, parameters, expected.reading))
    begin, stop = mark_bytes(content), _end_of_lines(content)
    reading = _reading_of(content, begin, expected)
    for _ in range(reading.skip_rows):
        begin = content.find(b"\n", begin, stop) + 1 or stop
    delimiter = reading.delimiter or ","
    most = _MOST_COMMAS * len(expected.columns())
    end = _end_of_header(content, begin, stop)
    header = next(_records(content, begin, end, delimiter, most), [])
    if reading.header:
        begin = end + 1
    else:
        header = [f"x{position}" for position in range(len(header))]
    layout = match_columns(header, expected, _header_hint(header))
    if layout.timestamp is None and not expected.cells and _is_plain(reading):
        samples = _read_numbers(content, begin, stop, layout, len(header), limits)
        if samples is not None:
            return Decoded(samples)
    rows = _records(content, begin, stop, delimiter, most)
    return _read_cells(_without_units(rows, layout, reading), header, layout, expected, reading, limits)


def _in_utf8(content: Body, parameters: Mapping[str, str], reading: Reading) -> Body:
    """Return a text in UTF-8; only the encoding of the model's data is read besides."""
    charset, header = parameters.get("charset", ""), parameters.get("header", "present")
    own = reading.encoding or PLAIN
    allowed = ("utf-8", "ascii", _codec(own))
    if (charset and _codec(charset) not in allowed) or header.lower() != "present":
        raise Problem(
            "unsupported-media-type",
            f"text/csv must be UTF-8 with a header, got charset={charset[:80]} and header={header[:80]}",
        )
    encoding = charset or own
    if _codec(encoding) in ("utf-8", "utf-8-sig", "ascii"):
        return content
    if not charset and encoding_of(bytes(content[:_HEAD_BYTES]), own) != own:
        return content
    decoder, text = codecs.getincrementaldecoder(encoding)(), bytearray()
    try:
        for at in range(0, len(content), _SLICE_BYTES):
            check_stop()
            is_last = at + _SLICE_BYTES >= len(content)
            text += decoder.decode(bytes(content[at : at + _SLICE_BYTES]), is_last).encode()
    except UnicodeError as error:
        raise Problem("malformed-body", f"the CSV must be in {encoding}: {error}") from error
    return text


def _codec(name: str) -> str:
    """Return the name of an encoding as Python spells it; an empty text if there is none."""
    try:
        return codecs.lookup(name).name
    except LookupError:
        return ""


def _reading_of(content: Body, begin: int, expected: Expected) -> Reading:
    """Return how a body is written: as the data of the model were, or as plain CSV."""
    reading = expected.reading
    if _is_plain(reading) and not reading.skip_rows and reading.header:
        return reading
    head = str(content[begin : begin + _HEAD_BYTES], "utf-8", "ignore")
    return adapted(reading, head, expected.columns(), sniff=False)


def _is_plain(reading: Reading) -> bool:
    """Whether numbers are as JSON writes them, between commas, in every row."""
    plain = reading.delimiter in (None, ",") and reading.decimal == "." and reading.thousands is None
    return plain and not reading.unit_rows


def _without_units(rows: Iterator[list[str]], layout: Layout, reading: Reading) -> Iterator[list[str]]:
    """Leave out the rows below the header that hold units, as the data of the model had them."""
    for record in itertools.islice(rows, reading.unit_rows):
        cells = [record[position] for position in layout.features if position < len(record)]
        if any(number_of(cell, reading) is not None for cell in cells):
            yield record
    yield from rows


def _with_line_feeds(content: Body) -> Body:
    """Replace CRLF and CR by LF, a slice at a time."""
    if not any(b"\r" in content[at : at + _SLICE_BYTES] for at in range(0, len(content), _SLICE_BYTES)):
        return content
    replaced, at = bytearray(), 0
    while at < len(content):
        check_stop()
        end = at + _SLICE_BYTES
        end += content[end - 1 : end + 1] == b"\r\n"
        replaced += content[at:end].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        at = end
    return replaced


def _end_of_lines(content: Body) -> int:
    """Find the end of the last line that is not blank, without copying a body of up to 100 MB."""
    stop = len(content)
    while stop:
        check_stop()
        tail = content[max(0, stop - _SLICE_BYTES) : stop]
        stop -= len(tail) - len(tail.rstrip(b"\n"))
        if not tail.endswith(b"\n") or content[stop - 1 : stop] != b"\n":
            break
    return stop


def _end_of_header(content: Body, begin: int, stop: int) -> int:
    """Find the end of the first record; a line feed between quotes belongs to a cell."""
    start, quotes, most = begin, 0, begin + _LINE_BYTES
    for _ in range(_MOST_HEADER_LINES):
        end = content.find(b"\n", start, min(stop, most))
        end = min(stop, most) if end < 0 else end
        quotes += content.count(b'"', start, end)
        if end == most < stop:
            raise Problem("malformed-body", f"the header of the CSV may have at most {_LINE_BYTES} bytes")
        if end == stop or quotes % 2 == 0:
            return end
        start = end + 1
    raise Problem("malformed-body", f"the header of the CSV may have at most {_MOST_HEADER_LINES} lines")


def _records(content: Body, begin: int, stop: int, delimiter: str, most: int) -> Iterator[list[str]]:
    """Parse the lines of a part of the body into cells."""
    lines = _Lines(content, begin, stop, delimiter, most)
    try:
        for record in records(lines, delimiter):
            lines.n_marks = 0
            yield record
    except UnicodeDecodeError as error:
        place = f"{error.reason} at byte {lines.begin + error.start}"
        raise Problem("malformed-body", f"the CSV must be UTF-8: {place}") from error
    except csv.Error as error:
        raise Problem("malformed-body", f"the CSV cannot be parsed: {error}") from error


class _Lines:
    """The lines of a part of a body for the CSV reader, decoded a slice at a time.

    A line, or a record of many lines, with a hundred million cells would fill the memory.

    Attributes
    ----------
    begin : int
        The place of the slice that is being read.
    n_marks : int
        Delimiters in the record that is being read; its reader sets it to 0 for the next one.
    """

    def __init__(self, content: Body, begin: int, stop: int, delimiter: str, most: int) -> None:
        self._content, self.begin, self._stop = content, begin, stop
        self._delimiter, self._most = delimiter, most
        self.n_marks = 0

    def __iter__(self) -> Iterator[str]:
        """Yield each line with its line feed."""
        while self.begin < self._stop:
            check_stop()
            end = _end_of_slice(self._content, self.begin, self._stop)
            if end is None:
                raise Problem("malformed-body", f"a line of the CSV may have at most {_LINE_BYTES} bytes")
            for line in io.StringIO(str(self._content[self.begin : end + 1], "utf-8"), newline=""):
                self.n_marks += line.count(self._delimiter)
                if self.n_marks > self._most:
                    what = "commas" if self._delimiter == "," else f"of {self._delimiter!r}"
                    sentence = f"a line of the CSV may have at most {self._most} {what}"
                    raise Problem("malformed-body", f"{sentence}, got {self.n_marks}")
                yield line
            self.begin = end + 1


def _end_of_slice(content: Body, begin: int, stop: int) -> int | None:
    """Find the end of the lines of a slice that begins here; None if the last one is too long."""
    least = min(begin + _SLICE_BYTES, stop)
    most = min(least + _LINE_BYTES, stop)
    end = content.find(b"\n", least, most)
    if end < 0:
        return stop if most == stop else None
    return end


def _header_hint(header: Sequence[str]) -> str:
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        return "; columns must be separated by commas"
    is_data = all(number_of(name, Reading()) is not None for name in header)
    return "; the first line must name the columns" if is_data else ""


def _read_numbers(
    content: Body, begin: int, stop: int, layout: Layout, n_columns: int, limits: Limits
) -> np.ndarray | None:
    """Read a table that holds only numbers, fast; None for any other, which is then read cell by cell."""
    n_rows = _count_lines(content, begin, stop)
    check_rows(n_rows, limits)
    samples = np.empty((n_rows, len(layout.features)))
    reader = NumberReader()
    row = 0
    while row < n_rows:
        check_stop()
        end = _end_of_slice(content, begin, stop)
        values = None if end is None else _read_lines(content[begin:end], n_columns, reader)
        if end is None or values is None:
            return None
        samples[row : row + len(values)] = values[:, layout.features]
        begin, row = end + 1, row + len(values)
    return samples


def _count_lines(content: Body, begin: int, stop: int) -> int:
    places = range(begin, stop, _SLICE_BYTES)
    ends = sum(content.count(b"\n", at, min(at + _SLICE_BYTES, stop)) for at in places)
    return ends + (begin < stop)


def _read_lines(lines: Body, n_columns: int, reader: NumberReader) -> np.ndarray | None:
    """Read the numbers of whole lines; None unless each line has one number in every column."""
    marks = np.frombuffer(lines, np.uint8)
    ends = np.append(marks[(marks == _COMMA) | (marks == _LINE_FEED)] == _LINE_FEED, True)
    if ends.size % n_columns:
        return None
    rows = ends.reshape(-1, n_columns)
    if not rows[:, -1].all() or rows[:, :-1].any():
        return None
    plain = reader.read(b'{"instances":[%s]}' % lines.replace(b"\n", b","), rank=0)
    if plain is not None and plain[0].size == ends.size:
        return plain[0].reshape(rows.shape)
    try:  # numbers that JSON does not allow: +1, .5, 1., 007, nan
        values = np.loadtxt(str(lines, "ascii").split("\n"), delimiter=",", comments=None, ndmin=2)
    except ValueError:
        return None
    return values if values.shape == rows.shape else None  # loadtxt skips blank lines


def _read_cells(
    records: Iterable[list[str]],
    header: Sequence[str],
    layout: Layout,
    expected: Expected,
    reading: Reading,
    limits: Limits,
) -> Decoded:
    """Read any table cell by cell."""
    names, texts = expected.columns(), expected.texts
    dtype = object if expected.cells else np.float64
    blocks: list[np.ndarray] = [np.empty((0, len(names)), dtype)]
    rows: list[list[Any]] = []
    timestamps: list[Timestamp] = []
    for row, record in enumerate(records):
        check_rows(row + 1, limits)
        cells = record or [""]  # a blank line
        if len(cells) != len(header):
            raise misplaced(f"row {row} must have {len(header)} cells, got {len(cells)}", row=row)
        rows.append(
            [
                cells[position] if name in texts else _measured(cells[position], name, row, expected, reading)
                for name, position in zip(names, layout.features, strict=True)
            ]
        )
        if layout.timestamp is not None:
            timestamps.append(cells[layout.timestamp])
        if len(rows) == _BLOCK_ROWS:  # Python's numbers take four times the memory of an array's
            blocks.append(np.array(rows, dtype))
            rows = []
    if rows:
        blocks.append(np.array(rows, dtype))
    return Decoded(np.concatenate(blocks), timestamps=None if layout.timestamp is None else timestamps)


def _measured(cell: str, name: str, row: int, expected: Expected, reading: Reading) -> float | None:
    is_missing = is_missing_text(cell, reading.missing_values)
    if is_missing and expected.cells:
        return None
    value = number_of(cell, reading)
    if value is None:
        got = repr(cell[:80]) if cell.strip() else "nothing"
        hint = MISSING_HINT if expected.rows and is_missing else ""
        raise misplaced(f"{name!r} must be {NUMBER}, got {got} in row {row}{hint}", row=row, column=name)
    return value

"""Read a delimited text file as columns of text, every row of it, or refuse it in one sentence."""

import csv
import dataclasses
import gzip
import io
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from detector.columns import listed, repeated_names
from detector.delimited.cells import number_of
from detector.delimited.encodings import encoding_of
from detector.delimited.layout import (
    HEAD_BYTES,
    Layout,
    adapted,
    count_unit_rows,
    find_layout,
    may_be_data,
    names_by,
    records,
)
from detector.reading import Reading
from training.data.tabular.options import TableOptions
from training.errors import DataError

# The first bytes of files that are often renamed to .csv.
_FORMS = {
    b"PAR1": "a Parquet file: rename it to .parquet",
    b"ARROW1": "an Arrow file: rename it to .arrow",
    b"PK\x03\x04": "an Excel workbook or another zip archive: rename a workbook to .xlsx, unpack an archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save it as .xlsx or CSV",
    b"\x89HDF": "an HDF5 file: save its table as CSV or Parquet",
    b"\x93NUMPY": "a NumPy array: rename it to .npy",
    b"%PDF": "a PDF: save its table as CSV",
    b"SQLite format 3": "an SQLite database: save its table as CSV",
    b"\x80": "a pickle: save its table as CSV or Parquet",
}
_GZIP = b"\x1f\x8b"
_SAMPLE_ROWS = 200
_QUOTE, _LINE_FEED, _RETURN = b'"\n\r'


@dataclasses.dataclass(frozen=True)
class TextTable:
    """The cells of one file.

    Attributes
    ----------
    columns : dict of str to pyarrow.ChunkedArray of string
        By name; cells as they are written, but for quotes.
    reading : Reading
    lines : ndarray of shape (n_rows,), int, or range
        The line of the file, counted from 1, where each row begins.
    notes : tuple of str
    """

    columns: dict[str, pa.ChunkedArray]
    reading: Reading
    lines: Sequence[int]
    notes: tuple[str, ...] = ()


def read_text(path: Path, reading: Reading, options: TableOptions, wanted: Sequence[str] = ()) -> TextTable:
    """Read a delimited text file, which may be compressed by gzip.

    Parameters
    ----------
    path : Path
    reading : Reading
        What is known before the file is opened.
    options : TableOptions
    wanted : sequence of str
        Features of the model that the table is for.

    Raises
    ------
    DataError
        If the file is no such text; its encoding or its delimiter is not certain; two columns have one name;
        or a row has another number of cells than the header, which a quote that is never closed causes, too.
    """
    content = _inflated(path)
    reading, content = _decoded(path, content, reading, options)
    head = content[:HEAD_BYTES].decode(errors="ignore")
    layout, reading = _laid_out(path, head, options, reading, wanted)
    names = layout.names or tuple(f"x{place}" for place in range(layout.width))
    body, first_line = _below(content, reading)
    table, lines = _parse(path, body, first_line, len(names), reading.delimiter or ",")
    columns = named_columns(path.name, names, table)
    notes = []
    unit_rows = 0
    if reading.header and (reading.unit_rows or not options.for_model):
        unit_rows = count_unit_rows(_first_rows(columns))
    if unit_rows:
        notes.append(
            f"{path.name}: {_lines_words(lines[:unit_rows])} no numbers, but units or the like: left out"
        )
        columns = {name: column.slice(unit_rows) for name, column in columns.items()}
        lines = lines[unit_rows:]
    reading = dataclasses.replace(reading, unit_rows=unit_rows)
    return TextTable(columns, reading, lines, (*_notes(path, layout, reading), *notes))


def _notes(path: Path, layout: Layout, reading: Reading) -> Iterator[str]:
    """Say what was found and is not what a CSV has by itself."""
    found = []
    if reading.encoding not in ("utf-8", "utf-8-sig"):
        found.append(f"the encoding is {reading.encoding}")
    usual = "\t" if ".tsv" in path.suffixes else ","
    if reading.delimiter != usual and layout.width > 1:
        found.append(f"columns are separated by {delimiter_words(reading.delimiter)}")
    if reading.skip_rows:
        found.append(f"{reading.skip_rows} lines above the header were skipped")
    if found:
        yield f"{path.name}: {', '.join(found)}"
    if layout.names is None:
        names = "x0" if layout.width == 1 else f"x0 to x{layout.width - 1}"
        yield f"{path.name}: the first line is a row of data, so that the columns are called {names}"


def delimiter_words(delimiter: str | None) -> str:
    """Name a delimiter."""
    words = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
    return words.get(delimiter or ",", repr(delimiter))


def _lines_words(lines: Sequence[int]) -> str:
    numbers = " and ".join(map(str, lines))
    return f"lines {numbers} hold" if len(lines) > 1 else f"line {numbers} holds"


# --- bytes to text ------------------------------------------------------------------------------------------


def _inflated(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(_GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} cannot be inflated: {error}") from error


def _decoded(path: Path, content: bytes, reading: Reading, options: TableOptions) -> tuple[Reading, bytes]:
    """Return the reading with the encoding, and the text as UTF-8 without a byte order mark."""
    form = next((words for mark, words in _FORMS.items() if content.startswith(mark)), None)
    if form is not None:
        raise DataError(f"{path.name} is no text but {form}")
    if not content.strip():
        raise DataError(f"{path.name} is empty")
    is_given = "encoding" in options.given
    encoding = reading.encoding if is_given else encoding_of(content, reading.encoding)
    if encoding is None:
        raise DataError(
            f"{path.name}: the encoding of the text is not certain, but not UTF-8; name it, for example with "
            "--encoding cp949 or --encoding latin-1, or save the file as UTF-8"
        )
    try:
        text = content.decode(encoding)
    except LookupError as error:
        raise DataError(f"--encoding must be the name of an encoding, got {encoding!r}") from error
    except UnicodeError as error:
        raise DataError(f"{path.name} cannot be read as {encoding}: {error}") from error
    if "\0" in text[:HEAD_BYTES]:
        raise DataError(f"{path.name} is no text: it holds bytes of 0")
    text = text.removeprefix("\ufeff")
    return dataclasses.replace(reading, encoding=encoding), text.encode()


# --- text to rows -------------------------------------------------------------------------------------------


def _laid_out(
    path: Path, head: str, options: TableOptions, reading: Reading, wanted: Sequence[str]
) -> tuple[Layout, Reading]:
    """Return the layout of the table, and the reading with it."""
    if options.for_model and reading.delimiter is not None and "delimiter" not in options.given:
        reading = adapted(reading, head, wanted)
        names = names_by(head, reading)
        shown = names if reading.header else None
        layout = Layout(reading.delimiter or ",", reading.skip_rows, shown, len(names))
        return layout, reading
    found = find_layout(
        head,
        reading.delimiter if "delimiter" in options.given else None,
        reading.skip_rows if "skip_rows" in options.given else None,
    )
    if found is None:
        raise DataError(
            f"{path.name}: it is not certain what separates the columns; name it, for example with "
            "--delimiter ';'"
        )
    if "header" in options.given and not reading.header:
        found = dataclasses.replace(found, names=None)
    if found.names is not None and may_be_data(found.names) and not {*wanted} & {*found.names}:
        raise DataError(
            f"{path.name}: the first line, {','.join(found.names)[:80]!r}, may be names or a row of data: "
            "give --no-header if it is a row of data, or choose the columns by these names with --columns"
        )
    return found, dataclasses.replace(
        reading,
        delimiter=found.delimiter,
        skip_rows=found.skip_rows,
        header=found.names is not None,
    )


def _below(content: bytes, reading: Reading) -> tuple[bytes, int]:
    """Return the text below the header, and the number of its first line, counted from 1."""
    text = content.decode() if b'"' in content[:HEAD_BYTES] else content[:HEAD_BYTES].decode(errors="ignore")
    lines = io.StringIO(text, newline="")
    n_lines = sum(1 for _ in itertools.islice(lines, reading.skip_rows))
    if reading.header:
        counted: list[str] = []
        try:
            next(
                (cells for cells in records(_noted(lines, counted), reading.delimiter or ",") if cells), None
            )
        except csv.Error as error:
            raise DataError(f"the header cannot be read: {error}") from error
        n_lines += len(counted)
    return content[len(text[: lines.tell()].encode()) :], n_lines + 1


def _parse(
    path: Path, body: bytes, first_line: int, width: int, delimiter: str
) -> tuple[list[pa.ChunkedArray], Sequence[int]]:
    """Parse the rows; return the columns, and the line where each row begins."""
    if delimiter == " ":
        body = b"\n".join(b" ".join(line.split()) for line in body.split(b"\n"))
    if not body.strip():
        return [pa.chunked_array([[]], pa.string())] * width, range(0)
    lines: Sequence[int] | None = None
    if _has_long_cells(body):
        lines = _checked_lines(path, body, first_line, width, delimiter)
    places = list(map(str, range(width)))
    try:
        table = pyarrow.csv.read_csv(
            io.BytesIO(body),
            pyarrow.csv.ReadOptions(column_names=places),
            pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=lines is not None),
            pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(places, pa.string())),
        )
    except pa.ArrowException as error:
        _checked_lines(path, body, first_line, width, delimiter)
        raise DataError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from error
    if lines is None:
        lines = range(first_line, first_line + table.num_rows)
        if body.rstrip(b"\r\n").count(b"\n") != table.num_rows - 1:  # blank lines, or line ends without one
            lines = _checked_lines(path, body, first_line, width, delimiter)
    return table.columns, lines


def named_columns(
    source: str, names: Sequence[str], columns: Sequence[pa.ChunkedArray]
) -> dict[str, pa.ChunkedArray]:
    """Return columns by name; of those without a name, empty ones are dropped, and one may hold values.

    Raise `DataError` if two columns have one name, or more than one without a name holds values.
    """
    repeated = repeated_names([name for name in names if name])
    if repeated:
        raise DataError(f"{source}: column names must differ, got {listed(repeated)} more than once")
    nameless = [place for place, name in enumerate(names) if not name]
    empty = [place for place in nameless if len(nameless) > 1 and _is_empty(columns[place])]
    if len(nameless) - len(empty) > 1:
        places = " and ".join(str(place + 1) for place in nameless if place not in empty)
        raise DataError(f"{source}: columns {places} of {len(names)} have no name: name them in the header")
    dropped = set(empty)
    return {
        name: column
        for place, (name, column) in enumerate(zip(names, columns, strict=True))
        if place not in dropped
    }


def _is_empty(column: pa.ChunkedArray) -> bool:
    return all(not str(cell or "").strip() for cell in column.unique().to_pylist())


def _has_long_cells(body: bytes) -> bool:
    """Whether a quote is open at the end of any line: a cell of several lines, or a quote never closed."""
    if b'"' not in body:
        return False
    content = np.frombuffer(body, np.uint8)
    quotes = np.flatnonzero(content == _QUOTE)
    ends = np.append(np.flatnonzero((content == _LINE_FEED) | (content == _RETURN)), content.size)
    return bool((np.searchsorted(quotes, ends) % 2).any())


def _checked_lines(path: Path, body: bytes, first_line: int, width: int, delimiter: str) -> np.ndarray:
    """Return the line where each row begins; refuse rows of another width and quotes that are not closed."""
    taken: list[str] = []
    begins, line = [], first_line
    reader = records(_noted(io.StringIO(body.decode(), newline=""), taken), delimiter)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{path.name}: the quote that opens in line {line} is not closed properly before line "
                f"{line + len(taken) - 1} ({error})"
            ) from error
        if cells is None:
            return np.array(begins, dtype=np.int64)
        if len(taken) > 1 and _are_rows(taken, delimiter, width):
            raise DataError(
                f"{path.name}: the quote that opens in line {line} is not closed before line "
                f"{line + len(taken) - 1}, and would swallow {len(taken) - 1} rows"
            )
        if cells and len(cells) != width:
            raise DataError(
                f"{path.name}: every row must have {_cells_words(width)}, got {len(cells)} in line {line}: "
                f"{delimiter.join(cells)[:80]!r}"
            )
        if cells:
            begins.append(line)
        line += len(taken)
        taken.clear()


def _cells_words(count: int) -> str:
    return f"{count} cell{'s' * (count != 1)}"


def _noted(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    """Yield lines, each of which is appended to `taken`."""
    for line in lines:
        taken.append(line)
        yield line


def _are_rows(lines: Sequence[str], delimiter: str, width: int) -> bool:
    """Whether the lines of a cell look like rows of their own."""
    rows = [line.rstrip("\r\n").split(delimiter) for line in lines]
    if width < 2 or any(len(row) != width for row in rows):
        return False
    plain = Reading()
    numbers = [sum(number_of(cell, plain) is not None for cell in row) for row in rows]
    return len(rows) > 2 or min(numbers) * 2 >= width


def _first_rows(columns: dict[str, pa.ChunkedArray]) -> list[tuple[str, ...]]:
    return list(zip(*(column.slice(0, _SAMPLE_ROWS).to_pylist() for column in columns.values()), strict=True))

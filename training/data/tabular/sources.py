"""Read files of any form as columns."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.json
import pyarrow.parquet

from detector.columns import clean_name, compare_columns, spelled
from detector.reading import Reading
from training.data.tabular.numbers import clean_texts, typed, with_marks
from training.data.tabular.options import TableOptions
from training.data.tabular.text import named_columns, read_text
from training.errors import DataError

_TEXT = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
_FOLDER_TEXT = (".csv", ".tsv", ".csv.gz", ".tsv.gz")  # read from a folder, which may also hold a description
_DESCRIPTIONS = (".txt", ".md", ".json", ".yaml", ".yml", ".html", ".pdf")
_ARROW = (".feather", ".arrow")
_LINES = (".jsonl", ".ndjson")
_WORKBOOK = (".xlsx",)
TABLE_SUFFIXES = (*_TEXT, ".parquet", *_ARROW, *_LINES, *_WORKBOOK)


@dataclasses.dataclass(frozen=True)
class Source:
    """Columns of one file, or of several of one form.

    Attributes
    ----------
    name : str
        Of the file or folder.
    columns : dict of str to pyarrow.ChunkedArray
        By name. Those of a text file are texts as they are written.
    reading : Reading
    is_text : bool
        Whether the files are text, in which cells have no type.
    places : sequence of tuple of str and sequence of int, or of None
        For each file its name, and the line where each row begins; None for files without lines.
    notes : tuple of str
    """

    name: str
    columns: Mapping[str, pa.ChunkedArray]
    reading: Reading
    is_text: bool
    places: Sequence[tuple[str, Sequence[int] | None, int]]
    notes: tuple[str, ...] = ()

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return sum(n_rows for _, _, n_rows in self.places)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column with the type of its cells; missing cells are null, texts are clean."""
        column = self.columns[name]
        if self.is_text:
            return typed(column, self.reading)
        return self.texts(name) if is_text_type(column.type) else column

    def texts(self, name: str) -> pa.ChunkedArray:
        """Return a column of texts, in a text file whatever they look like."""
        column = self.columns[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        return clean_texts(column, self.reading) if is_text_type(column.type) else column

    def row_words(self, row: int) -> str:
        """Name a row, counted from 0, with its line in a text file, counted from 1."""
        words, left = f"row {row}", row
        for name, lines, n_rows in self.places:
            if left < n_rows:
                place = "" if lines is None else f"line {lines[left]}"
                if len(self.places) > 1:
                    place = f"{place} of {name}" if place else f"row {left} of {name}"
                return f"{words} ({place})" if place else words
            left -= n_rows
        raise IndexError(row)

    def files(self) -> np.ndarray:
        """Return the name of the file of each row, without its suffix."""
        names = [name.partition(".")[0] for name, _, _ in self.places]
        return np.repeat(names, [n_rows for _, _, n_rows in self.places])


def is_text_type(kind: pa.DataType) -> bool:
    """Whether a column holds texts, or a dictionary of texts."""
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def table_files(data: str) -> list[Path]:
    """Return the files of a table: one file, the CSV files of a folder, or those that a pattern matches.

    Empty if the name is that of no table.
    """
    path = Path(data)
    if path.is_dir():
        return _files_of_folder(path)
    if any(mark in data for mark in "*?[") and not path.exists():
        return sorted(file for file in path.parent.glob(path.name) if _is_visible_text(file))
    return [path] if suffix_of(path) in TABLE_SUFFIXES else []


def _files_of_folder(folder: Path) -> list[Path]:
    """Return the text files of a flat folder; none if it has folders or other data, such as images."""
    visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    tables = sorted(path for path in visible if _is_visible_text(path))
    others = {path for path in visible if path not in tables and path.suffix.lower() not in _DESCRIPTIONS}
    return [] if others else tables


def _is_visible_text(path: Path) -> bool:
    return suffix_of(path) in _FOLDER_TEXT and not path.name.startswith(".") and path.is_file()


def suffix_of(path: Path) -> str:
    """Return the suffix in lower case, with the one before `.gz`."""
    suffixes = path.name.lower().rsplit(".", 2)[1:]
    return "." + (".".join(suffixes) if suffixes[-1:] == ["gz"] else (suffixes or [""])[-1])


def read_source(
    data: str,
    reading: Reading | None = None,
    options: TableOptions | None = None,
    wanted: Sequence[str] = (),
) -> Source:
    """Read a table.

    Parameters
    ----------
    data : str
        A file, a folder of text files, or a pattern for such files.
    reading : Reading, optional
        What is known before a file is opened.
    options : TableOptions, optional
    wanted : sequence of str
        Columns that are known to be there: those of the model that the table is for, or that the user chose.

    Raises
    ------
    DataError
        If a file cannot be read, column names are not different, or files have different columns.
    """
    reading, options, files = reading or Reading(), options or TableOptions(), table_files(data)
    if not files:
        raise DataError(f"{data} holds no table")
    sources = [_read(file, reading, options, wanted) for file in files]
    source = sources[0] if len(sources) == 1 else _joined(Path(data).name, sources)
    if options.for_model:  # whose features older releases did not clean
        names = spelled(source.columns, wanted)
        source = dataclasses.replace(source, columns=dict(zip(names, source.columns.values(), strict=True)))
    is_known = options.for_model or {"decimal", "thousands"} & set(options.given)
    if not source.is_text or is_known:
        return source
    return dataclasses.replace(source, reading=with_marks(source.columns, source.reading, source.name))


def _joined(name: str, sources: Sequence[Source]) -> Source:
    first = sources[0]
    for other in sources[1:]:
        faults = str(compare_columns(list(other.columns), list(first.columns)))
        if faults:
            raise DataError(f"{other.name} must have the columns of {first.name}: it {faults}")
    columns = {
        name: pa.chunked_array(
            [chunk for source in sources for chunk in source.columns[name].chunks], pa.string()
        )
        for name in first.columns
    }
    places = [place for source in sources for place in source.places]
    notes = tuple(dict.fromkeys(note for source in sources for note in source.notes))
    joined = (f"{name}: {len(sources)} files were read as one table", *notes)
    return dataclasses.replace(first, name=name, columns=columns, places=places, notes=joined)


def _read(path: Path, reading: Reading, options: TableOptions, wanted: Sequence[str]) -> Source:
    suffix = suffix_of(path)
    try:
        if suffix in _TEXT:
            text = read_text(path, reading, options, wanted)
            return Source(
                path.name,
                text.columns,
                text.reading,
                is_text=True,
                places=[(path.name, text.lines, len(text.lines))],
                notes=text.notes,
            )
        table = _READERS[suffix](path)
        names = list(map(clean_name, table.column_names))  # decodes them as well
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: column names must be UTF-8, got {error.object!r}") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from error
    columns = named_columns(path.name, names, table.columns)
    return Source(path.name, columns, reading, is_text=False, places=[(path.name, None, table.num_rows)])


def _workbook(path: Path) -> pa.Table:
    """Read the first sheet of a workbook: the first row that is not empty names the columns."""
    try:
        import openpyxl
    except ImportError as error:
        raise DataError(
            f"{path.name}: workbooks need openpyxl, which is not installed: pip install openpyxl"
        ) from error
    try:
        sheet = openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets[0]
        rows = [row for row in sheet.iter_rows(values_only=True) if any(cell is not None for cell in row)]
    except Exception as error:  # zipfile, XML and openpyxl have errors of their own
        raise DataError(f"{path.name} cannot be read as a workbook: {error}") from error
    if not rows:
        raise DataError(f"{path.name} is empty")
    columns = [_of_cells(column) for column in zip(*rows[1:], strict=True)] or [pa.array([])] * len(rows[0])
    return pa.table(columns, names=["" if name is None else str(name) for name in rows[0]])


def _of_cells(cells: Sequence[object]) -> pa.Array:
    """Make a column of the cells of a workbook; of texts if they are of several types."""
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if cell is None else str(cell) for cell in cells])


def _feather(path: Path) -> pa.Table:
    """Read an Arrow file, or the stream that many programs give the same suffix."""
    try:
        return pyarrow.feather.read_table(path)
    except pa.ArrowInvalid:
        with pa.ipc.open_stream(path) as stream:
            return stream.read_all()


_READERS: Mapping[str, Callable[[Path], pa.Table]] = {
    ".parquet": pyarrow.parquet.read_table,
    **dict.fromkeys(_ARROW, _feather),
    **dict.fromkeys(_LINES, pyarrow.json.read_json),
    **dict.fromkeys(_WORKBOOK, _workbook),
}
INDEX = re.compile(r"|__index_level_\d+__")  # names of an index that pandas saved

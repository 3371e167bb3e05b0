"""Read CSV, TSV and Parquet as columns of numbers and labels, or refuse the file in one sentence."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from detector.columns import MISSING_VALUES, compare_columns, listed, repeated_names
from detector.manifest import Categories
from detector.reading import Reading
from detector.schema import MISSING_RULES_OF
from training.data.categories import Cells, is_measured, may_be_category, read_categories
from training.data.summaries import ENTITY, LABEL, TIME, ColumnSummary, summarise_texts
from training.data.times import Times, read_times
from training.errors import DataError
from training.flags import names

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
# Column of an index that pandas saved: without a name in a text file, named like this in Parquet.
_INDEX = re.compile(r"|__index_level_\d+__")
_NO_LABEL = ("", "nan")  # texts of a missing label
_HEADER_CHARACTERS = 1_000_000  # of the first line, to find its delimiter in


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of one file.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_columns), float64
        Finite, or NaN for a missing value if values may be missing; categories as numbers.
    columns : tuple of str
    labels : ndarray of shape (n_rows,), str, or None
    times : Times, or None
    entities : ndarray of shape (n_rows,), str, or None
    notes : tuple of str
        Assumptions, a sentence each.
    categories : mapping of str to tuple, or None
        Values of each column that is a category.
    other_columns : tuple of ColumnSummary
        The columns that are no features.
    """

    values: np.ndarray
    columns: tuple[str, ...]
    labels: np.ndarray | None
    times: Times | None = None
    entities: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    categories: Categories | None = None
    other_columns: tuple[ColumnSummary, ...] = ()


def read_table(
    path: Path,
    columns: Sequence[str] | None = None,
    label_column: str | None = None,
    *,
    time_column: str | None = None,
    entity_column: str | None = None,
    cells: Cells | None = None,
    reading: Reading | None = None,
) -> Table:
    """Read a table whose columns, or the chosen ones, are numbers or categories.

    Parameters
    ----------
    path : Path
        `.csv` or `.tsv` with a header line, or `.parquet`.
    columns : sequence of str, optional
        Features, in this order; by default all columns but the ones named below and a saved index.
    label_column : str, optional
    time_column : str, optional
        Times, see `training.data.times.read_times`; `date,time` names two columns.
    entity_column : str, optional
        The series that each row belongs to.
    cells : Cells, optional
        Missing values and categories that rows may hold; not given for a series without missing values.
    reading : Reading, optional
        How the times are written.

    Raises
    ------
    DataError
        If the file cannot be read or has no rows; a column is absent, holds text that is no category, an
        infinite value, or a missing value that is not allowed; or a label, time or entity is missing.
    """
    times = () if time_column is None else tuple(names(time_column))
    table = _read(path, (*(cells.texts_of() if cells else ()), *times))
    _refuse_repeated(columns or (), "--columns")
    special = [name for name in (label_column, *times, entity_column) if name is not None]
    features = [name for name in table.column_names if name not in special]
    chosen = list(columns or (name for name in features if not _INDEX.fullmatch(name)))
    missing = compare_columns(table.column_names, [*chosen, *special]).missing
    if missing:
        raise DataError(f"{path.name} has no column {missing[0]!r}, only {listed(table.column_names)}")
    roles = [(label_column, "label"), *((name, "time") for name in times), (entity_column, "entity")]
    for name, what in roles:
        if name in chosen:
            raise DataError(f"column {name!r} cannot be a feature and the {what}")
    if not chosen:
        raise DataError(f"{path.name} has no feature column")
    if table.num_rows == 0:
        raise DataError(f"{path.name} has no rows, only the columns {listed(table.column_names)}")
    if cells is not None:
        cells.refuse_names(chosen)
    _refuse_text(table, path, chosen, cells)
    values, categories = [], {}
    for name in chosen:
        if cells is not None and name in cells.categorical:
            column, categories[name] = read_categories(table[name], name, path.name, cells)
            _refuse_gaps(np.isnan(column), name, path, cells)
        else:
            column = _numbers(table[name], name, path, cells)
        values.append(column)
    labels = _texts(table[label_column], f"label column {label_column!r}", path) if label_column else None
    entities = _texts(table[entity_column], f"column {entity_column!r}", path) if entity_column else None
    other_columns = [
        summarise_texts(name, texts, role)
        for name, texts, role in ((label_column, labels, LABEL), (entity_column, entities, ENTITY))
        if name
    ]
    if time_column is not None:
        other_columns.append(ColumnSummary(time_column, TIME, n_rows=table.num_rows))
    return Table(
        values=np.column_stack(values),
        columns=tuple(chosen),
        labels=labels,
        times=_times(table, times, path, reading or Reading()) if times else None,
        entities=entities,
        other_columns=tuple(other_columns),
        notes=() if columns else tuple(_notes(features, chosen, path)),
        categories=categories or None,
    )


def column_names(path: Path) -> list[str]:
    """Return the columns of a table; raise `DataError` if the file cannot be read."""
    return _read(path).column_names


def label_texts(values: np.ndarray) -> np.ndarray:
    """Write labels as text, so that 3, 3.0 and "3" are the same label; booleans are 0 and 1."""
    values = np.asarray(values).ravel()
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    if values.dtype.kind == "f" and (values == np.rint(values)).all() and (np.abs(values) < 2**63).all():
        values = values.astype(np.int64)
    return values.astype(str)


def missing_labels(texts: np.ndarray) -> np.ndarray:
    """Return the positions of missing labels: their samples are neither normal nor anomalous."""
    return np.flatnonzero(np.isin(texts, _NO_LABEL))


def _read(path: Path, texts: Sequence[str] = ()) -> pa.Table:
    """Read the whole table; in a text file the columns `texts` are texts whatever they look like."""
    try:
        table = pyarrow.parquet.read_table(path) if path.suffix == ".parquet" else _read_text(path, texts)
        _refuse_repeated(table.column_names, f"{path.name}: column names")  # decodes them as well
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: column names must be UTF-8, got {error.object!r}") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from error
    return table


def _read_text(path: Path, texts: Sequence[str]) -> pa.Table:
    delimiter, wanted = ("\t", "tabs") if path.suffix == ".tsv" else (",", "commas")
    # Another delimiter shows in the first line; in the rows a comma may be a decimal comma, as in 21,5.
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline(_HEADER_CHARACTERS).strip()
    if delimiter not in header and any(mark in header for mark in ";\t|,"):
        raise DataError(
            f"{path.name} must have columns separated by {wanted}, got the one column {header[:80]!r}"
        )
    options = pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    types = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(texts, pa.string()), null_values=MISSING_VALUES
    )
    try:
        return pyarrow.csv.read_csv(path, None, options, types)
    except pa.ArrowInvalid:  # once more on one thread: only there does the message have the row's number
        return pyarrow.csv.read_csv(path, pyarrow.csv.ReadOptions(use_threads=False), options, types)


def _refuse_repeated(names: Sequence[str], what: str) -> None:
    repeated = repeated_names(names)
    if repeated:
        raise DataError(f"{what} must differ, got {listed(repeated)} more than once")


def _notes(features: Sequence[str], chosen: Sequence[str], path: Path) -> Iterator[str]:
    """Say which columns are assumed to be features, if nobody chose them."""
    index = [name for name in features if name not in chosen]
    if index:
        yield f"{path.name}: column {listed(index)} is a saved index and was left out"
    if path.suffix != ".parquet" and all(map(_is_number, chosen)):
        yield (
            f"{path.name}: the first line names the columns {listed(chosen)}: if it is a row of data, put a "
            "line of names above it"
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refuse_text(table: pa.Table, path: Path, names: Sequence[str], cells: Cells | None) -> None:
    """Refuse all columns that hold neither numbers nor categories, in one sentence with a way out."""
    kinds = {name: table[name].type for name in names}
    categorical, may_miss = (cells.categorical, cells.may_miss) if cells else ((), False)
    texts = {
        name: kind
        for name, kind in kinds.items()
        if not is_measured(kind) and name not in categorical and not (may_miss and pa.types.is_null(kind))
    }
    named = [name for name, kind in texts.items() if not pa.types.is_null(kind)]
    if not named:
        return  # empty columns are refused for their missing values
    types = listed(sorted({str(kind) for kind in texts.values()}), quoted=False)
    cells_of = [(row, str(cell)) for row, cell in enumerate(table[named[0]].to_pylist()) if cell is not None]
    example = ""
    if cells_of:  # the first cell that is no number: texts may hold numbers
        row, cell = next((each for each in cells_of if not _is_number(each[1])), cells_of[0])
        example = f", {named[0]!r} for example {cell[:40]!r} in {row_words(row, path)}"
    hints = ""
    few = [name for name in texts if may_be_category(table[name]) and "," not in name]
    if cells is not None and cells.missing in MISSING_RULES_OF["vector"] and few:
        hints += f"; for columns that are categories give --categorical {','.join(few)}"
    times = [name for name, kind in texts.items() if pa.types.is_temporal(kind)]
    if times:
        hints += f"; for a series give --kind sequence --time-column {times[0]}"
    raise DataError(
        f"{path.name}: columns must hold numbers, got {listed(texts)} of type {types}{example}; "
        f"name the columns of numbers with --columns, and the label with --label-column{hints}"
    )


def _numbers(column: pa.ChunkedArray, name: str, path: Path, cells: Cells | None = None) -> np.ndarray:
    absent = column.is_null().to_numpy()
    # The cast may round: values become float32 in the end, so identifiers lose digits anyway.
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if cells is not None:
        absent = absent | np.isnan(values)
    _refuse_gaps(absent, name, path, cells)
    faulty = np.flatnonzero(~np.isfinite(values) & ~absent)
    if faulty.size:
        raise DataError(
            f"{path.name}: column {name!r} must be finite, got {values[faulty[0]]} in "
            f"{row_words(faulty[0], path)}"
        )
    return values


def _refuse_gaps(absent: np.ndarray, name: str, path: Path, cells: Cells | None) -> None:
    """Refuse missing values, unless they are allowed."""
    missing = np.flatnonzero(absent)
    if missing.size and not (cells is not None and cells.may_miss):
        option = "give --missing gaps, " if cells is None else "give --missing median, "
        raise DataError(
            f"{path.name}: column {name!r} has {missing.size} missing value{'s' * (missing.size > 1)}, "
            f"the first in {row_words(missing[0], path)}; {option}fill them, remove their rows, or name the "
            "other columns with --columns"
        )


def _times(table: pa.Table, columns: Sequence[str], path: Path, reading: Reading) -> Times:
    for name in columns:
        absent = table[name].is_null().to_numpy()
        if pa.types.is_string(table[name].type):  # texts are not missing by themselves
            absent |= pc.is_in(table[name], pa.array(reading.missing_values)).to_numpy()
        missing = np.flatnonzero(absent)
        if missing.size:
            raise DataError(f"{path.name}: time column {name!r} is empty in {row_words(missing[0], path)}")
    what = f"{path.name}: time column {listed(columns)}"
    return read_times([table[name] for name in columns], what, lambda row: row_words(row, path), reading)


def _texts(column: pa.ChunkedArray, what: str, path: Path) -> np.ndarray:
    if pa.types.is_binary(column.type):
        try:
            column = column.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise DataError(f"{path.name}: {what} must be UTF-8 text") from error
    texts = label_texts(column.to_numpy())
    missing = np.union1d(np.flatnonzero(column.is_null().to_numpy()), missing_labels(texts))
    if missing.size:
        raise DataError(f"{path.name}: {what} is empty in {row_words(missing[0], path)}")
    return texts


def row_words(index: int, path: Path) -> str:
    """Name a row as a user counts it: in a text file the header is line 1."""
    line = f" (line {index + 2})" if path.suffix != ".parquet" else ""
    return f"row {index + 1}{line}"

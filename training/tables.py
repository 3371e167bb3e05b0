"""Tables: CSV, TSV and Parquet into numeric columns and labels, or a sentence that says why not."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from training.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of one file.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_columns), float64
        Finite.
    columns : tuple of str
    labels : ndarray of shape (n_rows,), str, or None
    """

    values: np.ndarray
    columns: tuple[str, ...]
    labels: np.ndarray | None


def read_table(path: Path, columns: Sequence[str] | None = None, label_column: str | None = None) -> Table:
    """Read a table whose columns, or those chosen, are numbers.

    Parameters
    ----------
    path : Path
        `.csv` or `.tsv` with a header line, or `.parquet`.
    columns : sequence of str, optional
        Features, in the order wanted; all but the label column where not given.
    label_column : str, optional

    Raises
    ------
    DataError
        If the file cannot be read, a column is not there, holds text, or has a missing or non-finite value.
    """
    table = _read(path)
    repeated = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if repeated:
        raise DataError(f"{path.name}: column names must differ, got {_listed(repeated)} more than once")
    chosen = list(columns) if columns else [name for name in table.column_names if name != label_column]
    for name in [*chosen, *([label_column] if label_column else [])]:
        if name not in table.column_names:
            raise DataError(f"{path.name} has no column {name!r}, only {_listed(table.column_names)}")
    if label_column in chosen:
        raise DataError(f"column {label_column!r} cannot be a feature and the label")
    if not chosen:
        raise DataError(f"{path.name} has no feature column")
    _refuse_text(table, path, chosen)
    values = np.column_stack([_numbers(table[name], name, path) for name in chosen])
    labels = _texts(table[label_column], label_column, path) if label_column else None
    return Table(values, tuple(chosen), labels)


def label_texts(values: np.ndarray) -> np.ndarray:
    """Labels as text, so that 3, 3.0 and "3" are the same label; booleans are 0 and 1."""
    values = np.asarray(values).ravel()
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    if values.dtype.kind == "f" and np.isfinite(values).all() and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    return values.astype(str)


def _read(path: Path) -> pa.Table:
    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        delimiter = "\t" if path.suffix == ".tsv" else ","
        table = pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from error
    if table.num_columns == 1 and any(mark in table.column_names[0] for mark in ";\t|"):
        raise DataError(
            f"{path.name} must have columns separated by {'tabs' if delimiter == chr(9) else 'commas'}, "
            f"got the one column {table.column_names[0]!r}"
        )
    return table


def _refuse_text(table: pa.Table, path: Path, names: Sequence[str]) -> None:
    """Every column that is not made of numbers, in one sentence."""
    texts = {}
    for name in names:
        kind = table[name].type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            texts[name] = kind
    if texts and not all(pa.types.is_null(kind) for kind in texts.values()):
        name = next(name for name, kind in texts.items() if not pa.types.is_null(kind))
        examples = table[name].drop_null()
        example = f", {name!r} for example {str(examples[0].as_py())[:40]!r}" if len(examples) else ""
        raise DataError(
            f"{path.name}: columns must hold numbers, got {_listed(texts)} of type "
            f"{_listed(sorted({str(kind) for kind in texts.values()}))}{example}; "
            f"leave them out with --columns, or name the label with --label-column"
        )


def _numbers(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    missing = np.flatnonzero(column.is_null().to_numpy())
    if missing.size:
        raise DataError(
            f"{path.name}: column {name!r} has {missing.size} missing value{'s' * (missing.size > 1)}, "
            f"the first in {_row(missing[0], path)}; fill or remove them, or leave the column out "
            "with --columns"
        )
    values = column.cast(pa.float64()).to_numpy()
    faulty = np.flatnonzero(~np.isfinite(values))
    if faulty.size:
        raise DataError(
            f"{path.name}: column {name!r} must be finite, got {values[faulty[0]]} in {_row(faulty[0], path)}"
        )
    return values


def _texts(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    missing = np.flatnonzero(column.is_null().to_numpy())
    if missing.size:
        raise DataError(f"{path.name}: label column {name!r} is empty in {_row(missing[0], path)}")
    return label_texts(column.to_numpy())


def _row(index: int, path: Path) -> str:
    """A row as the user counts it: in a text file the header is line 1."""
    line = f" (line {index + 2})" if path.suffix != ".parquet" else ""
    return f"row {index + 1}{line}"


def _listed(names: Sequence[str]) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

"""Convert rows of a table to the numbers that the graphs take, and back.

Columns are matched by name. The manifest says which features are categories and whether values may be
missing. A text category becomes its position in the manifest's list; a text that is not in the list becomes
the length of the list. A numeric category is the number itself, a missing value is NaN.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from detector.columns import clean_name, compare_columns, listed, spelled
from detector.delimited.cells import is_missing_text
from detector.errors import InputError
from detector.manifest import Categories, Manifest
from detector.schema import OWN_CATEGORY, REFUSED

MISSING_HINT = "; missing values are for models fitted with --missing median"
GAP_HINT = "; missing values of a series are for models fitted with --missing gaps"
UNKNOWN_HINT = "; unknown categories are for models fitted with --unknown-category own"
NUMBER = "a number"  # the words of errors for the values of a measured column
MOST_NAMED = 12  # categories in a sentence
BOOLEANS = frozenset(("false", "true"))  # as JSON writes them
FIRST_WITH_READING = 4  # schema whose texts that mean a missing cell are in the manifest


def holds_cells(manifest: Manifest) -> bool:
    """Whether samples of this model may hold categories or missing values besides measured values."""
    return manifest.missing != REFUSED or manifest.categories is not None


def text_columns(categories: Categories | None) -> frozenset[str]:
    """Names of the features that are text categories."""
    return frozenset(name for name, known in (categories or {}).items() if isinstance(known[0], str))


# --- tables of other libraries ------------------------------------------------------------------------------


def is_table(samples: Any) -> bool:
    """Whether samples have named columns: a pandas or Polars data frame, an Arrow table, a mapping."""
    return isinstance(samples, Mapping) or (hasattr(samples, "columns") and hasattr(samples, "__getitem__"))


def table_columns(table: Any, names: Sequence[str], ignored: Sequence[str] = ()) -> list[np.ndarray]:
    """Return the columns of a table in the order of `names`: numbers as they are, anything else as objects.

    The table may have the `ignored` columns as well. Raise `InputError` if a column is missing, unknown or
    not one-dimensional, or if lengths differ.
    """
    names_of_arrow = getattr(table, "column_names", None)  # its `columns` are the arrays
    given = list(table if isinstance(table, Mapping) else names_of_arrow or table.columns)
    present = spelled(given, (*names, *ignored))  # a data frame may number its columns
    faults = str(compare_columns(present, names, ignored))
    if faults:
        raise InputError(f"a table must have exactly the model's features: it {faults}")
    found = dict(zip(present, given, strict=True))
    columns = [_cells(table[found[name]]) for name in names]
    lengths = {name: len(column) for name, column in zip(names, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise InputError(f"columns must have one length, got {lengths}")
    return columns


def _cells(column: Any) -> np.ndarray:
    cells = np.asarray(column)
    if cells.ndim != 1:
        raise InputError(f"a column must have one dimension, got an array of shape {cells.shape}")
    if cells.dtype.kind in "fiu":
        return cells
    # NumPy would make a list of texts and NaN an array of texts with the text "nan".
    return np.array(column, dtype=object) if isinstance(column, list | tuple) else cells.astype(object)


def object_rows(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Stack columns to rows: shape (n_rows, n_columns), dtype object."""
    rows = np.empty((len(columns[0]), len(columns)), dtype=object)
    for position, column in enumerate(columns):
        rows[:, position] = column
    return rows


def _table_rows(table: Any, manifest: Manifest) -> np.ndarray:
    """Rows of shape (n_rows, n_features): float64, or objects where rows may hold more than numbers."""
    if manifest.feature_names is None:
        raise InputError(f"a model of kind {manifest.kind} without feature names takes arrays, not a table")
    columns = table_columns(table, manifest.feature_names, manifest.reading.ignored)
    if holds_cells(manifest):
        return object_rows(columns)
    return np.column_stack([_measured(column, manifest, position) for position, column in enumerate(columns)])


# --- cells to numbers ---------------------------------------------------------------------------------------


def as_rows(samples: Any, manifest: Manifest) -> np.ndarray:
    """Return an array, nested lists or a table as an array; dtype object if rows may hold texts or gaps.

    Raise `InputError` if the rows differ in length, the model's features have no names, or the columns of a
    table do not match them or hold no numbers.
    """
    if isinstance(samples, np.ndarray):
        return samples
    if is_table(samples):
        return _table_rows(samples, manifest)
    try:
        return np.array(samples, dtype=object) if holds_cells(manifest) else np.asarray(samples)
    except ValueError as error:
        raise InputError(f"samples must be rows of one length: {error}") from error


def to_numbers(rows: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Convert rows of numbers, texts and missing values to float64 of the same shape, with NaN.

    The rows of a sequence model are steps or windows, and hold no texts. A numeric array holds its categories
    as numbers already and is returned unchanged. Raise `InputError`, naming the first cell that its column
    does not take.
    """
    if not holds_cells(manifest) or rows.dtype.kind not in "OU":
        return rows
    if manifest.kind == "sequence":
        return _steps(rows, manifest)
    if rows.ndim != 2 or rows.shape[1:] != manifest.sample_shape:
        raise InputError(f"samples must have shape (n, {manifest.sample_shape[0]}), got {rows.shape}")
    categories = manifest.categories or {}
    columns = []
    for column, name in enumerate(manifest.feature_names or [""] * rows.shape[1]):
        cells, known = rows[:, column], categories.get(name)
        if known is not None and isinstance(known[0], str):
            columns.append(_positions(cells, manifest, column, known))
        else:
            columns.append(_measured(cells, manifest, column))
    return np.column_stack(columns).reshape(rows.shape)


def _steps(steps: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Read numbers and missing values of steps or windows, shape (..., n_channels) or without channels."""
    n_channels = manifest.sample_shape[1]
    if steps.size % n_channels:
        raise InputError(f"samples must have {n_channels} channels, got shape {steps.shape}")
    channels = steps.reshape(-1, n_channels).T
    columns = [_measured(cells, manifest, column) for column, cells in enumerate(channels)]
    return np.column_stack(columns).reshape(steps.shape)


def _measured(cells: np.ndarray, manifest: Manifest, column: int) -> np.ndarray:
    """Read numbers; a missing value is NaN."""
    if cells.dtype.kind in "fiu":
        return cells.astype(np.float64)

    missing_texts = _missing_texts(manifest)

    def number(cell: Any) -> float | None:
        if isinstance(cell, str):
            return np.nan if is_missing_text(cell, missing_texts) else None
        is_number = isinstance(cell, int | float | np.number) and not isinstance(cell, bool)
        return float(cell) if is_number else None

    return _read(cells, number, NUMBER, manifest, column)


def _positions(cells: np.ndarray, manifest: Manifest, column: int, known: Sequence[Any]) -> np.ndarray:
    """Replace texts by their positions among the known categories; booleans count as the texts JSON has."""
    positions = {text: float(position) for position, text in enumerate(known)}
    unknown = float(len(known)) if manifest.unknown_category == OWN_CATEGORY else None
    missing_texts = _missing_texts(manifest, known)

    def position(cell: Any) -> float | None:
        if isinstance(cell, bool | np.bool_):
            cell = "true" if cell else "false"
        if not isinstance(cell, str):
            return None
        found = positions.get(cell)
        if found is not None:
            return found
        if is_missing_text(cell, missing_texts):
            return np.nan
        cell = clean_name(cell)
        return positions.get(cell.lower() if positions.keys() <= BOOLEANS else cell, unknown)

    words = _one_of(known) if unknown is None else f"a text, {_one_of(known)} or another"
    return _read(cells, position, words, manifest, column)


def _missing_texts(manifest: Manifest, known: Sequence[Any] = ()) -> frozenset[str]:
    """Return the texts that are missing cells, but for known categories.

    Before schema 4 only an empty text was missing in a column of texts.
    """
    if known and manifest.schema_version < FIRST_WITH_READING:
        return frozenset(("",)).difference(known)
    return frozenset(manifest.reading.missing_values).difference(known)


def _read(
    cells: np.ndarray, number: Callable[[Any], float | None], words: str, manifest: Manifest, column: int
) -> np.ndarray:
    """Read cells one by one; where `number` returns None, refuse."""
    values = np.empty(len(cells))
    for row, cell in enumerate(cells):
        if is_missing(cell):
            values[row] = np.nan
            continue
        value = number(cell)
        if value is None:
            is_unknown = isinstance(cell, str) and words != NUMBER and manifest.unknown_category == REFUSED
            hint = UNKNOWN_HINT if is_unknown else ""
            raise _misplaced(f"must be {words}", repr(cell)[:80], manifest, row, column, hint)
        values[row] = value
    return values


def is_missing(cell: Any) -> bool:
    """Whether a cell is missing: None, NaN, or pandas' NA and NaT, which do not equal themselves."""
    if cell is None:
        return True
    same = cell == cell
    return not isinstance(same, bool | np.bool_) or not same


def check_cells(checked: np.ndarray, manifest: Manifest) -> None:
    """Check numbers that represent categories against the lists of the manifest.

    The rows have shape (n_rows, n_features), float32, NaN where a value may be missing. Raise `InputError`,
    naming the first value that is not a category.
    """
    own = manifest.unknown_category == OWN_CATEGORY
    names = manifest.feature_names or ()
    for name, known in (manifest.categories or {}).items():
        column = names.index(name)
        cells = checked[:, column]
        if isinstance(known[0], str):
            largest = len(known) - 1 + own
            is_known = (cells >= 0) & (cells <= largest) & (cells == np.rint(cells))
            words = f"an integer from 0 to {len(known) - 1}, the position of {_one_of(known)}"
            words += f", or {len(known)} for another" * own
        elif own:
            continue  # every other number is the unknown category
        else:
            is_known = (cells[:, np.newaxis] == category_values(known)).any(axis=1)
            words = _one_of(known)
        faulty = np.flatnonzero(~is_known & ~np.isnan(cells))
        if faulty.size:
            row = int(faulty[0])
            hint = "" if own else UNKNOWN_HINT
            raise _misplaced(f"must be {words}", f"{cells[row]:g}", manifest, row, column, hint)


def _one_of(known: Sequence[str] | Sequence[float]) -> str:
    return f"one of {listed(known, MOST_NAMED, quoted=False)}"


def _misplaced(
    wanted: str, got: str, manifest: Manifest, row: int, column: int, hint: str = ""
) -> InputError:
    name = repr(manifest.feature_names[column]) if manifest.feature_names else f"column {column}"
    return InputError(f"{name} {wanted}, got {got} in row {row}{hint}", (row, column))


# --- numbers to cells ---------------------------------------------------------------------------------------


def category_values(known: Sequence[str] | Sequence[float]) -> np.ndarray:
    """Return categories as the graph reads them, float32: positions for texts, the numbers themselves."""
    return np.asarray(range(len(known)) if isinstance(known[0], str) else known, dtype=np.float32)


def to_cells(rows: np.ndarray, manifest: Manifest) -> list[list[Any]]:
    """Convert rows of numbers to the values of a client: texts for categories, None for missing values."""
    categories = manifest.categories or {}
    known = [categories.get(name) for name in manifest.feature_names or [""] * rows.shape[1]]
    return [[to_cell(value, of) for value, of in zip(row, known, strict=True)] for row in rows]


def to_cell(value: Any, known: Sequence[str] | Sequence[float] | None) -> Any:
    """Convert one number of a row; numbers that are no category and cells that are no number stay."""
    if is_missing(value):
        return None
    if known is None or not isinstance(value, int | float | np.number):
        return value
    found = np.flatnonzero(category_values(known) == np.float32(value))
    return known[found[0]] if found.size else value

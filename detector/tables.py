"""Rows of a table as the graphs take them: columns by name, categories as numbers, missing values as NaN.

What a row may hold beside measured values stands in the manifest: texts and numbers that are categories, and
whether a value may be missing. A category of texts is its position in the manifest's list, one more than the
last for a text that is not in it; a category of numbers is the number itself.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from detector.errors import InputError
from detector.manifest import Manifest
from detector.schema import MISSING_AS_MEDIAN, OWN_CATEGORY, REFUSED

MISSING_HINT = "; missing values are for models fitted with --missing median"
UNKNOWN_HINT = "; unknown categories are for models fitted with --unknown-category own"
NUMBER = "a number"  # what a measured column takes
MOST_NAMED = 12  # categories in a sentence


def holds_cells(manifest: Manifest) -> bool:
    """Whether rows of a model may hold anything but measured values: categories, or missing values."""
    return manifest.missing == MISSING_AS_MEDIAN or manifest.categories is not None


def text_columns(manifest: Manifest) -> frozenset[str]:
    """Names of the features that are categories by text."""
    return frozenset(name for name, known in (manifest.categories or {}).items() if isinstance(known[0], str))


# --- tables of other libraries ------------------------------------------------------------------------------


def is_frame(samples: Any) -> bool:
    """Whether samples are columns with names: a data frame of pandas or Polars, an Arrow table, a mapping."""
    return isinstance(samples, Mapping) or (hasattr(samples, "columns") and hasattr(samples, "__getitem__"))


def frame_rows(frame: Any, manifest: Manifest) -> np.ndarray:
    """The rows of a data frame, its columns matched by name in any order.

    Returns
    -------
    ndarray of shape (n_rows, n_features), float64; of dtype object where rows may hold more than numbers

    Raises
    ------
    InputError
        If the model's features have no names, a column is missing or unknown, columns are not of one length,
        or one holds no numbers.
    """
    names = manifest.feature_names
    if names is None:
        raise InputError(f"a model of kind {manifest.kind} without feature names takes arrays, not a table")
    found = {str(name): name for name in _column_names(frame)}  # some count their columns
    _check_names(list(found), names)
    columns = [_cells(frame[found[name]]) for name in names]
    lengths = {name: len(column) for name, column in zip(names, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise InputError(f"columns must have one length, got {lengths}")
    if holds_cells(manifest):
        rows = np.empty((lengths[names[0]], len(names)), dtype=object)
        for position, column in enumerate(columns):
            rows[:, position] = column
        return rows
    return np.column_stack([_measured(column, manifest, position) for position, column in enumerate(columns)])


def _column_names(frame: Any) -> Sequence[str]:
    if isinstance(frame, Mapping):
        return list(frame)
    return getattr(frame, "column_names", None) or list(frame.columns)  # Arrow's own columns have no names


def _check_names(found: Sequence[str], wanted: Sequence[str]) -> None:
    lacking = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    words = [
        f"{what} {', '.join(map(repr, names[:5]))}{' and others' if len(names) > 5 else ''}"
        for what, names in (("lacks", lacking), ("has the unknown", unknown))
        if names
    ]
    if words:
        raise InputError(f"a table must have exactly the model's features: it {' and '.join(words)}")


def _cells(column: Any) -> np.ndarray:
    """One column as an array: numbers as they are, anything else as objects."""
    cells = np.asarray(column)
    if cells.ndim != 1:
        raise InputError(f"a column must have one dimension, got an array of shape {cells.shape}")
    if cells.dtype.kind in "fiu":
        return cells
    # A list of texts with NaN among them would be an array of texts, "nan" one of them.
    return np.array(column, dtype=object) if isinstance(column, list | tuple) else cells.astype(object)


# --- cells to numbers ---------------------------------------------------------------------------------------


def as_rows(samples: Any, manifest: Manifest) -> np.ndarray:
    """Samples of a caller as an array: rows that may hold words as one of dtype object.

    Raises
    ------
    InputError
        As `frame_rows`.
    """
    if isinstance(samples, np.ndarray):
        return samples
    if is_frame(samples):
        return frame_rows(samples, manifest)
    try:
        return np.array(samples, dtype=object) if holds_cells(manifest) else np.asarray(samples)
    except ValueError as error:
        raise InputError(f"samples must be rows of one length: {error}") from error


def to_numbers(rows: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Rows of numbers, words and missing values as numbers alone; numbers as they are.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        An array of numbers holds categories as numbers already.
    manifest : Manifest

    Returns
    -------
    ndarray of shape (n_rows, n_features)
        float64, missing values as NaN, where the rows held more than numbers.

    Raises
    ------
    InputError
        Naming the first cell of a column that is not what the column takes.
    """
    if not holds_cells(manifest) or rows.dtype.kind not in "OU":
        return rows
    if rows.ndim != 2 or rows.shape[1:] != manifest.sample_shape:
        raise InputError(f"samples must have shape (n, {manifest.sample_shape[0]}), got {rows.shape}")
    texts = text_columns(manifest)
    names = manifest.feature_names or [""] * rows.shape[1]
    read = {True: _positions, False: _measured}
    return np.column_stack(
        [read[name in texts](rows[:, column], manifest, column) for column, name in enumerate(names)]
    ).reshape(rows.shape)


def _measured(cells: np.ndarray, manifest: Manifest, column: int) -> np.ndarray:
    """Numbers, and NaN for what is missing."""
    if cells.dtype.kind in "fiu":
        return cells.astype(np.float64)

    def number(cell: Any) -> float | None:
        is_number = isinstance(cell, int | float | np.number) and not isinstance(cell, bool)
        return float(cell) if is_number else None

    return _read(cells, number, NUMBER, manifest, column)


def _positions(cells: np.ndarray, manifest: Manifest, column: int) -> np.ndarray:
    """Positions of texts in the list of the column's categories; booleans are the texts of JSON."""
    known = manifest.categories[manifest.feature_names[column]]
    positions = {text: float(position) for position, text in enumerate(known)}
    unknown = float(len(known)) if manifest.unknown_category == OWN_CATEGORY else None

    def position(cell: Any) -> float | None:
        if isinstance(cell, bool | np.bool_):
            cell = "true" if cell else "false"
        return positions.get(cell, unknown) if isinstance(cell, str) else None

    words = _one_of(known) if unknown is None else f"a text, {_one_of(known)} or another"
    return _read(cells, position, words, manifest, column)


def _read(
    cells: np.ndarray, number: Callable[[Any], float | None], words: str, manifest: Manifest, column: int
) -> np.ndarray:
    """Cells one by one, an empty text as missing as in a CSV; None of `number` is a refusal."""
    values = np.empty(len(cells))
    for row, cell in enumerate(cells):
        if is_missing(cell) or (isinstance(cell, str) and not cell):
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
    """Whether a cell holds nothing: None, NaN, or pandas' NA and NaT, which equal nothing."""
    if cell is None:
        return True
    same = cell == cell
    return not isinstance(same, bool | np.bool_) or not same


def check_cells(checked: np.ndarray, manifest: Manifest) -> None:
    """Hold numbers that stand for categories against the lists of the manifest.

    Parameters
    ----------
    checked : ndarray of shape (n_rows, n_features), float32
        Finite, or NaN where a value may be missing.
    manifest : Manifest

    Raises
    ------
    InputError
        Naming the first value that is no category.
    """
    own = manifest.unknown_category == OWN_CATEGORY
    for name, known in (manifest.categories or {}).items():
        column = manifest.feature_names.index(name)
        cells = checked[:, column]
        if isinstance(known[0], str):
            largest = len(known) - 1 + own
            is_known = (cells >= 0) & (cells <= largest) & (cells == np.rint(cells))
            words = f"an integer from 0 to {len(known) - 1}, the position of {_one_of(known)}"
            words += f", or {len(known)} for another" * own
        elif own:
            continue  # any other number is unknown
        else:
            is_known = (cells[:, np.newaxis] == category_values(known)).any(axis=1)
            words = _one_of(known)
        faulty = np.flatnonzero(~is_known & ~np.isnan(cells))
        if faulty.size:
            row = int(faulty[0])
            hint = "" if own else UNKNOWN_HINT
            raise _misplaced(f"must be {words}", f"{cells[row]:g}", manifest, row, column, hint)


def _one_of(known: Sequence[str] | Sequence[float]) -> str:
    listed = ", ".join(map(str, known[:MOST_NAMED]))
    return f"one of {listed}" + (f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else "")


def _misplaced(
    wanted: str, got: str, manifest: Manifest, row: int, column: int, hint: str = ""
) -> InputError:
    name = repr(manifest.feature_names[column]) if manifest.feature_names else f"column {column}"
    return InputError(f"{name} {wanted}, got {got} in row {row}{hint}", (row, column))


# --- numbers to cells ---------------------------------------------------------------------------------------


def category_values(known: Sequence[str] | Sequence[float]) -> np.ndarray:
    """What categories are in the graph's input, float32: positions of texts, numbers themselves."""
    return np.asarray(range(len(known)) if isinstance(known[0], str) else known, dtype=np.float32)


def to_cells(rows: np.ndarray, manifest: Manifest) -> list[list[Any]]:
    """Rows of numbers as a client writes them: words for categories, None for what is missing."""
    known = [
        (manifest.categories or {}).get(name) for name in manifest.feature_names or [None] * rows.shape[1]
    ]
    return [[to_cell(value, of) for value, of in zip(row, known, strict=True)] for row in rows]


def to_cell(value: Any, known: Sequence[str] | Sequence[float] | None) -> Any:
    """One of them; a number that is no category, and a cell that is no number, as they are."""
    if is_missing(value):
        return None
    if known is None or not isinstance(value, int | float | np.number):
        return value
    here = np.flatnonzero(category_values(known) == np.float32(value))
    return known[here[0]] if here.size else value

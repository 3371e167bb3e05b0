"""Read columns that are categories: texts and numbers with few values, as numbers of the graph's input."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from detector.columns import compare_columns, listed
from detector.manifest import Categories, Manifest
from detector.schema import MISSING_RULES_OF, OWN_CATEGORY, REFUSED
from detector.tables import MOST_NAMED, UNKNOWN_HINT, category_values
from training.errors import DataError

MOST_CATEGORIES = 256  # each is a column of the network
MOST_OFFERED = 32  # texts with so few values are more likely categories than names
FEW_ROWS = 10  # in which categories may all differ
BOOLEANS = ("false", "true")  # as JSON writes them


@dataclasses.dataclass(frozen=True)
class Cells:
    """Missing values and categories that rows may hold.

    Attributes
    ----------
    missing : str or None
        One of `detector.schema.MISSING_RULES`. None: if values are missing, `median` for rows and `gaps` for
        a series; else `refuse`.
    categorical : tuple of str
        Features that are categories.
    unknown : str
        Rule for unknown categories: `own` or `refuse`.
    known : mapping of str to tuple, or None
        Categories of a model, by feature; None if the data decide.
    """

    missing: str | None = REFUSED
    categorical: tuple[str, ...] = ()
    unknown: str = OWN_CATEGORY
    known: Categories | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> "Cells":
        """Cells that a model was fitted with."""
        categories = manifest.categories or {}
        return cls(manifest.missing, tuple(categories), manifest.unknown_category or OWN_CATEGORY, categories)

    @property
    def may_miss(self) -> bool:
        """Whether a value may be missing."""
        return self.missing not in (None, REFUSED)

    def check_kind(self, kind: str) -> None:
        """Raise `DataError` if samples of this kind cannot have these cells."""
        if self.missing not in MISSING_RULES_OF[kind]:
            allowed = " or ".join(MISSING_RULES_OF[kind])
            raise DataError(f"--missing must be {allowed} for kind {kind}, got {self.missing}")
        if self.categorical and kind != "vector":
            raise DataError(f"--categorical is only for rows (--kind vector), got kind {kind}")

    def refuse_names(self, features: Sequence[str]) -> None:
        """Raise `DataError` if the data lack one of the features that are categories."""
        absent = compare_columns(features, self.categorical).missing
        if absent:
            names = listed(features, quoted=False)
            raise DataError(f"--categorical names {absent[0]!r}, which is no feature: only {names}")

    def texts_of(self) -> tuple[str, ...]:
        """Return columns to read as texts whatever they look like: a model knows `007` as a text."""
        return tuple(
            name
            for name, known in (self.known or {}).items()
            if isinstance(known[0], str) and not set(known) <= set(BOOLEANS)
        )


def is_measured(kind: pa.DataType) -> bool:
    """Whether a column holds numbers."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts, booleans or a dictionary of texts."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)


def may_be_category(column: pa.ChunkedArray) -> bool:
    """Whether to offer a column of texts as categories."""
    if not is_text(column.type):
        return False
    n_different = len(column.unique())
    return 1 <= n_different <= MOST_OFFERED and (n_different * 2 <= len(column) or len(column) < FEW_ROWS)


def numeric_categories(values: np.ndarray, name: str, source: str) -> tuple[float, ...]:
    """Return the numbers that occur, ascending, distinct in float32; whole numbers as integers.

    Raises
    ------
    DataError
        If there are none, or more than `MOST_CATEGORIES`.
    """
    present = values[~np.isnan(values)].astype(np.float64)
    _, first = np.unique(present.astype(np.float32), return_index=True)
    _check_number(len(first), name, source)
    return tuple(int(value) if value == int(value) else float(value) for value in present[first])


def read_categories(
    column: pa.ChunkedArray, name: str, source: str, cells: Cells
) -> tuple[np.ndarray, tuple[str, ...] | tuple[float, ...]]:
    """Read one column as numbers of the graph's input, and its categories.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
    name, source : str
        Names of the column and its file, for errors.
    cells : Cells

    Returns
    -------
    tuple of ndarray of shape (n_rows,), float64, and tuple
        A missing value is NaN. The categories are the known ones, or the values of the column: texts in
        alphabetical order, or numbers.

    Raises
    ------
    DataError
        If the column holds neither texts nor numbers, too many of them, or an unknown one that is refused.
    """
    known = (cells.known or {}).get(name)
    holds_numbers = is_measured(column.type) or pa.types.is_null(column.type)
    if known is not None and not isinstance(known[0], str) and not holds_numbers:
        raise DataError(f"{source}: column {name!r} must hold numbers, got {column.type}")
    if known is None and not is_text(column.type) and not holds_numbers:
        raise DataError(f"{source}: column {name!r} must hold texts or numbers, got {column.type}")
    if holds_numbers and (known is None or not isinstance(known[0], str)):
        values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return values, known or numeric_categories(values, name, source)
    positions, texts = _texts(column)
    if known is None:
        known = tuple(sorted(text for text in texts if text is not None))
        _check_number(len(known), name, source)
    numbers = dict(zip(known, category_values(known).tolist(), strict=True)) | {None: np.nan}
    unknown = [text for text in texts if text not in numbers]
    if unknown and cells.unknown == REFUSED:
        names = listed(known, MOST_NAMED, quoted=False)
        raise DataError(
            f"{source}: column {name!r} must hold one of {names}, got {unknown[0]!r}{UNKNOWN_HINT}"
        )
    places = np.array([numbers.get(text, float(len(known))) for text in texts], dtype=np.float64)
    return places[positions], known


def _check_number(n_categories: int, name: str, source: str) -> None:
    if not 1 <= n_categories <= MOST_CATEGORIES:
        raise DataError(
            f"{source}: column {name!r} must have 1 to {MOST_CATEGORIES} different values to be a category, "
            f"got {n_categories}"
        )


def _texts(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str | None]]:
    """Return the position of each cell in a list of distinct texts; None is a missing value."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if len(column) == 0:
        return np.empty(0, dtype=np.int64), []
    encoded = pa.concat_arrays(column.dictionary_encode(null_encoding="encode").unify_dictionaries().chunks)
    return encoded.indices.to_numpy(), [_text(value) for value in encoded.dictionary.to_pylist()]


def _text(value: object) -> str | None:
    """Write a cell as text; an empty one is missing."""
    if isinstance(value, bool):
        return BOOLEANS[value]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return None if value is None or value == "" else str(value)

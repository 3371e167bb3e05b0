"""Summarise the columns of the data: the table that is printed before a fit and shown in the report."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from detector.manifest import Categories

FEATURE, CATEGORY, LEFT_OUT = "feature", "category", "left out"
LABEL, TIME, ENTITY = "label", "time", "entity"
MOST_TEXTS = 256  # labels or entities that are listed


@dataclasses.dataclass(frozen=True)
class ColumnSummary:
    """What a column of the data is used as, and what it holds.

    Attributes
    ----------
    name : str
    role : str
        `feature`, `category`, `label`, `time`, `entity` or `left out`.
    reason : str
        Why it has this role, if the data decided it: `a saved index`; else empty.
    least, median, most : float or None
        Of the finite values; None for a column that holds no numbers.
    n_rows, n_missing : int
        Cells, and how many of them are missing.
    categories : tuple of str or tuple of float
        Values of a category, in the order of their numbers; empty for other columns.
    longest_constant_run : int or None
        Rows in the longest stretch of equal values; a missing cell ends a stretch. None for a column that
        holds no numbers.
    """

    name: str
    role: str
    reason: str = ""
    least: float | None = None
    median: float | None = None
    most: float | None = None
    n_rows: int = 0
    n_missing: int = 0
    categories: tuple[str, ...] | tuple[float, ...] = ()
    longest_constant_run: int | None = None


def summarise(name: str, values: np.ndarray, role: str = FEATURE, reason: str = "") -> ColumnSummary:
    """Summarise a column of numbers.

    Parameters
    ----------
    name, role, reason : str
    values : ndarray of shape (n_rows,), any real dtype
        Raw units; NaN is a missing value.
    """
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    least, median, most = (
        map(float, (finite.min(), np.median(finite), finite.max())) if finite.size else (None, None, None)
    )
    return ColumnSummary(
        name=name,
        role=role,
        reason=reason,
        least=least,
        median=median,
        most=most,
        n_rows=values.size,
        n_missing=int(np.isnan(values).sum()),
        longest_constant_run=longest_run(values),
    )


def summarise_features(
    samples: np.ndarray, names: Sequence[str], categories: Categories | None = None
) -> tuple[ColumnSummary, ...]:
    """Summarise the features of rows or the channels of steps.

    Parameters
    ----------
    samples : ndarray of shape (n_rows, n_features), any real dtype
        Categories as numbers.
    names : sequence of str
    categories : mapping of str to tuple, optional
        Values of each feature that is a category.
    """
    return tuple(
        _summarise_category(name, values, categories[name])
        if name in (categories or {})
        else summarise(name, values)
        for name, values in zip(names, samples.T, strict=True)
    )


def _summarise_category(
    name: str, values: np.ndarray, known: tuple[str, ...] | tuple[float, ...]
) -> ColumnSummary:
    return ColumnSummary(
        name,
        CATEGORY,
        n_rows=values.size,
        n_missing=int(np.isnan(values).sum()),
        categories=known,
        longest_constant_run=longest_run(values),
    )


def summarise_texts(name: str, texts: np.ndarray, role: str) -> ColumnSummary:
    """Summarise labels or the names of entities; their values are listed if they are few."""
    values = np.unique(texts)
    few = tuple(map(str, values)) if values.size <= MOST_TEXTS else ()
    return ColumnSummary(name, role, n_rows=texts.size, categories=few)


def longest_run(values: np.ndarray) -> int:
    """Return the length of the longest stretch of equal values; NaN equals nothing."""
    if not values.size:
        return 0
    breaks = np.flatnonzero(values[1:] != values[:-1])
    return int(np.diff(np.concatenate([[-1], breaks, [values.size - 1]])).max())

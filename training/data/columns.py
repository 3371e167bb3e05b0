"""Rows with categories and missing values as the columns that a network sees.

A measured feature is one column. A categorical feature is one column for each of its values, 1 for that
value and 0 for others, and one more column for unknown values if these are a category of their own. If values
may be missing, each feature has one more column, 1 if its value is missing. See docs/decisions/0013.
"""

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from detector.manifest import Categories, Manifest
from detector.schema import MISSING_AS_MEDIAN, OWN_CATEGORY
from detector.tables import category_values

if TYPE_CHECKING:
    from training.data.dataset import Dataset


@dataclasses.dataclass(frozen=True)
class ColumnLayout:
    """Order of the columns: numbers, values of categories, unknown values, missing values.

    Attributes
    ----------
    feature_names : tuple of str
    categories : mapping of str to tuple
    own : bool
        Whether unknown values are a category of their own.
    may_miss : bool
        Whether a value may be missing.
    """

    feature_names: tuple[str, ...]
    categories: Categories
    own: bool
    may_miss: bool

    @classmethod
    def of(cls, described: "Manifest | Dataset") -> "ColumnLayout | None":
        """Layout of a model or of data; None if every feature is one measured column."""
        may_miss = described.missing == MISSING_AS_MEDIAN
        if not may_miss and described.categories is None:
            return None
        names = described.feature_names or tuple(map(str, range(described.sample_shape[0])))
        own = described.unknown_category == OWN_CATEGORY
        return cls(tuple(names), described.categories or {}, own, may_miss)

    @functools.cached_property
    def numbers(self) -> np.ndarray:
        """Positions of the measured features, int32."""
        is_category = [name in self.categories for name in self.feature_names]
        return np.flatnonzero(np.logical_not(is_category)).astype(np.int32)

    @functools.cached_property
    def categorical(self) -> np.ndarray:
        """Positions of the categorical features, int32."""
        is_category = [name in self.categories for name in self.feature_names]
        return np.flatnonzero(is_category).astype(np.int32)

    @functools.cached_property
    def values(self) -> tuple[np.ndarray, ...]:
        """Numbers that encode the values of each categorical feature, float32."""
        return tuple(
            category_values(self.categories[self.feature_names[place]]) for place in self.categorical
        )

    @functools.cached_property
    def value_owners(self) -> np.ndarray:
        """Feature that each categorical value belongs to, int32."""
        return np.repeat(self.categorical, [values.size for values in self.values])

    @functools.cached_property
    def all_values(self) -> np.ndarray:
        """Values of all categorical features, concatenated, float32."""
        return np.concatenate([*self.values, np.empty(0, dtype=np.float32)])

    @functools.cached_property
    def owners(self) -> np.ndarray:
        """The feature of each column."""
        others = self.categorical if self.own else self.categorical[:0]
        gaps = np.arange(len(self.feature_names) if self.may_miss else 0)
        return np.concatenate([self.numbers, self.value_owners, others, gaps])

    @property
    def n_columns(self) -> int:
        """How many columns there are."""
        return self.owners.size

    @functools.cached_property
    def is_gap(self) -> np.ndarray:
        """Which columns say that a value is missing."""
        return np.arange(self.n_columns) >= self.n_columns - len(self.feature_names) * self.may_miss

    @functools.cached_property
    def members(self) -> np.ndarray:
        """1 where a value is one of a categorical feature, else 0: (n_values, n_categorical), float32."""
        return (self.value_owners[:, np.newaxis] == self.categorical).astype(np.float32)

    @functools.cached_property
    def shares(self) -> np.ndarray:
        """1 where a column comes from a feature, else 0: (n_columns, n_features), float32."""
        return (self.owners[:, np.newaxis] == np.arange(len(self.feature_names))).astype(np.float32)

    def columns(self, rows: np.ndarray, fill: np.ndarray) -> np.ndarray:
        """Make the columns of rows, with missing values replaced by `fill`: (n_rows, n_columns), float32."""
        rows = rows.astype(np.float32)
        absent = np.isnan(rows)
        filled = np.where(absent, fill, rows)
        is_value = (filled[:, self.value_owners] == self.all_values).astype(np.float32)
        parts = [filled[:, self.numbers], is_value]
        if self.own:
            parts.append(1 - is_value @ self.members)
        if self.may_miss:
            parts.append(absent.astype(np.float32))
        return np.concatenate(parts, axis=1)


def network_shape(described: "Manifest | Dataset") -> tuple[int, ...]:
    """Shape of one sample as a network sees it, for a model or for data."""
    layout = ColumnLayout.of(described)
    return described.sample_shape if layout is None else (layout.n_columns,)

"""Rows with categories and missing values as the columns that a network sees.

A measured feature is one column. A category is one column for each of its values, 1 where it is that value,
and one more for any other value where that is a category of its own. Where values may be missing every
feature has a column that says so. A network knows no difference between them.
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
    """Which column comes from which feature: first numbers, then values of categories, others, gaps.

    Attributes
    ----------
    feature_names : tuple of str
    categories : mapping of str to tuple
    own : bool
        Whether another value is a category of its own.
    may_miss : bool
        Whether a value may be missing.
    """

    feature_names: tuple[str, ...]
    categories: Categories
    own: bool
    may_miss: bool

    @classmethod
    def of(cls, described: "Manifest | Dataset") -> "ColumnLayout | None":
        """The layout of a model or of data; None where every feature is one measured column."""
        may_miss = described.missing == MISSING_AS_MEDIAN
        if not may_miss and described.categories is None:
            return None
        names = described.feature_names or tuple(map(str, range(described.sample_shape[0])))
        own = described.unknown_category == OWN_CATEGORY
        return cls(tuple(names), described.categories or {}, own, may_miss)

    @functools.cached_property
    def numbers(self) -> np.ndarray:
        """Features that are measured, int32."""
        return self._features(categorical=False)

    @functools.cached_property
    def categorical(self) -> np.ndarray:
        """Features that are categories, int32."""
        return self._features(categorical=True)

    def _features(self, *, categorical: bool) -> np.ndarray:
        is_category = np.array([name in self.categories for name in self.feature_names])
        return np.flatnonzero(is_category == categorical).astype(np.int32)

    @functools.cached_property
    def values(self) -> tuple[np.ndarray, ...]:
        """Of each categorical feature the numbers that stand for its values, float32."""
        return tuple(
            category_values(self.categories[self.feature_names[place]]) for place in self.categorical
        )

    @functools.cached_property
    def value_owners(self) -> np.ndarray:
        """The feature of each value of a category, int32."""
        return np.repeat(self.categorical, [values.size for values in self.values])

    @functools.cached_property
    def all_values(self) -> np.ndarray:
        """The values of all categories, one behind the other, float32."""
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
        """The columns of rows, `fill` in place of what is missing: (n_rows, n_columns), float32."""
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
    """The shape of one sample of a model or of data as a network sees it."""
    layout = ColumnLayout.of(described)
    return described.sample_shape if layout is None else (layout.n_columns,)

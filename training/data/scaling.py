"""Constants that scale raw units to the network's units and back, fitted on the training split."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from training.data.columns import ColumnLayout
from training.data.dataset import Dataset
from training.errors import DataError

# Far enough to be as anomalous as can be, near enough that squares and sums stay finite in float32.
SCALED_LIMIT = 1e6
# A spread below this share of the values is rounding, not signal, in float32 (unit roundoff 6e-8).
LEAST_RELATIVE_SPREAD = 1e-5
# Height of a 0-or-1 column, in standard deviations of measured columns; another category changes two of them.
# The best of 0.5 to 3, and of heights by frequency, for wrong, rare and unknown categories, missing values
# and outliers of drawn tables, among columns without information (docs/decisions/0013).
STEP = 2**0.5
# Height of a column that says whether a value is missing. Values missing at random add noise, so three times
# the height costs a point of ROC AUC; half of it misses absences that contradict the rest of the row.
GAP_STEP = 0.5
# Height of a column that is constant in training: an unknown category, the first missing value of a feature.
NOVEL_STEP = 3.0


@dataclasses.dataclass(frozen=True)
class Scaling:
    """`scaled = clip((raw - offset) / scale, -SCALED_LIMIT, SCALED_LIMIT)`, for a layout by columns.

    Attributes
    ----------
    offset, scale : ndarray of shape sample_shape or (), or (n_columns,) of a layout, float32
        `scale` is positive.
    constant : tuple of str
        Names of measured features that do not vary in the training split; their scale is 1.
    layout : ColumnLayout, or None
        Columns of rows with categories or missing values.
    fill : ndarray of shape (n_features,), float32, or None
        With a layout, the values that replace missing ones.
    """

    offset: np.ndarray
    scale: np.ndarray
    constant: tuple[str, ...] = ()
    layout: ColumnLayout | None = None
    fill: np.ndarray | None = None

    def apply(self, samples: np.ndarray) -> np.ndarray:
        """Scaled samples, float32, shape of `samples`; (n_samples, n_columns) with a layout."""
        columns = (
            samples.astype(np.float32) if self.layout is None else self.layout.columns(samples, self.fill)
        )
        with np.errstate(over="ignore"):  # infinite is as far as the limit
            scaled = (columns - self.offset) / self.scale
        return np.clip(scaled, -SCALED_LIMIT, SCALED_LIMIT, dtype=np.float32)

    @property
    def centre(self) -> np.ndarray:
        """Middle of each feature, raw units."""
        return self.offset if self.layout is None else self.fill

    @property
    def unit(self) -> np.ndarray:
        """Unit of each feature, raw units; 1 for categories."""
        if self.layout is None:
            return self.scale
        unit = np.ones_like(self.fill)
        unit[self.layout.numbers] = self.scale[: self.layout.numbers.size]
        return unit

    def at(self, places: np.ndarray) -> np.ndarray:
        """Raw samples at so many units from the centre, float32; a category gets one of its values."""
        samples = (self.centre + self.unit * places).astype(np.float32)
        if self.layout is not None:
            for feature, values in zip(self.layout.categorical, self.layout.values, strict=True):
                chosen = np.abs(places[:, feature] * values.size).astype(int) % values.size
                samples[:, feature] = values[chosen]
        return samples


def fit_scaling(
    dataset: Dataset, train: np.ndarray, scaled_range: tuple[float, float] | None = None
) -> Scaling:
    """Fit constants to the training split: from range to range, or to mean 0 and standard deviation 1.

    Parameters
    ----------
    dataset : Dataset
    train : ndarray of int
        Rows of the training split.
    scaled_range : tuple of float, optional
        Range that the data's value range is mapped to or, if they have none, the range of each feature in the
        training split. None for mean 0 and standard deviation 1, of a sequence by channel.

    Raises
    ------
    DataError
        If nothing varies, or a column varies by less than float32 can tell apart.
    """
    samples = dataset.samples[train]
    layout = ColumnLayout.of(dataset)
    if layout is not None:
        return _fit_columns(dataset, layout, samples, scaled_range)
    if dataset.value_range is not None and np.ptp(samples) == 0:
        raise DataError("every pixel of every training image has the same value: there is nothing to learn")
    if dataset.value_range is not None and scaled_range is not None:
        low, high = dataset.value_range
        return _range_scaling(np.float64(low), np.float64(high), scaled_range)
    samples = samples.astype(np.float64)
    axes = tuple(range(samples.ndim - 1)) if dataset.kind == "sequence" else 0
    low, high = samples.min(axis=axes), samples.max(axis=axes)
    offset, spread = samples.mean(axis=axes), samples.std(axis=axes)
    constant = low == high
    if constant.all():
        raise DataError("every column is constant in the training split: there is nothing to learn")
    _refuse_fine(dataset.feature_names, offset, spread, constant)
    names = tuple(dataset.feature_names[column] for column in np.flatnonzero(constant))
    if scaled_range is not None:
        scaling = _range_scaling(low, np.where(constant, low + 1, high), scaled_range)
        return dataclasses.replace(scaling, constant=names)
    return Scaling(offset.astype(np.float32), np.where(constant, 1, spread).astype(np.float32), names)


def _fit_columns(
    dataset: Dataset, layout: ColumnLayout, rows: np.ndarray, scaled_range: tuple[float, float] | None
) -> Scaling:
    """The same for the columns of a layout, measured ones by the values that are there."""
    names = dataset.feature_names
    empty = np.flatnonzero(np.isnan(rows).all(axis=0))
    if empty.size:
        raise DataError(
            f"column {names[empty[0]]!r} has no value in the training split: leave it out with --columns"
        )
    fill = np.nanmedian(rows, axis=0).astype(np.float32)
    for feature in layout.categorical:
        values, counts = np.unique(rows[~np.isnan(rows[:, feature]), feature], return_counts=True)
        fill[feature] = values[counts.argmax()]
    numbers = rows[:, layout.numbers].astype(np.float64)
    flags = layout.columns(rows, fill)[:, layout.numbers.size :].astype(np.float64)
    low, high = np.nanmin(numbers, axis=0), np.nanmax(numbers, axis=0)
    offset, spread = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0)
    constant, never_varies = low == high, flags.min(axis=0) == flags.max(axis=0)
    if constant.all() and never_varies.all():
        raise DataError("every column is constant in the training split: there is nothing to learn")
    measured = [names[feature] for feature in layout.numbers]
    _refuse_fine(measured, offset, spread, constant)
    unchanging = tuple(measured[column] for column in np.flatnonzero(constant))
    if scaled_range is not None:
        zeros = np.zeros(flags.shape[1])
        scaling = _range_scaling(
            np.concatenate([low, zeros]),
            np.concatenate([np.where(constant, low + 1, high), zeros + 1]),
            scaled_range,
        )
        return dataclasses.replace(scaling, constant=unchanging, layout=layout, fill=fill)
    steps = np.where(never_varies, NOVEL_STEP, np.where(layout.is_gap[layout.numbers.size :], GAP_STEP, STEP))
    return Scaling(
        np.concatenate([offset, flags.mean(axis=0)]).astype(np.float32),
        np.concatenate([np.where(constant, 1, spread), 1 / steps]).astype(np.float32),
        unchanging,
        layout,
        fill,
    )


def _range_scaling(low: np.ndarray, high: np.ndarray, scaled_range: tuple[float, float]) -> Scaling:
    """`low` to the lower end of the range and `high` to the upper one."""
    lower, upper = scaled_range
    scale = (high - low) / (upper - lower)
    return Scaling(np.float32(low - lower * scale), np.float32(scale))


def _refuse_fine(names: Sequence[str], offset: np.ndarray, spread: np.ndarray, constant: np.ndarray) -> None:
    fine = ~constant & (
        spread < np.maximum(LEAST_RELATIVE_SPREAD * np.abs(offset), np.finfo(np.float32).tiny)
    )
    if fine.any():
        column = int(np.argmax(fine))
        raise DataError(
            f"column {names[column]!r} varies by {spread[column]:.3g} round "
            f"{offset[column]:.6g}, too little for float32: shift or scale it, or leave it out with "
            "--columns"
        )

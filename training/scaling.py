"""Raw units to the network's units and back: constants of the graph, fitted on the training split."""

import dataclasses

import numpy as np

from training.datasets import Dataset
from training.errors import DataError

# Far enough to be as anomalous as can be, near enough that squares and sums stay finite in float32.
SCALED_LIMIT = 1e6
# A spread below this share of the values is rounding, not signal, in float32 (unit roundoff 6e-8).
LEAST_RELATIVE_SPREAD = 1e-5


@dataclasses.dataclass(frozen=True)
class Scaling:
    """`scaled = clip((raw - offset) / scale, -SCALED_LIMIT, SCALED_LIMIT)`.

    Attributes
    ----------
    offset, scale : ndarray of shape sample_shape or (), float32
        `scale` is positive.
    constant : tuple of str
        Names of features that do not vary in the training split; their scale is 1.
    """

    offset: np.ndarray
    scale: np.ndarray
    constant: tuple[str, ...] = ()

    def apply(self, samples: np.ndarray) -> np.ndarray:
        """Scaled samples, float32, shape of `samples`."""
        with np.errstate(over="ignore"):  # infinite is as far as the limit
            scaled = (samples.astype(np.float32) - self.offset) / self.scale
        return np.clip(scaled, -SCALED_LIMIT, SCALED_LIMIT, dtype=np.float32)


def fit_scaling(
    dataset: Dataset, train: np.ndarray, scaled_range: tuple[float, float] | None = None
) -> Scaling:
    """Constants from the training split: a range to a range, or mean 0 and standard deviation 1.

    Parameters
    ----------
    dataset : Dataset
    train : ndarray of int
        Rows of the training split.
    scaled_range : tuple of float, optional
        Where the data's value range goes; where they have none that of each feature in the training split.
        None for features of mean 0 and standard deviation 1; channels of a sequence share theirs over time.

    Raises
    ------
    DataError
        If nothing varies, or a column varies by less than float32 can tell apart.
    """
    samples = dataset.samples[train]
    if dataset.value_range is not None and np.ptp(samples) == 0:
        raise DataError("every pixel of every training picture has the same value: there is nothing to learn")
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
    _refuse_fine(dataset, offset, spread, constant)
    names = tuple(dataset.feature_names[column] for column in np.flatnonzero(constant))
    if scaled_range is not None:
        scaling = _range_scaling(low, np.where(constant, low + 1, high), scaled_range)
        return dataclasses.replace(scaling, constant=names)
    return Scaling(offset.astype(np.float32), np.where(constant, 1, spread).astype(np.float32), names)


def _range_scaling(low: np.ndarray, high: np.ndarray, scaled_range: tuple[float, float]) -> Scaling:
    """`low` to the lower end of the range and `high` to the upper one."""
    lower, upper = scaled_range
    scale = (high - low) / (upper - lower)
    return Scaling(np.float32(low - lower * scale), np.float32(scale))


def _refuse_fine(dataset: Dataset, offset: np.ndarray, spread: np.ndarray, constant: np.ndarray) -> None:
    fine = ~constant & (
        spread < np.maximum(LEAST_RELATIVE_SPREAD * np.abs(offset), np.finfo(np.float32).tiny)
    )
    if fine.any():
        column = int(np.argmax(fine))
        raise DataError(
            f"column {dataset.feature_names[column]!r} varies by {spread[column]:.3g} round "
            f"{offset[column]:.6g}, too little for float32: shift or scale it, or leave it out with "
            "--columns"
        )

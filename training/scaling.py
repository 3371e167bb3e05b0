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


def fit_scaling(dataset: Dataset, train: np.ndarray) -> Scaling:
    """Pictures: value range to [0, 1]. Vectors: mean 0 and standard deviation 1 over the training split.

    Raises
    ------
    DataError
        If nothing varies, or a column varies by less than float32 can tell apart.
    """
    if dataset.value_range is not None:
        low, high = dataset.value_range
        if np.ptp(dataset.samples[train]) == 0:
            raise DataError(
                "every pixel of every training picture has the same value: there is nothing to learn"
            )
        return Scaling(np.float32(low), np.float32(high - low))
    samples = dataset.samples[train].astype(np.float64)
    offset, spread = samples.mean(axis=0), samples.std(axis=0)
    constant = np.ptp(samples, axis=0) == 0
    if constant.all():
        raise DataError("every column is constant in the training split: there is nothing to learn")
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
    names = tuple(dataset.feature_names[column] for column in np.flatnonzero(constant))
    return Scaling(offset.astype(np.float32), np.where(constant, 1, spread).astype(np.float32), names)

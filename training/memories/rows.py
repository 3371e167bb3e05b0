"""A memory of rows: prototypes of normal samples, with the constants that score a sample by them.

A sample is rebuilt as the weighted mean of its nearest prototypes, and its residual is whitened by the
residuals of normal samples (docs/decisions/0011). No Keras here; `rows_keras` makes the network.

References
----------
Gong, Liu, Le, Saha, Mansour, Venkatesh, van den Hengel (2019). Memorizing normality to detect anomaly:
memory-augmented deep autoencoder for unsupervised anomaly detection. ICCV.
"""

import dataclasses
import warnings

import numpy as np
from scipy.stats import kurtosis, norm, rankdata

from training.memories.prototypes import (
    COVARIANCE_SHARE,
    LEAST_RESIDUAL,
    UNIT_SAMPLES,
    attention_width,
    find_prototypes,
    normal_residuals,
)
from training.memories.whitening import inverse_root

HEAVY_KURTOSIS = 5.0  # excess; a column above it has tails that hide its middle
FEW_VALUES = 10  # a column of at most so many values has no tail, and may have rare values
N_KNOTS, LEAST_KNOT_GAP = 64, 1e-3


@dataclasses.dataclass(frozen=True)
class Features:
    """Map scaled columns to the space of the prototypes; a heavy-tailed column enters twice, also by rank.

    A column of few values is divided by half its range if that is more than its standard deviation: otherwise
    a flag that is rarely set would weigh many times as much as one that is set every other time.

    The copy is piecewise linear: the rank of the value among the training rows as a Gaussian quantile between
    the knots, a line beyond them. Both are divided by the root of 2, so that they count as one column.

    Attributes
    ----------
    weights : ndarray of shape (n_columns,), float32
        Weights of the unchanged columns.
    heavy : ndarray of shape (n_heavy,), int
        Heavy-tailed columns, which enter a second time.
    knots : ndarray of shape (n_heavy, N_KNOTS), float32
        Ascending, filled up with the largest float32. The number of knots below a value is the number of its
        piece.
    anchors, levels, slopes : ndarray of shape (n_heavy, N_KNOTS + 1), float32
        Constants of the pieces: `copy = level + slope * (value - anchor)`.
    """

    weights: np.ndarray
    heavy: np.ndarray
    knots: np.ndarray
    anchors: np.ndarray
    levels: np.ndarray
    slopes: np.ndarray

    @property
    def size(self) -> int:
        """Number of values of a sample in the space of the prototypes."""
        return self.weights.size + self.heavy.size

    def apply(self, samples: np.ndarray) -> np.ndarray:
        """(n, n_columns) -> (n, size), float32."""
        columns = samples * self.weights
        copies = np.empty((len(samples), self.heavy.size), dtype=np.float32)
        for place, column in enumerate(self.heavy):
            values = samples[:, column]
            piece = np.searchsorted(self.knots[place], values)
            beyond = values - self.anchors[place, piece]
            copies[:, place] = self.levels[place, piece] + self.slopes[place, piece] * beyond
        return np.concatenate([columns, copies], axis=1)


@dataclasses.dataclass(frozen=True)
class Memory:
    """All constants of a memory autoencoder.

    Attributes
    ----------
    features : Features
    prototypes : ndarray of shape (n_prototypes, features.size), float32
    neighbours : int
        Number of prototypes that a sample attends to.
    width : float
        Standard deviation of the Gaussian whose values are the weights of the attention.
    whitening : ndarray of shape (features.size, features.size), float32
        Symmetric; whitened normal residuals have a covariance near the unit matrix, and a mean squared length
        of `n_columns`.
    """

    features: Features
    prototypes: np.ndarray
    neighbours: int
    width: float
    whitening: np.ndarray


def fit_memory(
    samples: np.ndarray, n_prototypes: int, neighbours: int, seed: int, least_rows: int = 1
) -> Memory:
    """Fit prototypes, width and whitening to normal samples.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, n_columns), float32
        Scaled; at least two.
    n_prototypes : int
        Most prototypes; with fewer samples all of them are prototypes.
    neighbours : int
    seed : int
        Seed of the first prototypes, and of the samples that the whitening is fitted to.
    least_rows : int
        Fewest samples that a prototype is the mean of.
    """
    features = fit_features(samples, least_rows)
    points = features.apply(samples)
    prototypes = find_prototypes(points, n_prototypes, seed, least_rows)
    neighbours = min(neighbours, len(prototypes))
    width = attention_width(prototypes)
    residuals = normal_residuals(points, prototypes, neighbours, width, seed)
    share = COVARIANCE_SHARE * len(samples) / (len(samples) + UNIT_SAMPLES)
    whitening = _whiten(residuals, samples.shape[1], share)
    return Memory(features, prototypes, neighbours, width, whitening)


def fit_features(samples: np.ndarray, least_rows: int = 1) -> Features:
    """Find columns of few values, and among the others heavy tails: kurtosis above `HEAVY_KURTOSIS`.

    A knot of a heavy column is one of its values, or the mean of at least `least_rows` neighbouring ones.
    """
    n_values = np.array([np.unique(column).size for column in samples.T])
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # almost constant columns have no tails
        tails = np.nan_to_num(kurtosis(samples.astype(np.float64), axis=0))
    heavy = np.flatnonzero((tails > HEAVY_KURTOSIS) & (n_values > FEW_VALUES))
    weights = np.ones(samples.shape[1], dtype=np.float32)
    few = n_values <= FEW_VALUES
    weights[few] = 1 / np.maximum(1, np.ptp(samples[:, few], axis=0) / 2)
    weights[heavy] = np.sqrt(0.5)
    knots = np.full((heavy.size, N_KNOTS), np.finfo(np.float32).max, dtype=np.float32)
    pieces = np.zeros((3, heavy.size, N_KNOTS + 1), dtype=np.float32)
    for place, column in enumerate(heavy):
        # Neighbouring values in groups of at least `least_rows`, each replaced by the mean of its group.
        groups = np.minimum(np.arange(len(samples)) // least_rows, max(len(samples) // least_rows - 1, 0))
        values = np.sort(samples[:, column].astype(np.float64))
        own_knots, own_pieces = _fit_copy((np.bincount(groups, values) / np.bincount(groups))[groups])
        knots[place, : own_knots.size] = own_knots
        pieces[:, place, : own_knots.size + 1] = own_pieces
    return Features(weights, heavy, knots, *pieces)


def _fit_copy(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots of the copy of one heavy column, and anchors, levels and slopes of its pieces."""
    knots, levels = _rank_knots(values)
    curve = np.interp(values, knots, levels)
    # With many ties the ranks have a small deviation, and rare values would count too much.
    unit = np.sqrt(0.5) / max(curve.std(), 1)
    slopes = np.concatenate([[1], np.diff(levels) / np.diff(knots), [1]]) * unit
    first_too = np.concatenate([[0], np.arange(knots.size)])
    return knots, np.stack([knots[first_too], (levels[first_too] - curve.mean()) * unit, slopes])


def _rank_knots(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values that are spaced evenly over the Gaussian quantiles of their ranks, and these quantiles."""
    quantiles = norm.ppf((rankdata(values) - 0.5) / values.size)
    places, first = np.unique(values, return_index=True)
    levels = quantiles[first]
    if places.size > N_KNOTS:
        shares = norm.cdf(np.linspace(levels[0], levels[-1], N_KNOTS))
        chosen = np.searchsorted(places, np.quantile(values, shares, method="nearest"))
        chosen = np.unique(np.concatenate([[0], chosen, [places.size - 1]]))
        chosen = chosen if chosen.size <= N_KNOTS else np.delete(chosen, 1)
        places, levels = places[chosen], levels[chosen]
    kept = [0]
    for place in range(1, places.size):
        if places[place] - places[kept[-1]] >= LEAST_KNOT_GAP:
            kept.append(place)
    return places[kept], levels[kept]


def _whiten(residuals: np.ndarray, n_columns: int, share: float) -> np.ndarray:
    """Whitening of normal residuals, scaled to a mean squared length of `n_columns`."""
    whitening = inverse_root(residuals.T.astype(np.float64) @ residuals / len(residuals), share)
    unit = max(np.square(residuals @ whitening).sum(axis=1).mean(), LEAST_RESIDUAL**2 * n_columns)
    return (whitening * np.sqrt(n_columns / unit)).astype(np.float32)

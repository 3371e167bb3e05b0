"""A memory of a series: typical windows, or typical steps.

A window is whitened over time and rebuilt from the most similar remembered windows, so that a slow wave, at
another place in each window, does not hide a small break. Or each step is rebuilt from remembered steps, and
the residual is whitened over the channels (docs/decisions/0015). No Keras here; `windows_keras` makes the
network.

References
----------
Gong, Liu, Le, Saha, Mansour, Venkatesh, van den Hengel (2019). Memorizing normality to detect anomaly:
memory-augmented deep autoencoder for unsupervised anomaly detection. ICCV.
"""

import dataclasses

import numpy as np

from training.memories.prototypes import (
    LEAST_RESIDUAL,
    attention_width,
    find_prototypes,
    normal_residuals,
    recall,
)
from training.memories.whitening import inverse_root, shrunk_axes

# Weights of the covariance; the rest is the weight of the unit matrix. VUS-PR on SMAP and MSL falls from 0.75
# to 0.70 with 0.9 over time, and also if the residual of windows is whitened over the channels.
TIME_SHARE, CHANNEL_SHARE = 0.99, 0.7
DRIFT_BLOCKS = 8  # of the training part, whose means are compared


@dataclasses.dataclass(frozen=True)
class WindowMemory:
    """All constants of a memory autoencoder of windows.

    Attributes
    ----------
    channel_weights : ndarray of shape (n_channels,), float32
        Factors of the scaled values.
    time_whitening : ndarray of shape (span, span), float32
        Symmetric; whitens weighted windows, every channel alike. `span` is the length of a window; for a
        memory of steps both span and whitening are 1.
    correction : ndarray of shape (span, span), float32
        Symmetric; turns a whitened residual into the correction that is subtracted from the weighted window.
        It is the inverse of the whitening, except that waves of more than the mean variance are left as they
        are, since nothing tells which of them the window should have.
    prototypes : ndarray of shape (n_prototypes, span * n_channels), float32
        Whitened.
    neighbours : int
        Number of prototypes that a window or a step attends to.
    width : float
        Standard deviation of the Gaussian whose values are the weights of the attention.
    residual_whitening : ndarray of shape (n_channels, n_channels), float32
        Symmetric; whitened normal residuals have a mean square of 1. For whole windows a multiple of the unit
        matrix.
    """

    channel_weights: np.ndarray
    time_whitening: np.ndarray
    correction: np.ndarray
    prototypes: np.ndarray
    neighbours: int
    width: float
    residual_whitening: np.ndarray

    @property
    def span(self) -> int:
        """Number of steps that are looked up together."""
        return len(self.time_whitening)


def fit_window_memory(
    windows: np.ndarray,
    n_prototypes: int,
    neighbours: int,
    seed: int,
    least_rows: int = 1,
    by_step: bool = False,
    drift_discount: float = 0.0,
) -> WindowMemory:
    """Fit weights, whitening, prototypes and width to normal windows.

    Parameters
    ----------
    windows : ndarray of shape (n_windows, window, n_channels), float32
        Scaled, in order of time; at least two.
    n_prototypes : int
        Most prototypes; with fewer windows all of them are prototypes.
    neighbours : int
    seed : int
        Seed of the first prototypes, and of the windows that the residuals are computed for.
    least_rows : int
        Fewest windows, or steps, that a prototype is the mean of.
    by_step : bool
        Remember steps, each looked up by itself.
    drift_discount : float
        See `channel_weights`.
    """
    n_channels = windows.shape[2]
    weights = channel_weights(windows, drift_discount)
    weighted = windows * weights
    whitening, correction = _whiten_time(weighted[:, :1] if by_step else weighted)
    looks = weighted.reshape(-1, len(whitening), n_channels)  # windows, or steps
    points = np.unique((whitening @ looks).reshape(len(looks), -1), axis=0)
    # A spike of a stream recurs as a step; a window would have it at another place.
    prototypes = find_prototypes(points, n_prototypes, seed, least_rows, keep_odd=by_step)
    neighbours = min(neighbours, len(prototypes))
    width = attention_width(prototypes)
    residuals = normal_residuals(points, prototypes, neighbours, width, seed).reshape(-1, n_channels)
    share = CHANNEL_SHARE if by_step else 0.0
    over_channels = inverse_root(residuals.T.astype(np.float64) @ residuals, share)
    unit = max(float(np.square(residuals @ over_channels).mean()), LEAST_RESIDUAL**2)
    over_channels = (over_channels / np.sqrt(unit)).astype(np.float32)
    return WindowMemory(weights, whitening, correction, prototypes, neighbours, width, over_channels)


def channel_weights(windows: np.ndarray, drift_discount: float) -> np.ndarray:
    """Weights of the channels, shape (n_channels,), float32.

    A channel of two values is divided by its range: otherwise one that is rarely switched would weigh many
    times as much as one that is switched every other step. A channel whose level drifts in the training part
    will drift on: it is weighted 1 / (1 + `drift_discount` * drift), where drift is the share of its variance
    between the means of eight blocks, less the share that independent steps would have.
    """
    low, high = windows.min(axis=(0, 1)), windows.max(axis=(0, 1))
    is_switch = ((windows == low) | (windows == high)).all(axis=(0, 1)) & (high > low)
    weights = 1 / np.where(is_switch, high - low, 1)
    return (weights / (1 + drift_discount * _drift(windows[:, -1]))).astype(np.float32)


def _drift(steps: np.ndarray) -> np.ndarray:
    """Share of the variance between blocks, 0 to 1, shape (n_channels,); 0 with too few steps."""
    size = len(steps) // DRIFT_BLOCKS
    if size < 2:
        return np.zeros(steps.shape[1])
    blocks = steps[: DRIFT_BLOCKS * size].astype(np.float64).reshape(DRIFT_BLOCKS, size, -1)
    between = blocks.mean(axis=1).var(axis=0)
    by_chance = blocks.var(axis=1).mean(axis=0) / size
    total = np.maximum(blocks.var(axis=(0, 1)), np.finfo(np.float32).tiny)
    return np.clip((between - by_chance) / total, 0, 1)


def _whiten_time(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse root of the covariance over time, shrunk towards the unit matrix; and the correction."""
    n_steps = windows.shape[1]
    if n_steps == 1:
        return np.ones((1, 1), dtype=np.float32), np.ones((1, 1), dtype=np.float32)
    deviations = windows - windows.mean(axis=0)
    covariance = np.einsum("nsc,ntc->st", deviations, deviations, dtype=np.float64, optimize=True)
    values, vectors = shrunk_axes(covariance, TIME_SHARE)
    gains = 1 / np.sqrt(values)
    back = np.minimum(gains, 1 / gains)
    return tuple(((vectors * along) @ vectors.T).astype(np.float32) for along in (gains, back))


def rebuild_windows(windows: np.ndarray, memory: WindowMemory) -> tuple[np.ndarray, np.ndarray]:
    """Reconstruction, scaled, and feature error of scaled windows, both of their shape."""
    looks = (windows * memory.channel_weights).reshape(-1, memory.span, windows.shape[2])
    points = (memory.time_whitening @ looks).reshape(len(looks), -1)
    recalled = recall(points, memory.prototypes, memory.neighbours, memory.width)
    residual = (points - recalled).reshape(looks.shape)
    rebuilt = (looks - memory.correction @ residual).reshape(windows.shape)
    error = np.square(residual @ memory.residual_whitening)
    return rebuilt / memory.channel_weights, error.reshape(windows.shape)

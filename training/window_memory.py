"""What a memory autoencoder of a series remembers: typical windows, or typical steps.

A window is rebuilt whole from the remembered ones that it resembles, or step by step from remembered steps.
What differs is whitened over time and over the channels apart, with as few constants as the shortest of
series can settle. Nothing here knows Keras; `training.window_attention` makes the network of it.

References
----------
Gong, Liu, Le, Saha, Mansour, Venkatesh, van den Hengel (2019). Memorizing normality to detect anomaly:
memory-augmented deep autoencoder for unsupervised anomaly detection. ICCV.
"""

import dataclasses

import numpy as np

from training.memory import LEAST_RESIDUAL, attention_width, find_prototypes, normal_residuals, recall

COVARIANCE_SHARE = 0.7
DRIFT_BLOCKS = 8  # of the training part, whose means are held against each other


@dataclasses.dataclass(frozen=True)
class WindowMemory:
    """All constants of a memory autoencoder of windows.

    Attributes
    ----------
    channel_weights : ndarray of shape (n_channels,), float32
        What scaled values are multiplied by.
    prototypes : ndarray of shape (n_prototypes, span * n_channels), float32
        Weighted; `span` is a window, or 1 where single steps are remembered.
    neighbours : int
        How many prototypes a window, or a step, attends to.
    width : float
        Standard deviation of the Gaussian whose values are the weights of the attention.
    time_basis : ndarray of shape (span, span), float32
    channel_basis : ndarray of shape (n_channels, n_channels), float32
        Orthogonal: the principal axes, as columns, of what differs over time and over the channels.
    gains : ndarray of shape (span, n_channels), float32
        What is multiplied by along these axes; the mean square of a normal residual is 1 then.
    """

    channel_weights: np.ndarray
    prototypes: np.ndarray
    neighbours: int
    width: float
    time_basis: np.ndarray
    channel_basis: np.ndarray
    gains: np.ndarray

    @property
    def span(self) -> int:
        """How many steps are looked up at once."""
        return len(self.time_basis)


def fit_window_memory(
    windows: np.ndarray,
    n_prototypes: int,
    neighbours: int,
    seed: int,
    least_rows: int = 1,
    by_step: bool = False,
    drift_discount: float = 0.0,
) -> WindowMemory:
    """Take weights, prototypes, width and whitening from normal windows.

    Parameters
    ----------
    windows : ndarray of shape (n_windows, window, n_channels), float32
        Scaled, in order of time; at least two.
    n_prototypes : int
        At most so many; all windows where they are no more.
    neighbours : int
    seed : int
        Of the prototypes' start, and of the windows that the whitening is taken from.
    least_rows : int
        Each prototype is the mean of at least so many windows, or steps.
    by_step : bool
        Remember steps, each looked up by itself.
    drift_discount : float
        See `channel_weights`.
    """
    n_channels = windows.shape[2]
    span = 1 if by_step else windows.shape[1]
    weights = channel_weights(windows, drift_discount)
    points = np.unique((windows * weights).reshape(-1, span * n_channels), axis=0)
    # A spike of a stream comes again; a window with one has it at another place.
    prototypes = find_prototypes(points, n_prototypes, seed, least_rows, keep_odd=by_step)
    neighbours = min(neighbours, len(prototypes))
    width = attention_width(prototypes)
    residuals = normal_residuals(points, prototypes, neighbours, width, seed)
    bases = _whiten(residuals.reshape(-1, span, n_channels))
    return WindowMemory(weights, prototypes, neighbours, width, *bases)


def channel_weights(windows: np.ndarray, drift_discount: float) -> np.ndarray:
    """What the channels count, shape (n_channels,), float32.

    A channel of two values counts by its range: one that is rarely switched would weigh many times as much
    as one that is switched every other step. One whose level drifts through the training part drifts on
    behind it: it counts 1 / (1 + `drift_discount` * drift), where drift is the share of its variance that
    lies between the means of eight blocks, less what blocks of independent steps have.
    """
    low, high = windows.min(axis=(0, 1)), windows.max(axis=(0, 1))
    is_switch = ((windows == low) | (windows == high)).all(axis=(0, 1)) & (high > low)
    weights = 1 / np.where(is_switch, high - low, 1)
    return (weights / (1 + drift_discount * _drift(windows[:, -1]))).astype(np.float32)


def _drift(steps: np.ndarray) -> np.ndarray:
    """Share of the variance that is between blocks, 0 to 1, shape (n_channels,); 0 of too few steps."""
    size = len(steps) // DRIFT_BLOCKS
    if size < 2:
        return np.zeros(steps.shape[1])
    blocks = steps[: DRIFT_BLOCKS * size].astype(np.float64).reshape(DRIFT_BLOCKS, size, -1)
    between = blocks.mean(axis=1).var(axis=0)
    by_chance = blocks.var(axis=1).mean(axis=0) / size
    total = np.maximum(blocks.var(axis=(0, 1)), np.finfo(np.float32).tiny)
    return np.clip((between - by_chance) / total, 0, 1)


def _whiten(residuals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bases and gains of the inverse root of their covariance, shrunk towards the unit matrix.

    The covariance is taken as the product of one over time and one over the channels.
    """
    over_time = np.einsum("nsc,ntc->st", residuals, residuals, dtype=np.float64, optimize=True)
    over_channels = np.einsum("nsc,nsd->cd", residuals, residuals, dtype=np.float64, optimize=True)
    (time_variances, time_basis), (channel_variances, channel_basis) = (
        np.linalg.eigh(covariance * len(covariance) / max(np.trace(covariance), np.finfo(np.float32).tiny))
        for covariance in (over_time, over_channels)
    )
    variances = np.maximum(time_variances, 0)[:, np.newaxis] * np.maximum(channel_variances, 0)
    gains = 1 / np.sqrt(COVARIANCE_SHARE * variances + 1 - COVARIANCE_SHARE)
    rotated = np.einsum("nsc,st->ntc", residuals, time_basis, optimize=True) @ channel_basis
    unit = max(float(np.square(rotated * gains).mean()), LEAST_RESIDUAL**2)
    return tuple(array.astype(np.float32) for array in (time_basis, channel_basis, gains / np.sqrt(unit)))


def rebuild_windows(windows: np.ndarray, memory: WindowMemory) -> tuple[np.ndarray, np.ndarray]:
    """Reconstruction, scaled, and feature error of scaled windows, both of their shape."""
    points = (
        (windows * memory.channel_weights).reshape(len(windows), -1).reshape(-1, memory.prototypes.shape[1])
    )
    recalled = recall(points, memory.prototypes, memory.neighbours, memory.width)
    residual = (points - recalled).reshape(len(points), memory.span, -1)
    along_axes = memory.time_basis.T @ residual @ memory.channel_basis * memory.gains
    whitened = memory.time_basis @ along_axes @ memory.channel_basis.T
    rebuilt = recalled.reshape(windows.shape) / memory.channel_weights
    return rebuilt, np.square(whitened).reshape(windows.shape)

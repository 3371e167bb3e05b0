"""Inverse roots of covariances that are shrunk towards the unit matrix.

Whitened residuals have a covariance near the unit matrix. Shrinking keeps directions that a few samples
hardly show from counting for too much.
"""

import numpy as np


def shrunk_axes(covariance: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Variances along the principal axes of a shrunk covariance, and these axes.

    Parameters
    ----------
    covariance : ndarray of shape (size, size), float64
        Symmetric; only its shape matters, since it is divided by its mean variance.
    share : float
        Weight of the covariance, in [0, 1]; the rest is the weight of the unit matrix.

    Returns
    -------
    tuple of ndarray of shape (size,) and (size, size), float64
        The variances ascending, each axis a column.
    """
    size = len(covariance)
    scale = max(np.trace(covariance) / size, np.finfo(np.float32).tiny)
    return np.linalg.eigh(share * covariance / scale + (1 - share) * np.eye(size))


def inverse_root(covariance: np.ndarray, share: float) -> np.ndarray:
    """The symmetric inverse root of a shrunk covariance; parameters as for `shrunk_axes`."""
    values, vectors = shrunk_axes(covariance, share)
    return (vectors / np.sqrt(values)) @ vectors.T

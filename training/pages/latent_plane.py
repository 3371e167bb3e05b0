"""Pure: latent vectors on a plane, the convex hulls of their groups, points inside hulls and far from all."""

import dataclasses

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from sklearn.decomposition import PCA

MOST_GROUPS = 10
MOST_FITTED = 2000  # vectors of a plane: a spatial latent may have thousands of values
CORNERS = 3  # a mixture of more vectors crowds round the mean of its group
FAR = 3.0  # times the distance of the farthest vector from the mean


@dataclasses.dataclass(frozen=True)
class Plane:
    """Two axes through the latent space.

    Attributes
    ----------
    mean : ndarray of shape (latent_dim,)
    axes : ndarray of shape (latent_dim, 2)
        The latent's own axes where it has one or two, else the two main ones.
    shares : tuple of float, or None
        Of the variance, along each main axis.
    """

    mean: np.ndarray
    axes: np.ndarray
    shares: tuple[float, ...] | None

    def project(self, latent: np.ndarray) -> np.ndarray:
        """Vectors of shape (n, latent_dim) -> points of shape (n, 2)."""
        return latent @ self.axes.astype(latent.dtype) - self.mean @ self.axes

    @property
    def names(self) -> tuple[str, str]:
        """What to write at the axes."""
        if self.shares is None:
            return "latent 0", "latent 1" if len(self.mean) > 1 else ""
        words = [f" ({share:.0%} of the variance)" for share in self.shares]
        return f"first main axis{words[0]}", f"second{words[1]}"


def fit_plane(latent: np.ndarray) -> Plane:
    """The plane that shows most of the vectors' variance.

    Parameters
    ----------
    latent : ndarray of shape (n_samples, latent_dim)
    """
    n_samples, size = latent.shape
    if size <= 2 or n_samples < 2:
        return Plane(np.zeros(size), np.eye(size, 2), None)
    rows = np.unique(np.linspace(0, n_samples - 1, MOST_FITTED).astype(int))
    latent = latent[rows].astype(np.float64)
    if not np.ptp(latent, axis=0).any():
        return Plane(latent[0], np.eye(size, 2), None)
    pca = PCA(2, random_state=0).fit(latent)
    return Plane(pca.mean_, pca.components_.T, tuple(pca.explained_variance_ratio_.tolist()))


def group_samples(labels: np.ndarray | None, is_anomaly: np.ndarray | None) -> dict[str, np.ndarray]:
    """The samples by label where the labels are few, else by normal and anomalous, else all of them.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,), str, or None
    is_anomaly : ndarray of shape (n_samples,), bool, or None

    Returns
    -------
    dict of str to ndarray of shape (n_samples,), bool
        Groups that have members, by label or by word.
    """
    names = [] if labels is None else sorted(set(labels), key=_number_first)
    if 2 <= len(names) <= MOST_GROUPS:
        return {str(name): labels == name for name in names}
    if is_anomaly is None:
        return {}
    groups = {"normal": ~is_anomaly, "anomaly": is_anomaly}
    return {name: members for name, members in groups.items() if members.any()}


def hull_corners(points: np.ndarray) -> np.ndarray | None:
    """Corners of the convex hull, shape (n_corners, 2), in order round it; None where it has no area."""
    try:
        return points[ConvexHull(points).vertices]
    except (QhullError, ValueError):  # fewer than three points, or all on one line
        return None


def hull_area(corners: np.ndarray | None) -> float:
    """Area of a polygon by its corners in order."""
    if corners is None:
        return 0.0
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T
    return float(abs(x @ next_y - y @ next_x) / 2)


def draw_inside(latent: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points inside the convex hull of the vectors: random mixtures of three of them.

    Parameters
    ----------
    latent : ndarray of shape (n_samples, latent_dim)
    count : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (count, latent_dim)
    """
    corners = latent[rng.integers(len(latent), size=(count, CORNERS))]  # (count, CORNERS, latent_dim)
    weights = rng.dirichlet(np.ones(CORNERS), size=count)
    return np.einsum("nc,ncd->nd", weights, corners.astype(np.float64))


def draw_far(latent: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points outside of every hull: on a sphere round the mean, three times as wide as all vectors reach.

    Parameters and the returned array are those of `draw_inside`.
    """
    mean = latent.mean(axis=0, dtype=np.float64)
    reach = np.linalg.norm(latent - mean, axis=1).max()
    directions = rng.normal(size=(count, latent.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return mean + FAR * max(reach, 1.0) * directions


def _number_first(label: str) -> tuple[bool, float, str]:
    """10 after 9, and words after numbers."""
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label

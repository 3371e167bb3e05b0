"""Project latent vectors to a plane, with hulls of groups; draw points inside hulls and far from all."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial import ConvexHull, QhullError
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from training.data.dataset import spread

MOST_GROUPS = 10
MOST_FITTED = 2000  # vectors that a plane is fitted to: a spatial latent may have thousands of values
MOST_COMPONENTS = 32  # of it that axes are chosen in: with as many axes as vectors any groups would differ
CORNERS = 3  # mixtures of more vectors are all near the mean of their group
FAR = 3.0  # times the distance of the farthest vector from the mean


@dataclasses.dataclass(frozen=True)
class Plane:
    """Two axes through the latent space.

    Attributes
    ----------
    mean : ndarray of shape (latent_dim,)
    axes : ndarray of shape (latent_dim, 2)
    names : tuple of two str
        Labels of the axes.
    shares : tuple of float, or None
        Share of the variance along each axis, of main axes.
    """

    mean: np.ndarray
    axes: np.ndarray
    names: tuple[str, str]
    shares: tuple[float, ...] | None = None

    def project(self, latent: np.ndarray) -> np.ndarray:
        """Project vectors of shape (n, latent_dim) to points of shape (n, 2)."""
        return latent @ self.axes.astype(latent.dtype) - self.mean @ self.axes


def fit_plane(latent: np.ndarray, groups: Mapping[str, np.ndarray] | None = None) -> Plane:
    """Choose a plane for vectors: the latent's own axes, if it has one or two, else by groups or variance.

    Parameters
    ----------
    latent : ndarray of shape (n_samples, latent_dim)
    groups : mapping of name to ndarray of shape (n_samples,), bool, optional
        Two or more are drawn along the axes in which they differ most (linear discriminant analysis);
        otherwise the plane shows most of the variance.
    """
    n_samples, size = latent.shape
    own = ("latent 0", "latent 1" if size > 1 else "")
    if size <= 2 or n_samples < 2:
        return Plane(np.zeros(size), np.eye(size, 2), own)
    rows = spread(n_samples, MOST_FITTED)
    latent = latent[rows].astype(np.float64)
    if not np.ptp(latent, axis=0).any():
        return Plane(latent[0], np.eye(size, 2), own)
    axes = _discriminant_axes(latent, [members[rows] for members in (groups or {}).values()])
    if axes is not None:
        second = "second" if len(groups or {}) > 2 else "main axis of the rest"
        return Plane(latent.mean(axis=0), axes, ("first axis in which the groups differ", second))
    pca = PCA(2, random_state=0).fit(latent)
    shares = tuple(pca.explained_variance_ratio_.tolist())
    names = (
        f"first main axis ({shares[0]:.0%} of the variance)",
        f"second ({shares[1]:.0%} of the variance)",
    )
    return Plane(pca.mean_, pca.components_.T, names, shares)


def _discriminant_axes(latent: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the axes that separate groups best, shape (latent_dim, 2), or None if nothing tells them apart.

    Within groups the vectors have unit variance along the axes. Two groups differ along one axis: the second
    is then the main axis of what is left.
    """
    groups = [members for members in groups if members.any()]
    if len(groups) < 2:
        return None
    pca = PCA(min(MOST_COMPONENTS, *latent.shape), random_state=0).fit(latent)
    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    code = np.select(groups, np.arange(len(groups)), default=-1)
    try:
        lda.fit(pca.transform(latent)[code >= 0], code[code >= 0])
    except (np.linalg.LinAlgError, ValueError):  # a vector for each group, or equal vectors in each
        return None
    axes = pca.components_.T @ lda.scalings_[:, : len(groups) - 1][:, :2]
    if axes.shape[1] == 2:
        return axes
    direction = axes / np.linalg.norm(axes)
    rest = latent - latent @ direction @ direction.T
    return np.hstack([axes, PCA(1, random_state=0).fit(rest).components_.T])


def group_samples(labels: np.ndarray | None, is_anomaly: np.ndarray | None) -> dict[str, np.ndarray]:
    """Group samples by label if the labels are few, else into `normal` and `anomaly`.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,), str, or None
    is_anomaly : ndarray of shape (n_samples,), bool, or None

    Returns
    -------
    dict of str to ndarray of shape (n_samples,), bool
        Groups that have members; none if both arguments are None.
    """
    names = [] if labels is None else sorted(set(labels), key=_number_first)
    if 2 <= len(names) <= MOST_GROUPS:
        return {str(name): labels == name for name in names}
    if is_anomaly is None:
        return {}
    groups = {"normal": ~is_anomaly, "anomaly": is_anomaly}
    return {name: members for name, members in groups.items() if members.any()}


def hull_corners(points: np.ndarray) -> np.ndarray | None:
    """Return the corners of the convex hull in order, shape (n_corners, 2); None if it has no area."""
    try:
        return points[ConvexHull(points).vertices]
    except (QhullError, ValueError):  # fewer than three points, or all on one line
        return None


def hull_area(corners: np.ndarray | None) -> float:
    """Compute the area of a polygon from its corners in order."""
    if corners is None:
        return 0.0
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T
    return float(abs(x @ next_y - y @ next_x) / 2)


def draw_inside(latent: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points inside the convex hull of vectors: random mixtures of three of them.

    `latent` has shape (n_samples, latent_dim), the result (count, latent_dim).
    """
    corners = latent[rng.integers(len(latent), size=(count, CORNERS))]  # (count, CORNERS, latent_dim)
    weights = rng.dirichlet(np.ones(CORNERS), size=count)
    return np.einsum("nc,ncd->nd", weights, corners.astype(np.float64))


def draw_far(latent: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points outside of every hull: at three times the distance of the farthest vector from the mean.

    Shapes are as for `draw_inside`.
    """
    mean = latent.mean(axis=0, dtype=np.float64)
    reach = np.linalg.norm(latent - mean, axis=1).max()
    directions = rng.normal(size=(count, latent.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return mean + FAR * max(reach, 1.0) * directions


def _number_first(label: str) -> tuple[bool, float, str]:
    """Sort 10 after 9, and words after numbers."""
    try:
        return False, float(label), label
    except ValueError:
        return True, 0.0, label

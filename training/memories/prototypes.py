"""Choose prototypes among normal samples, and attend to the nearest of them."""

import numpy as np
from sklearn.cluster import MiniBatchKMeans

ODD_ROWS, ODD_DISTANCE = 2, 6.0
MOST_ODD = 0.1  # of the prototypes: where rows repeat, most lie far beyond the median distance of 0
WIDTH_NEIGHBOUR, WIDTH_SHARE, LEAST_WIDTH = 3, 0.5, 0.05

# The covariance weighs 0.8 n / (n + 100) for n samples, the unit matrix the rest.
COVARIANCE_ROWS, COVARIANCE_SHARE, UNIT_SAMPLES = 4000, 0.8, 100
LEAST_WEIGHT = 1e-6

# Rows of flags are equally far from hundreds of prototypes: rounding would decide which ones are nearest.
TIE_BREAK = 0.01
LEAST_RESIDUAL = 1e-2  # of a scaled column; smaller residuals count as this

# Smaller batches or more passes give the same figures.
KMEANS_BATCH, KMEANS_PASSES, MOST_KMEANS_POINTS = 1024, 10, 500_000
BLOCK_VALUES = 2**24  # most values in one array of a search for neighbours


def find_prototypes(
    points: np.ndarray, n_prototypes: int, seed: int, least_rows: int, keep_odd: bool = False
) -> np.ndarray:
    """Find prototypes by k-means, or take all points if they are few enough; leave out odd ones.

    Parameters
    ----------
    points : ndarray of shape (n, size), float32
    n_prototypes, seed, least_rows
        As for `fit_memory`.
    keep_odd : bool
        Keep prototypes of one or two samples far from all others, too.

    Returns
    -------
    ndarray of shape (n_prototypes, size), float32
        At most `n_prototypes` of them.
    """
    prototypes, counts = _cluster(points, n_prototypes, seed, least_rows)
    if keep_odd or len(prototypes) < 4:
        return prototypes
    _, squares = nearest_prototypes(prototypes, prototypes, 1, leave_out=np.arange(len(prototypes)))
    distances = np.sqrt(squares[:, 0])
    # One or two samples far from all others would explain every anomaly like them.
    is_odd = (counts <= ODD_ROWS) & (distances > ODD_DISTANCE * np.median(distances))
    return prototypes if is_odd.mean() > MOST_ODD else prototypes[~is_odd]


def _cluster(
    points: np.ndarray, n_prototypes: int, seed: int, least_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and the number of points of each."""
    n_prototypes = min(n_prototypes, len(points) // least_rows)
    if len(points) <= n_prototypes:
        return points, np.ones(len(points), dtype=np.int64)
    kmeans = MiniBatchKMeans(
        n_prototypes,
        init="random",
        n_init=1,
        batch_size=KMEANS_BATCH,
        max_iter=max(1, min(KMEANS_PASSES, MOST_KMEANS_POINTS // len(points))),
        max_no_improvement=None,
        compute_labels=False,
        random_state=seed,
    ).fit(points)
    centres = kmeans.cluster_centers_.astype(np.float32)
    nearest, _ = nearest_prototypes(points, centres, 1)
    counts = np.bincount(nearest[:, 0], minlength=len(centres))
    if least_rows > 1:
        # The fit starts centres at points, some of them late, and may not move them.
        sums = np.zeros((counts.size, points.shape[1]))
        np.add.at(sums, nearest[:, 0], points)
        centres = (sums / np.maximum(counts, 1)[:, np.newaxis]).astype(np.float32)
    kept = counts >= least_rows
    return centres[kept], counts[kept]


def attention_width(prototypes: np.ndarray) -> float:
    """Width of the attention: a share of the median distance of a prototype to its third neighbour."""
    if len(prototypes) < 2:
        return LEAST_WIDTH
    neighbour = min(WIDTH_NEIGHBOUR, len(prototypes) - 1)
    _, squares = nearest_prototypes(prototypes, prototypes, neighbour, leave_out=np.arange(len(prototypes)))
    return max(LEAST_WIDTH, WIDTH_SHARE * float(np.median(np.sqrt(squares[:, -1]))))


def normal_residuals(
    points: np.ndarray, prototypes: np.ndarray, neighbours: int, width: float, seed: int
) -> np.ndarray:
    """Residuals of normal points; a point that is a prototype is rebuilt without itself."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(points))[:COVARIANCE_ROWS]
    queries = points[chosen]
    if len(prototypes) == 1:
        return queries - prototypes
    nearest, squares = nearest_prototypes(queries, prototypes, 1)
    is_own = squares[:, 0] == 0
    leave_out = np.where(is_own, nearest[:, 0], -1)
    return queries - recall(queries, prototypes, min(neighbours, len(prototypes) - 1), width, leave_out)


def recall(
    points: np.ndarray,
    prototypes: np.ndarray,
    neighbours: int,
    width: float,
    leave_out: np.ndarray | None = None,
) -> np.ndarray:
    """Rebuild each point as the weighted mean of its nearest prototypes.

    Parameters
    ----------
    points : ndarray of shape (n, size), float32
    prototypes : ndarray of shape (n_prototypes, size), float32
    neighbours : int
    width : float
    leave_out : ndarray of shape (n,), int, optional
        Prototype that each point must not attend to; -1 for none.

    Returns
    -------
    ndarray of shape (n, size), float32
    """
    handicaps = tie_breaks(len(prototypes), width)
    nearest, squares = nearest_prototypes(points, prototypes, neighbours, leave_out, handicaps)
    weights = np.exp((squares.min(axis=1, keepdims=True) - squares) / (2 * width**2))
    # The weight of the last neighbour is almost 0, so that a tie for its place does not matter.
    weights = weights - weights.min(axis=1, keepdims=True) + LEAST_WEIGHT
    weights /= weights.sum(axis=1, keepdims=True)
    recalled = np.empty_like(points)
    for rows in _blocks(len(points), neighbours * points.shape[1]):
        recalled[rows] = (weights[rows, None, :] @ prototypes[nearest[rows]])[:, 0]
    return recalled


def tie_breaks(n_prototypes: int, width: float) -> np.ndarray:
    """Handicaps to add to the squared distances: all different, each changing a weight by at most 1 %.

    The golden ratio spreads them, so that consecutive prototypes have very different ones.
    """
    shares = np.arange(n_prototypes) * ((np.sqrt(5) - 1) / 2) % 1
    return (TIE_BREAK * 2 * width**2 * shares).astype(np.float32)


def nearest_prototypes(
    points: np.ndarray,
    prototypes: np.ndarray,
    count: int,
    leave_out: np.ndarray | None = None,
    handicaps: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest prototypes of each point, nearest first.

    Returns
    -------
    tuple of ndarray of shape (n, count)
        Positions, int; and squared distances plus handicaps, float32. These are computed from differences,
        since products cancel for near neighbours.
    """
    if handicaps is None:
        handicaps = np.zeros(len(prototypes), dtype=np.float32)
    halves = np.square(prototypes.astype(np.float64)).sum(axis=1).astype(np.float32) / 2 + handicaps / 2
    positions = np.empty((len(points), count), dtype=np.int64)
    squares = np.empty((len(points), count), dtype=np.float32)
    for rows in _blocks(len(points), max(len(prototypes), count * points.shape[1])):
        block = points[rows]
        far = halves - block @ prototypes.T
        if leave_out is not None:
            without = leave_out[rows]
            far[np.flatnonzero(without >= 0), without[without >= 0]] = np.inf
        found = np.argpartition(far, count - 1, axis=1)[:, :count]
        exact = np.square(block[:, None, :] - prototypes[found]).sum(axis=2) + handicaps[found]
        order = np.argsort(exact, axis=1, kind="stable")
        positions[rows] = np.take_along_axis(found, order, axis=1)
        squares[rows] = np.take_along_axis(exact, order, axis=1)
    return positions, squares


def _blocks(n_rows: int, values_of_row: int) -> list[slice]:
    """Cut rows into blocks whose arrays have at most `BLOCK_VALUES` values."""
    size = max(1, BLOCK_VALUES // values_of_row)
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]

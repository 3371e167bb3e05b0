"""What a memory autoencoder remembers: prototypes of normal samples, and how far samples lie from them.

A sample is encoded as attention over its nearest prototypes and decoded as their weighted mean; what differs
is whitened by what differs in normal samples. Nothing here knows Keras; `rows_keras` makes the
network of it.

References
----------
Gong, Liu, Le, Saha, Mansour, Venkatesh, van den Hengel (2019). Memorizing normality to detect anomaly:
memory-augmented deep autoencoder for unsupervised anomaly detection. ICCV.
"""

import dataclasses
import warnings

import numpy as np
from scipy.stats import kurtosis, norm, rankdata
from sklearn.cluster import MiniBatchKMeans

HEAVY_KURTOSIS = 5.0  # excess; a column above it has tails that hide its middle
FEW_VALUES = 10  # a column of so many values has no tail, and steps that may be rare
N_KNOTS, LEAST_KNOT_GAP = 64, 1e-3
ODD_ROWS, ODD_DISTANCE = 2, 6.0
MOST_ODD = 0.1  # of the prototypes: where rows repeat, most lie far beyond the median distance of 0
WIDTH_NEIGHBOUR, WIDTH_SHARE, LEAST_WIDTH = 3, 0.5, 0.05
# The covariance has the say of all samples but a fifth, the unit matrix that and the say of 100 samples.
COVARIANCE_ROWS, COVARIANCE_SHARE, UNIT_SAMPLES = 4000, 0.8, 100
LEAST_WEIGHT = 1e-6
# Rows of flags lie equally far from hundreds of prototypes: which ones are the nearest would be rounding.
TIE_BREAK = 0.01
LEAST_RESIDUAL = 1e-2  # of a scaled column: what is rebuilt better counts as rebuilt so well
# Smaller batches and more passes measure the same.
KMEANS_BATCH, KMEANS_PASSES, MOST_KMEANS_POINTS = 1024, 10, 500_000
BLOCK_VALUES = 2**24  # of the largest array that a search for neighbours makes


@dataclasses.dataclass(frozen=True)
class Features:
    """Scaled columns -> the space of the prototypes: a heavy column enters twice, as it is and by rank.

    A column of few values is divided by half its range where that is more than its deviation: a flag that is
    rarely set would otherwise weigh many times as much as one that is set every other time.

    The copy is piecewise linear: the rank of the value among the training rows as a Gaussian quantile between
    the knots, a line beyond them. Both are divided by the root of 2, so that they count as one column.

    Attributes
    ----------
    weights : ndarray of shape (n_columns,), float32
        Of the columns as they are.
    heavy : ndarray of shape (n_heavy,), int
        Columns that enter a second time.
    knots : ndarray of shape (n_heavy, N_KNOTS), float32
        Ascending, the largest float32 where there are fewer. As many knots as lie below a value, so many
        pieces lie below its own.
    anchors, levels, slopes : ndarray of shape (n_heavy, N_KNOTS + 1), float32
        Of the pieces: `copy = level + slope * (value - anchor)`.
    """

    weights: np.ndarray
    heavy: np.ndarray
    knots: np.ndarray
    anchors: np.ndarray
    levels: np.ndarray
    slopes: np.ndarray

    @property
    def size(self) -> int:
        """How many values a sample has in the space of the prototypes."""
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
        How many prototypes a sample attends to.
    width : float
        Standard deviation of the Gaussian whose values are the weights of the attention.
    whitening : ndarray of shape (features.size, features.size), float32
        Symmetric; a normal residual times it has a covariance near the unit matrix, and a square that is
        `n_columns` on average.
    """

    features: Features
    prototypes: np.ndarray
    neighbours: int
    width: float
    whitening: np.ndarray


def fit_memory(
    samples: np.ndarray, n_prototypes: int, neighbours: int, seed: int, least_rows: int = 1
) -> Memory:
    """Take prototypes, width and whitening from normal samples.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, n_columns), float32
        Scaled; at least two.
    n_prototypes : int
        At most so many; all samples where they are no more.
    neighbours : int
    seed : int
        Of the prototypes' start, and of the samples that the whitening is taken from.
    least_rows : int
        Each prototype is the mean of at least so many samples.
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
    """Find the columns of few values, and of the others the heavy ones: kurtosis above `HEAVY_KURTOSIS`.

    A knot of a heavy column is a value of it, or the mean of at least `least_rows` neighbouring ones.
    """
    n_values = np.array([np.unique(column).size for column in samples.T])
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns that are all but constant have no tails
        tails = np.nan_to_num(kurtosis(samples.astype(np.float64), axis=0))
    heavy = np.flatnonzero((tails > HEAVY_KURTOSIS) & (n_values > FEW_VALUES))
    weights = np.ones(samples.shape[1], dtype=np.float32)
    few = n_values <= FEW_VALUES
    weights[few] = 1 / np.maximum(1, np.ptp(samples[:, few], axis=0) / 2)
    weights[heavy] = np.sqrt(0.5)
    knots = np.full((heavy.size, N_KNOTS), np.finfo(np.float32).max, dtype=np.float32)
    pieces = np.zeros((3, heavy.size, N_KNOTS + 1), dtype=np.float32)
    for place, column in enumerate(heavy):
        own_knots, own_pieces = _fit_copy(_grouped(samples[:, column].astype(np.float64), least_rows))
        knots[place, : own_knots.size] = own_knots
        pieces[:, place, : own_knots.size + 1] = own_pieces
    return Features(weights, heavy, knots, *pieces)


def _grouped(values: np.ndarray, size: int) -> np.ndarray:
    """Ascending, each value the mean of a group of at least so many."""
    groups = np.minimum(np.arange(values.size) // size, max(values.size // size - 1, 0))
    return (np.bincount(groups, np.sort(values)) / np.bincount(groups))[groups]


def _fit_copy(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots of one heavy column's copy; and anchors, levels and slopes of its pieces, one more than knots."""
    knots, levels = _rank_knots(values)
    curve = np.interp(values, knots, levels)
    # Many ties leave the ranks a small deviation, and rare values would count too much by it.
    unit = np.sqrt(0.5) / max(curve.std(), 1)
    slopes = np.concatenate([[1], np.diff(levels) / np.diff(knots), [1]]) * unit
    first_too = np.concatenate([[0], np.arange(knots.size)])
    return knots, np.stack([knots[first_too], (levels[first_too] - curve.mean()) * unit, slopes])


def _rank_knots(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values that are spread evenly over the Gaussian quantiles of their ranks, and these quantiles."""
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


def find_prototypes(
    points: np.ndarray, n_prototypes: int, seed: int, least_rows: int, keep_odd: bool = False
) -> np.ndarray:
    """Centres of k-means, or all points where they are few enough; without the odd ones.

    Parameters
    ----------
    points : ndarray of shape (n, size), float32
    n_prototypes, seed, least_rows
        As for `fit_memory`.
    keep_odd : bool
        Prototypes of one or two samples far from all others stay, too.

    Returns
    -------
    ndarray of shape (n_prototypes, size), float32
        At most so many.
    """
    prototypes, counts = _cluster(points, n_prototypes, seed, least_rows)
    return prototypes if keep_odd else prototypes[~_is_odd(prototypes, counts)]


def _cluster(
    points: np.ndarray, n_prototypes: int, seed: int, least_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and the number of their points."""
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
        # The fit starts centres from points, late ones too, and need not move them.
        centres = _means(points, nearest[:, 0], counts)
    kept = counts >= least_rows
    return centres[kept], counts[kept]


def _means(points: np.ndarray, owners: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The mean of each owner's points, float32; 0 where it has none."""
    sums = np.zeros((counts.size, points.shape[1]))
    np.add.at(sums, owners, points)
    return (sums / np.maximum(counts, 1)[:, np.newaxis]).astype(np.float32)


def _is_odd(prototypes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Prototypes of one or two samples far from all others: each would explain every anomaly like it.

    None where more than a tenth would be odd: what is so common is ordinary.
    """
    if len(prototypes) < 4:
        return np.zeros(len(prototypes), dtype=bool)
    _, squares = nearest_prototypes(prototypes, prototypes, 1, leave_out=np.arange(len(prototypes)))
    distances = np.sqrt(squares[:, 0])
    is_odd = (counts <= ODD_ROWS) & (distances > ODD_DISTANCE * np.median(distances))
    return is_odd & (is_odd.mean() <= MOST_ODD)


def attention_width(prototypes: np.ndarray) -> float:
    """A share of the usual distance of a prototype to its third neighbour."""
    if len(prototypes) < 2:
        return LEAST_WIDTH
    neighbour = min(WIDTH_NEIGHBOUR, len(prototypes) - 1)
    _, squares = nearest_prototypes(prototypes, prototypes, neighbour, leave_out=np.arange(len(prototypes)))
    return max(LEAST_WIDTH, WIDTH_SHARE * float(np.median(np.sqrt(squares[:, -1]))))


def normal_residuals(
    points: np.ndarray, prototypes: np.ndarray, neighbours: int, width: float, seed: int
) -> np.ndarray:
    """What the memory leaves of normal points; a prototype that is one of them is left out for it."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(points))[:COVARIANCE_ROWS]
    queries = points[chosen]
    if len(prototypes) == 1:
        return queries - prototypes
    nearest, squares = nearest_prototypes(queries, prototypes, 1)
    is_own = squares[:, 0] == 0
    leave_out = np.where(is_own, nearest[:, 0], -1)
    return queries - recall(queries, prototypes, min(neighbours, len(prototypes) - 1), width, leave_out)


def _whiten(residuals: np.ndarray, n_columns: int, share: float) -> np.ndarray:
    """The inverse root of the residuals' covariance, shrunk towards the unit matrix."""
    covariance = residuals.T.astype(np.float64) @ residuals / len(residuals)
    size = len(covariance)
    scale = max(np.trace(covariance) / size, np.finfo(np.float32).tiny)
    shrunk = share * covariance / scale + (1 - share) * np.eye(size)
    values, vectors = np.linalg.eigh(shrunk)
    whitening = (vectors / np.sqrt(values)) @ vectors.T
    unit = max(np.square(residuals @ whitening).sum(axis=1).mean(), LEAST_RESIDUAL**2 * n_columns)
    return (whitening * np.sqrt(n_columns / unit)).astype(np.float32)


def recall(
    points: np.ndarray,
    prototypes: np.ndarray,
    neighbours: int,
    width: float,
    leave_out: np.ndarray | None = None,
) -> np.ndarray:
    """The weighted mean of each point's nearest prototypes.

    Parameters
    ----------
    points : ndarray of shape (n, size), float32
    prototypes : ndarray of shape (n_prototypes, size), float32
    neighbours : int
    width : float
    leave_out : ndarray of shape (n,), int, optional
        A prototype that a point may not attend to; -1 for none.

    Returns
    -------
    ndarray of shape (n, size), float32
    """
    handicaps = tie_breaks(len(prototypes), width)
    nearest, squares = nearest_prototypes(points, prototypes, neighbours, leave_out, handicaps)
    weights = np.exp((squares.min(axis=1, keepdims=True) - squares) / (2 * width**2))
    # The last one's weight goes to nothing, so that a tie at the edge does not matter.
    weights = weights - weights.min(axis=1, keepdims=True) + LEAST_WEIGHT
    weights /= weights.sum(axis=1, keepdims=True)
    recalled = np.empty_like(points)
    for rows in _blocks(len(points), neighbours * points.shape[1]):
        recalled[rows] = (weights[rows, None, :] @ prototypes[nearest[rows]])[:, 0]
    return recalled


def tie_breaks(n_prototypes: int, width: float) -> np.ndarray:
    """What is added to the squared distances of each prototype: at most a weight of 1 %, and no two alike.

    Spread by the golden ratio, so that neighbours in order are not neighbours in size.
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
    """The nearest prototypes of each point, nearest first.

    Returns
    -------
    tuple of ndarray of shape (n, count)
        Positions, int; and squared distances, float32, from differences: products cancel for neighbours.
        Where there are handicaps they are added to them.
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
    """Rows in blocks whose arrays stay small."""
    size = max(1, BLOCK_VALUES // values_of_row)
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]

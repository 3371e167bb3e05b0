"""Detectors to hold ours against: standardised rows in, fitted on normal ones, scores out.

Every one is what scikit-learn ships, with the settings of its published rows (PyOD's defaults, which the
tables of ADBench and DTE have), but for PyOD's autoencoder, which runs in an environment of its own.
"""

import dataclasses
import time
from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from benchmarks.environments import run_contender

PCA_SHARE = 0.95  # of the variance
DTE_NEIGHBOURS = 5
SVM_ROWS = 5000
Score = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Timed:
    """Anomaly scores of the test rows, float64, and the seconds that fitting and scoring took."""

    scores: np.ndarray
    fit_seconds: float
    score_seconds: float


def run_baseline(method: str, train: np.ndarray, test: np.ndarray, seed: int) -> Timed:
    """Standardise on the training rows, fit on them, score the test rows.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    train, test : ndarray of shape (n_samples, n_features)
        Raw; all training rows are normal.
    seed : int
        Of the methods that draw.
    """
    if method == PYOD_AUTOENCODER:
        return Timed(*run_contender(PYOD_CONTENDER, train, test, seed))
    start = time.perf_counter()
    scaler = StandardScaler().fit(train)
    score = BASELINES[method](scaler.transform(train), seed)
    fitted = time.perf_counter()
    scores = score(scaler.transform(test))
    return Timed(scores, fitted - start, time.perf_counter() - fitted)


def kth_neighbour(train: np.ndarray, k: int) -> Score:
    """Distance to the k-th nearest training row (Ramaswamy, Rastogi, Shim 2000)."""
    distances = _neighbour_distances(train, k)
    return lambda rows: distances(rows)[:, -1]


def dte_nonparametric(train: np.ndarray) -> Score:
    """Mean squared distance to the five nearest training rows.

    The diffusion time that the non-parametric estimate of DTE answers grows with it and with nothing else.

    References
    ----------
    Livernoche, Jain, Hezaveh, Ravanbakhsh (2024). On diffusion modeling for anomaly detection. ICLR.
    """
    distances = _neighbour_distances(train, DTE_NEIGHBOURS)
    return lambda rows: np.square(distances(rows)).mean(axis=1)


def local_outlier_factor(train: np.ndarray) -> Score:
    """Density of a row beside that of its 20 nearest training rows."""
    n_neighbors = min(20, len(train) - 1)
    factor = LocalOutlierFactor(n_neighbors=n_neighbors, novelty=True).fit(train)
    return lambda rows: -factor.score_samples(rows)


def one_class_svm(train: np.ndarray, seed: int) -> Score:
    """Radial basis functions of width 1 / n_features, half of the rows outside.

    Its cost grows with the square of the rows, so of more than 5,000 as many are drawn.
    """
    if len(train) > SVM_ROWS:
        train = train[np.random.RandomState(seed).choice(len(train), SVM_ROWS, replace=False)]
    machine = OneClassSVM(gamma="auto", nu=0.5).fit(train)
    return lambda rows: -machine.score_samples(rows)


def isolation_forest(train: np.ndarray, seed: int) -> Score:
    """A hundred trees."""
    forest = IsolationForest(random_state=seed).fit(train)
    return lambda rows: -forest.score_samples(rows)


def pca_residual(train: np.ndarray) -> Score:
    """Squared distance to the plane of the components with 95 % of the variance.

    Never all components: the distance to their plane is rounding.
    """
    pca = PCA(svd_solver="full").fit(train)
    enough = int(np.searchsorted(np.cumsum(pca.explained_variance_ratio_), PCA_SHARE)) + 1
    plane = pca.components_[: min(enough, train.shape[1] - 1)]

    def score(rows: np.ndarray) -> np.ndarray:
        centred = rows - pca.mean_
        return np.square(centred - (centred @ plane.T) @ plane).sum(axis=1)

    return score


def _neighbour_distances(train: np.ndarray, k: int) -> Score:
    """Ascending distances to the k nearest training rows, to all where there are fewer."""
    neighbours = NearestNeighbors(n_neighbors=min(k, len(train))).fit(train)
    return lambda rows: neighbours.kneighbors(rows)[0]


BASELINES: dict[str, Callable[[np.ndarray, int], Score]] = {
    "knn1": lambda train, seed: kth_neighbour(train, 1),
    "knn5": lambda train, seed: kth_neighbour(train, 5),
    "dte-np": lambda train, seed: dte_nonparametric(train),
    "lof": lambda train, seed: local_outlier_factor(train),
    "ocsvm": one_class_svm,
    "iforest": isolation_forest,
    "pca": lambda train, seed: pca_residual(train),
}
PYOD_AUTOENCODER, PYOD_CONTENDER = "pyod-autoencoder", "pyod_autoencoder"
METHODS = (*BASELINES, PYOD_AUTOENCODER)

"""Other detectors: fitted on standardised normal rows, they score standardised rows.

All but one come from scikit-learn, with the settings of their published figures: PyOD's defaults, as in the
tables of ADBench and DTE. PyOD's autoencoder runs in an environment of its own.
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
from benchmarks.errors import BenchmarkError

PCA_SHARE = 0.95  # of the variance that the components of PCA explain
DTE_NEIGHBOURS = 5
SVM_ROWS = 5000
Score = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Timed:
    """Anomaly scores of the test samples, and the seconds that fitting and scoring took.

    Attributes
    ----------
    scores : ndarray of shape (n_samples,), float64
    fit_seconds, score_seconds : float
    feature_errors : ndarray of shape (n_samples, *sample_shape), or None
        Errors of each feature, from methods that have them.
    """

    scores: np.ndarray
    fit_seconds: float
    score_seconds: float
    feature_errors: np.ndarray | None = None

    def seconds(self) -> dict[str, float]:
        """Return the seconds as members of a row."""
        return {"fit_seconds": round(self.fit_seconds, 3), "score_seconds": round(self.score_seconds, 3)}

    def checked(self, method: str) -> "Timed":
        """Return itself; raise BenchmarkError if a score is not finite."""
        not_finite = int((~np.isfinite(self.scores)).sum())
        if not_finite:
            raise BenchmarkError(f"{method} answers {not_finite} scores that are not finite")
        return self


def run_baseline(method: str, train: np.ndarray, test: np.ndarray, seed: int) -> Timed:
    """Standardise on the training rows, fit on them, score the test rows.

    Parameters
    ----------
    method : str
        One of `METHODS`.
    train, test : ndarray of shape (n_samples, n_features)
        Raw; all training rows are normal.
    seed : int
        Used by methods that draw random numbers.
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
    """Score by the distance to the k-th nearest training row (Ramaswamy, Rastogi, Shim 2000)."""
    distances = _neighbour_distances(train, k)
    return lambda rows: distances(rows)[:, -1]


def dte_nonparametric(train: np.ndarray) -> Score:
    """Score by the mean squared distance to the five nearest training rows.

    It ranks rows as the diffusion time that the non-parametric estimate of DTE returns.

    References
    ----------
    Livernoche, Jain, Hezaveh, Ravanbakhsh (2024). On diffusion modeling for anomaly detection. ICLR.
    """
    distances = _neighbour_distances(train, DTE_NEIGHBOURS)
    return lambda rows: np.square(distances(rows)).mean(axis=1)


def local_outlier_factor(train: np.ndarray) -> Score:
    """Score by the density of a row relative to the density of its 20 nearest training rows."""
    n_neighbors = min(20, len(train) - 1)
    factor = LocalOutlierFactor(n_neighbors=n_neighbors, novelty=True).fit(train)
    return lambda rows: -factor.score_samples(rows)


def one_class_svm(train: np.ndarray, seed: int) -> Score:
    """Score by a one-class SVM: radial basis functions with gamma 1 / n_features, half of the rows outside.

    Its cost grows with the square of the rows, so it is fitted on at most 5,000 rows, drawn at random.
    """
    if len(train) > SVM_ROWS:
        train = train[np.random.RandomState(seed).choice(len(train), SVM_ROWS, replace=False)]
    machine = OneClassSVM(gamma="auto", nu=0.5).fit(train)
    return lambda rows: -machine.score_samples(rows)


def isolation_forest(train: np.ndarray, seed: int) -> Score:
    """Score by an isolation forest of a hundred trees."""
    forest = IsolationForest(random_state=seed).fit(train)
    return lambda rows: -forest.score_samples(rows)


def pca_residual(train: np.ndarray) -> Score:
    """Score by the squared distance to the plane of the components with 95 % of the variance.

    At least one component is left out: otherwise the distance would be rounding error.
    """
    pca = PCA(svd_solver="full").fit(train)
    enough = int(np.searchsorted(np.cumsum(pca.explained_variance_ratio_), PCA_SHARE)) + 1
    plane = pca.components_[: min(enough, train.shape[1] - 1)]
    errors = plane_errors(pca.mean_, plane)
    return lambda rows: errors(rows).sum(axis=1)


def plane_errors(mean: np.ndarray, plane: np.ndarray) -> Score:
    """Return a function of rows: the squared residual of each feature from the plane, shape of the rows."""

    def errors(rows: np.ndarray) -> np.ndarray:
        centred = rows - mean
        return np.square(centred - (centred @ plane.T) @ plane)

    return errors


def _neighbour_distances(train: np.ndarray, k: int) -> Score:
    """Return a function of rows: ascending distances to the k nearest training rows, or to all if fewer."""
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

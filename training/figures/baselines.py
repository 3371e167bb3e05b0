"""Simple detectors on the same splits, to show whether the model is better than they are."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from training.figures.metrics import interval_of, ranking_draws, with_intervals

K_NEIGHBOURS = 5
PCA_SHARE = 0.95  # of the variance
# Most of each split; all three baselines together take ten seconds for 10,000 rows of 800 values on one core.
MOST_ROWS, MOST_VALUES = 10_000, 8_000_000
LEAST_ROWS = 500
CLEAR_LEAD = 0.01  # of ROC AUC; a smaller lead is of no use, however certain


def compare_baselines(
    train: np.ndarray, test: np.ndarray, is_anomaly: np.ndarray, own_score: np.ndarray, seed: int
) -> dict[str, Any] | None:
    """Fit the baselines to the training data of the model, and compare how they rank the test split.

    Parameters
    ----------
    train, test : ndarray of shape (n_train, *sample_shape) and (n_test, *sample_shape), float32
        Scaled as the network sees them; `train` includes the samples for early stopping.
    is_anomaly : ndarray of shape (n_test,), bool
    own_score : ndarray of shape (n_test,), float64
        Scores of the model.
    seed : int
        Seed of the samples drawn, the forest and the bootstrap.

    Returns
    -------
    dict or None
        `n_train` and `n_test` samples were used: all, or as many as take seconds, drawn at random, normal
        test samples and anomalies in the same share. `own` and each of `methods` have `roc_auc` and
        `average_precision` on these, with `value` and `interval`. `better` names the methods whose ROC AUC
        is higher than the model's by at least 0.01, and with 95 % confidence (paired bootstrap). None if the
        test split lacks normal samples or anomalies.
    """
    rng = np.random.default_rng(seed)
    train, test = train.reshape(len(train), -1), test.reshape(len(test), -1)
    if is_anomaly.all() or not is_anomaly.any():
        return None
    most = min(MOST_ROWS, max(LEAST_ROWS, MOST_VALUES // train.shape[1]))
    train = train[_draw(np.arange(len(train)), most / len(train), rng)]
    groups = (np.flatnonzero(~is_anomaly), np.flatnonzero(is_anomaly))
    rows = np.concatenate([_draw(group, most / len(test), rng) for group in groups])
    test, is_anomaly = test[rows], is_anomaly[rows]
    own, own_draws = ranking_draws(is_anomaly, own_score[rows], seed)
    methods, better = {}, []
    for name, score_with in BASELINES.items():
        values, draws = ranking_draws(is_anomaly, score_with(train, test, seed), seed)
        methods[name] = with_intervals(values, draws)
        lead = draws[:, 0] - own_draws[:, 0]
        if values[0] - own[0] >= CLEAR_LEAD and interval_of(lead)[0] > 0:
            better.append(name)
    return {
        "n_train": len(train),
        "n_test": len(test),
        "own": with_intervals(own, own_draws),
        "methods": methods,
        "better": better,
    }


def _draw(rows: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a share of the rows, in their order, and at least one; all of them if the share is 1 or more."""
    if share >= 1 or not rows.size:
        return rows
    return np.sort(rng.choice(rows, math.ceil(share * rows.size), replace=False))


def _neighbour_distance(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Distance to the fifth nearest training row."""
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=min(K_NEIGHBOURS, len(train)), algorithm="brute").fit(train)
    return neighbours.kneighbors(test)[0][:, -1]


def _pca_residual(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Mean squared residual after the components with 95 % of the training rows' variance."""
    from sklearn.decomposition import PCA

    solver = "covariance_eigh" if train.shape[1] <= len(train) else "full"
    with np.errstate(invalid="ignore"):  # drawn rows that are all the same
        pca = PCA(PCA_SHARE, svd_solver=solver).fit(train.astype(np.float64))
    return np.square(test - pca.inverse_transform(pca.transform(test))).mean(axis=1)


def _isolation(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """How few random cuts isolate a row."""
    from sklearn.ensemble import IsolationForest

    return -IsolationForest(random_state=seed).fit(train).score_samples(test)


BASELINES: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "nearest neighbours": _neighbour_distance,
    "PCA residual": _pca_residual,
    "isolation forest": _isolation,
}

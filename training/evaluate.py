"""What the detector does on the test split: false alarms always, the rest where there are anomalies."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from detector.inference import Scores

CONFIDENCE = 0.95
N_RESAMPLES = 300


def evaluate(scores: Scores, is_anomaly: np.ndarray, seed: int) -> dict[str, Any]:
    """Figures of the test split, reported once and used for nothing.

    Parameters
    ----------
    scores : Scores
        Of the test split, by the model's own threshold.
    is_anomaly : ndarray of shape (n_samples,), bool
        The labels.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        `n_normal`, `n_anomalies`; `false_alarm_rate` and, with anomalies, `recall`, `roc_auc` and
        `average_precision`, each with `value` and `interval`, the 95 % confidence interval: Clopper-Pearson
        for rates, stratified bootstrap for the others. None where there is nothing to compute one from.
    """
    normal = ~is_anomaly
    figures: dict[str, Any] = {
        "n_normal": int(normal.sum()),
        "n_anomalies": int(is_anomaly.sum()),
        "false_alarm_rate": _rate(scores.is_anomaly[normal]),
        "recall": _rate(scores.is_anomaly[is_anomaly]),
        "roc_auc": None,
        "average_precision": None,
    }
    if normal.any() and is_anomaly.any():
        for name, metric in (("roc_auc", roc_auc_score), ("average_precision", average_precision_score)):
            figures[name] = _bootstrap(metric, is_anomaly, scores.score, seed)
    return figures


def _rate(flagged: np.ndarray) -> dict[str, Any] | None:
    if flagged.size == 0:
        return None
    count = int(flagged.sum())
    interval = binomtest(count, flagged.size).proportion_ci(CONFIDENCE, method="exact")
    return {
        "value": count / flagged.size,
        "interval": [float(interval.low), float(interval.high)],
        "count": count,
    }


def _bootstrap(
    metric: Callable[[np.ndarray, np.ndarray], float], is_anomaly: np.ndarray, score: np.ndarray, seed: int
) -> dict[str, Any]:
    """Resample normal samples and anomalies each among themselves: their shares stay the test's."""
    rng = np.random.default_rng(seed)
    groups = (np.flatnonzero(~is_anomaly), np.flatnonzero(is_anomaly))
    draws = []
    for _ in range(N_RESAMPLES):
        rows = np.concatenate([rng.choice(group, group.size) for group in groups])
        draws.append(metric(is_anomaly[rows], score[rows]))
    tail = (1 - CONFIDENCE) / 2
    return {
        "value": float(metric(is_anomaly, score)),
        # Clipped: a mean of ones may come out as 1.0000000000000002.
        "interval": [float(value) for value in np.clip(np.quantile(draws, [tail, 1 - tail]), 0, 1)],
    }

"""Metrics of scores and decisions by labels: rates and rankings, with confidence intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from detector.manifest import Threshold
from detector.results import Scores

CONFIDENCE = 0.95
N_RESAMPLES = 300


def evaluate(scores: Scores, is_anomaly: np.ndarray, seed: int) -> dict[str, Any]:
    """Compute the figures of the test split; they are reported, and nothing depends on them.

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
        "false_alarm_rate": rate(scores.is_anomaly[normal]),
        "recall": rate(scores.is_anomaly[is_anomaly]),
        "roc_auc": None,
        "average_precision": None,
    }
    if normal.any() and is_anomaly.any():
        figures |= with_intervals(*ranking_draws(is_anomaly, scores.score, seed))
    return figures


def promise_warnings(threshold: Threshold, evaluation: Mapping[str, Any]) -> list[str]:
    """A sentence where the test split breaks the promise, with 95 % confidence; of no promise none.

    Parameters
    ----------
    threshold : Threshold
    evaluation : mapping
        As from `evaluate`.
    """
    flagged = evaluation["false_alarm_rate"]
    if threshold.confidence is None or flagged is None:
        return []
    low, high = flagged["interval"]
    if low <= threshold.alpha:
        return []
    return [
        f"the promise does not hold on the test split: {flagged['value']:.3g} of its normal samples are "
        f"flagged ({low:.3g} to {high:.3g}), at most {threshold.alpha:g} was promised; the test samples "
        "differ from the calibration samples"
    ]


def evaluate_steps(
    score: np.ndarray, is_flagged: np.ndarray, is_anomaly: np.ndarray, touches_anomaly: np.ndarray
) -> dict[str, Any]:
    """Figures of the steps of a series; without intervals, since neighbours are not drawn independently.

    An alarm lasts as long as its cause is in the window, so normal steps behind an anomaly are flagged, too.
    The promise is for the others: `n_clear` counts the steps whose windows hold no anomalous step, and
    `false_alarm_rate_clear` is the share of them that is flagged.

    Parameters
    ----------
    score : ndarray of shape (n_steps,), float64
    is_flagged, is_anomaly : ndarray of shape (n_steps,), bool
    touches_anomaly : ndarray of shape (n_steps,), bool
        Whether an anomalous step is in a window that the score of a step comes from.

    Returns
    -------
    dict
        As from `evaluate` and these two, each a number, or None where there is nothing to compute it from.
    """
    normal, clear = ~is_anomaly, ~touches_anomaly
    figures: dict[str, Any] = {
        "n_normal": int(normal.sum()),
        "n_anomalies": int(is_anomaly.sum()),
        "n_clear": int(clear.sum()),
        "false_alarm_rate": float(is_flagged[normal].mean()) if normal.any() else None,
        "false_alarm_rate_clear": float(is_flagged[clear].mean()) if clear.any() else None,
        "recall": float(is_flagged[is_anomaly].mean()) if is_anomaly.any() else None,
        "roc_auc": None,
        "average_precision": None,
    }
    if normal.any() and is_anomaly.any():
        places, place = np.unique(-score, return_inverse=True)
        counts = (np.bincount(place[group], minlength=places.size) for group in (normal, is_anomaly))
        figures["roc_auc"], figures["average_precision"] = ranking_metrics(*counts)
    return figures


def rate(flagged: np.ndarray) -> dict[str, Any] | None:
    """The share of true values; None where there are none at all.

    Parameters
    ----------
    flagged : ndarray of shape (n_samples,), bool

    Returns
    -------
    dict
        `value`, `count` and `interval`, the 95 % confidence interval of Clopper and Pearson.
    """
    if flagged.size == 0:
        return None
    from scipy.stats import binomtest  # takes a second to import, which `--help` need not wait for

    count = int(flagged.sum())
    interval = binomtest(count, flagged.size).proportion_ci(CONFIDENCE, method="exact")
    return {
        "value": count / flagged.size,
        "interval": [float(interval.low), float(interval.high)],
        "count": count,
    }


def ranking_draws(
    is_anomaly: np.ndarray, score: np.ndarray, seed: int
) -> tuple[tuple[float, float], np.ndarray]:
    """ROC AUC and average precision, and those of resamples.

    Each resample draws normal samples and anomalies among themselves. The scores are sorted once: a resample
    is two counts at each score, which takes milliseconds for 100,000 samples. The same seed draws the same
    samples, whatever their scores, so that two detectors can be compared resample by resample.

    Parameters
    ----------
    is_anomaly : ndarray of shape (n_samples,), bool
        At least one of both.
    score : ndarray of shape (n_samples,)
    seed : int

    Returns
    -------
    tuple of float, and ndarray of shape (n_resamples, 2)
    """
    rng = np.random.default_rng(seed)
    places, place = np.unique(-score, return_inverse=True)  # 0 is the highest score
    groups = (place[~is_anomaly], place[is_anomaly])

    def metrics(normal: np.ndarray, anomalies: np.ndarray) -> tuple[float, float]:
        counts = (np.bincount(group, minlength=places.size) for group in (normal, anomalies))
        return ranking_metrics(*counts)

    draws = [metrics(*(rng.choice(group, group.size) for group in groups)) for _ in range(N_RESAMPLES)]
    return metrics(*groups), np.array(draws)


def with_intervals(values: tuple[float, float], draws: np.ndarray) -> dict[str, Any]:
    """Turn the results of `ranking_draws` into figures with intervals."""
    return {
        name: {"value": value, "interval": interval_of(column)}
        for name, value, column in zip(("roc_auc", "average_precision"), values, draws.T, strict=True)
    }


def interval_of(draws: np.ndarray) -> list[float]:
    """The 95 % confidence interval that resamples give."""
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(draws, [tail, 1 - tail]).tolist()


def roc_auc(normal: np.ndarray, anomalies: np.ndarray) -> float:
    """The share of pairs in which the anomaly's score is higher, ties a half."""
    places, place = np.unique(-np.concatenate([normal, anomalies]), return_inverse=True)
    groups = np.split(place, [normal.size])
    return ranking_metrics(*(np.bincount(group, minlength=places.size) for group in groups))[0]


def ranking_metrics(normal: np.ndarray, anomalies: np.ndarray) -> tuple[float, float]:
    """ROC AUC and average precision of counts.

    Parameters
    ----------
    normal, anomalies : ndarray of shape (n_scores,), int
        How many samples have each score, the highest score first; at least one of both.

    Returns
    -------
    tuple of float
        The share of pairs in which the anomaly scores higher, ties a half; and the precision at each score,
        weighted by the recall gained there.
    """
    found, alarms = np.cumsum(anomalies), np.cumsum(normal)
    roc_auc = normal @ (found - anomalies / 2) / (found[-1] * alarms[-1])
    precision = found / np.maximum(found + alarms, 1)
    return float(roc_auc), float(anomalies @ precision / found[-1])

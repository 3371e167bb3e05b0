"""Metrics of scores and decisions by labels: rates and rankings, with confidence intervals."""

from typing import Any

import numpy as np

from detector.calibration import threshold_at
from detector.errors import InputError
from detector.manifest import Manifest
from detector.results import Scores

CONFIDENCE = 0.95
N_RESAMPLES = 300
ALPHAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # of the operating points


def evaluate(scores: Scores, is_anomaly: np.ndarray, seed: int) -> dict[str, Any]:
    """Compute the figures of the test split; they are reported, and nothing depends on them.

    Parameters
    ----------
    scores : Scores
        Scores of the test split, decided by the model's own threshold.
    is_anomaly : ndarray of shape (n_samples,), bool
        The labels.
    seed : int
        Seed of the bootstrap.

    Returns
    -------
    dict
        `n_normal`, `n_anomalies`; `false_alarm_rate` and, with anomalies, `recall`, `roc_auc` and
        `average_precision`, each with `value` and `interval`, the 95 % confidence interval: Clopper-Pearson
        for rates, stratified bootstrap for the others. None if there are no samples to compute one from.
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


def feature_errors(squares: np.ndarray, manifest: Manifest) -> dict[str, float]:
    """Compute the root mean squared error of each feature or channel, in its own unit.

    Of a category it is the share of wrong values. Missing values do not count.

    Parameters
    ----------
    squares : ndarray of shape (n_samples, *sample_shape), float64
        The result of `Engine.squares`.
    manifest : Manifest
        Its features have names.
    """
    means = np.ma.masked_invalid(squares.reshape(-1, squares.shape[-1])).mean(axis=0).filled(0)
    names, categories = manifest.feature_names or (), manifest.categories or {}
    return {
        name: float(mean if name in categories else np.sqrt(mean))
        for name, mean in zip(names, means, strict=True)
    }


def operating_points(
    calibration_scores: np.ndarray, promise: str, score: np.ndarray, is_anomaly: np.ndarray
) -> list[dict[str, Any]]:
    """Compute what other false-alarm rates would do to labelled samples, to choose a threshold by.

    Parameters
    ----------
    calibration_scores : ndarray of shape (n_calibration,), float64
        Ascending.
    promise : str
        Of the model.
    score : ndarray of shape (n_samples,)
    is_anomaly : ndarray of shape (n_samples,), bool

    Returns
    -------
    list of dict
        For each of `ALPHAS` that the calibration allows `alpha`, `threshold`, `expected_rate`; and of these
        samples `recall`, `precision` (None if none is flagged) and `false_alarm_rate`. Empty unless there
        are both normal samples and anomalies.
    """
    points: list[dict[str, Any]] = []
    if is_anomaly.all() or not is_anomaly.any():
        return points
    for alpha in ALPHAS:
        try:
            rule = threshold_at(calibration_scores, alpha, promise)
        except InputError:  # too few calibration samples for so small an alpha, or a threshold of 0
            continue
        flagged = score > rule.value
        points.append(
            {
                "alpha": alpha,
                "threshold": rule.value,
                "expected_rate": rule.expected_rate,
                "recall": float(flagged[is_anomaly].mean()),
                "precision": float(is_anomaly[flagged].mean()) if flagged.any() else None,
                "false_alarm_rate": float(flagged[~is_anomaly].mean()),
            }
        )
    return points


def evaluate_steps(
    score: np.ndarray, is_flagged: np.ndarray, is_anomaly: np.ndarray, touches_anomaly: np.ndarray
) -> dict[str, Any]:
    """Compute figures of the steps of a series; without intervals, since neighbours are not independent.

    An alarm lasts as long as its cause is in the window, so normal steps after an anomaly are flagged, too.
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
        The figures of `evaluate` and these two, each a number, or None if there are no steps to compute it.
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
        from sklearn.metrics import average_precision_score, roc_auc_score

        figures["roc_auc"] = float(roc_auc_score(is_anomaly, score))
        figures["average_precision"] = float(average_precision_score(is_anomaly, score))
    return figures


def rate(flagged: np.ndarray) -> dict[str, Any] | None:
    """Compute the share of true values; None if there are no values.

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
    return {"value": count / flagged.size, "interval": [*map(float, interval)], "count": count}


def ranking_draws(
    is_anomaly: np.ndarray, score: np.ndarray, seed: int
) -> tuple[tuple[float, float], np.ndarray]:
    """Compute ROC AUC and average precision, for all samples and for each resample.

    Each resample draws normal samples and anomalies among themselves. The scores are sorted once, so that a
    resample takes milliseconds for 100,000 samples. The same seed draws the same samples, whatever their
    scores, so that two detectors can be compared resample by resample.

    Parameters
    ----------
    is_anomaly : ndarray of shape (n_samples,), bool
        At least one true and one false.
    score : ndarray of shape (n_samples,)
    seed : int

    Returns
    -------
    tuple of float, and ndarray of shape (n_resamples, 2)
    """
    rng = np.random.default_rng(seed)
    places, place = np.unique(-score, return_inverse=True)  # 0 is the highest score
    groups = (place[~is_anomaly], place[is_anomaly])

    def metrics(*groups: np.ndarray) -> tuple[float, float]:
        # How many normal samples and anomalies have each score, and have it or a higher one.
        normal, anomalies = (np.bincount(group, minlength=places.size) for group in groups)
        alarms, found = np.cumsum(normal), np.cumsum(anomalies)
        roc_auc = normal @ (found - anomalies / 2) / (found[-1] * alarms[-1])
        precision = found / np.maximum(found + alarms, 1)
        return float(roc_auc), float(anomalies @ precision / found[-1])

    draws = [metrics(*(rng.choice(group, group.size) for group in groups)) for _ in range(N_RESAMPLES)]
    return metrics(*groups), np.array(draws)


def with_intervals(values: tuple[float, float], draws: np.ndarray) -> dict[str, Any]:
    """Turn the results of `ranking_draws` into figures with intervals."""
    return {
        name: {"value": value, "interval": interval_of(column)}
        for name, value, column in zip(("roc_auc", "average_precision"), values, draws.T, strict=True)
    }


def interval_of(draws: np.ndarray) -> list[float]:
    """Compute the 95 % confidence interval from resamples."""
    tail = (1 - CONFIDENCE) / 2
    return np.quantile(draws, [tail, 1 - tail]).tolist()

"""What the figures of a fit say, in sentences: warnings, notes, and how many anomalies were found."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from detector.manifest import Threshold
from training.config import MOST_MEMORY_VALUES
from training.presets import PRESETS

UNLIKELY = 0.001  # that so few samples are flagged, if calibration and test samples are alike
CLEAR_STEP = 2  # from a calibration score to the next lower one; less is usual in the tail of few scores
# What to try where a simple detector is better, the best first: by docs/quality.md.
ALTERNATIVES = {
    "vector": ("memory", "dense"),
    "image": ("memory", "memory-image", "conv"),
    "sequence": ("memory-window", "memory-stream", "conv1d"),
}


def promise_warnings(
    threshold: Threshold, evaluation: Mapping[str, Any], data: str = "the test split"
) -> list[str]:
    """Warn if data break the promise of the threshold, or are flagged far less often than expected.

    A promise is broken if it lies below the 95 % confidence interval of the false-alarm rate. `evaluation` is
    the result of `metrics.evaluate`; without a promise the list is empty.
    """
    flagged, n_normal = evaluation["false_alarm_rate"], evaluation["n_normal"]
    if threshold.confidence is None or flagged is None:
        return []
    low, high = flagged["interval"]
    if low > threshold.alpha:
        return [
            f"the promise does not hold on {data}: {flagged['count']} of its {n_normal} normal samples are "
            f"flagged ({flagged['value']:.3g}, interval {low:.3g} to {high:.3g}), at most "
            f"{threshold.alpha:g} was promised; the test samples differ from the calibration samples"
        ]
    if _chance_of_so_few(threshold, flagged["count"], n_normal) < UNLIKELY:
        return [
            f"the threshold is too high for {data}: {flagged['count']} of its {n_normal} normal "
            f"samples are flagged, {threshold.expected_rate:.3g} were expected; the test samples differ from "
            "the calibration samples, and anomalies among them may be missed"
        ]
    return []


def _chance_of_so_few(threshold: Threshold, n_flagged: int, n_normal: int) -> float:
    """Probability that at most so many are flagged of samples that are exchangeable with the calibration.

    Their false-alarm rate is Beta(rank, n_calibration + 1 - rank) distributed (`detector.calibration`).
    """
    from scipy.stats import betabinom  # takes a second to import, which `--help` need not wait for

    above = threshold.n_calibration + 1 - threshold.rank
    return float(betabinom.cdf(n_flagged, n_normal, threshold.rank, above))


def threshold_notes(threshold: Threshold, calibration_scores: np.ndarray, place: str) -> list[str]:
    """Say so if one calibration score makes the threshold, far above the next.

    Parameters
    ----------
    threshold : Threshold
    calibration_scores : ndarray of shape (n_calibration,), float64
        Ascending.
    place : str
        Where the sample with the score of the threshold is in the data.
    """
    below = calibration_scores[: threshold.n_calibration - threshold.rank]
    if not below.size or threshold.value <= CLEAR_STEP * below[-1]:
        return []
    times = f"{threshold.value / below[-1]:.3g} times as high as" if below[-1] > 0 else "far above"
    return [
        f"one sample makes the threshold: {place} has the score {threshold.value:.4g}, {times} the next "
        f"calibration score, {below[-1]:.4g}; if that sample is an anomaly, label it or leave it out"
    ]


def baseline_notes(comparison: Mapping[str, Any] | None, kind: str, preset: str, n_values: int) -> list[str]:
    """Say which baselines rank the test split clearly better than the model, and which preset to try.

    Parameters
    ----------
    comparison : mapping, or None
        The result of `baselines.compare_baselines`.
    kind, preset : str
        Of the model.
    n_values : int
        Values of a sample, as the network sees it.
    """
    if not comparison or not comparison["better"]:
        return []
    own, methods = comparison["own"]["roc_auc"]["value"], comparison["methods"]
    presets = (name for name in ALTERNATIVES[kind] if name != preset)
    other = next(name for name in presets if name != "memory" or n_values <= MOST_MEMORY_VALUES)
    better = [f"{name} ({methods[name]['roc_auc']['value']:.4f})" for name in comparison["better"]]
    words = " and ".join(filter(None, [", ".join(better[:-1]), better[-1]]))
    return [
        f"{words} ranked the test split clearly better than this model ({own:.4f} ROC AUC): try --preset "
        f"{other} ({PRESETS[other].words}), more samples or a longer fit, or --contamination if some of the "
        "training samples may be anomalies"
    ]


def found_words(evaluation: Mapping[str, Any], kind: str) -> str:
    """Say how many of the labelled anomalies were found; of a series, how many windows and steps."""
    n_anomalies, steps = evaluation["n_anomalies"], evaluation.get("steps")
    if not n_anomalies:
        return "no sample is labelled an anomaly: nothing measures how many are found"
    n_found, what = evaluation["recall"]["count"], "anomalous windows" if kind == "sequence" else "anomalies"
    words = f"of {n_anomalies} {what} {n_found} {'was' if n_found == 1 else 'were'} found"
    if not steps or not steps["n_anomalies"]:
        return words
    return (
        f"{words}, of {steps['n_anomalies']} anomalous steps {round(steps['recall'] * steps['n_anomalies'])}"
    )

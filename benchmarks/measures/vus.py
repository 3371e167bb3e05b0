"""Volume under the surface of range-based precision and recall (VUS-PR), and the window that it needs.

A step near a labelled anomaly counts in part: labels decrease on both sides over half a window. The area
under the curve is averaged over all windows from 0 to the largest one, so the result depends on no single
tolerance.

References ---------- Paparrizos, Boniol, Palpanas, Tsay, Elmore, Franklin (2022). Volume under the surface: a
new accuracy evaluation measure for time-series anomaly detection. PVLDB 15(11), 2774-2787. Liu, Paparrizos
(2024). The elephant in the room: towards a reliable time-series anomaly detection benchmark (TSB-AD). NeurIPS
datasets and benchmarks. Its figures use 250 thresholds and the period of the first column as window;
`tests/benchmarks/measures/fixtures/vus_oracle.json` holds answers of its package.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import argrelmax

N_THRESHOLDS = 250
NO_PERIOD = 125  # the window if autocorrelation has no peak, by convention of the benchmark
FIRST_LAG, LAST_LAG, LAST_PEAK = 3, 400, 300
N_STEPS = 20_000  # the period is estimated from at most this many steps


def vus_pr(labels: np.ndarray, scores: np.ndarray, window: int, n_thresholds: int = N_THRESHOLDS) -> float:
    """Return the mean of `range_auc_pr` over the windows 0, 1, ..., `window`.

    Parameters
    ----------
    labels : ndarray of shape (n_steps,)
        1 marks a step of an anomaly, 0 any other; at least one 1.
    scores : ndarray of shape (n_steps,)
        Finite; higher is more anomalous.
    window : int
        Steps, 0 or more: the largest tolerance, `find_period` of the series in the published tables.
    n_thresholds : int
        Thresholds are this many scores, evenly spaced by rank.

    Returns
    -------
    float
        In [0, 1]; a score without information reaches about the share of anomalous steps.

    Raises
    ------
    ValueError
        Labels and scores that do not match, a score that is not finite, no anomaly, or a negative window.
    """
    if window < 0:
        raise ValueError(f"window must be 0 or more steps, got {window}")
    ranking = _rank(labels, scores, n_thresholds)
    return float(np.mean([_area(ranking, width) for width in range(window + 1)]))


def range_auc_pr(
    labels: np.ndarray, scores: np.ndarray, window: int, n_thresholds: int = N_THRESHOLDS
) -> float:
    """Return the area under range-based precision over recall for one `window`: one slice of the volume.

    The parameters are the same as for `vus_pr`. Recall is the weight of the detected steps, divided by half
    the sum of all labels and of labels with the detected fall-off, at most 1, times the share of anomalies
    that have a detected step. The packages also have a function for a single window that differs: it looks
    for anomalies in the labels with their fall-off, misses most of them and divides by 0.
    """
    return _area(_rank(labels, scores, n_thresholds), window)


@dataclass(frozen=True)
class _Ranking:
    """The part that is the same for all windows: steps by falling score, thresholds, runs of labels."""

    labels: np.ndarray  # (n_steps,) float64, 0 or 1
    scores: np.ndarray  # (n_steps,) float64
    order: np.ndarray  # (n_steps,) indices by falling score
    thresholds: np.ndarray  # (n_thresholds,), falling
    n_detected: np.ndarray  # (n_thresholds,) steps at or above each threshold
    runs: list[tuple[int, int]]  # first and last step of each anomaly


def _rank(labels: np.ndarray, scores: np.ndarray, n_thresholds: int) -> _Ranking:
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(
            f"labels and scores must have the same shape (n_steps,), got {labels.shape} and {scores.shape}"
        )
    if not np.isin(labels, (0, 1)).all() or not labels.any():
        raise ValueError("labels must be 0 or 1 with at least one 1")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, got {np.count_nonzero(~np.isfinite(scores))} that are not")
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    thresholds = falling[np.linspace(0, len(scores) - 1, n_thresholds).astype(int)]
    n_detected = np.searchsorted(-falling, -thresholds, side="right")
    return _Ranking(labels, scores, order, thresholds, n_detected, labelled_runs(labels))


def labelled_runs(labels: np.ndarray) -> list[tuple[int, int]]:
    """Return the first and the last step of each run of labels that are not 0, both inclusive."""
    edges = np.diff(np.concatenate([[0], (np.asarray(labels) != 0).astype(int), [0]]))
    return list(zip(*(np.flatnonzero(edges == sign) - (sign < 0) for sign in (1, -1)), strict=True))


def _area(ranking: _Ranking, window: int) -> float:
    """Sum precision times growth of recall from the highest threshold to the lowest."""
    reach = window // 2
    weights = _fall_off(ranking, window)
    detected = np.cumsum(weights[ranking.order])[ranking.n_detected - 1]
    inside = np.cumsum(ranking.labels[ranking.order])[ranking.n_detected - 1]
    n_labelled = ranking.labels.sum()
    possible = n_labelled + (detected - inside) / 2
    peaks = [ranking.scores[first:last].max() for first, last in _merge(ranking.runs, reach)]
    found = np.mean(np.array(peaks)[:, np.newaxis] >= ranking.thresholds, axis=0)
    recall = np.minimum(detected / possible, 1) * found
    return float(np.diff(recall, prepend=0) @ (detected / ranking.n_detected))


def _fall_off(ranking: _Ranking, window: int) -> np.ndarray:
    """Return labels that decrease as sqrt(1 - distance / window) over half a window, at most 1."""
    weights = ranking.labels.copy()
    ramp = np.sqrt(1 - np.arange(1, window // 2 + 1) / max(window, 1))
    for first, last in ranking.runs:
        after = weights[last + 1 : last + 1 + len(ramp)]
        after += ramp[: len(after)]
        before = weights[max(first - len(ramp), 0) : first]
        before += ramp[: len(before)][::-1]
    return np.minimum(weights, 1)


def _merge(runs: list[tuple[int, int]], reach: int) -> list[tuple[int, int]]:
    """Widen anomalies by `reach` on both sides and join those that touch; half-open."""
    merged = [[max(runs[0][0] - reach, 0), runs[0][1]]]
    for first, last in runs[1:]:
        if merged[-1][1] + reach < first - reach:
            merged.append([first - reach, last])
        else:
            merged[-1][1] = last
    return [(first, last + reach + 1) for first, last in merged]


def find_period(values: np.ndarray) -> int:
    """Return the lag of the highest peak of the autocorrelation: the window of the published figures.

    Parameters
    ----------
    values : ndarray of shape (n_steps,)
        One column; the benchmark uses the first of several.

    Returns
    -------
    int
        From 6 to 303, or 125 if there is no such peak; the first 20,000 steps and lags up to 400 count.
    """
    values = np.asarray(values, np.float64)[:N_STEPS]
    if values.ndim != 1:
        raise ValueError(f"values must have shape (n_steps,), got {values.shape}")
    centred = values - values.mean()
    if not centred.any():
        return NO_PERIOD
    spectrum = np.fft.rfft(centred, 2 * len(values))
    correlation = np.fft.irfft(spectrum * spectrum.conj())[: min(len(values), LAST_LAG + 1)]
    correlation = correlation[FIRST_LAG:] / correlation[0]
    peaks = argrelmax(correlation)[0]
    if not len(peaks):
        return NO_PERIOD
    highest = int(peaks[np.argmax(correlation[peaks])])
    return highest + FIRST_LAG if FIRST_LAG <= highest <= LAST_PEAK else NO_PERIOD

"""The scoring of the Numenta Anomaly Benchmark (NAB): rewards early detections, penalises false alarms.

Each labelled window counts once, by its earliest detection: fully at its left edge, not at all after its
right edge. A false alarm costs little right after a window and its full weight far from any. The first 15 %
of a series (750 steps at most) are not scored. One threshold for the whole corpus is the best one in
hindsight, for each of three application profiles. 0 is a detector that never alarms, 100 one that hits every
window at its left edge and raises no false alarm.

Written from the published description and, in details that it leaves open, from the official program: the
positions of detections in a window of n steps are -1, -1 + 1/n, ..., -1/n, and the position of a false alarm
is (steps since the last window) / (n - 1). `nab_published` has two published detectors; their official scores
are reproduced in all digits.

References
----------
Lavin, Ahmad (2015). Evaluating real-time anomaly detection algorithms - the Numenta Anomaly Benchmark.
IEEE ICMLA.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

PROBATION = 0.15
PROBATION_OF_STEPS = 5000  # a longer series has 15 % of this many steps
FAR_BEHIND = 3.0  # window widths after a window; from there on a false alarm costs its full weight
Windows = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Profile:
    """The costs of a false alarm and of a missed window; a hit earns 1."""

    false_alarm: float
    miss: float


PROFILES = {
    "standard": Profile(false_alarm=0.11, miss=1.0),
    "reward_low_FP_rate": Profile(false_alarm=0.22, miss=1.0),
    "reward_low_FN_rate": Profile(false_alarm=0.11, miss=2.0),
}


@dataclass(frozen=True)
class NabResult:
    """One detector under one profile.

    Attributes
    ----------
    score : float
        At most 100; 0 for a detector that never alarms, negative if false alarms cost more than hits earn.
    threshold : float
        The best one in hindsight; a step alarms where its score is at least this. inf: never.
    n_hit, n_windows, n_false_alarms : int
        Windows with a detection, of how many, and steps outside of windows that alarm.
    """

    score: float
    threshold: float
    n_hit: int
    n_windows: int
    n_false_alarms: int


def nab_results(
    scores: Mapping[str, np.ndarray], windows: Mapping[str, Windows], threshold: float | None = None
) -> dict[str, NabResult]:
    """Compute the results of one detector over a corpus, by profile.

    Parameters
    ----------
    scores : mapping of str to ndarray of shape (n_steps,)
        Anomaly scores of each series; higher is more anomalous. Finite after the first 15 %; these
        are not read.
    windows : mapping of str to sequence of (first, last)
        The labelled windows of each series in order, both steps inclusive; empty if there are none.
    threshold : float, optional
        Score with this threshold; by default with the best one over the corpus, for each profile, as in the
        official tables.

    Raises
    ------
    ValueError
        A series without an entry of windows, a corpus without any window, a score that is not finite, or
        windows outside their series.
    """
    steps = _all_steps(scores, windows)
    n_windows = sum(len(windows[name]) for name in scores)
    if n_windows == 0:
        raise ValueError(f"{len(scores)} series have no labelled window, so there is nothing to detect")
    return {name: _result(steps, profile, n_windows, threshold) for name, profile in PROFILES.items()}


def probation(n_steps: int) -> int:
    """Return how many steps at the start of a series are not scored; a detector may learn from them."""
    return int(min(PROBATION * n_steps, PROBATION * PROBATION_OF_STEPS))


@dataclass(frozen=True)
class _Steps:
    """Scored steps of a corpus by falling score."""

    scores: np.ndarray  # (n,)
    worth: np.ndarray  # (n,) in [-1, 1]; positive for a hit, negative for a false alarm
    window: np.ndarray  # (n,) number of the window, -1 outside


def _all_steps(scores: Mapping[str, np.ndarray], windows: Mapping[str, Windows]) -> _Steps:
    parts, n_before = [], 0
    for name, series_scores in scores.items():
        if name not in windows:
            raise ValueError(f"series {name!r} has no entry of windows, give an empty one if it has none")
        parts.append(_scored_steps(name, np.asarray(series_scores, np.float64), windows[name], n_before))
        n_before += len(windows[name])
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(-joined[0], kind="stable")
    return _Steps(*(column[order] for column in joined))


def _scored_steps(
    name: str, scores: np.ndarray, windows: Windows, n_before: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start = probation(len(scores))
    _check(name, scores[start:], len(scores), windows)
    steps = np.arange(len(scores))
    worth, window = np.full(len(scores), -1.0), np.full(len(scores), -1)
    for number, (first, last) in enumerate(windows):
        width = last - first + 1
        behind = steps > last
        worth[behind] = _cost((steps[behind] - last) / max(width - 1, 1))
        inside = slice(first, last + 1)
        worth[inside] = _earning((steps[inside] - last - 1) / width)
        window[inside] = n_before + number
    return scores[start:], worth[start:], window[start:]


def _check(name: str, scores: np.ndarray, n_steps: int, windows: Windows) -> None:
    if not np.isfinite(scores).all():
        raise ValueError(f"scores of series {name!r} must be finite after its first 15 %")
    edges = [edge for window in windows for edge in window]
    if edges != sorted(edges) or any(not 0 <= edge < n_steps for edge in edges):
        raise ValueError(f"windows of series {name!r} must rise within its {n_steps} steps, got {edges}")


def _earning(position: np.ndarray) -> np.ndarray:
    """Return the reward of a detection: 1 at position -1, the left edge, 0 at 0, just after the right one."""
    return np.tanh(-2.5 * position) / np.tanh(2.5)


def _cost(position: np.ndarray) -> np.ndarray:
    """Return the cost of a false alarm so many widths after the last window: 0 at its edge, -1 far away."""
    return np.where(position >= FAR_BEHIND, -1.0, np.tanh(-2.5 * position))


def _result(steps: _Steps, profile: Profile, n_windows: int, threshold: float | None) -> NabResult:
    """Return the best total over all thresholds (or the one asked for), scaled to 0 and 100."""
    gains = np.where(steps.window < 0, profile.false_alarm * steps.worth, 0.0)
    for first_gains, at in _window_gains(steps, profile):
        gains[at] = first_gains
    ends = np.flatnonzero(np.diff(steps.scores, append=-np.inf))  # the last of each group of equal scores
    totals = np.concatenate([[0.0], np.cumsum(gains)[ends]])
    thresholds = np.concatenate([[np.inf], steps.scores[ends]])
    best = int(np.argmax(totals) if threshold is None else np.count_nonzero(thresholds >= threshold) - 1)
    detected = steps.scores >= thresholds[best]
    return NabResult(
        score=100 * float(totals[best]) / (n_windows * (1 + profile.miss)),
        threshold=float(thresholds[best]),
        n_hit=len(np.unique(steps.window[detected & (steps.window >= 0)])),
        n_windows=n_windows,
        n_false_alarms=int(np.count_nonzero(detected & (steps.window < 0))),
    )


def _window_gains(steps: _Steps, profile: Profile) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield, for each window, the gain of its steps as the threshold falls: only earlier detections gain."""
    inside = np.flatnonzero(steps.window >= 0)
    by_window = inside[np.argsort(steps.window[inside], kind="stable")]
    starts = np.flatnonzero(np.diff(steps.window[by_window])) + 1
    for at in np.split(by_window, starts):
        best_so_far = np.maximum.accumulate(steps.worth[at])
        yield np.diff(best_so_far, prepend=-profile.miss), at

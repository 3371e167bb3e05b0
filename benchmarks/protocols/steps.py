"""Score the steps of a series by any detector of windows, fitted on the start of the series."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import in_process
from benchmarks.errors import BenchmarkError
from benchmarks.measures.vus import find_period
from benchmarks.protocols.base import array_names, read_arrays
from benchmarks.protocols.baselines import Timed, run_baseline
from benchmarks.rows import OURS
from detector.windows import cut_windows, merge_scores, window_starts

CAUSAL, OFFLINE = "last", "mean"  # rules that turn scores of windows into scores of steps
WINDOW_OF_CHANNELS = 20  # steps, if a series has several columns
LEAST_WINDOWS = 4  # the start that is fitted on has at least this many windows, end to end
BASELINES = ("knn1", "knn5", "iforest", "pca")
CHUNK = 4096  # windows scored at once


@dataclasses.dataclass(frozen=True)
class View:
    """The windows that detectors score, and the rule that turns their scores into scores of steps.

    Attributes
    ----------
    preset : str
        Preset of our detector.
    window : int
        Steps of our windows; fewer if four of them do not fit into the start.
    baseline_window : int, or None
        Steps of the windows of other detectors; None: the period of a single column, 20 for several.
    rule : str
        `last`: a step has the score of the window that ends with it, so its future does not matter; `mean`:
        the mean of all windows over it.
    options : mapping of str to value
        Overrides of the preset.
    """

    preset: str
    window: int
    baseline_window: int | None
    rule: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Series:
    """One series with its labels, and the length of the start that a detector is fitted on.

    Attributes
    ----------
    name : str
    values : ndarray of shape (n_steps, n_columns), float64
    labels : ndarray of shape (n_steps,), bool
    n_train : int
    n_unmeasured : int
        Steps at the start that do not count in the metrics of telemetry.
    """

    name: str
    values: np.ndarray
    labels: np.ndarray
    n_train: int
    n_unmeasured: int = 0


def members_of(path: Path) -> dict[str, set[str]]:
    """Return the names of the series of an `.npz` and the arrays of each: `<series>/<array>`.

    Raises
    ------
    BenchmarkError
        If the file cannot be read.
    """
    series: dict[str, set[str]] = {}
    for key in array_names(path):
        name, _, member = key.rpartition("/")
        series.setdefault(name, set()).add(member)
    return series


def read_series(path: Path, name: str, values: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Read values as columns, float64, and labels, bool, of one series.

    Raises
    ------
    BenchmarkError
        If an array has another form.
    """
    steps, marks = read_arrays(path, (f"{name}/{values}", f"{name}/{labels}"))
    if steps.ndim not in (1, 2) or 0 in steps.shape or steps.dtype.kind not in "fiub":
        raise BenchmarkError(
            f"{path.name}: {name}/{values} must hold numbers of shape (n_steps,) or (n_steps, n_columns), "
            f"got {steps.dtype} of shape {steps.shape}"
        )
    if marks.shape != steps.shape[:1] or marks.dtype.kind not in "fiub" or not np.isin(marks, (0, 1)).all():
        raise BenchmarkError(
            f"{path.name}: {name}/{labels} must hold 0 and 1 of shape ({len(steps)},), "
            f"got {marks.dtype} of shape {marks.shape}"
        )
    if not np.isfinite(steps).all():
        raise BenchmarkError(f"{path.name}: {name}/{values} must be finite")
    return steps.reshape(len(steps), -1).astype(np.float64), marks.astype(bool)


def score_steps(method: str, values: np.ndarray, n_fit: int, seed: int, view: View) -> Timed:
    """Fit on the windows of the first `n_fit` steps, score all windows, merge them to steps.

    Parameters
    ----------
    method : str
        `residual`, or a detector of rows, which reads each window as one row.
    values : ndarray of shape (n_steps, n_columns)
    n_fit : int
    seed : int
    view : View

    Raises
    ------
    BenchmarkError, TrainingError, DetectorError
        If the method cannot be fitted, or a score is not finite.
    """
    wanted = view.window if method == OURS else view.baseline_window or usual_window(values[:n_fit])
    window = min(wanted, n_fit // LEAST_WINDOWS)
    starts = window_starts(len(values), window, 1)
    windows = cut_windows(values, window, starts)
    n_train = n_fit - window + 1
    if method == OURS and not np.ptp(values[:n_fit], axis=0).any():
        timed = _from_constant(windows)
    elif method == OURS:
        timed = _run_ours(view, windows[:n_train], windows, seed)
    else:
        rows = windows.reshape(len(windows), -1)
        timed = run_baseline(method, rows[:n_train], rows, seed)
    scores = merge_scores(timed.checked(method).scores, starts, len(values), window, view.rule)
    return dataclasses.replace(timed, scores=scores)


def usual_window(values: np.ndarray) -> int:
    """Return the steps of other detectors' windows: the period of a single column, 20 for several."""
    return find_period(values[:, 0]) if values.shape[1] == 1 else WINDOW_OF_CHANNELS


def _run_ours(view: View, train: np.ndarray, windows: np.ndarray, seed: int) -> Timed:
    """Fit our detector; a network trained by gradients uses the last tenth to know when to stop."""
    options = {**view.options, "seed": seed}
    dataset = in_process.normal_dataset(train, "sequence")
    fit = in_process.fit_all(dataset, view.preset, np.arange(len(train))[::-1], options)
    start = time.perf_counter()
    scores = [fit.score(windows[first : first + CHUNK]) for first in range(0, len(windows), CHUNK)]
    return Timed(np.concatenate(scores), fit.seconds, time.perf_counter() - start)


def _from_constant(windows: np.ndarray) -> Timed:
    """Score by the squared distance from the constant start, because `training.fit` refuses constant data."""
    return Timed(np.square(windows - windows[0]).mean(axis=(1, 2)), 0.0, 0.0)


def drawn_series(seed: int, n_columns: int, n_steps: int = 400) -> Series:
    """Draw a wave with noise and two anomalous stretches, fitted on its first half; it needs no file."""
    random = np.random.default_rng(seed)
    phase = np.arange(n_steps)[:, np.newaxis] * 2 * np.pi / 25 + np.arange(n_columns)
    values = np.sin(phase) + random.normal(0, 0.1, (n_steps, n_columns))
    labels = np.zeros(n_steps, dtype=bool)
    for first in (n_steps * 2 // 3, n_steps * 5 // 6):
        labels[first : first + 15] = True
    values[labels] = random.normal(0, 0.7, (int(labels.sum()), n_columns))
    return Series(f"drawn-{seed}", values, labels, n_steps // 2)

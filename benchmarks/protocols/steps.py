"""Scores for the steps of a series, by any detector of windows that was fitted on the start of it."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import in_process
from benchmarks.errors import QualityError
from benchmarks.measures.vus import find_period
from benchmarks.protocols.base import array_names, read_arrays
from benchmarks.protocols.baselines import Timed, run_baseline
from benchmarks.rows import OURS
from detector.windows import cut_windows, merge_scores, window_starts
from training.data.dataset import Dataset
from training.data.splits import Splits

CAUSAL, OFFLINE = "last", "mean"  # rules by which windows' scores become steps'
WINDOW_OF_CHANNELS = 20  # steps, where a series has several columns
LEAST_WINDOWS = 4  # of a start that is fitted on, end to end
BASELINES = ("knn1", "knn5", "iforest", "pca")
CHUNK = 4096  # windows scored at once


@dataclasses.dataclass(frozen=True)
class View:
    """What a detector sees of a series: windows, and by which rule their scores become steps'.

    Attributes
    ----------
    preset : str
        Of ours.
    window : int
        Steps of ours; fewer where it does not fit four times into the start.
    options : mapping of str to value
        Of the preset, where they differ.
    baseline_window : int, or None
        None: the period of a single column, 20 steps of several.
    rule : str
        `last`: a step has the score of the window that ends with it, nothing of its future; `mean`: the mean
        of all windows over it.
    """

    preset: str
    window: int
    baseline_window: int | None
    rule: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Series:
    """Steps of one series, which are anomalous, and how many at its start a detector is fitted on.

    Attributes
    ----------
    name : str
    values : ndarray of shape (n_steps, n_columns), float64
    labels : ndarray of shape (n_steps,), bool
    n_train : int
    """

    name: str
    values: np.ndarray
    labels: np.ndarray
    n_train: int


def members_of(path: Path) -> dict[str, set[str]]:
    """Names of the series of an `.npz`, and what arrays each has: `<series>/<array>`.

    Raises
    ------
    QualityError
        If it cannot be read.
    """
    series: dict[str, set[str]] = {}
    for key in array_names(path):
        name, _, member = key.rpartition("/")
        series.setdefault(name, set()).add(member)
    return series


def read_series(path: Path, name: str, values: str, labels: str) -> tuple[np.ndarray, np.ndarray]:
    """Values as columns, float64, and labels, bool, of one series.

    Raises
    ------
    QualityError
        If an array is of another form.
    """
    steps, marks = read_arrays(path, (f"{name}/{values}", f"{name}/{labels}"))
    if steps.ndim not in (1, 2) or 0 in steps.shape or steps.dtype.kind not in "fiub":
        raise QualityError(
            f"{path.name}: {name}/{values} must hold numbers of shape (n_steps,) or (n_steps, n_columns), "
            f"got {steps.dtype} of shape {steps.shape}"
        )
    if marks.shape != steps.shape[:1] or marks.dtype.kind not in "fiub" or not np.isin(marks, (0, 1)).all():
        raise QualityError(
            f"{path.name}: {name}/{labels} must hold 0 and 1 of shape ({len(steps)},), "
            f"got {marks.dtype} of shape {marks.shape}"
        )
    if not np.isfinite(steps).all():
        raise QualityError(f"{path.name}: {name}/{values} must be finite")
    return steps.reshape(len(steps), -1).astype(np.float64), marks.astype(bool)


def score_steps(method: str, values: np.ndarray, n_fit: int, seed: int, view: View) -> Timed:
    """Fit on the windows of the first `n_fit` steps, score all windows, merge them to steps.

    Parameters
    ----------
    method : str
        `residual`, or one of the detectors of rows, to which a window is a row.
    values : ndarray of shape (n_steps, n_columns)
    n_fit : int
    seed : int
    view : View

    Raises
    ------
    QualityError, TrainingError, DetectorError
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
        timed = _run_baseline(method, windows[:n_train], windows, seed)
    not_finite = int((~np.isfinite(timed.scores)).sum())
    if not_finite:
        raise QualityError(f"{method} answers {not_finite} scores that are not finite")
    return dataclasses.replace(
        timed, scores=merge_scores(timed.scores, starts, len(values), window, view.rule)
    )


def usual_window(values: np.ndarray) -> int:
    """Steps of a baseline's window: the period of a single column, 20 of several."""
    return find_period(values[:, 0]) if values.shape[1] == 1 else WINDOW_OF_CHANNELS


def _run_baseline(method: str, train: np.ndarray, windows: np.ndarray, seed: int) -> Timed:
    return run_baseline(method, train.reshape(len(train), -1), windows.reshape(len(windows), -1), seed)


def _run_ours(view: View, train: np.ndarray, windows: np.ndarray, seed: int) -> Timed:
    """The house's own detector; a network trained by gradients keeps the last tenth to know when to stop."""
    dataset = _as_dataset(train)
    config = in_process.settle(dataset, view.preset, {**view.options, "seed": seed})
    n_validation = max(1, round(config.validation_fraction * len(train)))
    if config.has_memory:
        config, n_validation = dataclasses.replace(config, latent_dim=0), 0
    validation, rest = np.arange(len(train) - n_validation, len(train)), np.arange(len(train) - n_validation)
    nothing = np.empty(0, dtype=np.int64)
    fit = in_process.fit(dataset, Splits(rest, validation, nothing, nothing, 0, 0), config)
    start = time.perf_counter()
    scores = [fit.score(windows[first : first + CHUNK]) for first in range(0, len(windows), CHUNK)]
    return Timed(np.concatenate(scores), fit.seconds, time.perf_counter() - start)


def _from_constant(windows: np.ndarray) -> Timed:
    """Squared distance from the one value of the start, which `training.fit` refuses: nothing to learn."""
    return Timed(np.square(windows - windows[0]).mean(axis=(1, 2)), 0.0, 0.0)


def _as_dataset(windows: np.ndarray) -> Dataset:
    return Dataset(
        samples=windows.astype(np.float32),
        is_anomaly=np.zeros(len(windows), dtype=bool),
        labels=None,
        held_out=np.zeros(len(windows), dtype=bool),
        kind="sequence",
        value_range=None,
        feature_names=tuple(f"x{column}" for column in range(windows.shape[2])),
        source="windows",
    )


def drawn_series(seed: int, n_columns: int, n_steps: int = 400) -> Series:
    """A wave with noise and two stretches of another shape, fitted on its first half: needs no file."""
    random = np.random.default_rng(seed)
    phase = np.arange(n_steps)[:, np.newaxis] * 2 * np.pi / 25 + np.arange(n_columns)
    values = np.sin(phase) + random.normal(0, 0.1, (n_steps, n_columns))
    labels = np.zeros(n_steps, dtype=bool)
    for first in (n_steps * 2 // 3, n_steps * 5 // 6):
        labels[first : first + 15] = True
    values[labels] = random.normal(0, 0.7, (int(labels.sum()), n_columns))
    return Series(f"drawn-{seed}", values, labels, n_steps // 2)


def seconds(timed: Timed) -> Mapping[str, float]:
    """What a row says of time."""
    return {"fit_seconds": round(timed.fit_seconds, 3), "score_seconds": round(timed.score_seconds, 3)}

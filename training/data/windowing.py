"""Cut a series into windows for each split, in order of time; no window crosses an entity, gap or split."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from detector.calibration import smallest_calibration
from detector.windows import SeriesWindows
from training.config import FitConfig
from training.data.dataset import Cut, Dataset, spread
from training.data.series import Timeline, describe_windows, runs, time_text
from training.data.splits import (
    COMFORTABLE_CALIBRATION,
    COMFORTABLE_SHARE,
    LARGEST_CALIBRATION_SHARE,
    LEAST_TRAIN,
)
from training.errors import DataError

DEFAULT_WINDOWS = (64, 48, 32, 24, 16, 8)  # the longest that the series is long enough for
# A memory of windows finds more in telemetry with longer windows. A memory of steps, which looks up each step
# by itself, would find an onset late with longer windows.
WINDOWS_OF_MEMORY, WINDOWS_OF_STEPS = (128, 96, *DEFAULT_WINDOWS), (8,)
MOST_TRAINING_WINDOWS = 50_000
MOST_TRAINING_VALUES = 2**26  # 256 MiB in float32
MANY_ENTITIES = 20
# Steps between calibration windows. If each of them began at the same hour of the day, their scores would not
# stand for windows that begin at other hours, and the promise would not hold for every step of a series.
APART = 1
TRAIN, VALIDATION, CALIBRATION, TEST = range(4)


@dataclasses.dataclass(frozen=True)
class _Starts:
    """First steps of the windows of each split, with the split of each step.

    `parts` are stretches of usable steps of each split: normal before the test split, and without a gap.
    """

    window: int
    split_of_step: np.ndarray
    parts: tuple[list[slice], ...]
    starts: tuple[np.ndarray, ...]
    stride: int

    def enough(self, n_calibration: int) -> bool:
        """Whether each split has enough windows, the calibration split `n_calibration`."""
        least = (LEAST_TRAIN, 1, n_calibration, 1)
        return all(part.size >= count for part, count in zip(self.starts, least, strict=True))


def cut_series(series: Dataset, config: FitConfig) -> Dataset:
    """Cut a series into windows, each in one split.

    Each entity is split in order of time: training, validation, calibration, test. If there are many
    entities, the ones that are too short for that go into one split as a whole, with anomalies into the test
    split. Training and validation windows overlap, calibration and test windows do not. Only the test split
    has anomalous steps.

    Parameters
    ----------
    series : Dataset
        Its samples are steps, and it has a timeline.
    config : FitConfig
        `window` and `stride` if given; fractions, `alpha`, `promise`, and `rows`, the most training windows.

    Returns
    -------
    Dataset
        Its samples are windows that are cut on access; `cut` says how.

    Raises
    ------
    DataError
        If the series is too short to train on, or for the promise of `alpha`.
    """
    chosen = _choose(series, config)
    split_of = np.repeat(np.arange(len(chosen.starts)), [part.size for part in chosen.starts])
    starts = np.concatenate(chosen.starts)
    fitted_parts = (*chosen.parts[TRAIN], *chosen.parts[VALIDATION])
    cut = Cut(series, split_of, fitted_parts, tuple(chosen.parts[TEST]), chosen.stride)
    windows = _as_windows(series, chosen.window, starts, cut)
    return dataclasses.replace(windows, notes=(*series.notes, *_notes(series, chosen, config)))


def whole_windows(series: Dataset, window: int) -> Dataset:
    """Cut a series into windows that do not overlap, across no entity and no gap, all for testing.

    Raises
    ------
    DataError
        If no stretch of the series is as long as a window.
    """
    timeline = series.timeline
    stretches = _usable_parts(timeline, np.zeros(len(timeline.entities), dtype=np.int64))
    starts = _cut(stretches, window, window)
    if not starts.size:
        longest = max((part.stop - part.start for part in stretches), default=0)
        raise DataError(
            f"{series.source}: a series must have at least the {window} steps of one window, got {longest} "
            "without a gap or a missing value"
        )
    cut = Cut(series, np.full(starts.size, TEST), (), tuple(stretches), window)
    windows = _as_windows(series, window, starts, cut)
    return dataclasses.replace(windows, samples=windows.samples[:])


def _as_windows(series: Dataset, window: int, starts: np.ndarray, cut: Cut) -> Dataset:
    """Replace the steps of a series by windows, with their labels."""
    is_anomaly, labels = describe_windows(series.is_anomaly, series.labels, starts, window)
    samples, held_out = SeriesWindows(series.samples, window, starts), np.zeros(starts.size, dtype=bool)
    return dataclasses.replace(
        series, samples=samples, is_anomaly=is_anomaly, labels=labels, held_out=held_out, cut=cut
    )


def _choose(series: Dataset, config: FitConfig) -> _Starts:
    """Choose the longest window and the smallest share for calibration that allow the promise."""
    needed = smallest_calibration(config.alpha) if config.promise else 1
    # Without a promise the threshold still needs a score that is exceeded at the wanted rate.
    wanted = needed if config.promise else math.ceil(1 / config.alpha)
    share = config.calibration_fraction
    shares = (
        (share, max(COMFORTABLE_CALIBRATION, wanted)),
        (max(share, COMFORTABLE_SHARE), wanted),
        (max(share, LARGEST_CALIBRATION_SHARE), wanted),
    )
    windows = [window for window in _lengths(config) if window >= (config.stride or 1)] or [config.stride]
    for window in [config.window] if config.window else windows:
        for share, n_calibration in shares:
            found = _starts(series, window, share, config)
            if found.enough(n_calibration):
                return found
    if found.enough(needed):  # only without a promise
        return found
    raise DataError(_too_short(len(series.samples), found, needed, share, config))


def _lengths(config: FitConfig) -> tuple[int, ...]:
    """Window lengths to choose from, the longest first."""
    if config.by_step:
        return WINDOWS_OF_STEPS
    return WINDOWS_OF_MEMORY if config.architecture == "memory-window" else DEFAULT_WINDOWS


def _too_short(n_steps: int, found: _Starts, needed: int, share: float, config: FitConfig) -> str:
    window, (train, validation, calibration, test) = found.window, (part.size for part in found.starts)
    more = "bring a longer series, take a shorter --window"
    if train < LEAST_TRAIN or not validation or not test:
        return (
            f"{n_steps} steps are too few for windows of {window}: {train} normal windows would be left to "
            f"train on, {validation} for validation and {test} for the test, and at least {LEAST_TRAIN}, 1 "
            f"and 1 are needed; {more.replace(',', ' or')}"
        )
    return (
        f"the promise of alpha {config.alpha:g} needs {needed} calibration windows that do not overlap, so "
        f"about {_steps_for(needed, window, share)} normal steps for windows of {window} with {share:g} of "
        f"the series for calibration; {n_steps} steps give {calibration} windows: {more}, ask for a larger "
        "--alpha, or fit without a promise (--no-promise)"
    )


def _steps_for(n_calibration: int, window: int, share: float) -> int:
    """Return about how many steps a series needs for so many calibration windows."""
    return math.ceil(n_calibration * (window + APART) / share)


def _starts(series: Dataset, window: int, share: float, config: FitConfig) -> _Starts:
    """Place windows of one length, with one share of the steps for calibration."""
    fractions = (config.validation_fraction, share, config.test_fraction)
    fractions = (max(0.0, 1 - sum(fractions)), *fractions)
    split_of_step = _split_steps(series, window, fractions)
    # Windows before the test split must not touch an anomalous step.
    usable = np.where(series.is_anomaly & (split_of_step != TEST), -1, split_of_step)
    usable_parts = _usable_parts(series.timeline, usable)
    pieces = tuple(
        [part for part in usable_parts if usable[part.start] == split and part.stop - part.start >= window]
        for split in range(len(fractions))
    )
    most = max(1, min(MOST_TRAINING_WINDOWS, MOST_TRAINING_VALUES // (window * series.samples.shape[1])))
    most = min(most, config.rows or most)
    n_windows = sum(part.stop - part.start - window + 1 for part in pieces[TRAIN])
    stride = config.stride or min(window, max(1, math.ceil(n_windows / most)))
    strides = (stride, stride, window + APART, window)
    starts = [_cut(parts, window, step) for parts, step in zip(pieces, strides, strict=True)]
    starts[TRAIN] = starts[TRAIN][spread(starts[TRAIN].size, most)]
    return _Starts(window, split_of_step, pieces, tuple(starts), stride)


def _split_steps(series: Dataset, window: int, fractions: Sequence[float]) -> np.ndarray:
    """The split of each step."""
    split_of_step = np.empty(len(series.samples), dtype=np.int64)
    entities = runs(series.timeline.entities)
    short = [part for part in entities if (part.stop - part.start) * fractions[VALIDATION] < window]
    dealt = np.zeros(len(fractions))
    for part in entities:
        n_steps = part.stop - part.start
        if len(entities) >= MANY_ENTITIES and part in short:
            behind = np.array(fractions) * (dealt.sum() + n_steps) - dealt
            split = TEST if series.is_anomaly[part].any() else int(behind.argmax())
            split_of_step[part] = split
            dealt[split] += 0 if series.is_anomaly[part].any() else n_steps
        else:
            ends = np.rint(np.cumsum(fractions)[:-1] * n_steps)
            split_of_step[part] = np.searchsorted(ends, np.arange(n_steps), side="right")
    return split_of_step


def _usable_parts(timeline: Timeline, codes: np.ndarray) -> list[slice]:
    """Parts of stretches whose steps have one code of at least 0 and no missing value."""
    if timeline.is_missing is not None:
        codes = np.where(timeline.is_missing, -1, codes)
    lengths = [part.stop - part.start for part in timeline.stretches()]
    keys = np.repeat(np.arange(len(lengths)), lengths) * (TEST + 2) + codes  # -1 is a code, too
    return [part for part in runs(keys) if codes[part.start] >= 0]


def _cut(parts: Sequence[slice], window: int, stride: int) -> np.ndarray:
    """Return the first steps of the windows in parts of a series."""
    starts = [np.arange(part.start, part.stop - window + 1, stride) for part in parts]
    return np.concatenate([*starts, np.empty(0, dtype=np.int64)]).astype(np.int64)


def _shortened(series: Dataset, window: int, longest: int, config: FitConfig) -> str:
    """Say why windows are shorter than what suits the preset."""
    share = max(config.calibration_fraction, LARGEST_CALIBRATION_SHARE)
    needed = smallest_calibration(config.alpha)
    if not config.promise or not _starts(series, longest, share, config).enough(1):
        return (
            f"windows have {window} steps, since the series is too short for {longest}: choose another "
            "length with --window"
        )
    return (
        f"windows have {window} steps, and not {longest} as suits the preset, for the sake of the promise: "
        f"alpha {config.alpha:g} needs {needed} calibration windows that do not overlap, with windows of "
        f"{longest} so about {_steps_for(needed, longest, share)} normal steps; choose a larger --alpha, or "
        f"--window {longest} with --no-promise"
    )


def _notes(series: Dataset, chosen: _Starts, config: FitConfig) -> Iterator[str]:
    timeline, window = series.timeline, chosen.window
    longest = _lengths(config)[0]
    if config.window is None and window != longest:
        yield _shortened(series, window, longest, config)
    repeated = timeline.n_repeated_times()
    if repeated:
        advice = "" if timeline.entity_column else "; --entity-column tells several series in one table apart"
        yield (
            f"{repeated} of {len(timeline.times)} steps have the same time as the step before: a series has "
            f"one row per step{advice}"
        )
    gaps = timeline.gaps()
    if gaps.size:
        gap = np.flatnonzero(timeline.gap_after())[gaps.argmax()]
        unit = " seconds" if timeline.times.dtype.kind == "M" else ""
        yield (
            f"{gaps.size} gap{'s' * (gaps.size > 1)} in time, the largest of {gaps.max():g}{unit} after "
            f"{time_text(timeline.times[gap])} where {timeline.usual_step:g} is usual: no window crosses one"
        )
    stretches = _usable_parts(timeline, np.zeros(len(timeline.entities), dtype=np.int64))
    short = sum(part.stop - part.start < window for part in stretches)
    if short:
        yield f"{short} of {len(stretches)} stretches are shorter than a window and were left out"
    early = series.is_anomaly & (chosen.split_of_step != TEST)
    if early.any():
        yield (
            f"{early.sum()} anomalous steps of {series.is_anomaly.sum()} are before the test part: they were "
            "left out, with every window that has one of them"
        )
    if series.is_anomaly.any() and not series.is_anomaly[chosen.split_of_step == TEST].any():
        yield "the test part has no anomalous step: nothing measures how many are found"
    if chosen.stride > 1 and config.stride is None:
        yield f"training windows begin every {chosen.stride} steps, to limit their number"

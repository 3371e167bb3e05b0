"""S3 and S4: streams, each fitted on its start and then scored step by step from the past alone.

A set is a whole file, because its metrics are computed over all its series together.

S3 is an `.npz` with `<series>/value`, shape (n_steps,), and `<series>/window`, shape (n_steps,), 1 in the
labelled windows: the Numenta Anomaly Benchmark with its own scoring. A detector is fitted on the first 15 %
of a series, at most 750 steps, which are not scored. One rule that uses the past alone turns the scores of
all detectors of windows into alarms: see `alert_scores`.

S4 is an `.npz` with `<run>/X`, shape (n_steps, n_columns), and `<run>/label`, shape (n_steps,), 1 where a
step is anomalous: SKAB. A detector is fitted on the first 400 steps of a run and decides the later ones.
Hits, misses and false alarms are counted over all runs.
"""

import bisect
import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.measures.nab import PROFILES, nab_results, probation
from benchmarks.measures.nab_published import relative_entropy, windowed_gaussian
from benchmarks.measures.vus import labelled_runs
from benchmarks.protocols.base import DataSet, Protocol, npz_sets, refused_set
from benchmarks.protocols.baselines import Timed
from benchmarks.protocols.steps import (
    BASELINES,
    CAUSAL,
    Series,
    View,
    drawn_series,
    members_of,
    read_series,
    score_steps,
)
from benchmarks.rows import OURS, Row
from training.errors import TrainingError

SQUARES = (OURS, "pca")  # scores that are squares of distances
N_REST = 100  # steps after a high score in which no lower one raises an alarm
SHARE_HIGHEST, LEAST_HIGHEST, N_HISTORY, LEAST_UNIT = 0.01, 3, 20, 1e-9
SHARE_FITTED = 0.75  # of a run's start; the rest shows how high the scores of normal steps are
MARGINS, OUR_MARGIN = (
    (1.0, 1.25, 1.5, 1.75, 2.0),
    1.75,
)  # thresholds, in units of the highest score of that rest
# Windows of other detectors: the best of 1, 8 and 16 steps for nearest neighbours.
NAB_VIEW = View("memory-stream", 8, baseline_window=1, rule=CAUSAL, options={"scored_steps": 1})
SKAB_VIEW = View("memory-stream", 8, baseline_window=8, rule=CAUSAL)
STEPS_OF_RUN = 400  # that the published SKAB figures are fitted on
NAB_NAMES = {"standard": "standard", "reward_low_FP_rate": "low_fp", "reward_low_FN_rate": "low_fn"}
PUBLISHED_NAB = (
    "ARTime 74.9 / 65.2 / 80.4, Numenta HTM 70.1 / 63.1 / 74.3, CAD OSE 69.9 / 67.0 / 73.2",
    "earthgecko Skyline 58.2 / 46.2 / 63.8, KNN CAD 58.0 / 43.4 / 64.8, Relative Entropy 54.6 / 47.6 / 58.8",
    "Random Cut Forest 51.7 / 38.4 / 59.7, Twitter ADVec 47.1 / 33.6 / 53.5, "
    "Windowed Gaussian 39.6 / 20.9 / 47.4",
)
PUBLISHED_SKAB = (
    "with false-alarm and miss rate: Conv-AE 0.78 (0.136, 0.280), MSET 0.78 (0.397, 0.141), "
    "T2 + Q 0.76 (0.266, 0.249)",
    "F1 alone: LSTM-AE 0.74, T2 0.66, LSTM-VAE 0.56, Vanilla AE 0.39, Isolation Forest 0.29",
)
OF_SERIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "windowed-gaussian": windowed_gaussian,
    "relative-entropy": relative_entropy,
}


Corpus = Sequence[Series]  # all series of a file


def find_corpora(values: str, labels: str, data_dir: Path | None) -> Sequence[DataSet]:
    """Find every file of a folder with such arrays; without a folder one corpus of two drawn series."""
    if data_dir is None:
        n_columns = 1 if values == "value" else 3
        drawn = [drawn_series(seed, n_columns) for seed in (0, 1)]
        return [DataSet("drawn", "drawn", lambda: drawn)]
    found = []
    for file in npz_sets(data_dir, lambda path: path):
        try:
            if _names(file.load(), values, labels):
                load = partial(read_corpus, file.load(), values, labels)
                found.append(dataclasses.replace(file, load=load))
        except BenchmarkError as error:
            found.append(refused_set(file, error))
    if not found:
        raise BenchmarkError(
            f"{data_dir} must hold an .npz with arrays <series>/{values} and <series>/{labels}, got none"
        )
    return found


def _names(path: Path, values: str, labels: str) -> list[str]:
    series = members_of(path)
    return sorted(name for name, members in series.items() if name and {values, labels} <= members)


def read_corpus(path: Path, values: str, labels: str) -> Corpus:
    """Read all series of a file that have labels.

    Raises
    ------
    BenchmarkError
        If an array has another form, a series is too short, or no step is anomalous.
    """
    found = []
    for name in _names(path, values, labels):
        steps, marks = read_series(path, name, values, labels)
        n_train = probation(len(steps)) if values == "value" else STEPS_OF_RUN
        if len(steps) <= n_train:
            raise BenchmarkError(f"{path.name}: {name} must have more than {n_train} steps, got {len(steps)}")
        found.append(Series(name, steps, marks, n_train))
    if not any(series.labels[series.n_train :].any() for series in found):
        raise BenchmarkError(f"{path.name}: {labels} must mark an anomalous step, got none")
    return found


# --- scores -------------------------------------------------------------------------------------------------


def stream_scores(method: str, series: Series, n_fit: int, seed: int, view: View) -> Timed:
    """Score all steps causally, in the unit of the data: squared distances are replaced by their root."""
    timed = score_steps(method, series.values, n_fit, seed, view)
    return dataclasses.replace(timed, scores=np.sqrt(timed.scores)) if method in SQUARES else timed


def alert_scores(series: Series, seed: int, method: str) -> Timed:
    """Score a stream so that one threshold suits every stream, and one event raises the score once.

    A stream that a detector refuses to be fitted on raises no alarm. Scores of the published detectors of
    single values are not changed.
    """
    if method in OF_SERIES:
        start = time.perf_counter()
        scores = OF_SERIES[method](series.values[:, 0])
        return Timed(scores, 0.0, time.perf_counter() - start)
    try:
        timed = stream_scores(method, series, series.n_train, seed, NAB_VIEW)
    except TrainingError:  # the start is constant, or noise without anything to learn
        return Timed(np.zeros(len(series.values)), 0.0, 0.0)
    return dataclasses.replace(timed, scores=newly_high(against_past(timed.scores), N_REST))


def against_past(scores: np.ndarray) -> np.ndarray:
    """Divide each score by the mean of the highest hundredth of all scores before it.

    A stream whose scores are often high must score higher to raise an alarm, as in the anomaly likelihood of
    NAB's authors. The first few scores have no history and count as 0.
    """
    ratios, history = np.zeros(len(scores)), []
    for step, score in enumerate(scores.tolist()):
        if step >= N_HISTORY:
            n_highest = max(LEAST_HIGHEST, math.ceil(SHARE_HIGHEST * step))
            ratios[step] = score / max(sum(history[-n_highest:]) / n_highest, LEAST_UNIT)
        bisect.insort(history, score)
    return ratios


def newly_high(scores: np.ndarray, n_rest: int) -> np.ndarray:
    """Keep scores above all of the `n_rest` scores before them; replace the others by the lowest of all."""
    before = np.concatenate([np.full(n_rest, -np.inf), scores])[:-1]
    highest = np.lib.stride_tricks.sliding_window_view(before, n_rest).max(axis=1)
    return np.where(scores > highest, scores, scores.min())


def measure_nab(corpus: Corpus, seed: int, method: str) -> dict[str, Any]:
    """Measure one row: the scores of the three profiles, at most 100, at the best threshold of the corpus."""
    timed = {series.name: alert_scores(series, seed, method) for series in corpus}
    windows = {series.name: labelled_runs(series.labels) for series in corpus}
    results = nab_results({name: one.scores for name, one in timed.items()}, windows)
    standard = results["standard"]
    return {
        **{NAB_NAMES[name]: round(results[name].score, 4) for name in PROFILES},
        **_total_seconds(timed.values()),
        "n_series": len(corpus),
        "n_silent": sum(not np.ptp(one.scores) for one in timed.values()),
        "n_windows": standard.n_windows,
        "n_hit": standard.n_hit,
        "n_false_alarms": standard.n_false_alarms,
        "threshold": standard.threshold,
    }


def measure_skab(corpus: Corpus, seed: int, method: str) -> dict[str, Any]:
    """Measure one row: F1, false-alarm and miss rate over all runs.

    The threshold of a run is a margin times the highest score of the last quarter of its start. That quarter
    is not fitted on. Our margin is fixed; other detectors have the margin that is best in hindsight.
    """
    margins = (OUR_MARGIN,) if method == OURS else MARGINS
    counts, spent = np.zeros((len(margins), 4), dtype=int), []
    for series in corpus:
        n_fit = round(SHARE_FITTED * series.n_train)
        timed = stream_scores(method, series, n_fit, seed, SKAB_VIEW)
        highest = timed.scores[n_fit : series.n_train].max()
        scores, labels = timed.scores[series.n_train :], series.labels[series.n_train :]
        counts += np.array([confusion(labels, scores > margin * highest) for margin in margins])
        spent.append(timed)
    figures = [rates(*map(int, row)) for row in counts]
    best = max(range(len(margins)), key=lambda place: figures[place]["f1"])
    return {
        **figures[best],
        **_total_seconds(spent),
        "margin": margins[best],
        "n_series": len(corpus),
        "n_steps": int(counts[best].sum()),
        "n_anomalous": int(counts[best][[0, 2]].sum()),
    }


def rates(hit: int, false: int, missed: int, quiet: int) -> dict[str, float]:
    """Return F1, false alarms as a share of normal steps, and misses as a share of anomalous steps."""
    return {
        "f1": round(2 * hit / (2 * hit + false + missed), 6),
        "false_alarm_rate": round(false / max(false + quiet, 1), 6),
        "miss_rate": round(missed / (hit + missed), 6),
    }


def confusion(labels: np.ndarray, alarm: np.ndarray) -> np.ndarray:
    """Count the steps that are hits, false alarms, misses and correctly without alarm."""
    return np.array(
        [(labels & alarm).sum(), (~labels & alarm).sum(), (labels & ~alarm).sum(), (~labels & ~alarm).sum()]
    )


def _total_seconds(timed: Iterable[Timed]) -> dict[str, float]:
    spent = np.array([(one.fit_seconds, one.score_seconds) for one in timed]).sum(axis=0)
    return Timed(np.empty(0), *map(float, spent)).seconds()


# --- published figures --------------------------------------------------------------------------------------


def published_nab(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the official table if the corpus has as many series and windows as NAB."""
    if any((row["n_series"], row["n_windows"]) == (58, 116) for row in rows):
        yield "published, standard / low FP / low FN (numenta/NAB, results/final_results.json):"
        yield from (f"  {line}" for line in PUBLISHED_NAB)


def published_skab(rows: Sequence[Row]) -> Iterator[str]:
    """Yield F1 of an alarm at every step, and the leaderboard."""
    for name, n_steps, n_anomalous in sorted(
        {(row["set"], row["n_steps"], row["n_anomalous"]) for row in rows}
    ):
        trivial = 2 * n_anomalous / (n_steps + n_anomalous)
        yield f"an alarm at each of the {n_steps} steps of {name}: f1 {trivial:.3f}, false_alarm_rate 1"
    if any(row["n_series"] == 34 for row in rows):
        yield "published F1 (waico/SKAB, leaderboard):"
        yield from (f"  {line}" for line in PUBLISHED_SKAB)


PROTOCOLS = {
    "S3": Protocol(
        "streams with labelled windows, scored as the Numenta Anomaly Benchmark does",
        metrics=("standard", "low_fp", "low_fn"),
        methods=(OURS, *BASELINES, *OF_SERIES),
        quick_methods=(OURS, "knn5", "windowed-gaussian"),
        find=partial(find_corpora, "value", "window"),
        measure=measure_nab,
        seeds=(0,),
        summary=published_nab,
    ),
    "S4": Protocol(
        "streams of several sensors, F1 over all runs (SKAB)",
        metrics=("f1", "false_alarm_rate", "miss_rate"),
        methods=(OURS, *BASELINES),
        quick_methods=(OURS, "knn5", "pca"),
        find=partial(find_corpora, "X", "label"),
        measure=measure_skab,
        seeds=(0,),
        lower_is_better=frozenset({"false_alarm_rate", "miss_rate"}),
        summary=published_skab,
    ),
}

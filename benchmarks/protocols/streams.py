"""S3 and S4: streams, each fitted on its start and then scored step by step from the past alone.

A set is a whole file, for its figures are those of all its series together.

S3 is an `.npz` with `<series>/value`, shape (n_steps,), and `<series>/window`, shape (n_steps,), 1 in the
labelled windows: the Numenta Anomaly Benchmark with its own scoring. A detector is fitted on the first 15 %
of a series, at most 750 steps, which are not scored.

S4 is an `.npz` with `<run>/X`, shape (n_steps, n_columns), and `<run>/label`, shape (n_steps,), 1 where a
step is anomalous: SKAB. A detector is fitted on the first 400 steps of a run; those behind them are
decided, and hits, misses and false alarms are counted over all runs.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.baselines import Timed
from benchmarks.nab import PROFILES, nab_results, probation
from benchmarks.nab_published import relative_entropy, windowed_gaussian
from benchmarks.protocol import OURS, DataSet, Protocol, QualityError, npz_sets
from benchmarks.rows import Row
from benchmarks.steps import (
    BASELINES,
    CAUSAL,
    Series,
    drawn_series,
    members_of,
    read_series,
    score_steps,
    seconds,
)
from benchmarks.vus import labelled_runs
from detector.calibration import promised_rank

SHARE_FITTED = 0.75  # of a start; the rest says how high a score normal steps reach
STEPS_OF_RUN = 400  # that the published SKAB figures are fitted on
ALPHA = 0.05
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


@dataclasses.dataclass(frozen=True)
class Corpus:
    """All series of a file."""

    series: tuple[Series, ...]


def find_corpora(values: str, labels: str, data_dir: Path | None) -> Sequence[DataSet]:
    """Every file of a folder with such arrays; without one two drawn series."""
    if data_dir is None:
        n_columns = 1 if values == "value" else 3
        drawn = Corpus(tuple(drawn_series(seed, n_columns) for seed in (0, 1)))
        return [DataSet("drawn", "drawn", lambda: drawn)]
    found = [
        dataclasses.replace(file, load=partial(read_corpus, file.load(), values, labels))
        for file in npz_sets(data_dir, (), lambda path: path)
        if _names(file.load(), values, labels)
    ]
    if not found:
        raise QualityError(
            f"{data_dir} must hold an .npz with arrays <series>/{values} and <series>/{labels}, got none"
        )
    return found


def _names(path: Path, values: str, labels: str) -> list[str]:
    series = members_of(path)
    return sorted(name for name, members in series.items() if name and {values, labels} <= members)


def read_corpus(path: Path, values: str, labels: str) -> Corpus:
    """All series of a file that have labels.

    Raises
    ------
    QualityError
        If an array is of another form, a series too short, or nothing is anomalous.
    """
    found = []
    for name in _names(path, values, labels):
        steps, marks = read_series(path, name, values, labels)
        n_train = probation(len(steps)) if values == "value" else STEPS_OF_RUN
        if len(steps) <= n_train:
            raise QualityError(f"{path.name}: {name} must have more than {n_train} steps, got {len(steps)}")
        found.append(Series(name, steps, marks, n_train))
    if not any(series.labels[series.n_train :].any() for series in found):
        raise QualityError(f"{path.name}: {labels} must mark an anomalous step, got none")
    return Corpus(tuple(found))


# --- scores -------------------------------------------------------------------------------------------------


def held_out_scores(series: Series, seed: int, method: str) -> tuple[Timed, np.ndarray]:
    """Scores of all steps, and those of the last quarter of the start, which the detector has not seen."""
    n_fit = round(SHARE_FITTED * series.n_train)
    timed = score_steps(method, series.values, n_fit, seed, CAUSAL)
    return timed, timed.scores[n_fit : series.n_train]


def comparable_scores(series: Series, seed: int, method: str) -> Timed:
    """Scores in units of the highest that an unseen normal step of the series had: one threshold for all."""
    if method in OF_SERIES:
        return Timed(OF_SERIES[method](series.values[:, 0]), 0.0, 0.0)
    timed, held_out = held_out_scores(series, seed, method)
    unit = max(float(held_out.max()), np.finfo(np.float32).tiny)
    return dataclasses.replace(timed, scores=timed.scores / unit)


def measure_nab(corpus: Corpus, seed: int, method: str) -> dict[str, Any]:
    """One row: the scores of the three profiles, 0 to 100, with the best thresholds for the corpus."""
    timed = {series.name: comparable_scores(series, seed, method) for series in corpus.series}
    windows = {series.name: labelled_runs(series.labels) for series in corpus.series}
    results = nab_results({name: one.scores for name, one in timed.items()}, windows)
    standard = results["standard"]
    return {
        **{NAB_NAMES[name]: round(results[name].score, 4) for name in PROFILES},
        **seconds(_total(timed.values())),
        "n_series": len(corpus.series),
        "n_windows": standard.n_windows,
        "n_hit": standard.n_hit,
        "n_false_alarms": standard.n_false_alarms,
        "threshold": standard.threshold,
    }


def measure_skab(corpus: Corpus, seed: int, method: str) -> dict[str, Any]:
    """One row: F1, false-alarm and miss rate over all runs, with a threshold from each run's start alone."""
    counts, spent = np.zeros(4, dtype=int), []
    for series in corpus.series:
        timed, held_out = held_out_scores(series, seed, method)
        alarm = timed.scores > threshold_of(held_out)
        behind = slice(series.n_train, None)
        counts += confusion(series.labels[behind], alarm[behind])
        spent.append(timed)
    hit, false, missed, quiet = (int(count) for count in counts)
    return {
        "f1": round(2 * hit / (2 * hit + false + missed), 6),
        "false_alarm_rate": round(false / max(false + quiet, 1), 6),
        "miss_rate": round(missed / (hit + missed), 6),
        **seconds(_total(spent)),
        "n_series": len(corpus.series),
        "n_steps": int(counts.sum()),
        "n_anomalous": hit + missed,
    }


def threshold_of(held_out: np.ndarray) -> float:
    """The score that promises `ALPHA` on normal steps like these, as a fitted model's threshold does."""
    rank = max(promised_rank(len(held_out), ALPHA), 1)
    return float(np.sort(held_out)[-rank])


def confusion(labels: np.ndarray, alarm: np.ndarray) -> np.ndarray:
    """Steps that are hits, false alarms, misses, and rightly quiet."""
    return np.array(
        [(labels & alarm).sum(), (~labels & alarm).sum(), (labels & ~alarm).sum(), (~labels & ~alarm).sum()]
    )


def _total(timed: Any) -> Timed:
    timed = list(timed)
    return Timed(np.empty(0), sum(one.fit_seconds for one in timed), sum(one.score_seconds for one in timed))


# --- published figures --------------------------------------------------------------------------------------


def published_nab(rows: Sequence[Row]) -> Iterator[str]:
    """The official table, where the corpus has as many series and windows as NAB."""
    if any((row["n_series"], row["n_windows"]) == (58, 116) for row in rows):
        yield "published, standard / low FP / low FN (numenta/NAB, results/final_results.json):"
        yield from (f"  {line}" for line in PUBLISHED_NAB)


def published_skab(rows: Sequence[Row]) -> Iterator[str]:
    """What an alarm at every step would reach, and the leaderboard."""
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

"""T1, T1b and T2: tables, fitted on half of the normal rows, tested on the other half and the anomalies.

A set is an `.npz` with `X`, shape (n, columns), finite numbers, and `y`, shape (n,), 0 or 1: 1 is an anomaly.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks import in_process
from benchmarks.environments import is_made
from benchmarks.errors import BenchmarkError
from benchmarks.measures.comparison import compare
from benchmarks.protocols.base import DataSet, Protocol, npz_sets, read_arrays
from benchmarks.protocols.baselines import METHODS, PYOD_AUTOENCODER, PYOD_CONTENDER, Timed, run_baseline
from benchmarks.rows import OURS, Row
from training.presets import DEFAULT_PRESETS

OUR_PRESETS = {OURS: DEFAULT_PRESETS["vector"], f"{OURS}-fast": "vector-fast", f"{OURS}-dense": "dense"}
LARGEST, SMALLEST_UNDRAWN = 50_000, 1000
METRICS = ("auroc", "ap", "f1")
NEIGHBOUR_METHODS, CHANCE = ("knn1", "knn5", "dte-np"), 0.55


@dataclasses.dataclass(frozen=True)
class LabelledTable:
    """A set: `samples` of shape (n, columns), float64, and `is_anomaly` of shape (n,), bool."""

    name: str
    samples: np.ndarray
    is_anomaly: np.ndarray

    def take(self, rows: np.ndarray) -> "LabelledTable":
        """Return a table of these rows."""
        return LabelledTable(self.name, self.samples[rows], self.is_anomaly[rows])


@dataclasses.dataclass(frozen=True)
class Parts:
    """Row numbers: normal rows to fit on, normal rows to test, anomalies."""

    train: np.ndarray
    normal: np.ndarray
    anomalies: np.ndarray

    @property
    def test(self) -> np.ndarray:
        """Rows to test: normal rows, then anomalies."""
        return np.concatenate([self.normal, self.anomalies])


# --- files --------------------------------------------------------------------------------------------------


def find_tables(data_dir: Path | None) -> Sequence[DataSet]:
    """Find every `.npz` of a folder; without a folder two small sets of scikit-learn."""
    if data_dir is None:
        return [built_in_set("wine"), built_in_set("breast-cancer")]
    return npz_sets(data_dir, read_table)


def find_large_tables(data_dir: Path | None) -> Sequence[DataSet]:
    """Find the sets of at least 1,000 rows."""
    if data_dir is None:
        return find_tables(None)
    return [
        table
        for table in find_tables(data_dir)
        if read_arrays(data_dir / f"{table.name}.npz", ("y",))[0].size >= SMALLEST_UNDRAWN
    ]


def read_table(path: Path) -> LabelledTable:
    """Read one set.

    Raises
    ------
    BenchmarkError
        If an array has another form; the text names the array and both forms.
    """
    samples, labels = read_arrays(path, ("X", "y"))
    if samples.ndim != 2 or 0 in samples.shape or samples.dtype.kind not in "fiub":
        raise _wrong(path, "X must hold numbers of shape (n, columns)", samples)
    if labels.shape != samples.shape[:1] or labels.dtype.kind not in "fiub":
        raise _wrong(path, f"y must hold 0 and 1 of shape ({len(samples)},)", labels)
    samples = samples.astype(np.float64)
    if not np.isfinite(samples).all():
        row, column = np.argwhere(~np.isfinite(samples))[0]
        raise BenchmarkError(
            f"{path.name}: X must be finite, got {samples[row, column]} in row {row}, column {column}"
        )
    others = np.setdiff1d(labels, (0, 1))
    if others.size:
        raise BenchmarkError(f"{path.name}: y must be 0 (normal) or 1 (anomaly), got {others[0]}")
    is_anomaly = labels == 1
    counts = np.array([(~is_anomaly).sum(), is_anomaly.sum()])
    if counts[0] < 4 or counts[1] < 1:
        raise BenchmarkError(
            f"{path.name}: y must name at least 4 normal rows and 1 anomaly, got {counts[0]} and {counts[1]}"
        )
    # Detectors read float32: without its offset a column keeps the digits that vary. No score depends on it.
    return LabelledTable(path.stem, samples - np.quantile(samples, 0.5, axis=0, method="nearest"), is_anomaly)


def _wrong(path: Path, words: str, got: np.ndarray) -> BenchmarkError:
    return BenchmarkError(f"{path.name}: {words}, got {got.dtype} of shape {got.shape}")


def built_in_set(name: str) -> DataSet:
    """Return a set that needs no file."""
    return DataSet(name, "built-in", partial(built_in, name))


def built_in(name: str) -> LabelledTable:
    """Load a set of scikit-learn, with one class as the anomalies."""
    load, anomalous = BUILT_IN[name]
    bunch = load()
    return LabelledTable(name, bunch.data, bunch.target == anomalous)


# The anomalies: the third sort of wine, malignant tumours, the digit nine.
BUILT_IN = {"wine": (load_wine, 2), "breast-cancer": (load_breast_cancer, 0), "digits": (load_digits, 9)}


# --- splits -------------------------------------------------------------------------------------------------


def at_most(table: LabelledTable, seed: int) -> LabelledTable:
    """Draw 50,000 rows without replacement from a larger table."""
    n_rows = len(table.samples)
    if n_rows <= LARGEST:
        return table
    return table.take(_generator(seed).choice(n_rows, LARGEST, replace=False))


def at_least(table: LabelledTable, seed: int) -> LabelledTable:
    """Draw 1,000 rows with replacement from a smaller table."""
    n_rows = len(table.samples)
    if n_rows >= SMALLEST_UNDRAWN:
        return table
    return table.take(_generator(seed).choice(n_rows, SMALLEST_UNDRAWN, replace=True))


def shuffled_half(table: LabelledTable, seed: int, share: float = 0.5) -> Parts:
    """Shuffle the normal rows and fit on the first share of them."""
    normal = _generator(seed).permutation(np.flatnonzero(~table.is_anomaly))
    return _first(normal, table, share)


def first_half(table: LabelledTable, seed: int) -> Parts:
    """Fit on the first half of the normal rows in the order of the file, as published: data may drift."""
    return _first(np.flatnonzero(~table.is_anomaly), table, 0.5)


def _first(normal: np.ndarray, table: LabelledTable, share: float) -> Parts:
    n_train = round(share * normal.size)
    return Parts(normal[:n_train], normal[n_train:], np.flatnonzero(table.is_anomaly))


def _generator(seed: int) -> np.random.RandomState:
    return np.random.RandomState(seed)


def split_t1(table: LabelledTable, seed: int) -> tuple[LabelledTable, Parts]:
    """Split as published: draw small sets to 1,000 rows, keep the order of the file."""
    table = at_most(at_least(table, seed), seed)
    return table, first_half(table, seed)


def split_t2(table: LabelledTable, seed: int) -> tuple[LabelledTable, Parts]:
    """Split without the two faults of T1: shuffle, and never fit and test on the same row."""
    table = at_most(table, seed)
    return table, shuffled_half(table, seed)


# --- one run ------------------------------------------------------------------------------------------------


def score_table(method: str, train: np.ndarray, test: np.ndarray, seed: int) -> Timed:
    """Fit on the training rows and score the test rows by any method.

    Raises
    ------
    BenchmarkError, TrainingError, DetectorError
        If the method cannot be fitted, or a score is not finite.
    """
    run = run_ours if method in OUR_PRESETS else run_baseline
    return run(method, train, test, seed).checked(method)


def run_ours(method: str, train: np.ndarray, test: np.ndarray, seed: int) -> Timed:
    """Fit our detector on all training rows and score through its exported graph."""
    fit = fit_ours(method, train, seed)
    start = time.perf_counter()
    scores = fit.score(test)
    return Timed(scores, fit.seconds, time.perf_counter() - start)


def fit_ours(method: str, train: np.ndarray, seed: int) -> in_process.Fit:
    """Fit a preset with its defaults on normal rows, even if `training.fit` would refuse the network."""
    order = np.random.default_rng(seed).permutation(len(train))
    options = {"seed": seed, "collapse_check": False}
    return in_process.fit_all(in_process.normal_dataset(train, "vector"), OUR_PRESETS[method], order, options)


def measure(
    split: Callable[[LabelledTable, int], tuple[LabelledTable, Parts]],
    table: LabelledTable,
    seed: int,
    method: str,
) -> dict:
    """Measure one row: areas under the curves, F1 at the true number of anomalies, sizes and seconds."""
    table, parts = split(table, seed)
    train, test = table.samples[parts.train], table.samples[parts.test]
    timed = score_table(method, train, test, seed)
    return {
        **figures(table.is_anomaly[parts.test], timed.scores),
        **timed.seconds(),
        **sizes(table, parts),
    }


def figures(is_anomaly: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Return the metrics of one run, fractions."""
    return {
        "auroc": round(float(roc_auc_score(is_anomaly, scores)), 6),
        "ap": round(float(average_precision_score(is_anomaly, scores)), 6),
        "f1": round(f1_at_k(is_anomaly, scores), 6),
    }


def f1_at_k(is_anomaly: np.ndarray, scores: np.ndarray) -> float:
    """Return F1 if as many rows are flagged as there are anomalies; precision and recall then equal it.

    Rows with the lowest flagged score share the places that are left: each counts in part.
    """
    n_anomalies = int(is_anomaly.sum())
    edge = np.sort(scores)[-n_anomalies]
    above, at_edge = scores > edge, scores == edge
    share = (n_anomalies - above.sum()) / at_edge.sum()
    return float((is_anomaly & above).sum() + share * (is_anomaly & at_edge).sum()) / n_anomalies


def sizes(table: LabelledTable, parts: Parts) -> dict[str, int]:
    """Return the sizes of the data as members of a row."""
    return {
        "n_train": parts.train.size,
        "n_test": parts.test.size,
        "n_anomalies": parts.anomalies.size,
        "columns": table.samples.shape[1],
    }


def at_chance(rows: Sequence[Row]) -> Iterator[str]:
    """Name the sets on which ours is no better than chance and a neighbour-based method is; seed means."""
    compared = compare(rows, "auroc", (OURS, *NEIGHBOUR_METHODS))
    if OURS not in compared.methods or len(compared.methods) < 2:
        return
    ours = compared.values[:, 0]
    others = compared.values[:, 1:].max(axis=1)
    found = [
        f"{name} ({own:.3f}, {other:.3f})"
        for name, own, other in zip(compared.sets, ours, others, strict=True)
        if own <= CHANCE < other
    ]
    yield f"AUROC of {OURS} at most {CHANCE:g} and of neighbours above it: {', '.join(found) or 'no set'}"


QUICK_METHODS = (OURS, "knn5", "pca")
ALL_METHODS = (*OUR_PRESETS, *METHODS)
# The trained network takes a minute for a fit; PyOD's environment is made only if it is named.
LEFT_OUT = {f"{OURS}-dense"} | (set() if is_made(PYOD_CONTENDER) else {PYOD_AUTOENCODER})
DEFAULT_METHODS = tuple(name for name in ALL_METHODS if name not in LEFT_OUT)


def _protocol(
    words: str, split: Callable[[LabelledTable, int], tuple[LabelledTable, Parts]], **options: Any
) -> Protocol:
    return Protocol(
        words,
        METRICS,
        methods=ALL_METHODS,
        quick_methods=QUICK_METHODS,
        default_methods=DEFAULT_METHODS,
        measure=partial(measure, split),
        summary=at_chance,
        **{"find": find_tables, **options},
    )


PROTOCOLS = {
    "T1": _protocol("rows, as published: order of the file, small sets drawn to 1,000 rows", split_t1),
    "T1b": _protocol(
        "T1 for the sets of at least 1,000 rows", split_t1, find=find_large_tables, same_rows_as="T1"
    ),
    "T2": _protocol("rows, shuffled, none of them twice", split_t2),
}

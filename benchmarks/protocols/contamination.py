"""C: the cost of anomalies among the training rows, and how much of it `--contamination` recovers."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from benchmarks import in_process
from benchmarks.errors import BenchmarkError
from benchmarks.protocols.base import Protocol
from benchmarks.protocols.baselines import Timed, run_baseline
from benchmarks.protocols.tabular import (
    METRICS,
    OUR_PRESETS,
    LabelledTable,
    Parts,
    figures,
    find_tables,
    shuffled_half,
    sizes,
)
from benchmarks.rows import OURS
from training.data.scaling import fit_scaling
from training.data.trimming import trim_splits

LARGEST = 10_000
SHARES = {"1": 0.01, "5": 0.05}
MOST_TAKEN = 0.5  # share of the anomalies that may be fitted on; the others are tested


@dataclasses.dataclass(frozen=True)
class Condition:
    """A fit with a share of anomalies among the training rows, and the share that the fit assumes."""

    fit: Callable[[np.ndarray, np.ndarray, float, int], Timed]
    share: float = 0.0
    assumed: float = 0.0


def split_contaminated(table: LabelledTable, seed: int) -> tuple[LabelledTable, Parts, np.ndarray]:
    """Split as T2 does, at most 10,000 rows; anomalies that may be fitted on are taken out of the test.

    Raises
    ------
    BenchmarkError
        If there is only one anomaly.
    """
    generator = np.random.RandomState(seed)
    if len(table.samples) > LARGEST:
        table = table.take(generator.choice(len(table.samples), LARGEST, replace=False))
    parts = shuffled_half(table, seed)
    shuffled = generator.permutation(parts.anomalies)
    n_spare = min(n_contaminants(parts.train.size, max(SHARES.values())), int(MOST_TAKEN * shuffled.size))
    if n_spare == 0:
        raise BenchmarkError(f"{table.name} must have at least 2 anomalies, got {shuffled.size}")
    spare, left = shuffled[:n_spare], np.sort(shuffled[n_spare:])
    return table, dataclasses.replace(parts, anomalies=left), spare


def n_contaminants(n_normal: int, share: float) -> int:
    """Return how many anomalies to add to the normal rows to reach a share of all rows, at least one."""
    return max(1, round(share / (1 - share) * n_normal)) if share else 0


def measure(table: LabelledTable, seed: int, method: str) -> Mapping[str, Any]:
    """Measure one row: the metrics of T2, on the same test rows for every condition."""
    table, parts, spare = split_contaminated(table, seed)
    condition = CONDITIONS[method]
    contaminants = spare[: n_contaminants(parts.train.size, condition.share)]
    train = table.samples[np.concatenate([parts.train, contaminants])]
    timed = condition.fit(train, table.samples[parts.test], condition.assumed, seed)
    return {
        **figures(table.is_anomaly[parts.test], timed.scores),
        **timed.seconds(),
        **sizes(table, parts),
        "n_contaminants": contaminants.size,
    }


def _fit_ours(train: np.ndarray, test: np.ndarray, assumed: float, seed: int) -> Timed:
    """Fit the default preset as T2 does, on the rows that trimming leaves."""
    dataset = in_process.normal_dataset(train, "vector")
    options = {"seed": seed, "contamination": assumed, "latent_dim": 0}
    config = in_process.settle(dataset, OUR_PRESETS[OURS], options)
    splits = in_process.splits_of(np.arange(len(train)), np.empty(0, dtype=np.int64))
    start = time.perf_counter()
    if assumed:
        scaling = fit_scaling(dataset, splits.train, config.scaled_range)
        splits = trim_splits(dataset, splits, scaling, assumed, seed)
    seconds = time.perf_counter() - start
    fit = in_process.fit(dataset, splits, config)
    start = time.perf_counter()
    return Timed(fit.score(test), seconds + fit.seconds, time.perf_counter() - start)


def _fit_baseline(method: str, train: np.ndarray, test: np.ndarray, _: float, seed: int) -> Timed:
    return run_baseline(method, train, test, seed)


# A number in a name is the percentage of anomalies among the training rows, or the assumed one.
CONDITIONS = {
    OURS: Condition(_fit_ours),
    **{f"{OURS}-dirty-{name}": Condition(_fit_ours, share) for name, share in SHARES.items()},
    **{f"{OURS}-trimmed-{name}": Condition(_fit_ours, share, share) for name, share in SHARES.items()},
    **{f"{OURS}-needless-{name}": Condition(_fit_ours, 0.0, share) for name, share in SHARES.items()},
    **{
        f"{method}-dirty-{name}": Condition(partial(_fit_baseline, method), share)
        for method in ("knn5", "iforest")
        for name, share in SHARES.items()
    },
}
PROTOCOLS = {
    "C": Protocol(
        "rows: 1 % or 5 % anomalies among the training rows, trimmed or not",
        METRICS,
        methods=tuple(CONDITIONS),
        quick_methods=(OURS, f"{OURS}-dirty-5", f"{OURS}-trimmed-5"),
        find=find_tables,
        measure=measure,
        seeds=(0, 1, 2),
    )
}

"""C: what anomalies among the training rows cost, and what `--contamination` brings back."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks import in_process
from benchmarks.errors import QualityError
from benchmarks.protocols.base import Protocol
from benchmarks.protocols.baselines import Timed, run_baseline
from benchmarks.protocols.tabular import (
    METRICS,
    OUR_PRESETS,
    Parts,
    Table,
    as_dataset,
    figures,
    find_tables,
    shuffled_half,
    sizes,
)
from benchmarks.rows import OURS
from training.data.scaling import fit_scaling
from training.data.splits import Splits
from training.data.trimming import trim_splits

LARGEST = 10_000
SHARES = {"1": 0.01, "5": 0.05}
MOST_TAKEN = 0.5  # of the anomalies; the others are found or not


@dataclasses.dataclass(frozen=True)
class Condition:
    """What is fitted: a share of the training rows are anomalies, and a share of them is assumed to be."""

    fit: Callable[[np.ndarray, np.ndarray, float, int], Timed]
    share: float = 0.0
    assumed: float = 0.0


def split_contaminated(table: Table, seed: int) -> tuple[Table, Parts, np.ndarray]:
    """T2's split of at most 10,000 rows; the anomalies that may be fitted on are taken out of the test.

    Raises
    ------
    QualityError
        If there is but one anomaly.
    """
    generator = np.random.RandomState(seed)
    if len(table.samples) > LARGEST:
        table = table.take(generator.choice(len(table.samples), LARGEST, replace=False))
    parts = shuffled_half(table, seed)
    shuffled = generator.permutation(parts.anomalies)
    n_spare = min(n_contaminants(parts.train.size, max(SHARES.values())), int(MOST_TAKEN * shuffled.size))
    if n_spare == 0:
        raise QualityError(f"{table.name} must have at least 2 anomalies, got {shuffled.size}")
    spare, left = shuffled[:n_spare], np.sort(shuffled[n_spare:])
    return table, dataclasses.replace(parts, anomalies=left), spare


def n_contaminants(n_normal: int, share: float) -> int:
    """As many anomalies beside so many normal rows as make this share of both, one at least."""
    return max(1, round(share / (1 - share) * n_normal)) if share else 0


def measure(table: Table, seed: int, method: str) -> Mapping[str, Any]:
    """One row: the metrics of T2 on the same test for every condition."""
    table, parts, spare = split_contaminated(table, seed)
    condition = CONDITIONS[method]
    contaminants = spare[: n_contaminants(parts.train.size, condition.share)]
    train = table.samples[np.concatenate([parts.train, contaminants])]
    timed = condition.fit(train, table.samples[parts.test], condition.assumed, seed)
    return {
        **figures(table.is_anomaly[parts.test], timed.scores),
        "fit_seconds": round(timed.fit_seconds, 3),
        "score_seconds": round(timed.score_seconds, 3),
        **sizes(table, parts),
        "n_contaminants": contaminants.size,
    }


def _fit_ours(train: np.ndarray, test: np.ndarray, assumed: float, seed: int) -> Timed:
    """The default preset on all that is left, as T2 fits it."""
    dataset = as_dataset(train)
    options = {"seed": seed, "contamination": assumed, "latent_dim": 0}
    config = in_process.settle(dataset, OUR_PRESETS[OURS], options)
    nothing = np.empty(0, dtype=np.int64)
    splits = Splits(np.arange(len(train)), nothing, nothing, nothing, 0, 0)
    start = time.perf_counter()
    if assumed:
        scaling = fit_scaling(dataset, splits.train, config.scaled_range)
        splits = trim_splits(dataset, splits, scaling, assumed, seed)
    seconds = time.perf_counter() - start
    fit = in_process.fit(dataset, splits, config)
    start = time.perf_counter()
    return Timed(fit.score(test), seconds + fit.seconds, time.perf_counter() - start)


def _fit_neighbours(train: np.ndarray, test: np.ndarray, _: float, seed: int) -> Timed:
    return run_baseline("knn5", train, test, seed)


def _fit_forest(train: np.ndarray, test: np.ndarray, _: float, seed: int) -> Timed:
    return run_baseline("iforest", train, test, seed)


# The contaminated ones are named after the percentage of anomalies that they are fitted on.
CONDITIONS = {
    OURS: Condition(_fit_ours),
    **{f"{OURS}-dirty-{name}": Condition(_fit_ours, share) for name, share in SHARES.items()},
    **{f"{OURS}-trimmed-{name}": Condition(_fit_ours, share, share) for name, share in SHARES.items()},
    **{f"{OURS}-needless-{name}": Condition(_fit_ours, 0.0, share) for name, share in SHARES.items()},
    **{f"knn5-dirty-{name}": Condition(_fit_neighbours, share) for name, share in SHARES.items()},
    **{f"iforest-dirty-{name}": Condition(_fit_forest, share) for name, share in SHARES.items()},
}
PROTOCOLS = {
    "C": Protocol(
        "rows: anomalies among those to fit on, 1 % and 5 %, trimmed or not",
        METRICS,
        methods=tuple(CONDITIONS),
        quick_methods=(OURS, f"{OURS}-dirty-5", f"{OURS}-trimmed-5"),
        find=find_tables,
        measure=measure,
        seeds=(0, 1, 2),
    )
}

"""T3: whether the promised false-alarm rate holds, and the recall at that threshold.

The sets are the same as in T2. The normal rows are shuffled: four tenths are fitted on, one tenth calibrates
the threshold and five tenths test it. Calibration and test rows are then split again, 20 times for each fit.
The promise has 95 % confidence, so it may be broken in at most one run of twenty.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.protocols.base import DataSet, Protocol
from benchmarks.protocols.tabular import (
    ALL_METHODS,
    LabelledTable,
    Parts,
    at_most,
    built_in_set,
    find_tables,
    score_table,
    shuffled_half,
    sizes,
)
from benchmarks.rows import OURS, Row
from detector.calibration import promised_rank, threshold_of_rank
from detector.schema import CONDITIONAL_PROMISE

FITTED_SHARE, CALIBRATION_SHARE = 0.4, 0.1
N_RESPLITS = 20
ALPHAS = {"5": 0.05, "1": 0.01}
MOST_BROKEN = 0.08  # 5 % and two standard deviations over 215 runs


def find(data_dir: Path | None) -> Sequence[DataSet]:
    """Find the sets of T2; without a folder one set with enough rows for a promise of 5 %."""
    return [built_in_set("digits")] if data_dir is None else find_tables(data_dir)


def split_t3(table: LabelledTable, seed: int) -> tuple[LabelledTable, Parts]:
    """Split as T2 does, with fewer rows to fit on; the others calibrate and test."""
    table = at_most(table, seed)
    return table, shuffled_half(table, seed, FITTED_SHARE)


def measure(table: LabelledTable, seed: int, method: str) -> dict[str, Any]:
    """Measure one row: for each promise the share of splits that broke it, mean realised rate and recall."""
    table, parts = split_t3(table, seed)
    timed = score_table(method, table.samples[parts.train], table.samples[parts.test], seed)
    normal, anomalies = np.split(timed.scores, [parts.normal.size])
    n_calibration = round(CALIBRATION_SHARE * (parts.train.size + parts.normal.size))
    row: dict[str, Any] = {"n_calibration": n_calibration, "n_resplits": N_RESPLITS}
    for name, alpha in ALPHAS.items():
        row |= {
            f"{key}_{name}": value for key, value in realised(normal, anomalies, n_calibration, alpha, seed)
        }
    return row | timed.seconds() | sizes(table, parts)


def realised(
    normal: np.ndarray, anomalies: np.ndarray, n_calibration: int, alpha: float, seed: int
) -> Iterator[tuple[str, float | None]]:
    """Yield the figures of a promise over the splits; None if the calibration rows are too few for it."""
    rank = promised_rank(n_calibration, alpha)
    if rank == 0:
        yield from (("broken", None), ("rate", None), ("recall", None))
        return
    rng = np.random.default_rng(seed)
    rates, recalls = np.empty(N_RESPLITS), np.empty(N_RESPLITS)
    for number in range(N_RESPLITS):
        calibration, test = np.split(rng.permutation(normal), [n_calibration])
        rule = threshold_of_rank(np.sort(calibration), rank, alpha, CONDITIONAL_PROMISE)
        rates[number], recalls[number] = (test > rule.value).mean(), (anomalies > rule.value).mean()
    yield "broken", float((rates > alpha).mean())
    yield "rate", round(float(rates.mean()), 6)
    yield "recall", round(float(recalls.mean()), 6)


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Say how often each promise was broken over all runs of a method."""
    for method in sorted({row["method"] for row in rows}, key=lambda name: (name != OURS, name)):
        for name, alpha in ALPHAS.items():
            broken = [row[f"broken_{name}"] for row in rows if row["method"] == method]
            broken = [share for share in broken if share is not None]
            if broken:
                verdict = "held" if np.mean(broken) <= MOST_BROKEN else "broken too often"
                yield (
                    f"{method}: the promise of {alpha:g} was exceeded in {np.mean(broken):.4f} of "
                    f"{len(broken) * N_RESPLITS} runs ({verdict}; at most {MOST_BROKEN:g})"
                )


PROTOCOLS = {
    "T3": Protocol(
        "rows: is the promised false-alarm rate kept, at 5 % and at 1 %",
        metrics=tuple(f"{key}_{name}" for name in ALPHAS for key in ("broken", "rate", "recall")),
        methods=ALL_METHODS,
        quick_methods=(OURS, "knn5"),
        default_methods=(OURS, f"{OURS}-fast", "knn5"),
        find=find,
        measure=measure,
        lower_is_better=frozenset(f"{key}_{name}" for name in ALPHAS for key in ("broken", "rate")),
        summary=summary,
    )
}

"""X: whether the exported graph scores as the network does that it came from.

The sets and the fits are those of T3, whose test rows are those of T2: every test row is scored by Keras and
by the graph in ONNX Runtime, and judged at the threshold that its own scores of the calibration rows give: a
copy of the row that the threshold was taken from is a tie in both.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.protocols.base import Protocol
from benchmarks.protocols.promise import CALIBRATION_SHARE, split_t3
from benchmarks.protocols.tabular import OUR_PRESETS, Table, figures, find_tables, fit_ours, sizes
from benchmarks.rows import OURS, Row
from detector.calibration import marginal_rank, promised_rank, threshold_of_rank
from detector.engine.graphs import relative_difference
from detector.schema import CONDITIONAL_PROMISE

ALPHA = 0.05
TOLERANCE = 1e-4


def measure(table: Table, seed: int, method: str) -> dict[str, Any]:
    """One row: differences of scores and of decisions, and of the area under the curve."""
    table, parts = split_t3(table, seed)
    fit = fit_ours(method, table.samples[parts.train], seed)
    start = time.perf_counter()
    scores = fit.score(table.samples[parts.test])
    seconds = time.perf_counter() - start
    n_calibration = max(1, round(CALIBRATION_SHARE * (parts.train.size + parts.normal.size)))
    expected = fit.keras_scores(table.samples[parts.test])
    thresholds = calibrated(scores[:n_calibration]), calibrated(expected[:n_calibration])
    expected = expected[n_calibration:]
    scores, is_anomaly = scores[n_calibration:], table.is_anomaly[parts.test][n_calibration:]
    return {
        **compare_scores(scores, expected, *thresholds),
        "auroc_difference": abs(
            figures(is_anomaly, scores)["auroc"] - figures(is_anomaly, expected)["auroc"]
        ),
        "fit_seconds": round(fit.seconds, 3),
        "score_seconds": round(seconds, 3),
        **sizes(table, parts),
    }


def calibrated(scores: np.ndarray) -> float:
    """The threshold of these scores: with its promise, or without where they are too few for it."""
    rank = promised_rank(scores.size, ALPHA) or max(1, marginal_rank(scores.size, ALPHA))
    return threshold_of_rank(np.sort(scores), rank, ALPHA, CONDITIONAL_PROMISE).value


def compare_scores(
    scores: np.ndarray, expected: np.ndarray, threshold: float, expected_threshold: float
) -> dict[str, float]:
    """Largest relative differences, and decisions that differ.

    `score_difference` is relative to the score itself, `difference_at_threshold` to the score and the
    threshold together, as the exporter holds it against its tolerance: a score far below the threshold is
    small against what it was computed from. A decision differs clearly where the score is farther from the
    threshold than the tolerance.
    """
    differs = (scores > threshold) != (expected > expected_threshold)
    clear = np.abs(scores / threshold - 1) > TOLERANCE
    relative = np.abs(scores - expected) / np.maximum(np.abs(expected), np.finfo(np.float32).tiny)
    return {
        "score_difference": float(relative.max()),
        "difference_at_threshold": relative_difference(scores, expected, threshold),
        "decisions_differing": int(differs.sum()),
        "decisions_differing_clearly": int((differs & clear).sum()),
        "n_decisions": differs.size,
    }


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """The worst of all runs of a method."""
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        worst = max(own, key=lambda row: row["difference_at_threshold"])
        n_decisions, n_differing = (sum(row[name] for row in own) for name in ("n_decisions", DIFFERING))
        difference = worst["difference_at_threshold"]
        verdict = "held" if difference <= TOLERANCE else "broken"
        yield (
            f"{method}: scores differ by at most {difference:.1e} ({worst['set']}; {verdict}, at most "
            f"{TOLERANCE:g}), {n_differing} of {n_decisions} decisions differ"
        )


DIFFERING = "decisions_differing"
METRICS = ("difference_at_threshold", "score_difference", DIFFERING, "auroc_difference")
PROTOCOLS = {
    "X": Protocol(
        "rows: the exported graph beside the network that it came from",
        METRICS,
        methods=tuple(OUR_PRESETS),
        quick_methods=(OURS,),
        find=find_tables,
        measure=measure,
        summary=summary,
        seeds=(0,),
        lower_is_better=frozenset(METRICS),
    )
}

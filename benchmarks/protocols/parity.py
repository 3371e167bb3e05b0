"""X: whether the exported graph gives the scores of the Keras network.

Sets and fits are the same as in T3. Every test row is scored by Keras and by the graph in ONNX Runtime. Each
has a threshold from its own scores of the calibration rows, so that a copy of the row that sets the threshold
is a tie in both.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.protocols.base import Protocol
from benchmarks.protocols.promise import CALIBRATION_SHARE, split_t3
from benchmarks.protocols.tabular import OUR_PRESETS, LabelledTable, figures, find_tables, fit_ours, sizes
from benchmarks.rows import OURS, Row
from detector.calibration import marginal_rank, promised_rank, threshold_of_rank
from detector.engine.graphs import relative_difference
from detector.schema import CONDITIONAL_PROMISE

ALPHA = 0.05
TOLERANCE = 1e-4


def measure(table: LabelledTable, seed: int, method: str) -> dict[str, Any]:
    """Measure one row: differences of scores, of decisions and of the area under the curve."""
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
    """Return the threshold of these scores: with a promise, or without if they are too few for it."""
    rank = promised_rank(scores.size, ALPHA) or max(1, marginal_rank(scores.size, ALPHA))
    return threshold_of_rank(np.sort(scores), rank, ALPHA, CONDITIONAL_PROMISE).value


def compare_scores(
    scores: np.ndarray, expected: np.ndarray, threshold: float, expected_threshold: float
) -> dict[str, float]:
    """Return the largest relative differences, and how many decisions differ.

    `score_difference` is relative to the score. `difference_at_threshold` is relative to score and threshold
    together, as the exporter compares it with its tolerance, because a score far below the threshold is small
    compared with the values that it is computed from. A decision differs clearly if the score is farther from
    the threshold than the tolerance.
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
    """Say the largest difference over all runs of a method."""
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
        "rows: the exported graph compared with the network",
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

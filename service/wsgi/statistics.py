"""Counters of a version in the form of Triton's statistics extension."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client.samples import Sample

from detector import Manifest

_UNMEASURED = ("queue", "compute_input", "compute_output", "cache_hit", "cache_miss")


def describe_statistics(manifests: Sequence[Manifest], samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """Return the statistics of loaded versions.

    Parameters
    ----------
    manifests : sequence of Manifest
        The manifest of each version.
    samples : iterable of Sample
        From `Metrics.samples`: sums over all workers, including those that have ended.

    Returns
    -------
    list of dict
        `$model_stat` of the extension. Quantities that are not measured have the count 0.
    """
    totals: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for sample in samples:
        name = _total_of(sample)
        if name:
            totals[sample.labels["model"], sample.labels["version"]][name] += sample.value
    return [_describe(manifest, totals[manifest.name, str(manifest.version)]) for manifest in manifests]


def _total_of(sample: Sample) -> str | None:
    """Return the total of a version that a sample adds to."""
    labels, name = sample.labels, sample.name.removeprefix("residual_")
    if name == "requests_total" and labels["model"]:
        return "success" if int(labels["code"]) < 400 else "fail"
    if name == "model_request_seconds_total":
        return f"{labels['outcome']} seconds"
    known = (
        "rows_total",
        "last_run_timestamp_seconds",
        "inference_duration_seconds_count",
        "inference_duration_seconds_sum",
    )
    return name if name in known else None


def _describe(manifest: Manifest, totals: dict[str, float]) -> dict[str, Any]:
    runs = totals["inference_duration_seconds_count"]
    return {
        "name": manifest.name,
        "version": str(manifest.version),
        "last_inference": round(totals["last_run_timestamp_seconds"] * 1e3),
        "inference_count": round(totals["rows_total"]),
        "execution_count": round(runs),
        "inference_stats": {
            "success": _duration(totals["success"], totals["success seconds"]),
            "fail": _duration(totals["fail"], totals["fail seconds"]),
            "compute_infer": _duration(runs, totals["inference_duration_seconds_sum"]),
            **{name: _duration(0, 0) for name in _UNMEASURED},
        },
        "batch_stats": [],
    }


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": round(count), "ns": round(seconds * 1e9)}

"""Counters of a version in the form of Triton's statistics extension."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client.samples import Sample

from detector import Manifest

# Every request passes through these, but only `success` says for how long: Triton's perf_analyzer finds the
# version that it measures by the count of its queue, and shows time that is in no part as overhead.
_UNTIMED = ("queue", "compute_input", "compute_output")
_NEVER = ("cache_hit", "cache_miss")


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
        `$model_stat` of the extension. Waiting, reading and writing are not timed apart: they have the count
        of the successful requests and the duration 0.
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
    requests = totals["success"]
    return {
        "name": manifest.name,
        "version": str(manifest.version),
        "last_inference": round(totals["last_run_timestamp_seconds"] * 1e3),
        "inference_count": round(totals["rows_total"]),
        "execution_count": round(totals["inference_duration_seconds_count"]),
        "inference_stats": {
            "success": _duration(requests, totals["success seconds"]),
            "fail": _duration(totals["fail"], totals["fail seconds"]),
            "compute_infer": _duration(requests, totals["inference_duration_seconds_sum"]),
            **{name: _duration(requests, 0) for name in _UNTIMED},
            **{name: _duration(0, 0) for name in _NEVER},
        },
        "batch_stats": [],
    }


def _duration(count: float, seconds: float) -> dict[str, int]:
    return {"count": round(count), "ns": round(seconds * 1e9)}

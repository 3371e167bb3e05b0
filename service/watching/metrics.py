"""Prometheus metrics, correct for one process and for several gunicorn workers."""

import bisect
import os
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.samples import Sample

from service.models.registry import ModelRegistry
from service.watching.ended_workers import reading

if TYPE_CHECKING:
    from service.http.request_record import RequestRecord, Run

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"

# The buckets that OpenTelemetry recommends for http.server.request.duration.
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
INFERENCE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
BATCH_ROWS = (1, 2, 5, 10, 25, 50, 100, 250, 1_000, 5_000, 10_000, 50_000, 100_000)
# Narrow around 1, the threshold of an anomaly.
SCORE_RATIOS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 5.0, 10.0, 100.0)

FEW_VALUES = 64
# Sums are multiples of a microsecond or so, which floats add without rounding. Otherwise the order in which
# the values of workers are added would matter, and a sum that is less by its last bit looks like a restart.
GRID = 2**20
MOST_ON_GRID = 2.0**30

disable_created_metrics()  # they exist only with a single process, one more series for each metric


class BatchHistogram(Histogram):
    """A histogram that observes a whole batch in one step."""

    def observe_batch(self, values: Sequence[float] | np.ndarray) -> None:
        """Observe every value of a sequence, or of a float64 array of shape (n,)."""
        self._raise_if_not_observable()
        if len(values) > FEW_VALUES:
            buckets = np.searchsorted(self._upper_bounds, values).tolist()
        else:  # NumPy would cost more than it saves
            values = list(map(float, values))
            buckets = [bisect.bisect_left(self._upper_bounds, value) for value in values]
        total = float(values.sum() if isinstance(values, np.ndarray) else sum(values))
        self._sum.inc(round(total * GRID) / GRID if total < MOST_ON_GRID else total)
        for bucket, count in Tally(buckets).items():
            self._buckets[bucket].inc(count)


class SeriesCache(dict[tuple[Any, ...], Any]):
    """The time series of each metric and its labels: `metric.labels` takes longer than a look-up."""

    def __missing__(self, key: tuple[Any, ...]) -> Any:
        metric, *labels = key
        self[key] = series = metric.labels(*labels)
        return series


class WorkersCollector:
    """Sums the values of all workers from their files, ended workers included.

    An empty file belongs to a worker that is just creating it, or that found the disk full; reading it would
    break the whole scrape.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all workers."""
        with reading(self._folder):
            files = [str(path) for path in self._folder.glob("*.db") if path.stat().st_size > 0]
            return MultiProcessCollector.merge(files)


class ModelCollector:
    """Gauges of the models that this process has loaded, made at every scrape and so never stale.

    With several workers any one of them answers a scrape; all of them poll the same store.
    """

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges, one series for each loaded version."""
        labels = ["model", "version"]
        threshold = GaugeMetricFamily(
            "residual_threshold", "Score above which a sample is an anomaly.", labels=labels
        )
        expected_rate = GaugeMetricFamily(
            "residual_expected_rate", "Share of normal samples that exceed the threshold.", labels=labels
        )
        info = GaugeMetricFamily(
            "residual_model_info", "1 for each loaded version.", labels=[*labels, "kind", "digest"]
        )
        loaded_at = GaugeMetricFamily(
            "residual_model_load_timestamp_seconds", "When this process loaded the version.", labels=labels
        )
        for entry in self._models.loaded():
            manifest = entry.detector.manifest
            key = [manifest.name, str(manifest.version)]
            threshold.add_metric(key, manifest.threshold.value)
            expected_rate.add_metric(key, manifest.threshold.expected_rate)
            info.add_metric([*key, manifest.kind, entry.detector.digest], 1)
            loaded_at.add_metric(key, entry.loaded_at)
        failing = GaugeMetricFamily(
            "residual_version_failing",
            "1 for each version that a label or the name of its model means and that cannot be loaded.",
            labels=labels,
        )
        for model in self._models.models.values():
            for version in model.failing:
                failing.add_metric([model.name, str(version)], 1)
        fault = GaugeMetricFamily(
            "residual_store_fault",
            "1 for each model that cannot be followed in the store; without a name, for the whole store.",
            labels=["model"],
        )
        for name in self._models.faults:
            fault.add_metric([name], 1)
        yield from (threshold, expected_rate, info, loaded_at, failing, fault)


class Metrics:
    """All metrics; their prefix is `residual_`.

    Attributes
    ----------
    open_streams : Gauge
    """

    def __init__(self) -> None:
        self._own = CollectorRegistry()
        self._models: ModelCollector | None = None
        self._requests = self._counter(
            "residual_requests", "Answered requests.", ["endpoint", "model", "version", "code"]
        )
        self._rejected = self._counter(
            "residual_rejected", "Requests refused with 4xx or 503, by problem type.", ["reason"]
        )
        self._rows = self._counter("residual_rows", "Samples scored by /score.", ["model", "version"])
        self._unscored = self._counter(
            "residual_unscored",
            "Samples, steps and windows without a score: a value was missing, or the answer not finite.",
            ["model", "version"],
        )
        self._anomalies = self._counter(
            "residual_anomalies",
            "Scored samples above the model's own threshold, whatever alpha a request asked for.",
            ["model", "version"],
        )
        self._reloads = self._counter(
            "residual_model_reloads",
            "Attempts of a worker to load a version: loaded or failed.",
            ["model", "result"],
        )
        self._dropped_lines = self._counter(
            "residual_log_lines_dropped", "Lines of the log that nobody read in time.", []
        )
        self._request_seconds = self._histogram(
            "residual_request_duration_seconds",
            "From the head of a request to its answer; of lines, from the first ones to their answer.",
            ["endpoint"],
            REQUEST_SECONDS,
        )
        self._model_seconds = self._counter(
            "residual_model_request_seconds",
            "Durations of requests for a version, counted as in the histogram: success or fail.",
            ["model", "version", "outcome"],
        )
        self.open_streams = Gauge(
            "residual_open_streams",
            "Answers of lines that are being sent.",
            registry=self._own,
            multiprocess_mode="livesum",
        )
        self._last_run = Gauge(
            "residual_last_run_timestamp_seconds",
            "When a version was last run.",
            ["model", "version"],
            registry=self._own,
            multiprocess_mode="max",
        )
        self._last_poll = Gauge(
            "residual_last_poll_timestamp_seconds",
            "When the last poll of the store was finished, in the process where that is longest ago.",
            registry=self._own,
            multiprocess_mode="livemin",
        )
        self._last_poll.set_to_current_time()  # until the first poll: when the process began
        self._last_runs: dict[tuple[str, int], float] = {}
        self._inference_seconds = self._histogram(
            "residual_inference_duration_seconds",
            "Time a verb takes for decoded samples.",
            ["model", "version"],
            INFERENCE_SECONDS,
        )
        self._batch_rows = self._histogram(
            "residual_batch_rows", "Samples in one run.", ["model"], BATCH_ROWS
        )
        self._score_ratio = self._histogram(
            "residual_score_ratio",
            "Score divided by the model's own threshold; above 1 is an anomaly.",
            ["model", "version"],
            SCORE_RATIOS,
        )

        self._series = SeriesCache()
        self._count_rest: Callable[[], None] = lambda: None

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(name, text, labels, registry=self._own)

    def _histogram(
        self, name: str, text: str, labels: list[str], buckets: tuple[float, ...]
    ) -> BatchHistogram:
        return BatchHistogram(name, text, labels, buckets=buckets, registry=self._own)

    def watch(self, models: ModelRegistry) -> None:
        """Export the gauges of a registry's models."""
        self._models = ModelCollector(models)

    def read_after(self, count_rest: Callable[[], None]) -> None:
        """Call `count_rest` before metrics are read; it counts pending requests and runs."""
        self._count_rest = count_rest

    def observe_requests(self, records: Sequence["RequestRecord"]) -> None:
        """Count answered requests."""
        seconds: dict[tuple[str, str, str, str], list[float]] = {}
        reasons: Tally[str] = Tally()
        for record in records:
            labels = (record.template, record.model, record.version, str(record.status))
            seconds.setdefault(labels, []).append(
                record.seconds if record.latency is None else record.latency
            )
            if record.problem and (400 <= record.status < 500 or record.status == 503):
                reasons[record.problem] += 1
        for reason, count in reasons.items():
            self._series[self._rejected, reason].inc(count)
        for labels, values in seconds.items():
            self._series[self._requests, *labels].inc(len(values))
            self._series[self._request_seconds, labels[0]].observe_batch(values)
            if labels[1]:
                outcome = "success" if labels[3] < "400" else "fail"
                total = round(sum(values) * GRID) / GRID
                self._series[self._model_seconds, labels[1], labels[2], outcome].inc(total)

    def observe_runs(self, runs: Sequence["Run"]) -> None:
        """Count runs of verbs, scored samples, and anomalies by the model's own threshold."""
        by_model: dict[tuple[str, str], list[Run]] = {}
        for run in runs:
            by_model.setdefault((run.manifest.name, str(run.manifest.version)), []).append(run)
        for key, own in by_model.items():
            self._last_runs[key[0], int(key[1])] = now = time.time()
            self._series[self._last_run, *key].set(now)
            self._series[self._inference_seconds, *key].observe_batch([run.seconds for run in own])
            self._series[self._batch_rows, key[0]].observe_batch([run.rows for run in own])
            scores = [each for run in own for each in run.scores]
            if scores:
                score, threshold = np.concatenate(scores), own[0].manifest.threshold.value
                absent = np.isnan(score)
                if absent.any():
                    self._series[self._unscored, *key].inc(int(absent.sum()))
                    score = score[~absent]
                self._series[self._rows, *key].inc(score.size)
                self._series[self._anomalies, *key].inc(int(np.count_nonzero(score > threshold)))
                self._series[self._score_ratio, *key].observe_batch(score / threshold)

    def count_reload(self, model: str, result: str) -> None:
        """Count one attempt to load a version; `result` is `loaded` or `failed`."""
        self._reloads.labels(model, result).inc()

    def count_dropped_lines(self, n_lines: int) -> None:
        """Count lines of the log that were not written."""
        self._dropped_lines.inc(n_lines)

    def note_poll(self) -> None:
        """Note that a poll of the store is finished."""
        self._last_poll.set_to_current_time()

    def last_run(self, model: str, version: int) -> float:
        """Return when this process last ran a version, in seconds since 1970; 0 for never."""
        return self._last_runs.get((model, version), 0.0)

    def exposition(self) -> bytes:
        """Return all metrics in the text format, for all workers."""
        text = generate_latest(self._counted())
        return text + generate_latest(self._models) if self._models else text

    def samples(self) -> Iterator[Sample]:
        """Yield all samples, summed over the workers."""
        for family in self._counted().collect():
            yield from family.samples

    def _counted(self) -> "CollectorRegistry | WorkersCollector":
        self._count_rest()
        folder = os.environ.get(MULTIPROCESS_DIR)
        return WorkersCollector(Path(folder)) if folder else self._own

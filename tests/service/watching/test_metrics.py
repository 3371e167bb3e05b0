"""Metrics of one process; test_gunicorn has the metrics of several."""

import math
import shutil
import subprocess
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram

from detector import DetectorError
from service.watching.metrics import SCORE_RATIOS, BatchHistogram
from tests.model_folder import publish_model
from tests.service.polls import follow
from tests.service.responses import read_metrics, to_npy

NORMAL, ANOMALY = [1.0, 2.0, 0.5], [1.0, 2.0, 30.0]


@pytest.fixture
def scrape(client):
    """Read every series except those of the scrapes themselves."""

    def read() -> dict[tuple, float]:
        series = read_metrics(client.get("/metrics").text)
        return {key: value for key, value in series.items() if "/metrics" not in key}

    return read


AMOUNTS = ("_bucket", "_sum", "_seconds_total", "_timestamp_seconds")  # not 1 for one request


def increase(before, after):
    """Return the series that changed, without those that hold amounts."""
    return {
        key: after[key] - before.get(key, 0.0)
        for key in after
        if after[key] != before.get(key, 0.0) and not key[0].endswith(AMOUNTS)
    }


def test_one_score_request_moves_each_counter_by_one(client, scrape):
    """The counters are requests, durations, batches, rows and anomalies."""
    before = scrape()

    client.post("/score", json={"instances": [NORMAL, ANOMALY, NORMAL]})

    assert increase(before, scrape()) == {
        ("residual_requests_total", "200", "/score", "tiny", "1"): 1,
        ("residual_request_duration_seconds_count", "/score"): 1,
        ("residual_inference_duration_seconds_count", "tiny", "1"): 1,
        ("residual_batch_rows_count", "tiny"): 1,
        ("residual_rows_total", "tiny", "1"): 3,
        ("residual_anomalies_total", "tiny", "1"): 1,
        ("residual_score_ratio_count", "tiny", "1"): 3,
    }


def test_one_denoise_request_scores_no_rows(client, scrape):
    """Rows and anomalies belong together."""
    before = scrape()

    client.post("/models/tiny/versions/1/denoise", json={"instances": [NORMAL]})

    assert increase(before, scrape()) == {
        ("residual_requests_total", "200", "/models/{name}/versions/{version}/denoise", "tiny", "1"): 1,
        ("residual_request_duration_seconds_count", "/models/{name}/versions/{version}/denoise"): 1,
        ("residual_inference_duration_seconds_count", "tiny", "1"): 1,
        ("residual_batch_rows_count", "tiny"): 1,
    }


def test_anomalies_are_those_of_the_models_own_threshold(client, scrape):
    """The rate can be compared with expected_rate, whatever alpha a request sets."""
    threshold = client.get("/models/tiny/versions/1").json["manifest"]["threshold"]["value"]
    between = [0.0, 0.0, (3 * threshold) ** 0.5 * 0.99]
    before = scrape()

    answer = client.post("/score?alpha=0.3", json={"instances": [between]}).json

    assert answer["is_anomaly"] == [True]
    assert ("residual_anomalies_total", "tiny", "1") not in increase(before, scrape())


@pytest.mark.parametrize(
    ("path", "body", "code", "reason", "endpoint", "model"),
    [
        ("/score", {"instances": []}, "422", "invalid-input", "/score", ("tiny", "1")),
        ("/score?beta=1", {"instances": [NORMAL]}, "422", "invalid-option", "/score", ("tiny", "1")),
        ("/models/x/score", {}, "404", "no-such-model", "/models/{name}/score", ("", "")),
        ("/nothing", {}, "404", "not-found", "", ("", "")),
        ("/models", {}, "405", "method-not-allowed", "", ("", "")),
    ],
)
def test_one_refused_request_is_counted_by_its_reason(
    client, scrape, path, body, code, reason, endpoint, model
):
    """The label is the route template; unknown names and paths create no series."""
    before = scrape()

    client.post(path, json=body)

    assert increase(before, scrape()) == {
        ("residual_requests_total", code, endpoint, *model): 1,
        ("residual_request_duration_seconds_count", endpoint): 1,
        ("residual_rejected_total", reason): 1,
    }


def test_faults_of_ours_are_no_rejections(client, registry, scrape, monkeypatch):
    """500 is counted by its code."""
    before = scrape()
    monkeypatch.setattr(registry, "entry", lambda *_, **__: 1 / 0)

    client.post("/score", json={"instances": [NORMAL]})

    assert increase(before, scrape()) == {
        ("residual_requests_total", "500", "/score", "", ""): 1,
        ("residual_request_duration_seconds_count", "/score"): 1,
    }


def test_gauges_show_the_versions_that_are_loaded(store, registry, scrape):
    """A version that is gone leaves no series behind."""
    publish_model(store)
    follow(registry)
    shutil.rmtree(store.folder("tiny", 1))
    follow(registry)

    series = scrape()

    digest = registry.entry("tiny").detector.digest
    rule = registry.entry("tiny").detector.manifest.threshold
    assert series["residual_model_info", digest, "vector", "tiny", "2"] == 1
    assert series["residual_threshold", "tiny", "2"] == rule.value
    assert series["residual_expected_rate", "tiny", "2"] == rule.expected_rate
    assert series["residual_model_load_timestamp_seconds", "tiny", "2"] > 1.7e9
    assert ("residual_threshold", "tiny", "1") not in series


def test_reloads_are_counted_by_result(store, registry, scrape):
    """Successful and failed loads are counted."""
    (publish_model(store) / "model.onnx").unlink()
    follow(registry)

    series = scrape()

    assert series["residual_model_reloads_total", "tiny", "loaded"] == 1
    assert series["residual_model_reloads_total", "tiny", "failed"] == 1
    with pytest.raises(DetectorError):
        registry.entry("tiny", version=2)


def test_gauges_show_what_is_wrong_with_the_store_as_long_as_it_is(store, registry, scrape):
    """States, not events: a version that is meant and cannot be loaded, a model that cannot be followed."""
    folder = publish_model(store)
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").unlink()
    follow(registry)
    (store.root / "flat" / "labels.json").write_text("{")
    registry.poll()

    series = scrape()
    assert {key: value for key, value in series.items() if "failing" in key[0] or "fault" in key[0]} == {
        ("residual_version_failing", "tiny", "2"): 1,
        ("residual_store_fault", "flat"): 1,
    }

    (folder / "model.onnx").write_bytes(graph)
    (store.root / "flat" / "labels.json").unlink()
    follow(registry)
    assert not any("failing" in key[0] or "fault" in key[0] for key in scrape())

    store.root.rename(store.root.with_name("elsewhere"))
    registry.poll()
    assert scrape()["residual_store_fault", ""] == 1


def test_last_poll_is_told(registry, scrape):
    """A poll that hangs would leave it behind."""
    before = scrape()["residual_last_poll_timestamp_seconds",]
    registry.poll()

    assert before < scrape()["residual_last_poll_timestamp_seconds",] <= time.time()


def test_batch_histogram_equals_one_by_one():
    """Whole batches land in the buckets in which single values do, bounds included."""
    values = np.concatenate(([0.0, 1.0, 100.0, 1e9], np.random.default_rng(0).lognormal(size=500)))
    registry = CollectorRegistry()
    batch = BatchHistogram("batch", "-", ["model"], buckets=SCORE_RATIOS, registry=registry)
    single = Histogram("single", "-", ["model"], buckets=SCORE_RATIOS, registry=registry)

    batch.labels("m").observe_batch(values)
    for value in values:
        single.labels("m").observe(value)

    for bound in [*map(str, map(float, SCORE_RATIOS)), "+Inf"]:
        labels = {"model": "m", "le": bound}
        assert registry.get_sample_value("batch_bucket", labels) == registry.get_sample_value(
            "single_bucket", labels
        )
    assert registry.get_sample_value("batch_sum", {"model": "m"}) == pytest.approx(values.sum())


def test_exposition_leaves_out_the_empty_file_of_a_worker(client, monkeypatch, tmp_path):
    """A worker that is just being born does not break the scrape of the others."""
    (tmp_path / "counter_1.db").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    response = client.get("/metrics")

    assert response.status_code == 200
    assert "residual_threshold" in response.text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_exposition_passes_promtool(client):
    """Names, units, help texts and types are as Prometheus wants them."""
    client.post("/score", data=to_npy(np.ones((4, 3))), content_type="application/x-npy")
    client.post("/nothing")

    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=client.get("/metrics").data, capture_output=True, timeout=30
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_sums_do_not_depend_on_the_order_of_the_workers():
    """One that is less by its last bit would look like a counter that began anew."""
    registry = CollectorRegistry()
    histogram = BatchHistogram("seconds", "Seconds.", ["worker"], registry=registry)
    rng = np.random.default_rng(0)
    for worker in range(5):
        for _ in range(100):
            histogram.labels(str(worker)).observe_batch(list(rng.exponential(0.01, size=3)))
    sums = [sample.value for sample in next(iter(registry.collect())).samples if sample.name == "seconds_sum"]

    assert sum(sums) == sum(reversed(sums)) == math.fsum(sums)
    assert sum(sums) == pytest.approx(15, rel=0.1)

"""The service as it is run, and the Flask application alone under gthread: two workers of gunicorn."""

import json
import re
import threading
import time
from pathlib import Path

import pytest
import requests

from detector import ModelStore
from tests.gunicorn_server import SECONDS, GunicornServer, wait_until
from tests.model_folder import loop_for_ever, publish_model, replace_graph

pytestmark = pytest.mark.slow

BODY = {"instances": [[1.0, 2.0, 30.0], [1.0, 2.0, 0.5]]}


@pytest.fixture(scope="module")
def store(tmp_path_factory, arguments) -> ModelStore:
    """A store with `tiny` version 1."""
    store = ModelStore(tmp_path_factory.mktemp("gunicorn") / "models")
    publish_model(store)
    return store


@pytest.fixture(scope="module")
def server(store, tmp_path_factory, arguments):
    """One server for the tests that leave it running."""
    server = GunicornServer(store, tmp_path_factory.mktemp("log") / "log", arguments)
    yield server
    server.stop()


def test_counters_are_right_over_two_workers(server):
    """Every worker tells the sum over both, exactly, though each answered only some."""
    before = server.metrics()

    answers = [server.post("/score", json=BODY) for _ in range(60)]
    time.sleep(0.5)  # a worker writes its counts a tenth of a second after the answer

    after = [server.metrics() for _ in range(6)]
    assert all(answer.json()["is_anomaly"] == [True, False] for answer in answers)
    for name, key, moved in (
        ("residual_requests_total", ("200", "/score", "tiny", "1"), 60),
        ("residual_rows_total", ("tiny", "1"), 120),
        ("residual_anomalies_total", ("tiny", "1"), 60),
        ("residual_score_ratio_count", ("tiny", "1"), 120),
        ("residual_request_duration_seconds_count", ("/score",), 60),
    ):
        assert [series[name, *key] - before.get((name, *key), 0) for series in after] == [moved] * 6


def test_loads_of_every_worker_are_counted(server):
    """Two workers loaded one version each; the gauges of a model appear once."""
    series = server.metrics()

    assert series["residual_model_reloads_total", "tiny", "loaded"] == 2
    assert series["residual_expected_rate", "tiny", "1"] == pytest.approx(0.025)


def test_every_line_of_the_log_is_json(server):
    """Gunicorn's own lines too; a request has one line, a probe none."""
    server.post("/score", json=BODY)
    server.get("/livez")
    wait_until(lambda: '"path":"/score"' in server.lines())

    lines = [json.loads(line) for line in server.lines().splitlines()]

    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert {"gunicorn.error", "service.models.registry", "service.access"} <= {
        line["logger"] for line in lines
    }
    assert not any(line["logger"] == "gunicorn.access" or line.get("path") == "/livez" for line in lines)


def test_model_published_while_serving_is_found_by_both_workers(server, store):
    """No restart is needed, and no request fails."""
    publish_model(store, "second")

    wait_until(lambda: server.metrics().get(("residual_model_reloads_total", "second", "loaded")) == 2)

    assert {server.post("/models/second/score", json=BODY).status_code for _ in range(20)} == {200}


def test_swap_of_a_version_under_load_loses_no_request(server, store):
    """Every request is answered by one version or the other, and in the end by the new one."""
    stop, statuses, versions = threading.Event(), [], []

    def send() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                answer = session.post(server.url + "/models/tiny/score", json=BODY, timeout=SECONDS)
                statuses.append(answer.status_code)
                versions.append(answer.headers["X-Model-Version"])

    clients = [threading.Thread(target=send) for _ in range(4)]
    for client in clients:
        client.start()
    wait_until(lambda: len(statuses) > 50)
    publish_model(store)
    wait_until(lambda: server.metrics().get(("residual_model_reloads_total", "tiny", "loaded")) == 4)
    answered = len(statuses)
    wait_until(lambda: len(statuses) > answered + 50)
    stop.set()
    for client in clients:
        client.join(SECONDS)

    assert set(statuses) == {200}
    assert set(versions) == {"1", "2"}
    assert versions[-1] == "2"


def test_sigterm_ends_the_service_cleanly(store, tmp_path, arguments):
    """Exit status 0, no worker left, no metrics folder left, nothing logged as an error."""
    server = GunicornServer(store, tmp_path / "log", arguments)
    server.post("/score", json=BODY)
    workers = [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", server.lines())]

    assert server.stop() == 0

    assert len(workers) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert '"level":"error"' not in server.lines()
    assert "raceback" not in server.lines()


def test_bad_store_takes_nothing_from_clients(tmp_path):
    """A version without end, then a good one, then a lost mount: all the time a good version answers."""
    store = ModelStore(tmp_path / "models")
    publish_model(store)
    replace_graph(publish_model(store), loop_for_ever)
    server = GunicornServer(store, tmp_path / "log", trial_seconds=0.1, versions=1)
    try:
        states = [version["state"] for version in server.get("/models/tiny").json()["versions"]]
        assert states == ["loaded", "refused"]
        assert server.post("/score", json=BODY).headers["X-Model-Version"] == "1"
        assert server.metrics()["residual_version_failing", "tiny", "2"] == 1

        for _ in range(3):
            publish_model(store)
        wait_until(lambda: {_version(server, "/score") for _ in range(6)} == {"5"}, server.lines)
        assert {_version(server, "/models/tiny/versions/1/score") for _ in range(6)} == {"1"}
        assert ("residual_version_failing", "tiny", "2") not in server.metrics()

        store.root.rename(tmp_path / "elsewhere")
        store.root.mkdir()
        wait_until(lambda: all("warnings" in server.get("/readyz").json() for _ in range(6)), server.lines)
        assert {_version(server, "/score") for _ in range(6)} == {"5"}
        assert server.metrics()["residual_store_fault", ""] == 1
        assert time.time() - server.metrics()["residual_last_poll_timestamp_seconds",] < 5
    finally:
        assert server.stop() == 0


def _version(server: GunicornServer, path: str) -> str:
    """Return the version that answers."""
    answer = server.post(path, json=BODY)
    assert answer.status_code == 200, answer.text
    return answer.headers["X-Model-Version"]

"""The service as it is run: gunicorn, two workers, the configuration that ships."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from detector import ModelStore
from tests.model_folder import publish_model
from tests.service.answers import read_metrics

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SECONDS = 20
BODY = {"instances": [[1.0, 2.0, 30.0], [1.0, 2.0, 0.5]]}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ModelStore:
    """A store with `tiny` version 1."""
    store = ModelStore(tmp_path_factory.mktemp("gunicorn") / "models")
    publish_model(store)
    return store


class Server:
    """A gunicorn of two workers on a free port of 127.0.0.1."""

    def __init__(self, store: ModelStore, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            bind = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url, self.log = f"http://{bind}", log
        self._loads = 2 * sum(len(store.versions(name)) for name in store.names())
        environ = {name: value for name, value in os.environ.items() if not name.startswith("RESIDUAL_")}
        environ |= {
            "RESIDUAL_STORE": str(store.root),
            "RESIDUAL_BIND": bind,
            "RESIDUAL_WORKERS": "2",
            "RESIDUAL_POLL_SECONDS": "0.1",
            "TMPDIR": str(log.parent),
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py"],
                cwd=ROOT,
                env=environ,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self.is_ready, self.lines)
        except BaseException:
            self.stop()
            raise

    def is_ready(self) -> bool:
        """Whether both workers have loaded the store and one of them says so."""
        with contextlib.suppress(requests.ConnectionError):
            ready = self.get("/readyz").status_code == 200
            return ready and self.lines().count('"message": "loaded"') == self._loads
        return False

    def get(self, path: str) -> requests.Response:
        """GET on a connection of its own, so that any worker may answer."""
        return requests.get(self.url + path, timeout=SECONDS)

    def post(self, path: str) -> requests.Response:
        """POST two samples, likewise."""
        return requests.post(self.url + path, json=BODY, timeout=SECONDS)

    def metrics(self) -> dict[tuple, float]:
        """Every series, as any worker tells it."""
        return read_metrics(self.get("/metrics").text)

    def lines(self) -> str:
        """Everything that was logged so far."""
        return self.log.read_text()

    def stop(self) -> int:
        """End it like an orchestrator does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(SECONDS)
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    """One server for the tests that leave it running."""
    server = Server(store, tmp_path_factory.mktemp("log") / "log")
    yield server
    server.stop()


def wait_until(holds, context=lambda: ""):
    """Wait for a condition, with a bound."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, f"waited in vain\n{context()}"
        time.sleep(0.05)


def test_counters_are_right_over_two_workers(server):
    """Every worker tells the sum over both, exactly, though each answered only some."""
    before = server.metrics()

    answers = [server.post("/score") for _ in range(60)]

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
    server.post("/score")
    server.get("/livez")
    wait_until(lambda: '"path": "/score"' in server.lines())

    lines = [json.loads(line) for line in server.lines().splitlines()]

    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    assert {"gunicorn.error", "service.registry", "service.access"} <= {line["logger"] for line in lines}
    assert not any(line["logger"] == "gunicorn.access" or line.get("path") == "/livez" for line in lines)


def test_model_published_while_serving_is_found_by_both_workers(server, store):
    """Without a restart, and without a failed request."""
    publish_model(store, "second")

    wait_until(lambda: server.metrics().get(("residual_model_reloads_total", "second", "loaded")) == 2)

    assert {server.post("/models/second/score").status_code for _ in range(20)} == {200}


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


def test_sigterm_ends_the_service_cleanly(store, tmp_path):
    """Exit status 0, no worker left, no metrics folder left, nothing logged as an error."""
    server = Server(store, tmp_path / "log")
    server.post("/score")
    workers = [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", server.lines())]

    assert server.stop() == 0

    assert len(workers) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert '"level": "error"' not in server.lines()
    assert "raceback" not in server.lines()

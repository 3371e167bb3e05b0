"""Files of a deployment: gunicorn, alert rules, dashboard, proxy, compose, manifests, the demo."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from detector.store import ModelStore
from service.settings import VARIABLES, Settings
from tests.gunicorn_server import GTHREAD, wait_until
from tests.model_folder import publish_model
from tests.raw_http import Connection

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana/dashboards/residual.json"
NORMAL, ODD = [1.0, 2.0, 0.0], [1.0, 2.0, 900.0]

needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Gunicorn:
    """The real gunicorn on a free port, its temporary files in a folder of ours."""

    def __init__(
        self,
        store: Path,
        work: Path,
        config: str = "deploy/gunicorn.conf.py",
        cwd: Path = ROOT,
        arguments: Sequence[str] = (),
        **environ: str,
    ) -> None:
        self.temporary = work / "tmp"
        self.temporary.mkdir()
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        self.log = work / "log"
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith(("RESIDUAL_", "PROM"))
        }
        settings = {"RESIDUAL_STORE": str(store), "RESIDUAL_BIND": address, "RESIDUAL_WORKERS": "2"}
        settings["RESIDUAL_TRIAL_SECONDS"] = "0"  # the start is faster
        environ = inherited | settings | {"TMPDIR": str(self.temporary), "HOME": str(work)} | environ
        command = [sys.executable, "-m", "gunicorn", "-c", config, *arguments]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=cwd, env=environ, stdout=log, stderr=subprocess.STDOUT
            )

    def until(self, condition, seconds: float = 30) -> None:
        """Wait for a condition that may fail to connect; the log tells why it never came true."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(requests.ConnectionError, requests.Timeout):
                if condition():
                    return
            time.sleep(0.05)
        pytest.fail(f"not within {seconds} s:\n{self.log.read_text()}")

    def is_ready(self) -> bool:
        """Whether /readyz says so."""
        return requests.get(f"{self.url}/readyz", timeout=5).ok

    def score(self, *samples: list[float]) -> requests.Response:
        """The answer of the short path, on a connection of its own so that any worker may take it."""
        return requests.post(f"{self.url}/score", json={"instances": samples}, timeout=10)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, summed over its labels."""
        text = requests.get(f"{self.url}/metrics", timeout=5).text
        totals = Counter()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                totals[sample.name] += sample.value
        return totals

    def workers(self) -> set[int]:
        """Process ids of the workers that live."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return set(map(int, children.split()))

    def stop(self) -> int:
        """Ask it to stop; its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@pytest.fixture
def store(tmp_path):
    """A store with one model."""
    store = ModelStore(tmp_path / "models")
    publish_model(store)
    return store


@pytest.fixture
def start(store, tmp_path):
    """Starts gunicorn on the store, ready; every one started is stopped in the end."""
    started = []

    def start_one(**options):
        server = Gunicorn(store.root, tmp_path, **options)
        started.append(server)
        server.until(server.is_ready)
        return server

    yield start_one
    for server in started:
        server.stop()


@pytest.mark.slow
def test_counters_are_summed_over_workers_and_survive_a_reload(start):
    """One row moves one counter by one, whichever worker took it, and HUP forgets none of them."""
    server = start()
    for _ in range(10):
        assert server.score(NORMAL, ODD).ok
    former = server.workers()

    server.process.send_signal(signal.SIGHUP)
    server.until(lambda: len(server.workers()) == 2 and not server.workers() & former)
    server.until(server.is_ready)
    server.score(NORMAL)
    server.until(lambda: server.metrics()["residual_rows_total"] >= 21)  # counted a moment after the answer
    ended = [path for path in server.temporary.glob("*/*.db") if path.stem.rpartition("_")[2] == "ended"]

    assert len(ended) == 3  # of the former workers no other file is left
    assert not {
        path for path in server.temporary.glob("*/*.db") if path.stem.endswith(tuple(map(str, former)))
    }
    totals = server.metrics()
    assert (totals["residual_rows_total"], totals["residual_anomalies_total"]) == (21, 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "ready", "ends", "n_reloads"),
    [
        ((), "Application startup complete", "Shutting down", 2),
        (GTHREAD, '"message":"loaded"', "Worker exiting", 1),
    ],
    ids=["front", "gthread"],
)
def test_reload_ends_no_worker_before_the_new_ones_answer(start, arguments, ready, ends, n_reloads):
    """All clients would wait for that; a second reload does the same, with as many workers."""
    server = start(arguments=arguments)
    for generation in range(1, n_reloads + 1):
        server.until(lambda generation=generation: server.log.read_text().count(ready) == 2 * generation)
        assert server.log.read_text().count(ends) == 2 * (generation - 1)
        former = server.workers()
        server.process.send_signal(signal.SIGHUP)
        server.until(lambda former=former: len(server.workers()) == 2 and not server.workers() & former)
    kinds = re.findall(f"{ready}|{ends}", server.log.read_text())

    assert kinds == [ready] * 2 + ([ready] * 2 + [ends] * 2) * n_reloads


@pytest.mark.slow
def test_stop_during_a_reload_waits_for_nothing(start):
    """A reload that never ended could not be stopped."""
    server = start()
    former = server.workers()
    server.process.send_signal(signal.SIGHUP)
    server.until(lambda: len(server.workers()) > 2)

    assert server.stop() == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in former)


@pytest.mark.slow
def test_default_model_stays_when_the_store_grows_and_a_worker_is_born(start, store):
    """A worker born after a second model came in agrees with the others about the default model."""
    server = start()
    former = server.workers()
    publish_model(store, "another")

    for worker in former:
        os.kill(worker, signal.SIGKILL)
    server.until(lambda: len(server.workers()) == 2 and not server.workers() & former)
    server.until(server.is_ready)

    assert {server.score(NORMAL).json()["model"] for _ in range(8)} == {"tiny"}


@pytest.mark.slow
def test_stop_leaves_no_file_and_no_process(start, tmp_path):
    """Everything temporary goes with the master, and nothing was written at home."""
    server = start()
    workers = server.workers()

    assert server.stop() == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert not list(server.temporary.iterdir())
    assert {path.name for path in tmp_path.iterdir()} == {"models", "tmp", "log"}


@pytest.mark.slow
def test_metrics_folder_from_outside_is_emptied_at_start_and_left_at_the_end(start, tmp_path):
    """Files of an earlier run, whose counts would be added, are removed; the folder is kept."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "counter_1.db").write_bytes(b"left over")

    server = start(PROMETHEUS_MULTIPROC_DIR=str(folder))
    server.score(NORMAL)
    server.until(lambda: server.metrics()["residual_rows_total"] >= 1)  # counted a moment after the answer

    assert server.metrics()["residual_rows_total"] == 1
    server.stop()
    assert list(folder.glob("*.db"))
    assert not (folder / "counter_1.db").exists()


@pytest.mark.slow
def test_master_has_one_thread(start):
    """Nothing that is forked holds a lock of a thread that is not: no telemetry, no thread pool."""
    server = start()

    assert len(list(Path(f"/proc/{server.process.pid}/task").iterdir())) == 1


def test_mistaken_setting_ends_in_one_sentence(store, tmp_path):
    """The operator sees which variable it is, and no traceback."""
    server = Gunicorn(store.root, tmp_path, RESIDUAL_WORKERS="four")

    assert server.process.wait(timeout=30) == 1
    assert server.log.read_text() == "error: RESIDUAL_WORKERS must be a positive integer, got 'four'\n"


@pytest.mark.parametrize(
    ("environ", "arguments", "words"),
    [
        (
            {"PROMETHEUS_MULTIPROC_DIR": "/nowhere"},
            (),
            "PROMETHEUS_MULTIPROC_DIR must be a folder that can be",
        ),
        (
            {"RESIDUAL_BIND": "unix:/nowhere/socket"},
            (),
            "cannot be listened on: the folder of the socket does",
        ),
        (
            {"RESIDUAL_BIND": "192.0.2.1:80", "RESIDUAL_AUTH": "none"},
            (),
            "listened on: Cannot assign requested",
        ),
        ({"RESIDUAL_STORE": "{store}/tiny"}, (), "is the folder of one model: give the store, {store}"),
        ({"RESIDUAL_STORE": "{store}/tiny/1"}, (), "is a version of a model: give the store, {store}"),
        ({"RESIDUAL_STORE": "{store}/.."}, (), "holds no models, but {store}/../models does"),
        (
            {},
            ("--bind", "0.0.0.0:1"),
            "--bind 0.0.0.0:1 is not checked for access: set RESIDUAL_BIND instead",
        ),
        ({}, ("--preload",), "--preload does not work: threads that follow the store"),
    ],
    ids=["metrics", "socket", "address", "model", "version", "above", "bind", "preload"],
)
def test_what_cannot_work_ends_in_one_sentence(store, tmp_path, environ, arguments, words):
    """Behind gunicorn's own lines, and without a traceback."""
    environ = {name: value.format(store=store.root) for name, value in environ.items()}
    server = Gunicorn(store.root, tmp_path, arguments=arguments, **environ)

    assert server.process.wait(timeout=30) == 1
    *others, last = server.log.read_text().splitlines()
    assert last.startswith("error: ")
    assert words.format(store=store.root) in last
    assert all(json.loads(line)["level"] == "info" for line in others)


def test_address_in_use_ends_in_one_sentence(store, tmp_path):
    """Gunicorn would try for five seconds, and say so in eleven lines."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        bind = f"127.0.0.1:{other.getsockname()[1]}"
        server = Gunicorn(store.root, tmp_path, RESIDUAL_BIND=bind)

        assert server.process.wait(timeout=30) == 1
    last = server.log.read_text().splitlines()[-1]
    assert last == f"error: RESIDUAL_BIND={bind} cannot be listened on: Address already in use"


@pytest.mark.slow
def test_wheel_serves_by_its_module(start, tmp_path_factory):
    """An installed wheel needs no checkout: the same configuration is a module of it, and so is the trial."""
    built = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built], cwd=ROOT, check=True
    )
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(built / "site")

    server = start(
        config="python:service.gunicorn_conf",
        cwd=built,
        PYTHONPATH=str(built / "site"),
        RESIDUAL_TRIAL_SECONDS="20",
    )

    assert server.score(ODD).json()["is_anomaly"] == [True]


@pytest.mark.slow
def test_dashboard_and_alerts_ask_for_metrics_that_the_service_exports(start, store):
    """A panel or alert on a name that nobody writes would stay silent for ever."""
    (publish_model(store, "broken") / "model.onnx").unlink()
    (publish_model(store, "unclear").parent / "labels.json").write_text("{")
    server = start(RESIDUAL_DEFAULT_MODEL="tiny")
    server.score(NORMAL)
    server.score()

    asked = {
        name for text in [*panel_queries(), *alert_queries()] for name in re.findall(r"residual_\w+", text)
    }
    assert asked
    # Answers are counted a moment later.
    wait_until(lambda: asked <= set(server.metrics()), lambda: str(asked - set(server.metrics())))


def panel_queries() -> list[str]:
    """PromQL of every dashboard panel, Grafana's own variables filled in."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    return [query.replace("$__rate_interval", "1m").replace("$model", ".*") for query in queries]


def deployment() -> dict:
    """The Deployment of the Kubernetes manifests."""
    documents = yaml.safe_load_all((DEPLOY / "kubernetes/residual.yaml").read_text())
    return next(document for document in documents if document["kind"] == "Deployment")


def alert_queries() -> list[str]:
    """PromQL of every alert."""
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def promtool(*arguments: str | Path) -> None:
    """Run promtool; its words are the failure."""
    result = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_prometheus_accepts_its_configuration(tmp_path):
    """Configurations and the rule file they name are valid; Debian's promtool does not know Kubernetes."""
    promtool("check", "config", DEPLOY / "prometheus/prometheus.yml")
    text = (DEPLOY / "prometheus/kubernetes.yml").read_text()
    known = text.replace(
        "kubernetes_sd_configs:\n      - role: pod", "static_configs:\n      - targets: [a:1]"
    )
    (tmp_path / "known.yml").write_text(known)
    promtool("check", "config", "--syntax-only", tmp_path / "known.yml")


def test_every_scrape_has_the_job_of_the_alerts():
    """`up{job="residual"}` would never be there otherwise; in Kubernetes each scrape has a key."""
    asked = {job for query in alert_queries() for job in re.findall(r'job="([^"]*)"', query)}
    plain, kubernetes = (
        yaml.safe_load((DEPLOY / f"prometheus/{name}.yml").read_text())["scrape_configs"]
        for name in ("prometheus", "kubernetes")
    )
    monitor = yaml.safe_load((DEPLOY / "kubernetes/podmonitor.yaml").read_text())
    pod = deployment()["spec"]["template"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]

    assert {config["job_name"] for config in plain + kubernetes} == asked == {"residual"}
    assert pod["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "residual"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert endpoint["port"] in [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert endpoint["authorization"]["credentials"] == {"name": "residual-metrics-key", "key": "key"}
    assert kubernetes[0]["authorization"]["credentials_file"].endswith("/residual-metrics-key/key")
    assert "annotations" not in pod["metadata"]


def test_alerts_become_a_rule_of_the_operator():
    """By the command in the manifest."""
    comments = re.sub(r"^# *", "", (DEPLOY / "kubernetes/podmonitor.yaml").read_text(), flags=re.MULTILINE)
    (command,) = re.findall(r"^(\(echo.*?\)) \| kubectl", comments, re.DOTALL | re.MULTILINE)
    made = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)

    rule = yaml.safe_load(made.stdout)
    assert rule["kind"] == "PrometheusRule"
    assert rule["spec"] == yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())


@pytest.mark.slow
def test_prometheus_scrapes_with_a_key(start, tmp_path):
    """A real one, with the shipped configuration; its targets have the job of the alerts."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed")
    server = start(RESIDUAL_API_KEYS_SHA256=hashlib.sha256(b"secret").hexdigest())
    config = yaml.safe_load((DEPLOY / "prometheus/kubernetes.yml").read_text())
    (scrape,) = config["scrape_configs"]
    (tmp_path / "key").write_text("secret\n")
    scrape |= {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "authorization": {"credentials_file": str(tmp_path / "key")},
        "static_configs": [{"targets": [server.url.removeprefix("http://")]}],
    }
    del scrape["kubernetes_sd_configs"], scrape["relabel_configs"]
    config["rule_files"] = [str(DEPLOY / "prometheus/alerts.yml")]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address={address}"], stdout=output, stderr=output
        )

    def target() -> dict:
        with contextlib.suppress(requests.RequestException):  # it answers 503 until it is ready
            found = requests.get(f"http://{address}/api/v1/targets", timeout=5).json()["data"]
            return (found["activeTargets"] or [{}])[0]
        return {}

    try:
        wait_until(lambda: target().get("health") == "up", lambda: str(target()))
        assert target()["labels"]["job"] == "residual"
    finally:
        process.terminate()
        process.wait(20)


@needs_promtool
def test_alerts_fire_when_they_should_and_not_before():
    """Every alert has a series that fires it and one that does not."""
    promtool("test", "rules", DEPLOY / "prometheus/alerts_test.yml")


@needs_promtool
def test_dashboard_queries_are_promql(tmp_path):
    """Prometheus parses the query of every panel."""
    rules = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(panel_queries())]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))

    promtool("check", "rules", tmp_path / "rules.yml")


def test_dashboard_asks_the_provisioned_datasource():
    """Panels name the datasource by the uid under which it is provisioned."""
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())
    panels = json.loads(DASHBOARD.read_text())["panels"]

    used = {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"}
    assert used == {provisioned["datasources"][0]["uid"]}


def compose() -> dict:
    """The compose file, its variables not filled in."""
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_passes_every_setting_on():
    """Whatever the service can be told can be set in the shell; store and address are the image's."""
    passed = set(compose()["services"]["service"]["environment"]) - {"PROMETHEUS_MULTIPROC_DIR"}

    assert passed == {variable.name for variable in VARIABLES} - {"RESIDUAL_STORE", "RESIDUAL_BIND"}


def test_image_without_a_target_is_the_service():
    """Whoever builds without reading gets the small one; the other differs by its packages alone."""
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)

    assert stages[-2:] == [("serving", "service-arrow"), ("serving", "service")]


def test_arrow_image_has_the_packages_of_the_service_and_pyarrow():
    """In the same versions."""
    locks = [(ROOT / "requirements" / name).read_text() for name in ("service.txt", "service-arrow.txt")]
    service, arrow = (set(re.findall(r"^([\w-]+==\S+)", lock, flags=re.MULTILINE)) for lock in locks)

    assert service < arrow
    assert {package.partition("==")[0] for package in arrow - service} == {"pyarrow"}


def test_compose_publishes_on_loopback_only():
    """No key is asked for, so nobody but this machine may reach the ports."""
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]

    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_hardens_every_container():
    """Read-only root, no capabilities, no new privileges."""
    for name, service in compose()["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_proxy_lets_through_what_the_service_takes():
    """The proxy has the body limit of the service, and closes idle connections first."""
    settings = Settings.from_environ({})
    nginx = (DEPLOY / "nginx/nginx.conf").read_text()

    assert int(re.search(r"client_max_body_size +(\d+)m;", nginx)[1]) * 2**20 == settings.max_body_bytes
    assert {int(seconds) for seconds in re.findall(r"keepalive_timeout +(\d+)s;", nginx)} == {60}
    assert settings.idle_seconds > 60


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """A real nginx with the shipped configuration, whose service does not answer; its address."""
    if not shutil.which("nginx"):
        pytest.skip("nginx is not installed")
    tmp_path = tmp_path_factory.mktemp("nginx")
    address, service = (f"127.0.0.1:{free_port()}" for _ in range(2))
    text = (DEPLOY / "nginx/nginx.conf").read_text().replace("/tmp/", f"{tmp_path}/")  # noqa: S108
    text = text.replace("service:8000", service).replace("listen 8080", f"listen {address}")
    (tmp_path / "nginx.conf").write_text(text)
    command = ["nginx", "-c", tmp_path / "nginx.conf", "-e", tmp_path / "errors", "-g", "daemon off;"]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    host, _, port = address.partition(":")

    def listens() -> bool:
        with socket.socket() as attempt:
            return attempt.connect_ex((host, int(port))) == 0

    wait_until(listens, (tmp_path / "output").read_text)
    yield host, int(port)
    process.terminate()
    process.wait(20)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "status", "type", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad-request", "well-formed"),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method-not-allowed", "this method"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 134217729\r\n\r\n",
            413,
            "body-too-large",
            "128 MiB",
        ),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri-too-long", "8 KiB"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 8192 + b"\r\n\r\n",
            431,
            "header-too-large",
            "over 8 KiB",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"a" * 8000 + b"\r\n") * 9,
            431,
            "header-too-large",
            "64 KiB",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n" + (b"X: " + b"a" * 8000 + b"\r\n") * 7 + b"\r\n",
            502,
            None,
            "refuses",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            501,
            "bad-request",
            "must be chunked",
        ),
        (b"GET / HTTP/3.1\r\nHost: a\r\n\r\n", 505, "bad-request", "HTTP/1.1 or HTTP/1.0"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 502, "service-unreachable", "refuses connections"),
    ],
    ids=["host", "method", "body", "line", "field", "head", "fields", "coding", "version", "service"],
)
def test_refusals_of_the_proxy_are_problems(proxy, sent, status, type, words):  # noqa: A002
    """Like those of the service, and their sentences are true."""
    with Connection(proxy) as connection:
        connection.send(sent)
        answer = connection.answer()

    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == answer.json()["instance"]
    assert type in (None, answer.json()["type"])
    assert words in answer.json()["detail"]


def test_manifests_configure_a_service_that_starts():
    """The variables of the Kubernetes manifests are settings with values they can have."""
    container = deployment()["spec"]["template"]["spec"]["containers"][0]

    environ = {entry["name"]: entry.get("value", "0" * 64) for entry in container["env"]}
    settings = Settings.from_environ(environ | {"RESIDUAL_BIND": "0.0.0.0:8000"})

    assert settings.default_model == "digits"
    assert settings.auth is None


@pytest.mark.slow
def test_demo_calls_a_zero_normal_and_another_digit_an_anomaly(tmp_path):
    """Two lines with the answer's names, one false and one true, and no file stays behind."""
    result = subprocess.run(
        [sys.executable, DEPLOY / "demo.py"],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        timeout=300,
    )

    number = r"[0-9.e+-]+"
    line = rf"^score={number} threshold={number} p_value={number} is_anomaly=(true|false)$"
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.findall(line, result.stdout, re.MULTILINE) == ["false", "true"]
    assert not list(tmp_path.iterdir())

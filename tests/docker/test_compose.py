"""The real compose file on a real engine: built, started, scored through the proxy, scraped, extended."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
import yaml

from tests.test_deploy import panel_queries

ROOT = Path(__file__).resolve().parents[2]
SERVICE_BYTES = 420e6
BLANK = [[0.0] * 8] * 8
FOREIGN = ("tensorflow", "keras", "onnx", "sklearn", "tf2onnx", "pandas", "scipy", "matplotlib")


def why_not() -> str | None:
    """Return the part that is missing, of engine, Compose v2 and base images, or None."""
    if not shutil.which("docker"):
        return "docker is not installed"
    for what, command in (
        ("no Docker engine answers", ["docker", "info"]),
        ("Docker Compose v2 is missing", ["docker", "compose", "version"]),
        *(
            (f"the image {image} is not here", ["docker", "image", "inspect", image])
            for image in base_images()
        ),
    ):
        if subprocess.run(command, capture_output=True, timeout=60).returncode:
            return what
    return None


def base_images() -> list[str]:
    """Return the images that are not built here, without those of inactive profiles."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    base = (ROOT / "Dockerfile").read_text().split("FROM ", 1)[1].split()[0]
    return [base, *(one["image"] for one in services if "build" not in one and "profiles" not in one)]


pytestmark = [pytest.mark.docker, pytest.mark.slow]


class Stack:
    """The compose project under a name and on ports of its own."""

    def __init__(self) -> None:
        self.ports = {"SERVICE_PORT": free_port(), "PROMETHEUS_PORT": free_port()}
        self.project = f"residual-test-{os.getpid()}"
        images = {"SERVICE_IMAGE": f"{self.project}-service", "TRAINING_IMAGE": f"{self.project}-training"}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("RESIDUAL_")}
        self.environ = inherited | images | {name: str(port) for name, port in self.ports.items()}
        self.images = list(images.values())
        self.url = f"http://127.0.0.1:{self.ports['SERVICE_PORT']}"
        self.prometheus = f"http://127.0.0.1:{self.ports['PROMETHEUS_PORT']}"

    def compose(self, *arguments: str, seconds: float = 600) -> str:
        """Run docker compose and return its output; on failure fail with its error message."""
        command = ["docker", "compose", "-p", self.project, *arguments]
        result = subprocess.run(
            command, cwd=ROOT, env=self.environ, capture_output=True, text=True, timeout=seconds
        )
        assert result.returncode == 0, f"{arguments}: {result.stdout[-4000:]}{result.stderr[-4000:]}"
        return result.stdout

    def python(self, code: str) -> str:
        """Return the output of a Python program in the running service container."""
        return self.compose("exec", "-T", "service", "python", "-c", code)

    def query(self, promql: str) -> list[dict]:
        """Return the answer of Prometheus to an instant query."""
        answer = requests.get(f"{self.prometheus}/api/v1/query", params={"query": promql}, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]["result"]

    def score(self, path: str = "/score", **options: object) -> requests.Response:
        """Return the answer to one blank image, through the proxy."""
        return requests.post(f"{self.url}{path}", json={"instances": [BLANK], **options}, timeout=30)


def free_port() -> int:
    """Return a port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, seconds: float) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def stack():
    """The stack, built, healthy; gone with its volumes and images in the end."""
    if reason := why_not():
        pytest.skip(reason)
    stack = Stack()
    try:
        stack.compose("up", "--build", "--detach", "--wait", "--wait-timeout", "120")
        yield stack
    finally:
        stack.compose("--profile", "training", "down", "--volumes", "--remove-orphans", "--timeout", "40")
        subprocess.run(["docker", "image", "rm", "--force", *stack.images], capture_output=True)


def test_every_container_is_healthy(stack):
    """Service, proxy and Prometheus pass their own checks."""
    lines = stack.compose("ps", "--format", "json").splitlines()

    assert {one["Service"]: one["Health"] for one in map(json.loads, lines)} == {
        "service": "healthy",
        "proxy": "healthy",
        "prometheus": "healthy",
    }


def test_ready_made_model_scores_through_the_proxy(stack):
    """A new stack serves the model of the image, seeded into the volume."""
    answer = stack.score().json()

    assert (answer["model"], answer["version"]) == ("digits", 1)
    assert answer["is_anomaly"] == [True]


def test_refusals_of_the_proxy_have_the_form_of_the_service(stack):
    """A body over the limit is refused by nginx as a problem, with the client's request id."""
    with requests.Session() as session:
        request = requests.Request("POST", f"{stack.url}/score", headers={"X-Request-Id": "big.1"}).prepare()
        request.headers["Content-Length"] = str(129 * 2**20)
        answer = session.send(request, timeout=30)

    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert (answer.json()["type"], answer.json()["instance"]) == ("body-too-large", "big.1")


def test_slow_clients_cost_the_service_no_thread(stack):
    """More half-sent requests than the service has threads wait in nginx, and the next client is answered."""
    head = b"POST /score HTTP/1.1\r\nHost: slow\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
    with contextlib.ExitStack() as connections:
        for number in range(200):
            client = socket.create_connection(("127.0.0.1", stack.ports["SERVICE_PORT"]))
            connections.enter_context(client).sendall(head + b"\r\n{" if number % 2 else head)

        assert [stack.score().status_code for _ in range(20)] == [200] * 20


def test_service_image_is_small(stack):
    """The service image stays under 420 MB."""
    size = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", stack.images[0]],
        capture_output=True,
        text=True,
        check=True,
    )

    assert int(size.stdout) < SERVICE_BYTES


def test_service_image_has_nothing_of_training(stack):
    """Packages that only training needs cannot be imported in the image."""
    found = f"import importlib.util as u; print([name for name in {FOREIGN!r} if u.find_spec(name)])"

    assert stack.python(found).strip() == "[]"


def test_service_cannot_write_outside_its_folders(stack):
    """The service runs as an ordinary user on a read-only root, and its writable folders are mounted."""
    code = """
import os
print(os.getuid())
for folder in ("/app", "/opt/venv", "/models", "/tmp", "/metrics"):
    try:
        open(folder + "/probe", "w").close()
        os.remove(folder + "/probe")
        print(folder, "writable")
    except OSError as error:
        print(folder, error.strerror)
"""
    assert stack.python(code).splitlines() == [
        "10001",
        "/app Read-only file system",
        "/opt/venv Read-only file system",
        "/models writable",
        "/tmp writable",  # noqa: S108
        "/metrics writable",
    ]


def test_prometheus_scrapes_and_every_panel_has_data(stack):
    """After a minute of traffic no panel of the dashboard is empty, and no alert fires."""
    until(lambda: [one["value"][1] for one in stack.query('up{job="residual"}')] == ["1"], seconds=30)

    def all_panels_have_data() -> bool:
        assert stack.score().ok
        assert stack.score(no_such_option=1).status_code == 422
        return all(stack.query(query) for query in panel_queries())

    until(all_panels_have_data, seconds=90)
    assert stack.query('ALERTS{alertstate="firing"}') == []


def test_training_container_publishes_what_the_service_then_serves(stack):
    """A model fitted by the training image joins the running service; the default one answers all along."""
    run = ["run", "--rm", "--build", "training", "--data", "digits", "--name", "fresh", "--epochs", "2"]

    def is_served() -> bool:
        assert stack.score().json()["model"] == "digits"
        return requests.get(f"{stack.url}/models/fresh", timeout=10).ok

    with ThreadPoolExecutor(1) as pool:
        published = pool.submit(stack.compose, "--profile", "training", *run)
        until(lambda: is_served() or published.done(), seconds=400)
        published.result()
    until(is_served, seconds=20)
    answer = stack.score("/models/fresh/score").json()
    assert (answer["model"], answer["version"]) == ("fresh", 1)

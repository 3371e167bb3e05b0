"""Clients that nobody here wrote score a row: of languages, of generators, and a page in a browser."""

import contextlib
import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest
import requests

from detector import ModelStore
from tests.environments import ROOT, SECONDS, make_environment
from tests.gunicorn_server import GunicornServer
from tests.model_folder import publish_model

pytestmark = pytest.mark.slow

CLIENTS = ROOT / "tests" / "clients"
KEY = "secret"
ROW = {"instances": [[1, 2, 30]]}  # its score is 300


def free_port():
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The port of a server of an empty page, on all names of this machine."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *arguments):
        """Write nothing."""


@contextlib.contextmanager
def serve(folder, arguments, pages):
    """Start a service that wants a key, and lets the page ask it as 127.0.0.1 but not as localhost."""
    store = ModelStore(folder / "store")
    publish_model(store, "tiny")
    server = GunicornServer(
        store,
        folder / "log",
        arguments,
        workers=1,
        api_keys_sha256=hashlib.sha256(KEY.encode()).hexdigest(),
        cors_origins=f"http://127.0.0.1:{pages}",
    )
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory, arguments, pages):
    """Each of the two servers."""
    with serve(tmp_path_factory.mktemp("foreign"), arguments, pages) as server:
        yield server


@pytest.fixture(scope="module")
def front(tmp_path_factory, pages):
    """The server that ships."""
    with serve(tmp_path_factory.mktemp("front"), (), pages) as server:
        yield server


def run(*command, **options):
    """Run a program and return its output."""
    environ = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    finished = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=SECONDS, env=environ, **options
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def program(name):
    """Return the path of a program; skip without it."""
    path = shutil.which(name)
    return path or pytest.skip(f"{name} is not installed")


def node_tool(name):
    """Return the path of a tool of tests/clients/package.json; skip without it."""
    path = CLIENTS / "node_modules" / ".bin" / name
    return path if path.exists() else pytest.skip(f"{name} is not installed: npm install in tests/clients")


# --- languages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("language", "script"),
    [
        (("java",), "Score.java"),
        (("php",), "score.php"),
        (("node",), "score.mjs"),
        (("go", "run"), "score.go"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_languages_own_client_scores(server, language, script):
    """What comes with the language, as its manual shows it; Java's asks for HTTP/2 first."""
    command = [program(language[0]), *language[1:], CLIENTS / script, server.url, KEY]

    scores = json.loads(run(*command))

    assert (scores["score"], scores["is_anomaly"]) == ([300.0], [True])


# --- generators ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def description(front, tmp_path_factory):
    """The file openapi.json of the service."""
    path = tmp_path_factory.mktemp("description") / "openapi.json"
    answer = requests.get(f"{front.url}/openapi.json", headers={"X-API-Key": KEY}, timeout=SECONDS)
    path.write_text(answer.text)
    return path


def test_python_client_of_openapi_generator_scores(front, description, tmp_path, make_once):
    """Plain lists and dictionaries are taken, and answers and problems have types."""
    environment = make_environment("openapi-generator")
    (jar,) = environment.glob("lib/python*/site-packages/openapi_generator_cli/*.jar")
    program("java")

    def generate(folder):
        options = ("-g", "python", "-i", description, "-o", folder, "--package-name", "residual_api")
        run("java", "-jar", jar, "generate", *options)

    folder = make_once("openapi-generator-python", generate)

    python = environment / "bin" / "python"
    found = json.loads(run(python, CLIENTS / "score_generated.py", folder, front.url, KEY))

    assert found.pop("problem") == ["invalid-input", "/instances/0/2"]
    assert len(found) == 7
    assert [scores[0] for scores in found.values()] == pytest.approx([300.0] * 7)


def test_types_of_openapi_typescript_fit(front, description, tmp_path):
    """A program with these types compiles strictly and scores; only open objects have unknown members."""
    typescript, compiler = node_tool("openapi-typescript"), node_tool("tsc")
    run(typescript, description, "-o", tmp_path / "residual.d.ts")
    shutil.copy(CLIENTS / "score.ts", tmp_path)
    run(compiler, "--strict", "--target", "es2022", "--module", "commonjs", "score.ts", cwd=tmp_path)

    scores = json.loads(run(program("node"), tmp_path / "score.js", front.url, KEY))

    assert scores == {"score": [300.0], "is_anomaly": [True], "model": "tiny"}
    types = re.sub(r"\[\w+: string\]: unknown", "", (tmp_path / "residual.d.ts").read_text())
    assert "unknown" not in types


@pytest.mark.parametrize(
    "lint", [("redocly", "lint", "--format=json"), ("spectral", "lint", "--ruleset", "ruleset.yaml")]
)
def test_linters_have_nothing_to_say(description, tmp_path, lint):
    """Neither errors nor warnings of the recommended rules."""
    (tmp_path / "ruleset.yaml").write_text('extends: ["spectral:oas"]\n')
    tool, *arguments = lint

    said = run(node_tool(tool), *arguments, description, cwd=tmp_path)

    if tool == "redocly":
        assert json.loads(said)["problems"] == []
    else:
        assert said.startswith("No results")


# --- a browser ----------------------------------------------------------------------------------------------

# Asks the service, and tells what a page may see.
ASK = """
const [url, options, done] = arguments;
fetch(url, options)
  .then(async (answer) => done({
    status: answer.status, document: await answer.json(), version: answer.headers.get("X-Model-Version"),
    challenge: answer.headers.get("WWW-Authenticate"),
  }))
  .catch((error) => done({failed: error.name}));
"""


class Browser:
    """Chromium without a window, driven by the WebDriver protocol."""

    def __init__(self, url):
        self._url = url
        options = {"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self._url += f"/session/{self._send('/session', wanted)['sessionId']}"

    def _send(self, path, body):
        answer = requests.post(self._url + path, json=body, timeout=SECONDS).json()["value"]
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["message"])
        return answer

    def ask(self, page, url, headers, **options):
        """Open a page and return what its script sees of an answer."""
        self._send("/url", {"url": page})
        options = {"method": "POST", "body": json.dumps(ROW), "headers": headers, **options}
        return self._send("/execute/async", {"script": ASK, "args": [url, options]})

    def close(self):
        """End the browser."""
        requests.delete(self._url, timeout=SECONDS)


@pytest.fixture(scope="module")
def browser():
    """A browser; skips without Chromium and its driver."""
    driver, url = program("chromedriver"), f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen([driver, f"--port={url.rpartition(':')[2]}"], stdout=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"{url}/status", timeout=SECONDS)
                break
            time.sleep(0.05)
        try:
            opened = Browser(url)
        except RuntimeError as error:
            pytest.skip(f"Chromium does not start: {str(error)[:200]}")
        yield opened
        opened.close()
    finally:
        process.terminate()
        process.wait(SECONDS)


def test_page_of_another_origin_scores(server, pages, browser):
    """With its key, after a preflight without one; it reads answers, their headers, and problems."""
    page, url = f"http://127.0.0.1:{pages}/", f"{server.url}/score"
    headers = {"Content-Type": "application/json", "X-API-Key": KEY}

    for _ in range(3):  # the last one has a known head
        answer = browser.ask(page, url, headers)
        assert answer["document"]["score"] == [300.0]
        assert (answer["status"], answer["version"]) == (200, "1")

    refused = browser.ask(page, url, {"Content-Type": "application/json"})
    assert (refused["status"], refused["document"]["type"]) == (401, "unauthorized")
    assert refused["challenge"].startswith("Bearer")


def test_page_that_is_not_allowed_sees_nothing(server, pages, browser):
    """The same page under another name; credentials of the browser are never allowed."""
    headers = {"Content-Type": "application/json", "X-API-Key": KEY}

    foreign = browser.ask(f"http://localhost:{pages}/", f"{server.url}/score", headers)
    assert foreign == {"failed": "TypeError"}
    page = f"http://127.0.0.1:{pages}/"
    with_credentials = browser.ask(page, f"{server.url}/score", headers, credentials="include")
    assert with_credentials == {"failed": "TypeError"}

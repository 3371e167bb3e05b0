"""The service as it is run, with a log that nobody reads."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from detector import ModelStore
from tests.gunicorn_server import SECONDS, wait_until
from tests.model_folder import publish_model
from tests.raw_http import Connection, request

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
LONG_ID = ("X-Request-Id", "x" * 128)
SCORE = request(
    body=b'{"instances": [[1.0, 2.0, 30.0]]}', headers=[("Content-Type", "application/json"), LONG_ID]
)
LINE_BYTES = 330  # of the line of such a request, at least
PIPE_BYTES = 2**16


def test_log_that_nobody_reads_stops_nothing(tmp_path, arguments):
    """More requests are answered than the pipe holds lines, probes too; in the end all lines are whole."""
    store = ModelStore(tmp_path / "models")
    publish_model(store)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    url = f"http://127.0.0.1:{address[1]}"
    settings = {"STORE": str(store.root), "BIND": url.removeprefix("http://"), "WORKERS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", *arguments],
        cwd=ROOT,
        env=os.environ | {f"RESIDUAL_{name}": value for name, value in settings.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def is_ready() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{url}/readyz", timeout=SECONDS).ok
        return False

    try:
        wait_until(is_ready)
        with Connection(address) as connection:
            for _ in range(2 * PIPE_BYTES // LINE_BYTES):
                connection.send(SCORE)
                assert connection.answer().status == 200

        assert requests.get(f"{url}/livez", timeout=SECONDS).ok
    finally:
        process.terminate()
        assert process.wait(SECONDS) == 0
        with process:
            assert all(map(json.loads, process.stdout))

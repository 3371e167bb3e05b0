"""Processes that listen on loopback: start our own service as it ships, ask a server, stop it."""

import contextlib
import dataclasses
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.environments import ROOT
from benchmarks.errors import BenchmarkError
from benchmarks.servers import usage

SERVICE_COMMAND = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "deploy" / "gunicorn.conf.py")]
START_SECONDS, STOP_SECONDS = 60, 15


@dataclasses.dataclass(frozen=True)
class Service:
    """Our service while it runs.

    Attributes
    ----------
    process : Popen
        gunicorn's master.
    port : int
    mark : str
        Value of `usage.MARK` in the environment of its processes.
    begin : float
        When it was started, as `time.perf_counter` counts.
    ready_seconds : float
        From its start until `/readyz` answered 200.
    """

    process: subprocess.Popen[bytes]
    port: int
    mark: str
    begin: float
    ready_seconds: float

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """Return the content of an answer; raise BenchmarkError if its status is not 200."""
        status, content = ask(self.port, "POST", path, body, headers)
        if status != 200:
            raise BenchmarkError(f"{path} must answer 200, got {status}: {content[:200]!r}")
        return content


@contextlib.contextmanager
def running_service(store: Path, **variables: str) -> Iterator[Service]:
    """Run our service with further environment variables until the block ends.

    Raises
    ------
    BenchmarkError
        If it is not ready within a minute; the text has the end of its log.
    """
    port, mark = free_port(), uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="service-") as folder:
        log = Path(folder) / "service.log"
        environ = clean_environ() | {
            "RESIDUAL_STORE": str(store),
            "RESIDUAL_BIND": f"127.0.0.1:{port}",
            "TMPDIR": folder,
            usage.MARK: mark,
            **variables,
        }
        begin = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(SERVICE_COMMAND, cwd=ROOT, env=environ, stdout=output, stderr=output)
        try:
            _wait_until_ready(process, port, log)
            yield Service(process, port, mark, begin, time.perf_counter() - begin)
        finally:
            stop(process, STOP_SECONDS)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            if ask(port, "GET", "/readyz")[0] == 200:
                return
        time.sleep(0.01)
    raise BenchmarkError(f"the service is not ready within {START_SECONDS} s: {tail(log)}")


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> tuple[int, bytes]:
    """Send one request over a connection of its own; return status and content."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()


def stop(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask a process to end, kill it if it has not within so many seconds."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port of loopback on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def clean_environ() -> dict[str, str]:
    """Return the variables of this process without the `RESIDUAL_` ones, which a user may have set."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RESIDUAL_")}


def tail(log: Path) -> str:
    """Return the last 300 characters of a log."""
    return log.read_text(errors="replace").strip()[-300:]

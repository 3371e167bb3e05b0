"""A contender while it runs: start it, wait for it, check its scores, measure it, end it."""

import contextlib
import dataclasses
import http.client
import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import ROOT
from benchmarks.errors import BenchmarkError
from benchmarks.servers import proxy, usage, wrk
from benchmarks.servers.contenders import Contender, Start
from benchmarks.servers.formats import Format
from benchmarks.servers.processes import ask, clean_environ, free_port, tail
from benchmarks.servers.work import FOLDER, Work

START_SECONDS, STOP_SECONDS, QUIET_SECONDS = 120, 15, 8
SCORE_TOLERANCE = 1e-5  # relative, between machines and between versions of ONNX Runtime
BULK_REQUESTS, MOST_SECONDS = 8, 60  # a run is long enough for so many bulk requests, but no longer than this


@dataclasses.dataclass(frozen=True)
class Server:
    """A running contender with its processes; with `new_heads` no two requests have the same head."""

    contender: Contender
    work: Work
    port: int
    roots: tuple[int, ...]
    mark: str
    cold_start_seconds: float
    new_heads: bool = False

    def processes(self) -> list[int]:
        """Return the ids of all its processes and of the proxy's."""
        return sorted({process for root in self.roots for process in usage.tree(root, self.mark)})

    def headers(self, form: Format, n_rows: int) -> dict[str, str]:
        """Return the headers of a request with so many rows."""
        return {**form.headers(self.work, n_rows), **self.contender.headers}

    def post(self, form: Format, n_rows: int) -> tuple[int, bytes]:
        """Post one request over a new connection; return status and content."""
        body = form.file(self.work, n_rows).read_bytes()
        return ask(self.port, "POST", form.path, body, self.headers(form, n_rows))

    def check_scores(self, body: str, n_rows: int) -> float:
        """Compare the answer with the model's own scores; return the seconds that it took.

        Raises
        ------
        BenchmarkError
            If the status is not 200 or the scores differ.
        """
        form = self.contender.formats[body]
        form.file(self.work, n_rows)
        usage.wait_until_idle(self.processes)  # it may still work on a request that an earlier run gave up
        start = time.perf_counter()
        status, answer = self.post(form, n_rows)
        seconds = time.perf_counter() - start
        what = f"{self.contender.name} on {self.work.name}, {body} of {n_rows} rows"
        if status != 200:
            raise BenchmarkError(f"{what}: must answer 200, got {status}: {answer[:200]!r}")
        compare_scores(form.scores(answer), self.work.scores(n_rows), what)
        return seconds

    def target(self, body: str, n_rows: int) -> wrk.Target:
        """Return the request that wrk posts."""
        form = self.contender.formats[body]
        url = f"http://127.0.0.1:{self.port}{form.path}"
        return wrk.Target(url, form.file(self.work, n_rows), self.headers(form, n_rows), self.new_heads)

    def drive(self, body: str, n_rows: int, concurrency: int, seconds: float) -> wrk.Load:
        """Post a body again and again for so many seconds."""
        return wrk.drive(self.target(body, n_rows), concurrency, seconds)

    def cleanly(self, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Measure, again if other work used the machine; return the figures of the least disturbed run."""

        def once() -> dict[str, Any]:
            usage.wait_until_idle(self.processes)
            usage.wait_until_quiet(self.processes, QUIET_SECONDS)
            return measure()

        return usage.cleanly(once)

    def measure(self, body: str, n_rows: int, concurrency: int, seconds: float) -> dict[str, Any]:
        """Measure one run."""
        with usage.Meter(self.processes) as meter:
            load = self.drive(body, n_rows, concurrency, seconds)
        requests = load.requests_per_second * meter.wall_seconds
        return {
            "requests_per_second": round(load.requests_per_second, 2),
            "p50_ms": load.p50_ms,
            "p99_ms": load.p99_ms,
            "cpu_us_per_request": round(meter.cpu_seconds / requests * 1e6, 1) if requests else None,
            "memory_mb": round(usage.memory_mb(self.processes()), 1),
            "cold_start_seconds": round(self.cold_start_seconds, 2),
            "client_cpu": round(meter.client, 3),
            "foreign_cpu": round(meter.foreign, 3),
            "errors": load.errors,
        }


def compare_scores(got: np.ndarray, wanted: np.ndarray, what: str) -> None:
    """Raise BenchmarkError if scores differ by more than `SCORE_TOLERANCE`."""
    if got.shape != wanted.shape:
        raise BenchmarkError(f"{what}: must answer scores of shape {wanted.shape}, got {got.shape}")
    difference = float(np.max(np.abs(got - wanted) / wanted))
    if not difference <= SCORE_TOLERANCE:
        raise BenchmarkError(
            f"{what}: scores must equal the model's within {SCORE_TOLERANCE:g}, got {difference:.2g}"
        )


def bulk_seconds(asked_for: float, request_seconds: float) -> float:
    """Return how long to run if one request takes `request_seconds`."""
    return min(MOST_SECONDS, max(asked_for, BULK_REQUESTS * request_seconds))


@contextlib.contextmanager
def proxied(server: Server, nginx: str) -> Iterator[Server]:
    """Put a proxy in front of a server; the processes of the proxy count as the server's."""
    port = free_port()
    with proxy.started(nginx, port, server.port, server.mark) as process:
        proxied_server = dataclasses.replace(server, port=port, roots=(*server.roots, process.pid))
        _wait_for_answer(proxied_server, lambda: process.poll() is None, lambda: "nginx is in front of it")
        yield proxied_server


@contextlib.contextmanager
def started(contender: Contender, work: Work, bulk: bool) -> Iterator[Server]:
    """Start a contender and wait for its first answer; end it with all its processes after the block.

    Raises
    ------
    BenchmarkError
        If it does not answer in time.
    """
    mark, port = uuid.uuid4().hex, free_port()
    log = FOLDER / "logs" / f"{contender.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="serving-") as folder, log.open("wb") as stream:
        start = Start(work, port, bulk, Path(folder))
        command = contender.prepare(start)
        environ = clean_environ() | contender.environ(start) | {usage.MARK: mark}
        cwd = folder if contender.has_environment else ROOT
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=cwd, env=environ, stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            server = Server(contender, work, port, (process.pid,), mark, 0.0)
            _wait_for_answer(server, lambda: process.poll() is None, lambda: f"{log} ends: {tail(log)}")
            yield dataclasses.replace(server, cold_start_seconds=time.perf_counter() - begin)
        finally:
            _end(process, mark)
    log.unlink()  # it may have a line for each of millions of requests; it is kept if something failed


def _wait_for_answer(server: Server, is_alive: Callable[[], bool], words: Callable[[], str]) -> None:
    """Wait until it answers its first row."""
    form = next(iter(server.contender.formats.values()))
    end, seen = time.monotonic() + START_SECONDS, "no answer"
    while time.monotonic() < end and is_alive():
        try:
            status, answer = server.post(form, 1)
        except (OSError, http.client.HTTPException) as error:
            seen = repr(error)
        else:
            if status == 200:
                return
            seen = f"{status} {answer[:200]!r}"
        time.sleep(0.02)
    raise BenchmarkError(f"{server.contender.name} does not answer ({seen}); {words()}")


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Ask the main process to end, then kill what is left of its tree."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while time.monotonic() < end and (process.poll() is None or usage.tree(process.pid, mark)):
        time.sleep(0.1)
    for member in usage.tree(process.pid, mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    process.wait()

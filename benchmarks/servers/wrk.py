"""Load by wrk: each connection posts the same body again as soon as it has its answer."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.errors import BenchmarkError

SCRIPT = Path(__file__).with_name("post.lua")
MARKER = "RESULT "
TIMEOUT_SECONDS = 60
FEW_REQUESTS = 200  # for each connection: with fewer, the request that the end of the run cuts off matters


@dataclasses.dataclass(frozen=True)
class Target:
    """The request that is posted; with `new_heads` each one has a number in its head."""

    url: str
    body: Path
    headers: Mapping[str, str]
    new_heads: bool = False


@dataclasses.dataclass(frozen=True)
class Load:
    """The result of a run; `errors` are answers other than 2xx, and connections that failed."""

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def check_installed() -> None:
    """Raise BenchmarkError if there is no wrk."""
    if shutil.which("wrk") is None:
        raise BenchmarkError(
            "wrk must be on the PATH to drive the servers, and is not: apt-get install wrk, "
            "or https://github.com/wg/wrk"
        )


def start(target: Target, concurrency: int, seconds: float) -> subprocess.Popen[str]:
    """Begin to post for so many seconds, or until `stop`."""
    command = ["wrk", "--threads", "1", "--connections", str(concurrency)]
    command += ["--duration", f"{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_SECONDS}s"]
    for name, value in target.headers.items():
        command += ["--header", f"{name}: {value}"]
    command += ["--script", str(SCRIPT), target.url]
    new_heads = "1" if target.new_heads else ""
    environ = {**os.environ, "SERVING_BODY": str(target.body), "SERVING_NEW_HEADS": new_heads}
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def stop(running: subprocess.Popen[str], concurrency: int) -> Load:
    """End a load early; raise BenchmarkError as `read_result` does."""
    running.send_signal(signal.SIGINT)
    return read_result(running.communicate()[0], concurrency)


def drive(target: Target, concurrency: int, seconds: float) -> Load:
    """Post for so many seconds; raise BenchmarkError as `read_result` does."""
    running = start(target, concurrency, seconds)
    try:
        return read_result(running.communicate()[0], concurrency)
    finally:
        running.kill()  # if this process is ended first


def read_result(output: str, concurrency: int) -> Load:
    """Read the result that the script printed.

    The rate of few requests is taken from their mean duration, because each connection always has one under
    way. The rate of many is taken from the clock, because the client's own time between two requests counts.

    Raises
    ------
    BenchmarkError
        If it printed none.
    """
    line = next((line for line in output.splitlines() if line.startswith(MARKER)), None)
    if line is None:
        raise BenchmarkError(f"wrk ended without a result: {output.strip()[-300:] or 'no message'}")
    result = json.loads(line.removeprefix(MARKER))
    if 0 < result["requests"] < FEW_REQUESTS * concurrency:
        rate = concurrency * 1e6 / result["mean"]
    else:
        rate = result["requests"] * 1e6 / result["microseconds"]
    errors = result["status"] + result["socket"]
    return Load(result["requests"], rate, result["p50"] / 1e3, result["p99"] / 1e3, errors)

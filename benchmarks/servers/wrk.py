"""Load by wrk: so many connections, each of which posts the same body as soon as it has its answer."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.errors import ServingError

SCRIPT = Path(__file__).with_name("post.lua")
MARKER = "RESULT "
TIMEOUT_SECONDS = 60
FEW_REQUESTS = 200  # for each connection: below it, the request that a run's end cuts off would count


@dataclasses.dataclass(frozen=True)
class Load:
    """What came of a run; `errors` are answers other than 2xx, and connections that failed."""

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def check_installed() -> None:
    """Raise ServingError where there is no wrk."""
    if shutil.which("wrk") is None:
        raise ServingError(
            "wrk must be on the PATH to drive the servers, and is not: apt-get install wrk, "
            "or https://github.com/wg/wrk"
        )


def start(
    url: str,
    body: Path,
    headers: Mapping[str, str],
    concurrency: int,
    seconds: float,
    *,
    new_heads: bool = False,
) -> subprocess.Popen[str]:
    """Begin to post a file for so long, or until `stop`; if asked for, with a number in each head."""
    command = ["wrk", "--threads", "1", "--connections", str(concurrency)]
    command += ["--duration", f"{max(1, round(seconds))}s", "--timeout", f"{TIMEOUT_SECONDS}s"]
    for name, value in headers.items():
        command += ["--header", f"{name}: {value}"]
    command += ["--script", str(SCRIPT), url]
    environ = {**os.environ, "SERVING_BODY": str(body), "SERVING_NEW_HEADS": "1" if new_heads else ""}
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def stop(running: subprocess.Popen[str], concurrency: int) -> Load:
    """End a load before its time; raises ServingError as `read_result` does."""
    running.send_signal(signal.SIGINT)
    return read_result(running.communicate()[0], concurrency)


def drive(
    url: str,
    body: Path,
    headers: Mapping[str, str],
    concurrency: int,
    seconds: float,
    *,
    new_heads: bool = False,
) -> Load:
    """Post a file for so long; arguments as of `start`.

    Raises
    ------
    ServingError
        If wrk does not say what came of it.
    """
    running = start(url, body, headers, concurrency, seconds, new_heads=new_heads)
    try:
        return read_result(running.communicate()[0], concurrency)
    finally:
        running.kill()  # where this process is ended before it


def read_result(output: str, concurrency: int) -> Load:
    """What the script printed.

    Few requests are counted by their mean duration, since each connection always has one under way; many by
    the clock, since the client's own time between two of them counts as well.

    Raises
    ------
    ServingError
        If it printed nothing.
    """
    line = next((line for line in output.splitlines() if line.startswith(MARKER)), None)
    if line is None:
        raise ServingError(f"wrk ended without a result: {output.strip()[-300:] or 'no message'}")
    result = json.loads(line.removeprefix(MARKER))
    if 0 < result["requests"] < FEW_REQUESTS * concurrency:
        rate = concurrency * 1e6 / result["mean"]
    else:
        rate = result["requests"] * 1e6 / result["microseconds"]
    errors = result["status"] + result["socket"]
    return Load(result["requests"], rate, result["p50"] / 1e3, result["p99"] / 1e3, errors)

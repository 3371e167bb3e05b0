"""Ask a server for its health ten times a second, each time over a new connection.

  python -m benchmarks.servers.probes PORT SECONDS HEADERS_JSON PATH ...

prints how long the answers took, in milliseconds.
"""

import contextlib
import http.client
import json
import sys
import time
from typing import Any

import numpy as np

from benchmarks.servers.processes import ask

EVERY_SECONDS = 0.1
PATHS = ("/livez", "/readyz", "/metrics")


def main(port: str, seconds: str, headers: str, *paths: str) -> None:
    """Ask for each path in turn, print the figures."""
    end, asked = time.monotonic() + float(seconds), {path: [] for path in paths}
    while time.monotonic() < end:
        for path in paths:
            asked[path].append(_ask(int(port), path, json.loads(headers)))
        time.sleep(EVERY_SECONDS)
    print(json.dumps({path: _figures(answers) for path, answers in asked.items()}))


def _ask(port: int, path: str, headers: dict[str, str]) -> tuple[int, float]:
    """Return the status, 0 if there was no answer, and milliseconds."""
    start, status = time.perf_counter(), 0
    with contextlib.suppress(OSError, http.client.HTTPException):
        status, _ = ask(port, "GET", path, headers=headers, timeout=10)
    return status, (time.perf_counter() - start) * 1e3


def _figures(answers: list[tuple[int, float]]) -> dict[str, Any]:
    times = [milliseconds for _, milliseconds in answers]
    p50, p99, longest = (round(float(value), 2) for value in np.percentile(times, (50, 99, 100)))
    failed = sum(status != 200 for status, _ in answers)
    return {"asked": len(answers), "failed": failed, "p50_ms": p50, "p99_ms": p99, "longest_ms": longest}


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Asks a server how it is, ten times a second, each time over a connection of its own.

  python -m benchmarks.servers.probes PORT SECONDS HEADERS_JSON PATH ...

prints how long it took, in milliseconds.
"""

import contextlib
import http.client
import json
import sys
import time
from typing import Any

import numpy as np

EVERY_SECONDS = 0.1
PATHS = ("/livez", "/readyz", "/metrics")


def main(port: str, seconds: str, headers: str, *paths: str) -> None:
    """Ask in turn and print."""
    end, asked = time.monotonic() + float(seconds), {path: [] for path in paths}
    while time.monotonic() < end:
        for path in paths:
            asked[path].append(_ask(int(port), path, json.loads(headers)))
        time.sleep(EVERY_SECONDS)
    print(json.dumps({path: _figures(answers) for path, answers in asked.items()}))


def _ask(port: int, path: str, headers: dict[str, str]) -> tuple[int, float]:
    """Status, 0 for none, and milliseconds."""
    start, status = time.perf_counter(), 0
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            status = answer.status
    return status, (time.perf_counter() - start) * 1e3


def _figures(answers: list[tuple[int, float]]) -> dict[str, Any]:
    times = [milliseconds for _, milliseconds in answers]
    p50, p99, longest = (round(float(value), 2) for value in np.percentile(times, (50, 99, 100)))
    failed = sum(status != 200 for status, _ in answers)
    return {"asked": len(answers), "failed": failed, "p50_ms": p50, "p99_ms": p99, "longest_ms": longest}


if __name__ == "__main__":
    main(*sys.argv[1:])

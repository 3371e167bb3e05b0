"""A client that sends at a fixed rate whatever the server does, as many independent users would.

  python -m benchmarks.servers.open_loop PORT PATH BODY_FILE REQUESTS_PER_SECOND SECONDS HEADERS_JSON

prints the outcome of all requests. wrk cannot do this, because each of its connections waits for an answer.
The client shares the processors with the server, so it uses uvloop, which costs half as much as asyncio.
"""

import asyncio
import collections
import dataclasses
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

MOST_CONNECTIONS = 800  # fewer than the 1,024 open files that a shell allows
LAST_ANSWERS_SECONDS = 70  # the longest wait for requests that are under way at the end
STEP_SECONDS = 0.002
ACCEPTED, REFUSED = 200, 503


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Status of a request, 0 for no answer; `at` in seconds since the first request; how long it took."""

    status: int
    at: float
    seconds: float


class OpenLoop:
    """Send one request again and again over connections that are kept open, as many as it needs."""

    def __init__(self, port: int, request: bytes) -> None:
        self.port, self.request = port, request
        self.answers: list[Outcome] = []
        self.idle: list[_Connection] = []
        self.n_open = self.n_under_way = self.n_unsent = 0
        self.longest_lag = 0.0
        self.begin = 0.0

    async def run(self, rate: float, seconds: float) -> None:
        """Offer so many requests a second for so long, then wait for the last answers."""
        self.begin, n_due = time.monotonic(), 0
        while (now := time.monotonic() - self.begin) < seconds:
            while n_due / rate <= now:
                self.longest_lag = max(self.longest_lag, time.monotonic() - self.begin - n_due / rate)
                self._send()
                n_due += 1
            await asyncio.sleep(STEP_SECONDS)
        end = time.monotonic() + LAST_ANSWERS_SECONDS
        while self.n_under_way and time.monotonic() < end:
            await asyncio.sleep(0.05)

    def finish(self, started: float, status: int) -> None:
        """Record the outcome of a request."""
        self.n_under_way -= 1
        now = time.monotonic()
        self.answers.append(Outcome(status, now - self.begin, now - started))

    def _send(self) -> None:
        """Send a request over an idle connection or a new one."""
        if not self.idle and self.n_open >= MOST_CONNECTIONS:
            self.n_unsent += 1
            return
        self.n_under_way += 1
        started = time.monotonic()
        if self.idle:
            self.idle.pop().send(started)
        else:
            self.n_open += 1
            opening = asyncio.ensure_future(self._open(started))
            self._opening = opening  # the loop itself keeps no strong reference

    async def _open(self, started: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Connection(self, started), "127.0.0.1", self.port)
        except OSError:
            self.n_open -= 1
            self.finish(started, 0)


class _Connection(asyncio.Protocol):
    """One connection with one request at a time; answers must have a Content-Length."""

    def __init__(self, client: OpenLoop, started: float) -> None:
        self._client, self._started, self._busy, self._received = client, started, False, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.send(self._started)

    def send(self, started: float) -> None:
        """Write the request; its time counts from `started`."""
        self._started, self._busy, self._received = started, True, b""
        self._transport.write(self._client.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not (separator and self._busy):
            return
        headers = head.lower()
        if len(body) < int(headers.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]):
            return
        self._busy = False
        self._client.finish(self._started, int(head.split(b" ", 2)[1]))
        if b"\r\nconnection: close" in headers:
            self._transport.close()
        else:
            self._client.idle.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._client.n_open -= 1
        if self in self._client.idle:
            self._client.idle.remove(self)
        if self._busy:
            self._busy = False
            self._client.finish(self._started, 0)


def figures(client: OpenLoop, seconds: float) -> dict[str, Any]:
    """Return counts and times of the outcomes, in milliseconds."""
    statuses = collections.Counter(answer.status for answer in client.answers)
    accepted, refused = (
        [answer.seconds * 1e3 for answer in client.answers if answer.status == status]
        for status in (ACCEPTED, REFUSED)
    )
    in_time = sum(answer.status == ACCEPTED and answer.at <= seconds for answer in client.answers)
    return {
        "accepted": len(accepted),
        "refused": len(refused),
        "failed": len(client.answers) - len(accepted) - len(refused),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "unanswered": client.n_under_way,
        "unsent": client.n_unsent,
        "accepted_per_second": round(in_time / seconds, 1),
        "accepted_p50_ms": _percentile(accepted, 50),
        "accepted_p99_ms": _percentile(accepted, 99),
        "refused_p50_ms": _percentile(refused, 50),
        "refused_p99_ms": _percentile(refused, 99),
        "longest_ms": _percentile([answer.seconds * 1e3 for answer in client.answers], 100),
        "client_lag_ms": round(client.longest_lag * 1e3, 1),
    }


def _percentile(values: list[float], share: float) -> float | None:
    return round(float(np.percentile(values, share)), 2) if values else None


def main(port: str, path: str, body: str, rate: str, seconds: str, headers: str) -> None:
    """Run the client, print the figures."""
    content = Path(body).read_bytes()
    lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Content-Length: {len(content)}"]
    lines += [f"{name}: {value}" for name, value in json.loads(headers).items()]
    client = OpenLoop(int(port), "\r\n".join([*lines, "", ""]).encode() + content)
    uvloop.run(client.run(float(rate), float(seconds)))
    print(json.dumps(figures(client, float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])

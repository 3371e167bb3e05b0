"""Answered requests and runs that wait to be counted and logged, many at a time: docs/decisions/0019.

Counting and logging one request takes as long as answering it; a hundred together take little more than one.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from service.http.request_record import RequestRecord, Run
from service.watching import stdout
from service.watching.logs import to_text
from service.watching.metrics import Metrics

# `write_soon` waits so long, or until so many requests have been answered.
WRITE_SECONDS = 0.1
WRITE_REQUESTS = 128
PATH_CHARACTERS = 200
QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics"})

_access = logging.getLogger("service.access")


class Pending:
    """Notes until they are written. Safe to use from several threads at once, except `write_soon`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._records: deque[RequestRecord] = deque()
        self._runs: deque[Run] = deque()
        self._writing: asyncio.Handle | None = None

    @property
    def n_requests(self) -> int:
        """Answered requests that are not written yet."""
        return len(self._records)

    def close(self, record: RequestRecord, status: int) -> None:
        """Note a request that has been answered with this status."""
        record.status = status
        record.seconds = time.perf_counter() - record.started
        record.ended = time.time()
        self._records.append(record)

    def note_run(self, run: Run) -> None:
        """Note a run."""
        self._runs.append(run)

    def write_soon(self) -> None:
        """Write in the running event loop, within `WRITE_SECONDS`."""
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(WRITE_SECONDS, self.write)
        elif len(self._records) >= WRITE_REQUESTS:
            self._writing.cancel()
            self._writing = asyncio.get_running_loop().call_soon(self.write)

    def write(self) -> None:
        """Count and log the notes, and count lines that could not be logged."""
        self._writing = None
        if stdout.writer.n_dropped:
            self._metrics.count_dropped_lines(stdout.writer.take_dropped())
        records, runs = _drain(self._records), _drain(self._runs)
        if runs:
            self._metrics.observe_runs(runs)
        if records:
            self._metrics.observe_requests(records)
            _log(records)


def _drain(notes: deque[Any]) -> list[Any]:
    drained = []
    while notes:
        try:
            drained.append(notes.popleft())
        except IndexError:  # another thread was faster
            break
    return drained


def _log(records: Sequence[RequestRecord]) -> None:
    """Log answered requests as one record for each level; leave out probes and scrapes.

    The path is the template of the route, so that the log holds no names or values from clients; only if no
    route matches, it is the start of the path that was asked for.
    """
    logged = [record for record in records if record.template not in QUIET_PATHS]
    for level, chosen in (
        (logging.INFO, [record for record in logged if record.status < 500]),
        (logging.ERROR, [record for record in logged if record.status >= 500]),
    ):
        if chosen and _access.isEnabledFor(level):
            _access.log(level, "request", extra={"fields": list(map(_access_fields, chosen))})


def _shown(path: str) -> str:
    """Return a path for the log: cut, without a query, and with everything but ASCII escaped."""
    return path.partition("?")[0][:PATH_CHARACTERS].encode("unicode_escape").decode("ascii")


def _access_fields(record: RequestRecord) -> dict[str, Any]:
    return {
        "time": to_text(record.ended),
        "path": record.template or _shown(record.path),
        "status": record.status,
        "problem": record.problem,
        "request_id": record.request_id,
        "method": record.method,
        "duration_seconds": round(record.seconds, 6),
        "model": record.model or None,
        "version": record.version or None,
        "rows": record.rows,
        "client": record.client,
    }

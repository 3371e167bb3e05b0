"""Answered requests and runs that wait to be counted and logged, many at a time: docs/decisions/0019.

Counting and logging one request takes as long as answering it; a hundred together take little more than one.
"""

import asyncio
import time
from collections import deque
from typing import Any

from service.http.request_record import RequestRecord, Run
from service.watching import logs
from service.watching.metrics import Metrics

# `write_soon` waits so long, or until so many requests have been answered.
WRITE_SECONDS = 0.1
WRITE_REQUESTS = 128


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
        """Count and log the notes."""
        self._writing = None
        records, runs = _drain(self._records), _drain(self._runs)
        if runs:
            self._metrics.observe_runs(runs)
        if records:
            self._metrics.observe_requests(records)
            logs.write_access(records)


def _drain(notes: deque[Any]) -> list[Any]:
    drained = []
    while notes:
        try:
            drained.append(notes.popleft())
        except IndexError:  # another thread was faster
            break
    return drained

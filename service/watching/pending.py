"""What was answered and scored, counted and logged a moment later, many requests at a time.

Counting and logging one request takes as long as answering it; a hundred together take little more than one.
"""

from collections import deque

from service.http.request_record import RequestRecord, Run
from service.watching import logs
from service.watching.metrics import Metrics


class Pending:
    """Notes until they are written. Safe to use from several threads at once."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._records: deque[RequestRecord] = deque()
        self._runs: deque[Run] = deque()

    @property
    def n_requests(self) -> int:
        """Answered requests that are noted and not yet written."""
        return len(self._records)

    def close(self, record: RequestRecord, status: int) -> None:
        """Note an answered request."""
        record.close(status)
        self._records.append(record)

    def note_run(self, run: Run) -> None:
        """Note a run."""
        self._runs.append(run)

    def write(self) -> None:
        """Count and log what has been noted."""
        records, runs = _drain(self._records), _drain(self._runs)
        if runs:
            self._metrics.observe_runs(runs)
        if records:
            self._metrics.observe_requests(records)
            logs.write_access(records)


def _drain(notes: deque) -> list:
    drained = []
    while notes:
        try:
            drained.append(notes.popleft())
        except IndexError:  # another thread was faster
            break
    return drained

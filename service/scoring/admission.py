"""Limits the work that one process takes on, by rows, bytes and estimated seconds."""

import contextlib
import threading
from collections.abc import Iterator

from service.http.problems import Problem
from service.settings import Settings


class Ticket:
    """The share of one request in the work in progress."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.rows, self.n_bytes, self.seconds = 0, 0, 0.0

    def add(self, *, rows: int = 0, n_bytes: int = 0, seconds: float = 0.0) -> None:
        """Take on more.

        Raises
        ------
        Problem
            `overloaded`, if that exceeds a limit; then nothing is taken on.
        """
        self._admission.take(self, rows, n_bytes, seconds)

    def check_wait(self) -> None:
        """Refuse a request that would wait for too long; errors as for `add`."""
        self._admission.check_wait()

    def check(self, *, n_bytes: int) -> None:
        """Raise as `add` would for these bytes, but take nothing on; for a body that has not arrived yet."""
        self._admission.check(self, n_bytes)


class Admission:
    """The work in progress in one process. Safe to use from several threads at once.

    A single request is never refused here: its size is limited elsewhere.

    Parameters
    ----------
    settings : Settings
        `max_queued_rows`, `max_queued_bytes` and `max_wait_seconds`.
    threads : int
        How many large requests are processed at a time.
    """

    def __init__(self, settings: Settings, threads: int = 1) -> None:
        self._settings = settings
        self._threads = threads
        self._lock = threading.Lock()
        self.rows, self.n_bytes, self.seconds = 0, 0, 0.0

    @contextlib.contextmanager
    def ticket(self) -> Iterator[Ticket]:
        """Open a ticket; give back all that it took on at the end of the block."""
        ticket = Ticket(self)
        try:
            yield ticket
        finally:
            with self._lock:
                self.rows -= ticket.rows
                self.n_bytes -= ticket.n_bytes
                self.seconds = max(0.0, self.seconds - ticket.seconds)

    def take(self, ticket: Ticket, rows: int, n_bytes: int, seconds: float) -> None:
        """See `Ticket.add`."""
        with self._lock:
            self._check(
                "samples", self.rows - ticket.rows, ticket.rows + rows, self._settings.max_queued_rows
            )
            self._check_bytes(ticket, n_bytes)
            if seconds:
                self.check_wait()
            self.rows += rows
            self.n_bytes += n_bytes
            self.seconds += seconds
            ticket.rows += rows
            ticket.n_bytes += n_bytes
            ticket.seconds += seconds

    def check(self, ticket: Ticket, n_bytes: int) -> None:
        """See `Ticket.check`."""
        with self._lock:
            self._check_bytes(ticket, n_bytes)

    def check_wait(self) -> None:
        """See `Ticket.check_wait`."""
        if problem := self.find_wait():
            raise problem

    def find_wait(self) -> Problem | None:
        """Return the problem of a request that would wait for too long; None if it would not."""
        wait = self.seconds / self._threads
        if wait <= self._settings.max_wait_seconds:
            return None
        return Problem(
            "overloaded",
            f"the work in progress takes about {wait:.1f} s, the limit is "
            f"{self._settings.max_wait_seconds:g}: try again in a moment",
        )

    def _check_bytes(self, ticket: Ticket, n_bytes: int) -> None:
        others, own = self.n_bytes - ticket.n_bytes, ticket.n_bytes + n_bytes
        self._check("bytes", others, own, self._settings.max_queued_bytes)

    def _check(self, unit: str, others: int, own: int, limit: int) -> None:
        if others and others + own > limit:
            raise Problem(
                "overloaded",
                f"requests with {others} {unit} are in progress, the limit is {limit}: try again in a moment",
            )

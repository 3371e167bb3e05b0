"""How much work one process takes on: requests by rows, bytes and the time that they will take."""

import contextlib
import threading
from collections.abc import Iterator

from service.http.problems import Problem
from service.settings import Settings


class Ticket:
    """One request's part of the work at hand."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.rows, self.n_bytes, self.seconds = 0, 0, 0.0

    def add(self, *, rows: int = 0, n_bytes: int = 0, seconds: float = 0.0) -> None:
        """Take on more.

        Raises
        ------
        Problem
            Where that is beyond a limit; nothing is taken on then.
        """
        self._admission.take(self, rows, n_bytes, seconds)

    def check_wait(self) -> None:
        """Refuse what would wait for too long by now; errors as of `add`."""
        self._admission.check_wait()

    def check(self, *, n_bytes: int) -> None:
        """Refuse, before they come, bytes that could not be taken on now; errors as of `add`."""
        self._admission.check(self, n_bytes)


class Admission:
    """The work at hand of one process. Safe to use from several threads at once.

    A request that is alone is never refused here: what one may hold is limited elsewhere.

    Parameters
    ----------
    settings : Settings
        `max_queued_rows`, `max_queued_bytes` and `max_wait_seconds`.
    threads : int
        How many requests are worked on at a time, where it takes long.
    """

    def __init__(self, settings: Settings, threads: int = 1) -> None:
        self._settings = settings
        self._threads = threads
        self._lock = threading.Lock()
        self.rows, self.n_bytes, self.seconds = 0, 0, 0.0

    @contextlib.contextmanager
    def ticket(self) -> Iterator[Ticket]:
        """A ticket, given back at the end of the block with everything that it took on."""
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
        """The problem of what would wait for too long by now."""
        wait = self.seconds / self._threads
        if wait <= self._settings.max_wait_seconds:
            return None
        return Problem(
            "overloaded",
            f"the work at hand takes about {wait:.1f} s, {self._settings.max_wait_seconds:g} is the "
            "limit: try again in a moment",
        )

    def _check_bytes(self, ticket: Ticket, n_bytes: int) -> None:
        others, own = self.n_bytes - ticket.n_bytes, ticket.n_bytes + n_bytes
        self._check("bytes", others, own, self._settings.max_queued_bytes)

    def _check(self, what: str, others: int, own: int, limit: int) -> None:
        if others and others + own > limit:
            raise Problem(
                "overloaded",
                f"requests with {others} {what} are at work, {limit} is the limit: try again in a moment",
            )

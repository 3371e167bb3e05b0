"""The body of an ASGI request: read whole, within limits of size and time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from service.admission import Ticket
from service.messages import Body
from service.problems import Problem

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BYTES_PER_SECOND = 1024  # on the whole, after a first pause


class ClientGone(Exception):
    """The client closed its connection before it was answered."""


class Patience:
    """Cancels this task when it has waited too long: `asyncio.timeout`, at a third of its cost.

    Parameters
    ----------
    seconds : float
        The longest wait from here, or from one call of `extend` to the next.
    """

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._seconds = seconds
        self._started = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._run_out)
        self.is_over = False

    def extend(self, seconds: float) -> None:
        """Begin a new wait, all of them together no longer than one and so many seconds."""
        self._timer.cancel()
        now = self._loop.time()
        self._timer = self._loop.call_at(
            min(now + self._seconds, self._started + self._seconds + seconds), self._run_out
        )

    def end(self) -> None:
        """Wait no more."""
        self._timer.cancel()
        if self.is_over:
            self._task.uncancel()

    def _run_out(self) -> None:
        self.is_over = True
        self._task.cancel()


class BodyReader:
    """Reads one body.

    Parameters
    ----------
    receive : callable
        Of ASGI.
    headers : mapping of str to str
        By name in lower case.
    max_bytes : int
    pause_seconds : float
        The longest time without a byte.
    """

    def __init__(
        self, receive: Receive, headers: Mapping[str, str], max_bytes: int, pause_seconds: float
    ) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._pause_seconds = pause_seconds
        length = headers.get("content-length", "")
        self._length = int(length) if length.isdecimal() else None
        self._complete = False
        self.content_type = headers.get("content-type", "")

    def is_small(self, n_bytes: int) -> bool:
        """Whether the head says that the body has no more bytes than these."""
        return self._length is not None and self._length <= n_bytes

    async def read(self, ticket: Ticket | None = None) -> Body:
        """The whole body; a ticket takes its bytes on.

        Raises
        ------
        Problem
            `body-too-large`, `request-timeout` or `overloaded`.
        ClientGone
        """
        if self._length is not None:
            self._check(self._length)
            if ticket:
                ticket.add(n_bytes=self._length)
        patience = Patience(self._pause_seconds)
        try:
            content = await self._next()
            if self._complete:
                return content
            content = bytearray(content)
            while not self._complete:
                patience.extend(len(content) / BYTES_PER_SECOND)
                part = await self._next()
                if ticket and self._length is None:
                    ticket.add(n_bytes=len(part))
                content += part
                self._check(len(content))
        except asyncio.CancelledError as error:
            if not patience.is_over:
                raise
            raise Problem(
                "request-timeout",
                f"a body must come without a pause of {self._pause_seconds:g} seconds, and with at least "
                f"{BYTES_PER_SECOND} bytes a second",
            ) from error
        finally:
            patience.end()
        return content

    async def wait_until_gone(self) -> None:
        """Return when the client has closed its connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._complete = not message.get("more_body", False)
        return message.get("body", b"")

    def _check(self, n_bytes: int) -> None:
        if n_bytes > self._max_bytes:
            raise Problem("body-too-large", f"a body may have {self._max_bytes} bytes")

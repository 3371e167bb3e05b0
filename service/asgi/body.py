"""The body of an ASGI request: read whole, within limits of size and time."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, MutableMapping
from typing import Any

from service.http.messages import Body
from service.http.problems import Problem
from service.scoring.admission import Ticket

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HEAD = "residual.head"  # extension of a scope: the bytes of a head that known_heads may remember
BYTES_PER_SECOND = 1024  # on average, after a first pause


class ClientGone(Exception):
    """The client closed its connection before it was answered."""


def ignore_result(working: asyncio.Future) -> None:
    """Retrieve the exception of abandoned work, so that asyncio does not log it."""
    if not working.cancelled():
        working.exception()


class Begun:
    """The rest of a coroutine that `at_once` has started and that now waits for a future."""

    def __init__(self, coroutine: Coroutine, future: asyncio.Future) -> None:
        self._coroutine = coroutine
        self._future = future

    def __await__(self) -> Generator:
        """Wait for the future, then run the rest of the coroutine."""
        try:
            yield self._future
        except BaseException:
            self._coroutine.close()
            raise
        return (yield from self._coroutine.__await__())


def at_once(coroutine: Coroutine) -> Any:
    """Return the result of a coroutine if it need not wait, else its rest, to be awaited."""
    try:
        return Begun(coroutine, coroutine.send(None))
    except StopIteration as done:
        return done.value


class BodyReader:
    """Reads one body; `length` is the number of bytes in Content-Length, None without that header.

    Parameters
    ----------
    receive : callable
        The `receive` of ASGI.
    headers : mapping of str to str
        By name in lower case.
    max_bytes : int
    pause_seconds : float
        The longest time without a byte.
    max_seconds : float
        The longest time for the whole body.
    """

    def __init__(
        self,
        receive: Receive,
        headers: Mapping[str, str],
        max_bytes: int,
        pause_seconds: float,
        max_seconds: float = math.inf,
    ) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._pause_seconds = pause_seconds
        self._max_seconds = max_seconds
        length = headers.get("content-length", "")
        self.length = int(length) if length.isdecimal() else None
        self._complete = False
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        self.form = media_type, headers.get("content-encoding", "")  # decides how long a byte takes

    def is_small(self, n_bytes: int) -> bool:
        """Return whether Content-Length is at most this number."""
        return self.length is not None and self.length <= n_bytes

    async def read(self, ticket: Ticket | None = None) -> Body:
        """Return the whole body; a ticket takes its bytes on as they arrive.

        If the ticket took on the announced length, a client that sends nothing could keep all others out.

        Raises
        ------
        Problem
            `body-too-large`, `request-timeout`, `deadline-exceeded` or `overloaded`.
        ClientGone
        """
        if self.length is not None:
            self._check(self.length)
            if ticket:
                ticket.check(n_bytes=self.length)
        # The body nearly always arrives with its head; then no timer is needed.
        first = at_once(self._receive())
        if isinstance(first, Begun):
            return await self._read_slowly(b"", self._next(first), ticket)
        content = self._take(first)
        self._check(len(content))
        if ticket:
            ticket.add(n_bytes=len(content))
        return (
            content
            if self._complete
            else await self._read_slowly(content, self._next(self._receive()), ticket)
        )

    async def _read_slowly(self, content: bytes, part: Awaitable[bytes], ticket: Ticket | None) -> bytearray:
        loop = asyncio.get_running_loop()
        content, started = bytearray(content), loop.time()
        end = started + self._max_seconds
        try:
            async with asyncio.timeout_at(min(end, started + self._pause_seconds)) as patience:
                while True:
                    received = await part
                    if ticket:
                        ticket.add(n_bytes=len(received))
                    content += received
                    self._check(len(content))
                    if self._complete:
                        return content
                    most = started + len(content) / BYTES_PER_SECOND
                    patience.reschedule(min(end, min(loop.time(), most) + self._pause_seconds))
                    part = self._next(self._receive())
        except TimeoutError as error:
            raise self._too_slow(is_over=loop.time() >= end) from error

    def _too_slow(self, *, is_over: bool) -> Problem:
        if is_over:
            words = f"the body did not arrive within {self._max_seconds:g} seconds: send fewer samples"
            return Problem("deadline-exceeded", words, headers={"Connection": "close"})
        words = (
            f"a body must arrive without a pause of {self._pause_seconds:g} seconds, and at a rate of at "
            f"least {BYTES_PER_SECOND} bytes per second"
        )
        return Problem("request-timeout", words, headers={"Connection": "close"})

    async def wait_until_gone(self) -> None:
        """Return when the client has closed its connection."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self, message: Awaitable[MutableMapping[str, Any]]) -> bytes:
        return self._take(await message)

    def _take(self, message: MutableMapping[str, Any]) -> bytes:
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._complete = not message.get("more_body", False)
        return message.get("body", b"")

    def _check(self, n_bytes: int) -> None:
        if n_bytes > self._max_bytes:
            got = "more, in chunks" if self.length is None else n_bytes
            raise Problem("body-too-large", f"a body may have at most {self._max_bytes} bytes, got {got}")

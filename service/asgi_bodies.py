"""The body of an ASGI request: read whole, within limits of size and time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from service.admission import Ticket
from service.messages import Body
from service.problems import Problem

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

BYTES_PER_SECOND = 1024  # on the whole, after a first pause
DISCARDED_BYTES = 2**20  # of a refused request, so that its connection can go on


class ClientGone(Exception):
    """The client closed its connection before it was answered."""


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
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout_at(started + self._pause_seconds) as patience:
                content = await self._next()
                if self._complete:
                    return content
                content = bytearray(content)
                while not self._complete:
                    patience.reschedule(
                        min(
                            loop.time() + self._pause_seconds,
                            started + self._pause_seconds + len(content) / BYTES_PER_SECOND,
                        )
                    )
                    part = await self._next()
                    if ticket and self._length is None:
                        ticket.add(n_bytes=len(part))
                    content += part
                    self._check(len(content))
        except TimeoutError as error:
            raise Problem(
                "request-timeout",
                f"a body must come without a pause of {self._pause_seconds:g} seconds, and with at least "
                f"{BYTES_PER_SECOND} bytes a second",
            ) from error
        return content

    async def discard(self) -> None:
        """Take what is left of a small body, so that the client can read its answer and ask again."""
        if self._complete or (self._length or 0) > DISCARDED_BYTES:
            return
        n_bytes = 0
        try:
            async with asyncio.timeout(1):
                while not self._complete and n_bytes <= DISCARDED_BYTES:
                    n_bytes += len(await self._next())
        except (TimeoutError, ClientGone):
            return

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

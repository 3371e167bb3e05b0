"""Requests to an ASGI application in this process, many at the same moment."""

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Application = Callable[[dict, Callable, Callable], Awaitable[None]]


@dataclasses.dataclass
class AsgiAnswer:
    """The answer of the application; the status is 0 if it sent none."""

    status: int = 0
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    content: bytes = b""

    def json(self) -> Any:
        """Return the parsed content."""
        return json.loads(self.content)


class AsgiRequest:
    """One POST, which the test may take back while it is answered."""

    def __init__(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        path, _, query = path.partition("?")
        given = {"host": "test", "content-type": "application/json", "content-length": str(len(body))}
        given |= headers or {}
        self.scope = {
            "type": "http",
            "method": "POST",
            "http_version": "1.1",
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
        }
        self.answer = AsgiAnswer()
        self.gone = asyncio.Event()
        self._body: bytes | None = body

    async def send_to(self, application: Application) -> AsgiAnswer:
        """Send a request and return the answer, once the application is done with it."""
        await application(self.scope, self._receive, self._send)
        return self.answer

    async def _receive(self) -> dict[str, Any]:
        if self._body is None:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.answer.status = message["status"]
            self.answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.answer.content += message.get("body", b"")


async def post_together(application: Application, requests: Iterable[AsgiRequest]) -> list[AsgiAnswer]:
    """Send requests in the same moment and return the answers in the same order."""
    return await asyncio.gather(*(request.send_to(application) for request in requests))

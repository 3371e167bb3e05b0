"""Raw HTTP requests that no client library would send, and their answers."""

import dataclasses
import json
import socket
from collections.abc import Iterable, Mapping
from typing import Any

SECONDS = 20


@dataclasses.dataclass(frozen=True)
class RawAnswer:
    """One answer of a connection."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)


class Connection:
    """A connection that sends bytes as they are and reads answers one by one."""

    def __init__(self, address: tuple[str, int], receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(SECONDS)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        self._reader = self.socket.makefile("rb")

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *exception: object) -> None:
        self._reader.close()
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        """Send each part by itself; a server that has closed is none of our business here."""
        for part in parts:
            try:
                self.socket.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                return

    def answer(self, method: str = "POST") -> RawAnswer | None:
        """Return the next answer, or None if the server has closed the connection."""
        status_line = self._line()
        if not status_line:
            return None
        headers = {}
        while line := self._line().strip():
            name, _, value = line.partition(b":")
            headers[name.decode().lower()] = value.strip().decode("latin-1")
        status = int(status_line.split()[1])
        has_body = method != "HEAD" and status != 100
        return RawAnswer(status, headers, self._body(headers) if has_body else b"")

    def answers(self) -> list[RawAnswer]:
        """Return all answers until the server closes."""
        return list(iter(self.answer, None))

    def is_closed(self) -> bool:
        """Wait for the end of the connection; return whether the server closed it without an answer."""
        return not self._line()

    def _line(self) -> bytes:
        try:
            return self._reader.readline()
        except ConnectionResetError:
            return b""

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self._reader.read(int(headers["content-length"]))
        body = b""
        while size := int(self._reader.readline(), 16):
            body += self._reader.read(size)
            self._reader.readline()
        self._reader.readline()
        return body


def request(
    target: str = "/score",
    body: bytes = b"",
    method: str = "POST",
    headers: Iterable[tuple[str, str]] = (("Content-Type", "application/json"),),
) -> bytes:
    """Return a request with a length."""
    fields = [("Host", "a"), *headers, ("Content-Length", str(len(body)))]
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body

"""One connection: HTTP/1.1 read by uvicorn's httptools protocol, with limits added: docs/decisions/0017.

A request whose head has come before, byte for byte, is answered without parsing it: see `known_heads`.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.asgi.body import BYTES_PER_SECOND, HEAD
from service.http.problems import Problem

# The limits of gunicorn's own workers.
TARGET_BYTES = 8190
FIELD_BYTES = 8190
MAX_FIELDS = 100
HEAD_BYTES = 64 * 2**10  # of a head, chunk header or trailer
LINGER_SECONDS = 1  # before closing: a client that is still writing gets to read the answer

CLOSE = (b"connection", b"close")
_END = b"\r\n\r\n"
_INTERIM = b"HTTP/1.1 1"


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    It adds to uvicorn's protocol: limits on the size, the fields and the duration of a head and on the number
    of connections; refusal of requests that two servers may read differently (RFC 9112, section 11.2);
    trailers that are never taken for headers; no protocol upgrades, for which httptools would drop the body;
    and problem documents as errors, in the order of the requests. Its application is a
    `service.asgi.front.Front`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._settings = self.app.serving.settings
        vars(self.server_state).setdefault("ending", False)  # set by `worker.EndingServer`
        self._problem = Problem("bad-request", "the request is not valid HTTP/1.1")
        self._deadline: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._in_message = self._refused = False
        self.url = b""
        self._at_work: RequestResponseCycle | RepeatCycle | None = None  # later requests may wait
        self._unwanted = 0  # bytes of a refused body that have not arrived
        self._unread = 0  # bytes since the last complete head or part of a body
        self._idle_since = 0.0  # when the last answer was sent, in seconds of the loop's clock

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Refuse the connection if there are too many, and start the timer for its first head."""
        super().connection_made(transport)
        if len(self.connections) > self._settings.max_connections:
            limit = self._settings.max_connections
            self._refuse(
                Problem(
                    "overloaded", f"{limit} connections are open, the most at a time: try again in a moment"
                )
            )
        self._watch()
        if self.server_state.ending:
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers, and tell the request that is being answered."""
        super().connection_lost(exc)
        if self._at_work is not None and not self._at_work.response_complete:  # uvicorn tells only `cycle`
            self._at_work.disconnected = True
            self._at_work.message_event.set()
        self._stop_watching()
        self._unset_keepalive_if_required()
        if self._writing is not None:
            self._writing.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer a request with a known head, or parse; limit the time for an incomplete head."""
        if self._unwanted:
            data = self._drop(data)
        if self._refused or not data:
            return
        begins = not (self._in_message or self._unread or self._is_answering())
        if begins and self._ask_again(data):
            return
        self._unread += len(data)
        self._parse(data)
        if begins:
            self._tell_head(data)
        if self._unread > HEAD_BYTES:
            self._refuse(Problem("header-too-large", _too_large(self._unread)))
        if self._is_answering():
            self._stop_watching()
        elif self._deadline is None:
            self._watch()

    def _parse(self, data: bytes) -> None:
        """Parse bytes, wherever the network has cut them.

        httptools drops the body of a request that asks for another protocol, so such a request is parsed once
        more, by a new parser, as one that does not ask for it.
        """
        self._unset_keepalive_if_required()
        try:
            while data:
                try:
                    self.parser.feed_data(data)
                    return
                except httptools.HttpParserUpgrade as upgrade:
                    data = self._plain_head() + data[upgrade.args[0] :]
                    self.parser = httptools.HttpRequestParser(self)
                    self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as in uvicorn
        except (httptools.HttpParserError, Problem):
            self.send_400_response("")

    def _plain_head(self) -> bytes:
        """Return the head that was just parsed, without its field `Upgrade`."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self._fail("bad-request", "a request must not ask for a tunnel, got CONNECT")
        fields = [b"%s: %s\r\n" % field for field in self.headers if field[0] != b"upgrade"]
        return b"%s %s HTTP/%s\r\n%s\r\n" % (method, self.url, version, b"".join(fields))

    def _ask_again(self, data: bytes) -> bool:
        """Answer the request in `data` if its head is known; return whether it was."""
        if self.flow.write_paused or self.server_state.ending:
            return False
        repeat = self.app.known_heads.find(data)
        if repeat is None:
            return False
        if self._deadline is not None:
            self._stop_watching()
        self.cycle = self._at_work = RepeatCycle(self)
        self._unwanted, self._in_message = repeat.n_missing, repeat.n_missing > 0
        self.app.known_heads.ask(repeat, self.client, self.cycle)
        return True

    def _drop(self, data: bytes) -> bytes:
        """Discard the rest of a refused body and return the bytes that follow it."""
        rest = data[self._unwanted :]
        self._unwanted = max(0, self._unwanted - len(data))
        if not self._unwanted:
            self._in_message = False
            self._stop_watching()
        return rest

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._at_work = cycle
        super()._start_asgi_task(cycle, app)

    def _tell_head(self, data: bytes) -> None:
        """Give the application a head to remember, if its request arrived alone and in one piece."""
        cycle, end = self.cycle, data.find(_END) + len(_END)
        if (
            self._is_answering()
            and cycle.keep_alive
            and not cycle.waiting_for_100_continue
            and len(cycle.body) == len(data) - end
        ):
            cycle.scope["extensions"] = {HEAD: data[:end]}

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_amid_answer(self) -> bool:
        """Whether an answer has been sent in part, so that nothing else may be written."""
        return self._is_answering() and self.cycle.response_started

    def _watch(self) -> None:
        self._deadline = self.loop.call_later(self._settings.head_seconds, self._expire)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        if self._unread:
            seconds = self._settings.head_seconds
            self._refuse(
                Problem("request-timeout", f"the head of a request must arrive within {seconds:g} seconds")
            )
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Stop writing to a slow client, and close the connection if it reads too slowly."""
        super().pause_writing()
        self._watch_writing()

    def _watch_writing(self) -> None:
        size = self.transport.get_write_buffer_size()
        self._writing = self.loop.call_later(self._settings.body_seconds, self._check_writing, size)

    def _check_writing(self, before: int) -> None:
        least = BYTES_PER_SECOND * self._settings.body_seconds
        if self.transport.get_write_buffer_size() <= before - least:
            self._watch_writing()
        else:
            self.transport.abort()

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        self._writing.cancel()

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        super().on_message_begin()
        self._in_message = True

    def on_headers_complete(self) -> None:
        """Refuse a head that is too large or ambiguous, else begin to answer."""
        if self.parser.should_upgrade():  # see `_parse`
            return
        self._check_target()
        self._check_fields()
        self._check_framing()
        self._unread = 0
        if not self.url.startswith(b"/"):
            self.url = _to_path(self.url)
        super().on_headers_complete()
        self.headers = []  # the fields of a trailer go here, not into the head
        if self.scope["method"] == "POST":  # an answer to HEAD has no body to write with its head
            self.cycle.transport = OneWrite(self.transport, self._close_when_sent)
        if self.server_state.ending:
            self.cycle.keep_alive = False

    def _check_target(self) -> None:
        if len(self.url) > TARGET_BYTES:
            self._fail(
                "uri-too-long", f"a request target may have at most {TARGET_BYTES} bytes, got {len(self.url)}"
            )

    def _check_fields(self) -> None:
        """Refuse too many or too large fields of a head or of a trailer."""
        if len(self.headers) > MAX_FIELDS:
            got = len(self.headers)
            self._fail(
                "header-too-large", f"a request may have at most {MAX_FIELDS} header fields, got {got}"
            )
        sizes = [len(name) + len(value) for name, value in self.headers]
        if max(sizes, default=0) > FIELD_BYTES:
            self._fail(
                "header-too-large", f"a header field may have at most {FIELD_BYTES} bytes, got {max(sizes)}"
            )
        if sum(sizes) > HEAD_BYTES:
            self._fail("header-too-large", _too_large(sum(sizes)))

    def _check_framing(self) -> None:
        version, fields = self.parser.get_http_version(), dict(self.headers)
        if version not in ("1.0", "1.1"):
            self._fail("bad-request", f"the protocol must be HTTP/1.1 or HTTP/1.0, got {version}")
        if len(fields) < len(self.headers):
            names = [name for name, _ in self.headers]
            for name in (b"host", b"content-type", b"transfer-encoding"):
                if names.count(name) > 1:
                    self._fail("bad-request", f"a request may have only one {name.decode()} header")
        coding = fields.get(b"transfer-encoding")
        if coding is not None and (version == "1.0" or coding.lower() != b"chunked"):
            self._fail("bad-request", "the transfer coding must be chunked, and the protocol HTTP/1.1")

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that a request has arrived as a whole."""
        if self.parser.should_upgrade():  # see `_parse`
            return
        self._check_fields()
        self._in_message, self._unread = False, 0
        super().on_message_complete()

    def shutdown(self) -> None:
        """Close when all requests are answered, those included that are just arriving."""
        if self._is_answering():
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(LINGER_SECONDS, self._close_idle)

    def _close_idle(self) -> None:
        if not self._is_answering():
            self.transport.close()

    def on_response_complete(self) -> None:
        """Limit the time for the rest of a request that was answered before it had arrived."""
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            super().on_response_complete()
        else:  # the timer of the previous answer is still running: only known heads have come since
            self.server_state.total_requests += 1
        if self._in_message and self._deadline is None and not self._is_answering():
            self._watch()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long enough, else set the timer again."""
        idle = 0.0 if self._is_answering() else self.loop.time() - self._idle_since
        if idle < self.timeout_keep_alive:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive - idle, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def _close_when_sent(self) -> None:
        """Close; if the client is still sending, give it time to read its answer before the reset."""
        if self._in_message:
            self._refused = True
            self.transport.write_eof()
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

    def _fail(self, type: str, detail: str) -> None:  # noqa: A002 - the word of RFC 9457
        """Stop the parser, which then calls `send_400_response`."""
        self._problem = Problem(type, detail)
        raise self._problem

    def _refuse(self, problem: Problem) -> None:
        self._problem = problem
        self.send_400_response("")

    def _sent_origin(self) -> str | None:
        """Return the Origin of the head that was parsed last, if it has come so far."""
        fields = dict(self.scope["headers"]) if self.scope else {}
        return fields[b"origin"].decode("latin-1") if b"origin" in fields else None

    def send_400_response(self, msg: str) -> None:
        """Answer with the problem after all earlier requests, and close."""
        if self._refused or self.transport.is_closing():
            return
        if self._is_answering() and (self.pipeline or not self.cycle.more_body):
            self.cycle.keep_alive = False
            self.flow.pause_reading()
            return
        self._refused = True
        if not self._is_amid_answer():
            target, origin = self.url.decode("latin-1"), self._sent_origin()
            status, fields, body = self.app.refuse(self._problem, target, self.client, origin)
            self.transport.write(to_bytes(status, [*fields, CLOSE], body))
        if self.cycle is not None:  # its body will never be complete
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)


class RepeatCycle:
    """Replaces uvicorn's cycle for a request with a known head."""

    more_body = response_started = False

    def __init__(self, protocol: HttpProtocol) -> None:
        self._protocol = protocol
        self._event: asyncio.Event | None = None
        self.disconnected = self.response_complete = False
        self.keep_alive = True

    @property
    def message_event(self) -> asyncio.Event:
        """Set when the client has closed its connection."""
        if self._event is None:
            self._event = asyncio.Event()
        return self._event

    async def wait_until_gone(self) -> None:
        """Return when the client has closed its connection."""
        await self.message_event.wait()

    def send(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Write the answer."""
        if self.disconnected:
            return
        protocol = self._protocol
        fields = [*protocol.server_state.default_headers, *fields]
        if not self.keep_alive:
            fields.append(CLOSE)
        protocol.transport.write(to_bytes(status, fields, body))
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()

    def close(self) -> None:
        """Close without an answer."""
        self._protocol.transport.close()


class OneWrite:
    """A transport that sends the head of an answer together with the beginning of its body.

    This takes one system call and one packet instead of two.
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self._transport = transport
        self._close = close
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        """Hold a head back until the next write; send interim answers at once."""
        if self._head is None or data.startswith(_INTERIM):
            self._transport.write(data)
        elif self._head:
            self._transport.writelines((self._head, data))
            self._head = None
        else:
            self._head = data

    def close(self) -> None:
        """Send a head that was held back, and close."""
        if self._head:
            self._transport.write(self._head)
        self._close()


def to_bytes(status: int, fields: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return an answer as HTTP/1.1."""
    parts = [STATUS_LINE[status]]
    for name, value in fields:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"\r\n", body)
    return b"".join(parts)


def _too_large(n_bytes: int) -> str:
    return f"the head of a request may have at most {HEAD_BYTES} bytes, got at least {n_bytes}"


def _to_path(target: bytes) -> bytes:
    """Return a target in absolute form as path and query; the path of `http://host` is `/`."""
    url = httptools.parse_url(target)
    return (url.path or b"/") + (b"?" + url.query if url.query else b"")

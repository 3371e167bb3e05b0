"""The fast front: verbs asked in one round of the event loop run as one batch; the rest is Flask's.

A bare ASGI application. Small requests are decoded and run in the loop, all that are ready together; nothing
ever waits in order to be batched. Large ones are decoded and run in a bounded pool of threads.
"""

import asyncio
import dataclasses
import functools
import gc
import os
from collections.abc import Awaitable, Mapping, MutableMapping, Sequence
from typing import Any, Protocol

from a2wsgi import WSGIMiddleware
from a2wsgi.wsgi_typing import Environ, IterableChunks, StartResponse, WSGIApp
from flask import Flask
from werkzeug.exceptions import HTTPException

from service.asgi.body import HEAD, BodyReader, ClientGone, Receive, Send
from service.asgi.lines import LineAnswer
from service.asgi.pool import Client, Pool
from service.asgi.rounds import Rounds
from service.bodies import NDJSON, may_inflate
from service.endpoints.base import Endpoint, Reader
from service.endpoints.known_heads import Known, Repeat
from service.endpoints.lines import HEADERS, LineReader, check_protocol
from service.http import problems
from service.http.access import check_host, check_key
from service.http.messages import MAX_BODY_BYTES, Answer, Body, Head, to_template
from service.http.problems import Problem
from service.http.request_record import RequestRecord, open_record
from service.scoring.calls import Call
from service.serving import Serving, open_store
from service.settings import Settings
from service.wsgi.app import build_app

Scope = MutableMapping[str, Any]

# Up to here a request is decoded and run in the loop, which all others wait for meanwhile.
LOOP_BYTES = 64 * 2**10
GC_THRESHOLD = (10_000, 20, 20)
FLASK_THREADS = 4  # for probes, metrics, and what else is not a verb
# Until what was answered is counted and logged: so long, or so many requests.
WRITE_SECONDS = 0.1
WRITE_REQUESTS = 128
LINE_HEADERS = tuple(
    (name.lower().encode(), value.encode()) for name, value in {"Content-Type": NDJSON, **HEADERS}.items()
)
CLIENT_GONE = 499  # in log and metrics, where there was nobody to answer; nginx' number


def from_environ() -> "Front":
    """The application that the environment describes."""
    return create_front(Settings.from_environ(os.environ))


def create_front(settings: Settings) -> "Front":
    """The application, every model of the store loaded and followed from now on."""
    serving = open_store(settings)
    front = Front(serving, build_app(serving))
    # What is there now stays: the collector need not look at it again, nor look after every few requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    return front


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """What a POST to a path is for: an endpoint, or Flask where there is none."""

    endpoint: Endpoint | None
    template: str
    arguments: Mapping[str, Any]


class Connection(Client, Protocol):
    """One that is answered by a call, without ASGI."""

    def send(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer."""

    def close(self) -> None:
        """End without an answer."""


Refusal = tuple[int, list[tuple[bytes, bytes]], bytes]


class Front:
    """ASGI application for one process."""

    def __init__(self, serving: Serving, app: Flask) -> None:
        self.serving = serving
        self._digests = serving.settings.api_keys_sha256
        self._flask = WSGIMiddleware(_with_ended_input(app), workers=FLASK_THREADS)
        self._rules = app.url_map.bind("")
        self._route = functools.lru_cache(maxsize=1024)(self._find)  # of the path alone
        self._rounds = Rounds(serving, self._write_soon)
        self._late: set[asyncio.Task] = set()
        self._writing: asyncio.Handle | None = None
        self.pool = Pool(serving)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the life of the process."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            route = self._route(scope["path"]) if scope["method"] == "POST" else None
            if route is None:
                await self._flask(scope, receive, send)
            else:
                await self._serve(route, scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self._late:  # of clients that have just gone
                await asyncio.wait(self._late)
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                self.close()
                return

    def close(self) -> None:
        """Follow the store no more, count and log what is left, and begin nothing new."""
        self.serving.models.stop()
        self.serving.pending.write()
        self.pool.close()

    def _find(self, path: str) -> Route | None:
        try:
            rule, arguments = self._rules.match(path, method="POST", return_rule=True)
        except HTTPException:
            return None
        return Route(self.serving.endpoints.get(rule.rule), to_template(rule.rule), arguments)

    async def _serve(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _read_headers(scope["headers"])
        client = scope.get("client")
        record = open_record(
            "POST", scope["path"], headers.get("x-request-id"), client and client[0], route.template
        )
        answering = self._check_and_answer(route, scope, headers, record, receive, send)
        answer = await self._settled(answering, record)
        if answer is not None:
            await _send(answer, record, send)

    async def _settled(self, answering: Awaitable[Answer | None], record: RequestRecord) -> Answer | None:
        """The answer, or that of the problem which is raised; None where nobody waits for it any more."""
        try:
            return await answering
        except (ClientGone, asyncio.CancelledError) as error:
            self._close(record, CLIENT_GONE)
            if isinstance(error, asyncio.CancelledError):
                raise
            return None
        except Exception as error:
            answer = problems.answer(error, record)
            self._close(record, answer.status)
            return answer

    async def _check_and_answer(
        self,
        route: Route,
        scope: Scope,
        headers: Mapping[str, str],
        record: RequestRecord,
        receive: Receive,
        send: Send,
    ) -> Answer | None:
        """The answer, once its record is closed; None where it has been sent."""
        check_host(headers, scope["http_version"])
        check_key(scope["path"], headers, self._digests)
        if route.endpoint is None:
            await self._pass_on(scope, headers, receive, send)
            return None
        models = self.serving.models.models
        reader = self._open(route, scope, headers, record)
        if isinstance(reader, LineReader):
            check_protocol(scope["http_version"])
            await self._answer_lines(reader, record, receive, send)
            return None
        body = self._open_body(headers, receive)
        sent_head = scope.get("extensions", {}).get(HEAD)
        if not body.is_small(LOOP_BYTES) or may_inflate(headers):
            if sent_head and body.length and body.length > LOOP_BYTES:
                self.serving.heads.keep(sent_head, Known(reader, record, body.length), models)
            return self._closed(await self.pool.read_and_run(reader, record, body), record)
        answer = await self._answer_small(reader, record, body)
        if sent_head:
            self.serving.heads.keep(sent_head, Known(reader, record, body.length), models)
        return answer

    async def _pass_on(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        """To Flask, with its whole body: the few threads there shall wait for no client."""
        with self.serving.admission.ticket() as ticket:
            content = await self._open_body(headers, receive, MAX_BODY_BYTES).read(ticket)
            await self._flask(scope, _replay(content, receive), send)

    def _open_body(
        self, headers: Mapping[str, str], receive: Receive, max_bytes: int | None = None
    ) -> BodyReader:
        settings = self.serving.settings
        max_bytes = max_bytes or settings.max_body_bytes
        return BodyReader(receive, headers, max_bytes, settings.body_seconds, settings.deadline_seconds)

    def _open(self, route: Route, scope: Scope, headers: Mapping[str, str], record: RequestRecord) -> Reader:
        readers, path, query = self.serving.readers, scope["path"], scope["query_string"]
        reader = readers.find(path, query, headers, record)
        if reader is None:
            head = Head("POST", path, query.decode("latin-1"), headers, record.client)
            reader = readers.open(route.endpoint, head, record, route.arguments)
        return reader

    def _close(self, record: RequestRecord, status: int) -> None:
        self.serving.pending.close(record, status)
        self._write_soon()

    def _closed(self, answer: Answer, record: RequestRecord) -> Answer:
        self._close(record, answer.status)
        return answer

    def _write_soon(self) -> None:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().call_later(WRITE_SECONDS, self._write)
        elif self.serving.pending.n_requests >= WRITE_REQUESTS:
            self._writing.cancel()
            self._writing = asyncio.get_running_loop().call_soon(self._write)

    def _write(self) -> None:
        self._writing = None
        self.serving.pending.write()

    async def _answer_small(self, reader: Reader, record: RequestRecord, body: BodyReader) -> Answer:
        """With the others of its round; alone where it takes long."""
        content, settled = await body.read(), asyncio.get_running_loop().create_future()
        if reader.is_slow(content):
            return self._closed(await self.pool.read_and_run(reader, record, body, content), record)
        self._rounds.join(reader, content, record, functools.partial(_settle, settled))
        outcome = await settled
        if isinstance(outcome, Answer):
            return outcome
        return self._closed(await self.pool.run(outcome, record, body), record)

    async def _answer_lines(
        self, reader: LineReader, record: RequestRecord, receive: Receive, send: Send
    ) -> None:
        lines = LineAnswer(
            self.serving,
            self.pool,
            reader,
            record,
            receive,
            send,
            functools.partial(_send_lines_head, send, record),
        )
        await lines.answer()
        self._close(record, 200)

    # --- requests whose head has come before: no scope, no task, no check twice -----------------------------

    def find_repeat(self, data: bytes) -> Repeat | None:
        """The request that these bytes are, where its head is known and it can be answered without a task.

        That is a small one that is there as a whole, or a large one that is refused without its body.
        """
        known, request_id, end = self.serving.heads.find(data)
        if known is None:
            return None
        n_missing = known.n_bytes - (len(data) - end)
        if known.n_bytes > LOOP_BYTES:
            refusal = self.serving.admission.find_wait() if n_missing >= 0 else None
            return refusal and Repeat(known, request_id, n_missing=n_missing, refusal=refusal)
        content = data[end:]
        return None if n_missing or known.reader.is_slow(content) else Repeat(known, request_id, content)

    def ask(self, repeat: Repeat, client: tuple[str, int] | None, connection: Connection) -> None:
        """Answer such a request, which came on a connection."""
        record = repeat.known.record.again(repeat.request_id, client and client[0])
        if repeat.refusal:
            answer = problems.answer(repeat.refusal, record)
            _send_by_hand(self._closed(answer, record), record, connection)
            return
        hand_over = functools.partial(self._hand_over, connection, record)
        self._rounds.join(repeat.known.reader, repeat.content, record, hand_over)

    def _hand_over(self, connection: Connection, record: RequestRecord, outcome: Answer | Call) -> None:
        if isinstance(outcome, Answer):
            _send_by_hand(outcome, record, connection)
        else:
            task = asyncio.ensure_future(self._answer_late(outcome, record, connection))
            self._late.add(task)  # the loop alone would let it be collected
            task.add_done_callback(self._late.discard)

    async def _answer_late(self, call: Call, record: RequestRecord, connection: Connection) -> None:
        answer = await self._settled(self._run(call, record, connection), record)
        if answer is not None:
            _send_by_hand(answer, record, connection)

    async def _run(self, call: Call, record: RequestRecord, connection: Connection) -> Answer:
        return self._closed(await self.pool.run(call, record, connection), record)

    def refuse(self, problem: Problem, target: str, client: tuple[str, int] | None) -> Refusal:
        """Status, fields and body of the answer to what is no request, which is counted and logged."""
        record = open_record("", target, None, client and client[0])
        answer = problems.answer(problem, record)
        self._close(record, answer.status)
        return answer.status, _fields(answer, record), answer.body


def _with_ended_input(app: WSGIApp) -> WSGIApp:
    """An application told that its input ends by itself, so that Werkzeug reads a body without a length."""

    def wsgi(environ: Environ, start_response: StartResponse) -> IterableChunks:
        environ["wsgi.input_terminated"] = True
        return app(environ, start_response)

    return wsgi


def _replay(content: Body, receive: Receive) -> Receive:
    """Of ASGI, with a whole body as its first message."""
    messages = [{"type": "http.request", "body": content}]

    async def replay() -> MutableMapping[str, Any]:
        return messages.pop() if messages else await receive()

    return replay


def _read_headers(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """By name, values of the same name joined as WSGI servers join them."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
    if len(headers) < len(pairs):
        for name in headers:
            headers[name] = b",".join(value for key, value in pairs if key.decode("latin-1") == name).decode(
                "latin-1"
            )
    return headers


def _settle(settled: asyncio.Future, outcome: Answer | Call) -> None:
    if not settled.done():
        settled.set_result(outcome)


def _fields(answer: Answer, record: RequestRecord) -> list[tuple[bytes, bytes]]:
    """Of the head of an answer, names in lower case."""
    fields = [
        (b"content-type", answer.content_type.encode("latin-1")),
        (b"content-length", b"%d" % len(answer.body)),
    ]
    if answer.headers:
        fields += [(_lower(name), value.encode("latin-1")) for name, value in answer.headers.items()]
    return fields + record.headers()


async def _send(answer: Answer, record: RequestRecord, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": _fields(answer, record)})
    await send({"type": "http.response.body", "body": answer.body})


def _send_by_hand(answer: Answer, record: RequestRecord, connection: Connection) -> None:
    try:
        connection.send(answer.status, _fields(answer, record), answer.body)
    except Exception:
        connection.close()  # no client waits for ever for what could not be sent
        raise


async def _send_lines_head(send: Send, record: RequestRecord) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [*LINE_HEADERS, *record.headers()]})


@functools.cache  # headers that this service knows
def _lower(name: str) -> bytes:
    return name.lower().encode("latin-1")

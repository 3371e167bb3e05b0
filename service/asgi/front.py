"""The ASGI application: checks requests for a verb and has them answered; passes all others to Flask.

Small requests are decoded and run in the event loop, in `rounds`; large ones in the threads of `pool`; bodies
of lines by `lines`. See docs/decisions/0019.
"""

import asyncio
import dataclasses
import functools
import gc
import importlib
import os
from collections.abc import Awaitable, Mapping, MutableMapping, Sequence
from concurrent.futures import Future
from typing import Any

from a2wsgi import WSGIMiddleware
from a2wsgi.wsgi_typing import Environ, IterableChunks, StartResponse, WSGIApp
from flask import Flask
from werkzeug.exceptions import HTTPException

from service.asgi.body import HEAD, BodyReader, ClientGone, Receive, Send
from service.asgi.known_heads import Known, KnownHeads
from service.asgi.lines import LineAnswer
from service.asgi.pool import Client, Pool
from service.asgi.rounds import LOOP_BYTES, Rounds
from service.bodies import NDJSON, may_inflate, needs_pyarrow
from service.endpoints.base import Endpoint, Reader
from service.endpoints.lines import HEADERS, LineReader, check_protocol
from service.http import problems
from service.http.access import check_host, check_key
from service.http.cors import allow_origin
from service.http.forwarding import FORWARDED, find_client
from service.http.messages import MAX_BODY_BYTES, Answer, Body, Head, to_template
from service.http.problems import Problem
from service.http.request_record import RequestRecord, open_record
from service.models.registry import NotLoaded
from service.scoring.admission import Admission
from service.scoring.calls import Call
from service.serving import Serving, open_store
from service.settings import Settings
from service.wsgi.app import build_app

Scope = MutableMapping[str, Any]

GC_THRESHOLD = (10_000, 20, 20)
FLASK_THREADS = 4  # for probes, metrics and all other requests without a verb
LINE_HEADERS = tuple(
    (name.lower().encode(), value.encode()) for name, value in {"Content-Type": NDJSON, **HEADERS}.items()
)
CLIENT_GONE = 499  # status in log and metrics if the client closed its connection, as in nginx


def from_environ() -> "Front":
    """Return the application that the environment describes."""
    return create_front(Settings.from_environ(os.environ))


def create_front(settings: Settings) -> "Front":
    """Return the application with all models of the store loaded; new versions are loaded while it serves."""
    serving = open_store(settings)
    front = Front(serving, build_app(serving))
    # The objects made so far stay: the collector need not visit them again, nor run after every few requests.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)
    return front


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """The endpoint that answers a POST to a path; None if Flask answers it."""

    endpoint: Endpoint | None
    template: str
    arguments: Mapping[str, Any]


Refusal = tuple[int, list[tuple[bytes, bytes]], bytes]


class Front:
    """ASGI application for one process."""

    def __init__(self, serving: Serving, app: Flask) -> None:
        self.serving = serving
        self._digests = serving.settings.api_keys_sha256
        self._origins = serving.settings.cors_origins
        self._flask = WSGIMiddleware(_with_ended_input(app), workers=FLASK_THREADS)
        self._rules = app.url_map.bind("")
        self._route = functools.lru_cache(maxsize=1024)(self._find)  # of the path alone
        self._has_pyarrow = False
        self._rounds = Rounds(serving)
        self.known_heads = KnownHeads(serving, self._rounds, self._run_late)
        self.pool = Pool(serving, serving.admission, "large")
        self.small_pool = Pool(serving, Admission(serving.settings, serving.settings.pool_threads), "small")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or follow the life of the process."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            route = self._route(scope["path"]) if scope["method"] == "POST" else None
            if route is None:
                await self._answer_by_flask(scope, receive, send)
            else:
                await self._serve(route, scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self.known_heads.late:
                await asyncio.wait(self.known_heads.late)
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                self.close()
                return

    def close(self) -> None:
        """Stop polling the store, count and log the last requests, and start no more work."""
        self.serving.models.stop()
        self.serving.pending.write()
        self.pool.close()
        self.small_pool.close()

    def _find(self, path: str) -> Route | None:
        try:
            rule, arguments = self._rules.match(path, method="POST", return_rule=True)
        except HTTPException:
            return None
        return Route(self.serving.endpoints.get(rule.rule), to_template(rule.rule), arguments)

    async def _serve(self, route: Route, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _read_headers(scope["headers"])
        client, proxies = scope.get("client"), self.serving.settings.trusted_proxies
        address = client and client[0]
        if proxies:
            address = find_client(address, headers.get(FORWARDED, ""), proxies)
        record = open_record("POST", scope["path"], headers.get("x-request-id"), address, route.template)
        record.cors = allow_origin(self._origins, headers.get("origin"))
        answering = self._check_and_answer(route, scope, headers, record, receive, send)
        answer = await self._settled(answering, record)
        if answer is not None:
            await _send(answer, record, send)

    async def _settled(self, answering: Awaitable[Answer | None], record: RequestRecord) -> Answer | None:
        """Return the answer, or the problem document for an exception; None if the client has gone."""
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
        """Return the answer, with its record closed; None if it has been sent."""
        check_host(headers, scope["http_version"])
        check_key(scope["path"], headers, self._digests)
        if route.endpoint is None:
            await self._pass_on(scope, headers, receive, send)
            return None
        models = self.serving.models.models
        head = Head("POST", scope["path"], scope["query_string"].decode("latin-1"), headers, record.client)
        try:
            reader = self.serving.readers.open(route.endpoint, head, record, route.arguments)
        except NotLoaded as missing:
            await self._wait_for(self.serving.models.load(missing.key), record)
            reader = self.serving.readers.open(route.endpoint, head, record, route.arguments)
        if isinstance(reader, LineReader):
            check_protocol(scope["http_version"])
            await self._answer_lines(reader, record, receive, send)
            return None
        if not self._has_pyarrow and needs_pyarrow(headers):
            await asyncio.to_thread(_import_pyarrow)  # the threads of the pools give way to all others
            self._has_pyarrow = True
        body = self._open_body(headers, receive)
        sent_head = scope.get("extensions", {}).get(HEAD)
        if not body.is_small(LOOP_BYTES):
            if sent_head and body.length:
                self.known_heads.keep(
                    sent_head, Known(reader, record, body.length, headers.get(FORWARDED)), models
                )
            return self._closed(await self.pool.read_and_run(reader, record, body), record)
        if may_inflate(headers):
            return self._closed(await self.small_pool.read_and_run(reader, record, body), record)
        answer = await self._answer_small(reader, record, body)
        if sent_head:
            self.known_heads.keep(
                sent_head, Known(reader, record, body.length, headers.get(FORWARDED)), models
            )
        return answer

    async def _answer_by_flask(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave out fields such as `X_API_Key`, which WSGI cannot tell from `X-API-Key`."""
        fields = [field for field in scope["headers"] if b"_" not in field[0]]
        await self._flask({**scope, "headers": fields}, receive, send)

    async def _wait_for(self, loading: Future[None], record: RequestRecord) -> None:
        """Wait until a version is loaded or refused; raise the problem if the deadline comes first."""
        done, _ = await asyncio.wait(
            {asyncio.wrap_future(loading)}, timeout=self.serving.runner.seconds_left(record.started)
        )
        if not done:
            raise self.serving.runner.too_late()

    async def _pass_on(self, scope: Scope, headers: Mapping[str, str], receive: Receive, send: Send) -> None:
        """Give a request with its whole body to Flask, whose few threads must not wait for a client."""
        with self.serving.admission.ticket() as ticket:
            content = await self._open_body(headers, receive, MAX_BODY_BYTES).read(ticket)
            await self._answer_by_flask(scope, _replay(content, receive), send)

    def _open_body(
        self, headers: Mapping[str, str], receive: Receive, max_bytes: int | None = None
    ) -> BodyReader:
        settings = self.serving.settings
        max_bytes = max_bytes or settings.max_body_bytes
        return BodyReader(receive, headers, max_bytes, settings.body_seconds, settings.deadline_seconds)

    def _close(self, record: RequestRecord, status: int) -> None:
        self.serving.pending.close(record, status)
        self.serving.pending.write_soon()

    def _closed(self, answer: Answer, record: RequestRecord) -> Answer:
        self._close(record, answer.status)
        return answer

    async def _answer_small(self, reader: Reader, record: RequestRecord, body: BodyReader) -> Answer:
        """Answer a small request in the next round, or in the pool if it takes long."""
        content, settled = await body.read(), asyncio.get_running_loop().create_future()
        if reader.is_slow and reader.is_slow(content):
            return self._closed(await self.small_pool.read_and_run(reader, record, body, content), record)
        self._rounds.join(reader, content, record, functools.partial(_settle, settled))
        outcome = await settled
        if isinstance(outcome, Answer):
            return outcome
        return self._closed(await self.small_pool.run(outcome, record, body), record)

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

    async def _run_late(self, call: Call, record: RequestRecord, client: Client) -> Answer | None:
        """Run a call that takes too long for a round; see `KnownHeads`."""

        async def run() -> Answer:
            return self._closed(await self.small_pool.run(call, record, client), record)

        return await self._settled(run(), record)

    def refuse(
        self, problem: Problem, target: str, client: tuple[str, int] | None, origin: str | None
    ) -> Refusal:
        """Answer bytes that are not a valid request; return status, fields and body. Count and log it."""
        record = open_record("", target, None, client and client[0])
        record.cors = allow_origin(self._origins, origin)
        answer = problems.answer(problem, record)
        self._close(record, answer.status)
        return answer.status, record.fields(answer), answer.body


def _import_pyarrow() -> None:
    """Import the modules that need pyarrow; late, since it takes time and memory."""
    importlib.import_module("service.answers.arrow")
    importlib.import_module("service.bodies.columnar.arrow")


def _with_ended_input(app: WSGIApp) -> WSGIApp:
    """Tell an application that its input ends by itself, so that Werkzeug reads a body without a length."""

    def wsgi(environ: Environ, start_response: StartResponse) -> IterableChunks:
        environ["wsgi.input_terminated"] = True
        return app(environ, start_response)

    return wsgi


def _replay(content: Body, receive: Receive) -> Receive:
    """Return a `receive` of ASGI with a whole body as its first message."""
    messages = [{"type": "http.request", "body": content}]

    async def replay() -> MutableMapping[str, Any]:
        return messages.pop() if messages else await receive()

    return replay


def _read_headers(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers by name; values of one name are joined as WSGI servers join them."""
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


async def _send(answer: Answer, record: RequestRecord, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": record.fields(answer)})
    await send({"type": "http.response.body", "body": answer.body})


async def _send_lines_head(send: Send, record: RequestRecord) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [*LINE_HEADERS, *record.headers()]})

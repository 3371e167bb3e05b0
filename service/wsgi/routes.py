"""Serve the endpoints with Flask: a record of every request, a route for each, errors as problems."""

import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import wait
from typing import Any

from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from service.bodies import JSON, NDJSON
from service.bodies.codecs import to_json
from service.endpoints.base import Endpoint
from service.endpoints.lines import HEADERS, LineReader, check_protocol
from service.http import problems
from service.http.access import check_host, check_key
from service.http.cors import allow_origin, answer_preflight
from service.http.forwarding import FORWARDED, find_client
from service.http.messages import Answer, Head, to_template
from service.http.problems import Problem
from service.http.request_record import RequestRecord, open_record
from service.models.registry import NotLoaded
from service.scoring.admission import Ticket
from service.serving import Serving
from service.wsgi.compression import compress
from service.wsgi.lines import answer_lines, check_framing

_HTTP_TYPES: Mapping[int | None, str] = {
    400: "bad-request",
    404: "not-found",
    405: "method-not-allowed",
    413: "body-too-large",
    415: "unsupported-media-type",
}


class VersionConverter(BaseConverter):
    """A version number in a path, as the store writes it."""

    regex = "[1-9][0-9]{0,9}"

    def to_python(self, value: str) -> int:
        """Return the number."""
        return int(value)


class PlainNameConverter(BaseConverter):
    """A model name that ends before the verb of V1: `name:verb`."""

    regex = "[^/:]+"


def register(app: Flask, serving: Serving) -> None:
    """Open a record before every request, close it after the answer, and turn errors into problems."""
    settings = serving.settings
    digests, origins, proxies = settings.api_keys_sha256, settings.cors_origins, settings.trusted_proxies

    @app.before_request
    def begin() -> Response | None:
        template = to_template(request.url_rule.rule) if request.url_rule else ""
        sent_id = request.headers.get("X-Request-Id", "")
        headers = _headers()
        client = request.remote_addr or None  # gunicorn has an empty one for a Unix socket
        if proxies:
            client = find_client(client, headers.get(FORWARDED, ""), proxies)
        g.record = open_record(request.method, request.path, sent_id, client, template)
        g.record.cors = allow_origin(origins, headers.get("origin"))
        check_host(headers, request.environ.get("SERVER_PROTOCOL", ""))
        allowed = answer_preflight(request.method, headers, origins)
        if allowed is not None:
            return Response(status=204, headers=allowed)
        check_key(request.path, headers, digests)
        return None

    @app.after_request
    def end(response: Response) -> Response:
        record: RequestRecord = g.record

        def close() -> None:
            serving.pending.close(record, response.status_code)
            serving.pending.write()

        if response.is_streamed:
            response.call_on_close(close)
        else:
            close()
        response.headers.update({name.decode(): value.decode() for name, value in record.headers()})
        compress(request, response)
        return response

    @app.errorhandler(Exception)
    def fail(error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.code in _HTTP_TYPES:
            error = _from_http(error)
        return _respond(problems.answer(error, g.record))


def blueprint(serving: Serving) -> Blueprint:
    """Return a route for every endpoint."""
    routes = Blueprint("endpoints", __name__)
    slots = threading.BoundedSemaphore(serving.settings.max_concurrency)
    for rule, endpoint in serving.endpoints.items():

        def view(endpoint: Endpoint = endpoint, **path: Any) -> Response:
            with contextlib.ExitStack() as held:
                held.enter_context(_slot(slots, serving.settings.max_concurrency))
                response = _respond(_answer(serving, endpoint, path))
                if response.is_streamed:
                    response.call_on_close(held.pop_all().close)
                return response

        routes.add_url_rule(rule, rule.replace(".", "-"), view, methods=["POST"])
    return routes


def _answer(serving: Serving, endpoint: Endpoint, path: dict[str, Any]) -> Answer:
    record: RequestRecord = g.record
    head = Head(
        request.method, request.path, request.query_string.decode("latin-1"), _headers(), request.remote_addr
    )
    read: Any  # a LineReader for lines, a Reader for other bodies
    try:
        read = endpoint.open(head, record, **path)
    except NotLoaded as missing:
        loading = {serving.models.load(missing.key)}
        if not wait(loading, timeout=serving.runner.seconds_left(record.started)).done:
            raise serving.runner.too_late() from missing
        read = endpoint.open(head, record, **path)
    if isinstance(read, LineReader):
        check_protocol(request.environ.get("SERVER_PROTOCOL", ""))
        request.max_content_length = sys.maxsize
        parts = answer_lines(request.stream.read, read, serving, record)
        return Answer(parts, NDJSON, headers=HEADERS)
    with serving.admission.ticket() as ticket:
        call = read(read_body(serving.settings.max_body_bytes, ticket))
        record.rows = call.rows
        return serving.answer(call, ticket, None, record.started)


def _headers() -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


@contextlib.contextmanager
def _slot(slots: threading.BoundedSemaphore, limit: int) -> Iterator[None]:
    """Limit the requests in progress, so that threads are left for probes and refusals."""
    if not slots.acquire(blocking=False):
        raise Problem("overloaded", f"{limit} requests are in progress, try again in a moment")
    try:
        yield
    finally:
        slots.release()


def read_body(limit: int, ticket: Ticket | None = None) -> bytes:
    """Return the body of the request; a ticket counts the bytes that its head announces.

    Raise `Problem` if the body has more than `limit` bytes, or its framing is invalid.
    """
    # Werkzeug would silently cut a chunked body off at the limit.
    request.max_content_length = limit + (request.content_length is None)
    if ticket and request.content_length is not None:
        ticket.add(n_bytes=min(request.content_length, limit))
    with check_framing():
        content = request.get_data(cache=False)
    if len(content) > limit:
        raise Problem("body-too-large", f"a body may have at most {limit} bytes, got more, in chunks")
    return content


def json_response(document: Any) -> Response:
    """Return a JSON response with status 200."""
    return Response(to_json(document), content_type=JSON)


def _respond(answer: Answer) -> Response:
    return Response(answer.body, answer.status, dict(answer.headers), content_type=answer.content_type)


def _from_http(error: HTTPException) -> Problem:
    allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
    details: dict[int | None, str] = {
        404: f"there is nothing at {request.path[:200]!r}",
        405: f"the path takes {allowed}, got {request.method}",
        413: f"a body may have at most {request.max_content_length} bytes, got {request.content_length}",
    }
    detail = details.get(error.code, error.description or error.name)
    return Problem(_HTTP_TYPES[error.code], detail, headers={"Allow": allowed} if allowed else None)

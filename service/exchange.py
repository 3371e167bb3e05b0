"""One request and its answer: the id, the headers, and what metrics and the access log say of it."""

import dataclasses
import re
import time
import uuid

from flask import Flask, Response, g, request

from service import logs
from service.metrics import Metrics

REQUEST_ID = "X-Request-Id"
MODEL_VERSION = "X-Model-Version"
_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_RULE_ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclasses.dataclass
class Exchange:
    """What becomes known of a request while it is answered.

    Attributes
    ----------
    request_id : str
    started : float
        Seconds of `time.perf_counter`.
    model, version : str
        Of the detector that answers; empty until one is chosen, so that unknown names make no series.
    rows : int or None
        Samples in the body.
    problem : str or None
        The problem type of the answer.
    """

    request_id: str
    started: float
    model: str = ""
    version: str = ""
    rows: int | None = None
    problem: str | None = None


def current() -> Exchange:
    """The exchange of the request at work."""
    return g.exchange


def register(app: Flask, metrics: Metrics) -> None:
    """Open an exchange before every request and close it after the answer is made."""
    app.before_request(_open)

    @app.after_request
    def close(response: Response) -> Response:
        _mark(response)
        _report(response, metrics)
        return response


def path_template() -> str:
    """The route of the request as OpenAPI writes it, `/models/{name}`; empty where no route matches."""
    return _RULE_ARGUMENT.sub(r"{\1}", request.url_rule.rule) if request.url_rule else ""


def _open() -> None:
    sent = request.headers.get(REQUEST_ID, "")
    request_id = sent if _CLIENT_ID.fullmatch(sent) else uuid.uuid4().hex
    g.exchange = Exchange(request_id, time.perf_counter())


def _mark(response: Response) -> None:
    response.headers[REQUEST_ID] = current().request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    if current().version:
        response.headers[MODEL_VERSION] = current().version


def _report(response: Response, metrics: Metrics) -> None:
    exchange, template = current(), path_template()
    seconds = time.perf_counter() - exchange.started
    metrics.observe_request(
        endpoint=template,
        model=exchange.model,
        version=exchange.version,
        code=response.status_code,
        seconds=seconds,
        problem=exchange.problem,
    )
    logs.write_access(
        request_id=exchange.request_id,
        method=request.method,
        path=template,
        status=response.status_code,
        duration_seconds=round(seconds, 6),
        model=exchange.model or None,
        version=exchange.version or None,
        rows=exchange.rows,
        client=request.remote_addr,
    )

"""Translates exceptions to RFC 9457 problems; the only module with the status codes of errors."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from detector.errors import InputError, NoClassifier, NoInt8Latent, NoLatent, RunStopped, StoreError
from service.http.messages import Answer
from service.http.request_record import RequestRecord

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1
MOST_CHARACTERS = 1000  # of a sentence: a request must not choose the size of its refusal

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ProblemType:
    """The status and the title of all problems of one type."""

    status: int
    title: str


# The key is the `type` member, a stable word as a relative URI reference; docs/http-api.md lists them all.
TYPES: Mapping[str, ProblemType] = {
    "bad-request": ProblemType(400, "The request is not valid HTTP"),
    "malformed-body": ProblemType(400, "The body cannot be parsed"),
    "unauthorized": ProblemType(401, "A key is needed"),
    "not-found": ProblemType(404, "There is nothing at this path"),
    "no-such-model": ProblemType(404, "There is no such model, version or label"),
    "no-default-model": ProblemType(404, "There is no default model"),
    "method-not-allowed": ProblemType(405, "The path does not support this method"),
    "not-acceptable": ProblemType(406, "None of the requested response formats is available"),
    "no-latent": ProblemType(409, "The model has no latent"),
    "no-integer-latent": ProblemType(409, "The model's latent has no 8-bit form"),
    "no-classifier": ProblemType(409, "The model has no classifier"),
    "store-decides": ProblemType(409, "Models are not loaded by request"),
    "request-timeout": ProblemType(408, "The request arrived too slowly"),
    "body-too-large": ProblemType(413, "The body is too large"),
    "too-many-rows": ProblemType(413, "The body has too many samples"),
    "line-too-long": ProblemType(413, "A line is too long"),
    "uri-too-long": ProblemType(414, "The request target is too long"),
    "unsupported-media-type": ProblemType(415, "The media type of the body is not supported"),
    "invalid-input": ProblemType(422, "The model cannot take the samples in the body"),
    "invalid-option": ProblemType(422, "An option is unknown or has an invalid value"),
    "header-too-large": ProblemType(431, "The head of the request is too large"),
    "internal-error": ProblemType(500, "The service failed"),
    "not-ready": ProblemType(503, "The service is not ready"),
    "overloaded": ProblemType(503, "The service is overloaded"),
    "deadline-exceeded": ProblemType(503, "The answer took too long"),
}

_DETECTOR_TYPES = {
    InputError: "invalid-input",
    NoLatent: "no-latent",
    NoInt8Latent: "no-integer-latent",
    NoClassifier: "no-classifier",
    StoreError: "no-such-model",
    RunStopped: "deadline-exceeded",
}

# Clients of these protocols read the sentence in the member `error`.
_ERROR_PATHS = ("/v1/", "/v2")


class Problem(Exception):
    """An error that is answered with a problem document.

    Parameters
    ----------
    type : str
        A key of `TYPES`.
    detail : str
        One sentence: the thing, the expected and the received value; a long one is cut in its middle.
    errors : sequence of mapping
        The places of the error: `detail` with `pointer`, `row`, `column` or `parameter`.
    headers : mapping
        Additional headers of the answer.
    """

    def __init__(
        self,
        type: str,  # noqa: A002 - the word of RFC 9457
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.type = type
        self.detail = _shorten(detail)
        self.errors = [place | {"detail": _shorten(place["detail"])} for place in map(dict, errors)]
        self.headers = dict(headers or {})
        if TYPES[type].status == 503:
            self.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)


def _shorten(sentence: str) -> str:
    """Keep the beginning of a sentence, and its end, which may be a hint; names in it may be long."""
    if len(sentence) <= MOST_CHARACTERS:
        return sentence
    return f"{sentence[: MOST_CHARACTERS - 300]} ... {sentence[-290:]}"


def answer(error: Exception, record: RequestRecord) -> Answer:
    """Return the answer to a request that ended in an exception."""
    problem = translate(error)
    record.problem = problem.type
    document = describe(problem) | {"instance": record.request_id}
    if record.path.startswith(_ERROR_PATHS):
        document["error"] = problem.detail
    return Answer(orjson.dumps(document), MEDIA_TYPE, TYPES[problem.type].status, problem.headers)


def describe(problem: Problem) -> dict[str, Any]:
    """Return the members of a problem document, without the request id."""
    kind = TYPES[problem.type]
    document = {
        "type": problem.type,
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
    }
    return document | {"errors": problem.errors} if problem.errors else document


def translate(error: Exception) -> Problem:
    """Return the problem for an exception; an unforeseen one is logged and not shown to the client."""
    if isinstance(error, Problem):
        return error
    for kind, word in _DETECTOR_TYPES.items():
        if isinstance(error, kind):
            return Problem(word, str(error))
    logger.error("request failed", exc_info=error)
    return Problem("internal-error", "The service failed; its log has the cause under this request id.")

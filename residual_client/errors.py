"""Every exception of the client. Its text is one sentence for a person.

ClientError
├─ RequestError       cannot be sent: wrong arguments, columns that do not match, a file that cannot be read
├─ NoAnswer           no connection, a lost connection, or a timeout
├─ AnswerError        the answer is not one of this service: is the URL right?
└─ Problem            the service refused; has status, type, detail and places of the fault
    ├─ BadRequest      4xx: samples or options that the model cannot take
    ├─ Unauthorized    401, 403: no key or an unknown key
    ├─ NotFound        404: no such model, version, label or path
    ├─ Overloaded      429, 503: too many requests, still after every retry
    └─ ServiceFailed   5xx: a fault of the service
"""

import re
from collections.abc import Mapping
from typing import Any, Self

DEADLINE = "deadline-exceeded"


class ClientError(Exception):
    """Base class of every exception that this package raises on purpose."""


class RequestError(ClientError):
    """The request cannot be sent: the caller's error, found before the service is asked."""


class NoAnswer(ClientError):
    """The service could not be reached, closed the connection, or took longer than the timeout."""


class AnswerError(ClientError):
    """The answer is not one of this service; the URL may be wrong."""


class Problem(ClientError):
    """The service answered with an error.

    Attributes
    ----------
    status : int
        HTTP status code.
    type : str
        The stable word of the problem, such as `invalid-input`; `about:blank` from a proxy.
    title, detail : str
        The kind of problem, and a sentence about this one, which is also the text of the exception.
    errors : tuple of mapping
        The places of the fault: `detail`, with `row`, `column`, `pointer` or `parameter`. Rows are counted in
        the samples of the call, even if they were sent in several requests.
    request_id : str or None
        The id of the request in the service's log.
    retry_after : float or None
        Seconds after which the service asks to be tried again.
    """

    def __init__(
        self,
        status: int,
        document: Mapping[str, Any],
        *,
        request_id: str | None = None,
        retry_after: float | None = None,
        first_row: int = 0,
    ) -> None:
        places = [place for place in document.get("errors", ()) if isinstance(place, Mapping)]
        rows = {place["row"] for place in places if isinstance(place.get("row"), int)}
        self.status = status
        self.type = str(document.get("type", "about:blank"))
        self.title = str(document.get("title", ""))
        self.detail = _renumbered(str(document.get("detail") or self.title), rows, first_row)
        self.errors = tuple(_moved(place, rows, first_row) for place in places)
        self.request_id = request_id
        self.retry_after = retry_after
        self._document = {**document, "detail": self.detail, "errors": self.errors}
        super().__init__(self.detail)

    @property
    def is_too_much(self) -> bool:
        """Whether a request with fewer samples may succeed."""
        return self.status == 413 or self.type == DEADLINE

    def moved(self, rows: int) -> Self:
        """Return the same problem with its rows counted from `rows` on."""
        return type(self)(
            self.status,
            self._document,
            request_id=self.request_id,
            retry_after=self.retry_after,
            first_row=rows,
        )


class BadRequest(Problem):
    """4xx: samples or options that the model cannot take, or a body that is too large."""


class Unauthorized(Problem):
    """401 or 403: no key, or one that the service does not know."""


class NotFound(Problem):
    """404: no such model, version or label, or a path that the service does not have."""


class Overloaded(Problem):
    """429 or 503: the service has too much to do, still after every retry."""


class ServiceFailed(Problem):
    """5xx: a fault of the service."""


_OF_STATUS = {401: Unauthorized, 403: Unauthorized, 404: NotFound, 429: Overloaded, 503: Overloaded}


def problem_class(status: int) -> type[Problem]:
    """Return the exception for the status code of an error."""
    return _OF_STATUS.get(status, ServiceFailed if status >= 500 else BadRequest)


def _moved(place: Mapping[str, Any], rows: set[int], by: int) -> dict[str, Any]:
    moved = dict(place)
    if isinstance(place.get("row"), int):
        moved["row"] = place["row"] + by
    for member in ("detail", "pointer"):
        if isinstance(place.get(member), str):
            moved[member] = _renumbered(place[member], rows, by)
    return moved


def _renumbered(sentence: str, rows: set[int], by: int) -> str:
    """Add `by` to the row numbers in a sentence, not to numbers of other things."""

    def renumber(match: re.Match[str]) -> str:
        row = int(match[2])
        return f"{match[1]}{row + by if row in rows else row}"

    return _ROW.sub(renumber, sentence) if by else sentence


_ROW = re.compile(r"(\brow |\bstep |\binstance |/instances/)(\d+)\b")

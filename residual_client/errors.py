"""Every exception of the client: one sentence each, with what the service said of it."""

import re
from collections.abc import Mapping
from typing import Any, Self

DEADLINE = "deadline-exceeded"


class ClientError(Exception):
    """Root of everything this package raises on purpose; its text is one sentence for a person."""


class RequestError(ClientError):
    """What was asked for cannot be sent: the caller's error, found before the service saw it."""


class NoAnswer(ClientError):
    """The service could not be reached, broke off, or took longer than the timeout."""


class AnswerError(ClientError):
    """The answer is not one of this service; the address may be another's."""


class Problem(ClientError):
    """The service answered with an error.

    Attributes
    ----------
    status : int
        Of HTTP.
    type : str
        The stable word of the problem, such as `invalid-input`; `about:blank` from a proxy in between.
    title, detail : str
        The kind of problem, and this one in a sentence, which is the text of the exception too.
    errors : tuple of mapping
        Where the fault lies: `detail`, with `row`, `column`, `pointer` or `parameter`. Rows are counted in
        the samples of the call, however many requests they were sent in.
    request_id : str or None
        Under which the service's log has it.
    retry_after : float or None
        Seconds after which the service wants to be asked again.
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
        """Whether fewer samples at a time may do."""
        return self.status == 413 or self.type == DEADLINE

    def moved(self, rows: int) -> Self:
        """The same problem of samples that stand so many rows further down."""
        return type(self)(
            self.status,
            self._document,
            request_id=self.request_id,
            retry_after=self.retry_after,
            first_row=rows,
        )


class BadRequest(Problem):
    """4xx: samples or options that this model cannot take, or a body larger than the service takes."""


class Unauthorized(Problem):
    """401 or 403: no key, or one that the service does not know."""


class NotFound(Problem):
    """404: no such model, version or label, or an address that is not the service's."""


class Overloaded(Problem):
    """429 or 503: too much to do, still after every retry."""


class ServiceFailed(Problem):
    """5xx: a fault of the service."""


_OF_STATUS = {401: Unauthorized, 403: Unauthorized, 404: NotFound, 429: Overloaded, 503: Overloaded}


def problem_class(status: int) -> type[Problem]:
    """The exception for a status that is an error."""
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
    """A sentence about samples that were sent from another row on; numbers of other things stay."""

    def renumber(match: re.Match) -> str:
        row = int(match[2])
        return match[1] + str(row + by if row in rows else row)

    return _ROW.sub(renumber, sentence) if by else sentence


_ROW = re.compile(r"(\brow |\bstep |\binstance |/instances/)(\d+)\b")

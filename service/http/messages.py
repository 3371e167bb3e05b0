"""The head of a request and its answer, independent of the server."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

Body = bytes | bytearray

MAX_BODY_BYTES = 64 * 2**10  # of a request without a verb
_RULE_ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """The method, the target and the headers of a request.

    Attributes
    ----------
    method, path : str
        The path percent-decoded.
    query : str
        As sent, without the question mark.
    headers : mapping of str to str
        By name in lower case; values of a repeated header are joined by commas.
    client : str or None
        Its IP address.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    client: str | None = None


@dataclasses.dataclass(slots=True)
class Answer:
    """The answer to a request.

    Attributes
    ----------
    body : bytes, or iterable of bytes
        An iterable is sent part by part.
    content_type : str
    status : int
    headers : mapping of str to str
        In addition to `RequestRecord.headers`.
    """

    body: bytes | Iterable[bytes]
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def to_template(rule: str) -> str:
    """Return a path rule as OpenAPI writes it: `/models/{name}`."""
    return _RULE_ARGUMENT.sub(r"{\1}", rule)

"""A request's head and its answer, as every server has them; neither Flask nor ASGI is known."""

import dataclasses
import re
from collections.abc import Iterable, Mapping

Body = bytes | bytearray

MAX_BODY_BYTES = 64 * 2**10  # of what is no request for a verb
_RULE_ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>")


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """What a request says before its body.

    Attributes
    ----------
    method, path : str
        The path percent-decoded.
    query : str
        As sent, without the question mark.
    headers : mapping of str to str
        By name in lower case; of a header that was sent several times the values joined by commas.
    client : str or None
        Its address.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    client: str | None = None


@dataclasses.dataclass(slots=True)
class Answer:
    """What goes back.

    Attributes
    ----------
    body : bytes, or iterable of bytes
        An iterable is sent part by part.
    content_type : str
    status : int
    headers : mapping of str to str
        Beside those that every answer carries.
    """

    body: bytes | Iterable[bytes]
    content_type: str
    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def to_template(rule: str) -> str:
    """A rule as OpenAPI writes it: `/models/{name}`."""
    return _RULE_ARGUMENT.sub(r"{\1}", rule)

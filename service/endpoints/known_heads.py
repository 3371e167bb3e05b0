"""What the heads that came lately ask for, which is not found out again.

Clients ask the same again and again. `Readers` knows a head by what matters in it. `Heads` knows it by its
bytes: the next request with the same is not parsed and checked once more, for nothing else would come of it.
"""

import dataclasses
from collections.abc import Mapping

from service.endpoints.base import Reader
from service.http.problems import Problem
from service.http.request_record import RequestRecord, is_id
from service.models.registry import Model, ModelRegistry

MAX_HEADS = 1000
# Of a head that is worth keeping.
HEAD_BYTES = 2**11
HEAD_LINES = 64
_END = b"\r\n\r\n"
# Fields that differ from request to request and decide nothing but the id; in lower case.
_ID_NAME = b"\r\nx-request-id:"
_ID, _TRACE = _ID_NAME + b" ", b"\r\ntraceparent: "


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """What a head asks for; the record of a request with it, and the bytes of its body."""

    reader: Reader
    record: RequestRecord
    n_bytes: int


@dataclasses.dataclass(slots=True)
class Repeat:
    """A request with a known head.

    Attributes
    ----------
    known : Known
    request_id : str or None
        None where its client sent none.
    content : bytes
        Its body, unless it is refused.
    n_missing : int
        Bytes of the body that are still to come.
    refusal : Problem or None
        Why its body is not read.
    """

    known: Known
    request_id: str | None
    content: bytes = b""
    n_missing: int = 0
    refusal: Problem | None = None


class Heads:
    """Heads by their bytes, for as long as the same models are loaded.

    What else decides about a request never changes in a process: limits, keys and routes.
    """

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models
        self._snapshot = models.models
        self._kept: dict[bytes, Known] = {}

    def find(self, data: bytes) -> tuple[Known | None, str | None, int]:
        """What the head at the beginning of these bytes asks for, where it is known; its id, and its end."""
        if self._models.models is not self._snapshot:
            self._snapshot, self._kept = self._models.models, {}
        end = data.find(_END) + len(_END)
        head, request_id = data[:end], None
        known = self._kept.get(head)
        if known is None and end <= HEAD_BYTES:
            head, request_id = _split(head)
            known = self._kept.get(head)
        return known, request_id, end

    def keep(self, head: bytes, known: Known, models: Mapping[str, Model]) -> None:
        """Know a head from now on, unless others than these models are loaded by now."""
        head, request_id = _split(head)
        is_own = request_id in (None, known.record.request_id)  # of several no one is an id
        if models is self._snapshot and is_own and _is_plain(head):
            if len(self._kept) >= MAX_HEADS:
                self._kept.clear()
            self._kept[head] = known


def _is_plain(head: bytes) -> bool:
    """Whether this is one head, not too long, and without an id in some other spelling."""
    return (
        len(head) <= HEAD_BYTES
        and head.count(b"\r\n") <= HEAD_LINES
        and head.find(_END) == len(head) - len(_END)
        and _ID_NAME not in head.lower()
    )


def _split(head: bytes) -> tuple[bytes, str | None]:
    """A head without what differs from request to request and decides nothing; and the id of the request."""
    head, _ = _cut(head, _TRACE)
    return _cut(head, _ID)


def _cut(head: bytes, field: bytes) -> tuple[bytes, str | None]:
    start = head.lower().find(field)
    if start < 0:
        return head, None
    end = head.find(b"\r\n", start + 2)
    value = head[start + len(field) : end].decode("latin-1")
    return (head[:start] + head[end:], value) if is_id(value) else (head, None)

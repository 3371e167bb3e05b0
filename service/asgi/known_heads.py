"""Requests whose head has come before, answered without parsing it again: docs/decisions/0028.

Clients send the same head again and again. It was parsed, checked and routed once; limits, keys and routes
never change within a process, so the outcome holds for as long as the same models are loaded.
"""

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from service.asgi.pool import Client
from service.asgi.rounds import LOOP_BYTES, Rounds
from service.endpoints.base import Reader
from service.http import problems
from service.http.forwarding import find_client
from service.http.messages import Answer
from service.http.problems import Problem
from service.http.request_record import RequestRecord, is_id
from service.models.policy import Model
from service.scoring.calls import Call
from service.serving import Serving

MAX_HEADS = 1000
# Limits of a head that is remembered.
HEAD_BYTES = 2**11
HEAD_LINES = 64
_END = b"\r\n\r\n"
# Fields that differ between requests and change nothing but the request id; in lower case.
_ID_NAME = b"\r\nx-request-id:"
_ID, _TRACE = _ID_NAME + b" ", b"\r\ntraceparent: "


@dataclasses.dataclass(frozen=True, slots=True)
class Known:
    """The outcome of parsing a head.

    Attributes
    ----------
    reader : Reader
    record : RequestRecord
        The record of its first request.
    n_bytes : int
        The bytes of its body.
    forwarded : str or None
        Its `X-Forwarded-For`.
    """

    reader: Reader
    record: RequestRecord
    n_bytes: int
    forwarded: str | None = None


@dataclasses.dataclass(slots=True)
class Repeat:
    """A request with a known head.

    Attributes
    ----------
    known : Known
    request_id : str or None
        None if the client sent none.
    content : bytes
        The body, unless it is refused.
    n_missing : int
        Bytes of the body that have not arrived.
    refusal : Problem or None
        Why the body is not read.
    """

    known: Known
    request_id: str | None
    content: bytes = b""
    n_missing: int = 0
    refusal: Problem | None = None


class Connection(Client, Protocol):
    """A client that is answered by a call instead of ASGI messages."""

    def send(self, status: int, fields: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        """Answer."""

    def close(self) -> None:
        """Close without an answer."""


class KnownHeads:
    """The heads that have been parsed, by their bytes.

    Parameters
    ----------
    serving : Serving
    rounds : Rounds
        Answers small requests.
    run_late : callable
        Runs a call that takes too long for a round; returns the answer, or None if the client has gone.

    Attributes
    ----------
    late : set of asyncio.Task
        Requests that left their round and are being answered.
    """

    def __init__(
        self,
        serving: Serving,
        rounds: Rounds,
        run_late: Callable[[Call, RequestRecord, Client], Awaitable[Answer | None]],
    ) -> None:
        self._serving = serving
        self._rounds = rounds
        self._run_late = run_late
        self._forget()
        serving.models.on_swap(self._forget)
        self.late: set[asyncio.Task] = set()

    def _forget(self) -> None:
        """Begin anew with the models that serve now."""
        self._kept: tuple[Mapping[str, Model], dict[bytes, Known]] = (self._serving.models.models, {})

    def keep(self, head: bytes, known: Known, models: Mapping[str, Model]) -> None:
        """Remember a head, unless the set of loaded models has changed since it was parsed."""
        head, request_id = _split(head)
        has_own_id = request_id in (None, known.record.request_id)  # of several ids none counts
        snapshot, kept = self._kept
        if models is snapshot and has_own_id and _is_plain(head):
            if len(kept) >= MAX_HEADS:
                kept.clear()
            kept[head] = known

    def find(self, data: bytes) -> Repeat | None:
        """Return the request in `data` if its head is known and it can be answered without parsing.

        That is a small request that has arrived as a whole, or a large one that is refused without its body.
        """
        snapshot, kept = self._kept
        if snapshot is not self._serving.models.models:
            return None
        end = data.find(_END) + len(_END)
        head, request_id = data[:end], None
        known = kept.get(head)
        if known is None and end <= HEAD_BYTES:
            head, request_id = _split(head)
            known = kept.get(head)
        if known is None:
            return None
        n_missing = known.n_bytes - (len(data) - end)
        if known.n_bytes > LOOP_BYTES:
            refusal = self._serving.admission.find_wait() if n_missing >= 0 else None
            return refusal and Repeat(known, request_id, n_missing=n_missing, refusal=refusal)
        content, is_slow = data[end:], known.reader.is_slow
        return None if n_missing or (is_slow and is_slow(content)) else Repeat(known, request_id, content)

    def ask(self, repeat: Repeat, client: tuple[str, int] | None, connection: Connection) -> None:
        """Answer a request that `find` returned."""
        known = repeat.known
        address, proxies = client and client[0], self._serving.settings.trusted_proxies
        if proxies and known.forwarded:
            address = find_client(address, known.forwarded, proxies)
        record = known.record.again(repeat.request_id, address)
        if repeat.refusal:
            self._refuse(repeat.refusal, record, connection)
        else:
            hand_over = functools.partial(self._hand_over, record, connection)
            self._rounds.join(known.reader, repeat.content, record, hand_over)

    def _refuse(self, problem: Problem, record: RequestRecord, connection: Connection) -> None:
        answer = problems.answer(problem, record)
        self._serving.pending.close(record, answer.status)
        self._serving.pending.write_soon()
        _send(answer, record, connection)

    def _hand_over(self, record: RequestRecord, connection: Connection, outcome: Answer | Call) -> None:
        if isinstance(outcome, Answer):
            _send(outcome, record, connection)
        else:
            task = asyncio.ensure_future(self._answer_late(outcome, record, connection))
            self.late.add(task)  # the loop holds only a weak reference
            task.add_done_callback(self.late.discard)

    async def _answer_late(self, call: Call, record: RequestRecord, connection: Connection) -> None:
        answer = await self._run_late(call, record, connection)
        if answer is not None:
            _send(answer, record, connection)


def _send(answer: Answer, record: RequestRecord, connection: Connection) -> None:
    try:
        connection.send(answer.status, record.fields(answer), answer.body)
    except Exception:
        connection.close()  # the client must not wait for an answer that could not be sent
        raise


def _is_plain(head: bytes) -> bool:
    """Whether this is one head within the limits, without an id in another spelling."""
    return (
        len(head) <= HEAD_BYTES
        and head.count(b"\r\n") <= HEAD_LINES
        and head.find(_END) == len(head) - len(_END)
        and _ID_NAME not in head.lower()
    )


def _split(head: bytes) -> tuple[bytes, str | None]:
    """Cut the fields that differ between requests out of a head; return the rest and the request id."""
    head, _ = _cut(head, _TRACE)
    return _cut(head, _ID)


def _cut(head: bytes, field: bytes) -> tuple[bytes, str | None]:
    start = head.lower().find(field)
    if start < 0:
        return head, None
    end = head.find(b"\r\n", start + 2)
    value = head[start + len(field) : end].decode("latin-1")
    return (head[:start] + head[end:], value) if is_id(value) else (head, None)

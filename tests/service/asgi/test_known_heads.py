"""Requests with the head of an earlier request: what the cache holds, and how a connection skips parsing."""

import asyncio
import base64
import contextlib
import dataclasses
import json
import re
import socket
import threading
import types
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httptools
import numpy as np
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from detector.images import encode_image
from service.asgi.body import ClientGone
from service.asgi.connection import HttpProtocol
from service.asgi.front import Front
from service.asgi.known_heads import HEAD_BYTES, MAX_HEADS, Known, KnownHeads
from service.asgi.rounds import LOOP_BYTES
from service.endpoints import open_inference
from service.http.request_record import RequestRecord, open_record
from service.watching import pending as pending_module
from tests.model_folder import publish_model
from tests.raw_http import request
from tests.service.polls import follow
from tests.service.responses import read_metrics, to_npy

SECONDS = 10
NORMAL, ANOMALY = [1.0, 2.0, 0.5], [1.0, 2.0, 9.5]  # texts of one length
JSON = ("Content-Type", "application/json")


def score(row: list[float | str], *fields: tuple[str, str], path: str = "/score") -> bytes:
    """Return a POST of one row, with more fields in its head."""
    return request(path, json.dumps({"instances": [row]}).encode(), headers=[JSON, *fields])


def head_of(sent: bytes) -> bytes:
    """Return the head of a request with its final empty line."""
    return sent[: sent.index(b"\r\n\r\n") + 4]


def large(*fields: tuple[str, str], path: str = "/score") -> bytes:
    """Return a POST of as many rows as the loop does not read."""
    rows = np.tile(np.float64(NORMAL), (LOOP_BYTES // 24 + 1, 1))
    return request(path, to_npy(rows), headers=[("Content-Type", "application/x-npy"), *fields])


@pytest.fixture
def large_front(make_front):
    """A front that takes `large` requests."""
    return make_front(max_body_bytes=2**20, max_rows=100_000, head_seconds=0.5)


@contextlib.contextmanager
def busy(front: Front) -> Iterator[None]:
    """While there is more to do than may wait."""
    with front.serving.admission.ticket() as ticket:
        ticket.add(seconds=1000.0)
        yield


class Parser:
    """A parser that records the bytes that it has parsed."""

    def __init__(self, parser: httptools.HttpRequestParser) -> None:
        self._parser = parser
        self.parsed: list[bytes] = []

    def feed_data(self, data: bytes) -> None:
        """Parse on."""
        self.parsed.append(data)
        self._parser.feed_data(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


@dataclasses.dataclass
class Answer:
    """One answer."""

    status: int
    fields: dict[str, str]
    document: dict[str, Any]

    @property
    def is_anomaly(self) -> list[bool]:
        """Return the decisions of the document."""
        return self.document["is_anomaly"]


@dataclasses.dataclass
class Client:
    """One connection to a front in this process."""

    protocol: HttpProtocol
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def parsed(self) -> list[bytes]:
        """The bytes that the parser has seen."""
        return self.protocol.parser.parsed

    async def ask(self, sent: bytes) -> Answer:
        """Send, and read one answer."""
        self.writer.write(sent)
        return await self.answer()

    async def answer(self) -> Answer:
        """Return the next answer."""
        async with asyncio.timeout(SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(re.findall(r"^([a-z-]+): (.*)\r$", head, re.MULTILINE))
            body = await self.reader.readexactly(int(fields["content-length"]))
        return Answer(int(head.split()[1]), fields, json.loads(body))


Conversation = Callable[[Client], Awaitable[None]]


def make_protocol(front: Front) -> HttpProtocol:
    """Return the protocol of one connection in the running loop."""
    config = Config(front, access_log=False, log_config=None, proxy_headers=False)
    config.load()
    return HttpProtocol(config, ServerState(), {}, asyncio.get_running_loop())


def talk(front: Front, conversation: Conversation) -> None:
    """Hold a conversation over one connection."""

    async def hold() -> None:
        protocol = make_protocol(front)
        protocol.parser = Parser(protocol.parser)
        ours, theirs = socket.socketpair()
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
        client = Client(protocol, *await asyncio.open_connection(sock=theirs))
        try:
            await conversation(client)
        finally:
            client.writer.close()
            protocol.transport.abort()
            await asyncio.sleep(0.01)

    asyncio.run(hold())


def test_head_is_parsed_once_and_each_body_has_its_own_answer(front):
    """Header fields are the same in each answer, but the id and the decision are not."""

    async def conversation(client: Client) -> None:
        answers = [await client.ask(score(row)) for row in (NORMAL, ANOMALY, NORMAL)]

        assert client.parsed == [score(NORMAL)]
        assert [answer.is_anomaly for answer in answers] == [[False], [True], [False]]
        assert len({answer.fields.pop("x-request-id") for answer in answers}) == 3
        assert answers[0].fields == answers[2].fields
        assert answers[0].fields.keys() == answers[1].fields.keys()

    talk(front, conversation)


def test_ids_of_requests_and_traces_do_not_make_a_head_new(front):
    """Each answer carries the id of its request, and one of ours where there is none."""

    async def conversation(client: Client) -> None:
        await client.ask(score(NORMAL))
        named = await client.ask(score(NORMAL, ("X-Request-Id", "a-1"), ("traceparent", "00-ab-cd-01")))
        other = await client.ask(score(NORMAL, ("x-request-id", "b-2")))
        unnamed = await client.ask(score(NORMAL, ("traceparent", "00-ef-01-01")))

        assert len(client.parsed) == 1
        assert [named.fields["x-request-id"], other.fields["x-request-id"]] == ["a-1", "b-2"]
        assert re.fullmatch("[0-9a-f]{32}", unnamed.fields["x-request-id"])

    talk(front, conversation)


@pytest.mark.parametrize(
    "fields", [[("X-Request-Id", "odd id")], [("X-Request-Id", "a"), ("X-Request-Id", "b")]]
)
def test_what_is_no_id_becomes_none(front, fields):
    """An invalid id is replaced, as in the first answer."""

    async def conversation(client: Client) -> None:
        for _ in range(3):
            answer = await client.ask(score(NORMAL, *fields))
            assert re.fullmatch("[0-9a-f]{32}", answer.fields["x-request-id"])

    talk(front, conversation)


@pytest.mark.parametrize("spelling", [b"X-Request-Id:a-1", b"X-Request-Id:  a-1", b"x-request-id:\ta-1"])
def test_id_in_another_spelling_stays_that_of_its_request(front, spelling):
    """The id is echoed each time, and a request with two id fields gets a new one."""
    sent = score(NORMAL, ("X", "a")).replace(b"X: a", spelling)

    async def conversation(client: Client) -> None:
        answers = [await client.ask(sent) for _ in range(3)]
        doubled = await client.ask(sent.replace(spelling, b"X-Request-Id: b\r\n" + spelling))

        assert [answer.fields["x-request-id"] for answer in answers] == ["a-1"] * 3
        assert re.fullmatch("[0-9a-f]{32}", doubled.fields["x-request-id"])

    talk(front, conversation)


@pytest.mark.parametrize("around", [(b"", b"\r\n"), (b"\r\n\r\n", b""), (score(ANOMALY), b"")])
def test_only_one_whole_request_is_kept(front, around):
    """A head is kept only if its packet holds one whole request and nothing before or after it."""

    async def conversation(client: Client) -> None:
        before, behind = around
        client.writer.write(before + score(NORMAL) + behind)
        assert all([(await client.answer()).status == 200 for _ in range(1 + (before == score(ANOMALY)))])

    talk(front, conversation)
    assert not front.known_heads.find(score(NORMAL))
    assert not front.known_heads._kept[1]


def test_bad_body_behind_a_known_head_has_its_problem(front):
    """The next valid body has its scores."""

    async def conversation(client: Client) -> None:
        await client.ask(score(NORMAL))
        bad = await client.ask(score([1.0, 2.0, "x"]))
        good = await client.ask(score(ANOMALY))

        assert len(client.parsed) == 1
        assert (bad.status, bad.document["type"]) == (422, "invalid-input")
        assert bad.document["instance"] == bad.fields["x-request-id"]
        assert good.is_anomaly == [True]

    talk(front, conversation)


@pytest.mark.parametrize(
    "sent",
    [
        score(NORMAL, ("Connection", "close")),
        score(NORMAL, ("Expect", "100-continue")),
        request(
            body=json.dumps({"instances": [NORMAL]}).encode(),
            headers=[JSON, ("Content-Encoding", "identity")],
        ),
        score(NORMAL, ("Cookie", "a" * HEAD_BYTES)),
        score(NORMAL, *[("X", "a")] * 70),
        score(NORMAL, path="/none"),
        score(NORMAL, path="/models/none/score"),
        score([1.0, 2.0], path="/v2/repository/index"),
        score(NORMAL).replace(b"HTTP/1.1", b"HTTP/1.0"),
        request(method="GET", target="/livez"),
    ],
)
def test_heads_that_are_not_kept(front, sent):
    """A head is not kept if it is long, changes the connection or the body, or belongs to no verb."""

    async def conversation(client: Client) -> None:
        client.writer.write(sent)
        async with asyncio.timeout(SECONDS):
            await client.reader.read(1)

    talk(front, conversation)

    assert front.known_heads.find(sent) is None


def test_part_of_a_request_is_parsed(front):
    """The shortcut is not used for a part of a body, nor for several requests in one packet."""

    async def conversation(client: Client) -> None:
        sent = score(NORMAL)
        await client.ask(sent)
        client.writer.write(sent[:-5])
        await asyncio.sleep(0.05)
        parted = await client.ask(sent[-5:])
        client.writer.write(score(ANOMALY) + sent)
        doubled = [await client.answer(), await client.answer()]
        again = await client.ask(score(ANOMALY))

        assert client.parsed == [sent, sent[:-5], sent[-5:], score(ANOMALY) + sent]
        assert [each.is_anomaly for each in (parted, *doubled, again)] == [[False], [True], [False], [True]]

    talk(front, conversation)


def test_what_comes_while_one_is_answered_is_answered_after_it(front):
    """Answers are in order, whether the head is known or not, and even for simultaneous requests."""

    async def conversation(client: Client) -> None:
        await client.ask(score(NORMAL))
        first, second = score(ANOMALY, ("X-Request-Id", "1")), score(NORMAL, ("X-Request-Id", "2"))
        client.protocol.data_received(first)
        client.protocol.data_received(second)
        client.protocol.data_received(score(ANOMALY, ("X-Request-Id", "3"), path="/models/tiny/score"))
        answers = [await client.answer() for _ in range(3)]

        assert len(client.parsed) == 3
        assert [answer.fields["x-request-id"] for answer in answers] == ["1", "2", "3"]
        assert [answer.is_anomaly for answer in answers] == [[True], [False], [True]]

    talk(front, conversation)


@pytest.mark.parametrize("is_known", [True, False])
def test_body_of_the_next_request_has_the_time_of_a_body(make_front, is_known):
    """The limit is that of a body, not of a head, although the head came during another request."""

    async def conversation(client: Client) -> None:
        sent = score(ANOMALY)
        if is_known:
            await client.ask(score(NORMAL))
        client.protocol.data_received(score(NORMAL))
        client.protocol.data_received(sent[:-5])
        first = await client.answer()
        await asyncio.sleep(0.3)
        second = await client.ask(sent[-5:])

        assert [first.is_anomaly, second.is_anomaly] == [[False], [True]]

    talk(make_front(head_seconds=0.1, body_seconds=5.0), conversation)


def test_nonsense_behind_a_known_head_closes_after_its_answer(front):
    """The request before it is answered."""

    async def conversation(client: Client) -> None:
        await client.ask(score(NORMAL))
        client.protocol.data_received(score(ANOMALY))
        client.protocol.data_received(b"nonsense\r\n\r\n")
        answer = await client.answer()

        assert answer.is_anomaly == [True]
        assert answer.fields["connection"] == "close"
        assert await client.reader.read() == b""

    talk(front, conversation)


def test_new_version_is_asked_by_the_same_head(front, store):
    """The new version answers as soon as it is loaded."""

    async def conversation(client: Client) -> None:
        old = [await client.ask(score(NORMAL)) for _ in range(2)]
        publish_model(store, "tiny")
        follow(front.serving.models)
        new = [await client.ask(score(NORMAL)) for _ in range(2)]

        assert [answer.fields["x-model-version"] for answer in (*old, *new)] == ["1", "1", "2", "2"]
        assert len(client.parsed) == 2

    talk(front, conversation)


def test_answer_of_a_version_that_was_replaced_meanwhile_keeps_no_head(front, store):
    """The head is not kept although a request in between has seen the new set of models."""

    async def conversation(client: Client) -> None:
        client.protocol.data_received(score(NORMAL))
        await asyncio.sleep(0)  # it waits for its round
        publish_model(store, "tiny")
        follow(front.serving.models)
        assert front.known_heads.find(score(NORMAL)) is None
        old, new = await client.answer(), await client.ask(score(NORMAL))

        assert [answer.fields["x-model-version"] for answer in (old, new)] == ["1", "2"]

    talk(front, conversation)


def test_call_that_takes_long_is_answered_from_the_pool(front, monkeypatch):
    """The call has a deadline like any other."""

    async def conversation(client: Client) -> None:
        await client.ask(score(NORMAL))
        monkeypatch.setattr(front.serving.runner, "estimate", lambda calls: 1.0)
        answer = await client.ask(score(ANOMALY))
        monkeypatch.setattr(front.serving.runner, "seconds_left", lambda started: 0.0)
        late = await client.ask(score(ANOMALY))
        monkeypatch.undo()
        after = await client.ask(score(ANOMALY))

        assert len(client.parsed) == 1
        assert answer.is_anomaly == after.is_anomaly == [True]
        assert (late.status, late.document["type"]) == (503, "deadline-exceeded")
        assert late.fields["retry-after"] == "1"

    talk(front, conversation)


def test_connection_at_work_is_not_idle(front, monkeypatch):
    """A request may take longer than the idle limit; the idle time before it does not count."""

    async def slowly(work: Any, record: Any, who: Any) -> Any:
        await asyncio.sleep(0.5)
        return work(stop=None)

    async def conversation(client: Client) -> None:
        client.protocol.timeout_keep_alive = 0.1
        await client.ask(score(NORMAL))
        monkeypatch.setattr(front.serving.runner, "estimate", lambda calls: 1.0)
        monkeypatch.setattr(front.small_pool, "_watched", slowly)
        answer = await client.ask(score(ANOMALY))

        assert len(client.parsed) == 1
        assert answer.is_anomaly == [True]
        async with asyncio.timeout(SECONDS):
            assert await client.reader.read() == b""

    talk(front, conversation)


def test_lost_connection_leaves_no_timer(front, monkeypatch):
    """One that is lost while its request is at work has nobody to tell when that ends."""

    async def conversation(client: Client) -> None:
        await client.ask(score(NORMAL))
        monkeypatch.setattr(front.serving.runner, "estimate", lambda calls: 1.0)
        monkeypatch.setattr(front.small_pool, "_watched", lambda work, record, who: asyncio.sleep(0.1))
        client.protocol.data_received(score(ANOMALY))
        assert client.protocol.timeout_keep_alive_task is not None
        client.protocol.connection_lost(ConnectionResetError())

        assert client.protocol.timeout_keep_alive_task is None

    talk(front, conversation)


@pytest.mark.parametrize("takes_long", [False, True])
def test_answer_that_cannot_be_sent_closes_the_connection(front, monkeypatch, takes_long):
    """The client is not left waiting."""

    def fail(*arguments: Any) -> None:
        raise ValueError("not foreseen")

    async def conversation(client: Client) -> None:
        await client.ask(score(NORMAL))
        monkeypatch.setattr(RequestRecord, "fields", fail)
        if takes_long:
            monkeypatch.setattr(front.serving.runner, "estimate", lambda calls: 1.0)
        client.writer.write(score(ANOMALY))
        async with asyncio.timeout(SECONDS):
            assert await client.reader.read() == b""

    talk(front, conversation)


def infer(data: list, **tensor: Any) -> bytes:
    """Return a POST of one tensor for `images`, padded to one length."""
    document = {"inputs": [{"name": "samples", **tensor, "data": data}]}
    return request("/v2/models/images/infer", json.dumps(document).encode().ljust(1000), headers=[JSON])


def test_images_under_a_known_head_are_read_in_the_pool(front, monkeypatch):
    """Earlier bodies and the spelling of the datatype do not matter; numbers stay in the loop."""
    threads = []
    decode = open_inference.decode

    def record(*arguments: Any) -> open_inference.InferBody:
        threads.append(threading.current_thread().name.partition("_")[0])
        return decode(*arguments)

    monkeypatch.setattr(open_inference, "decode", record)
    png = base64.b64encode(encode_image(np.full((4, 5), 16), (0.0, 16.0))).decode()
    numbers = infer([16.0] * 20, shape=[1, 4, 5], datatype="FP32")
    image = infer([png], shape=[1], datatype="BYTES")
    escaped = image.replace(b'"BYTES"', rb'"\u0042YTES"')[: len(image)]  # less padding

    async def conversation(client: Client) -> None:
        answers = [await client.ask(each) for each in (image, numbers, numbers, escaped, image)]

        assert [answer.status for answer in answers] == [200] * 5
        assert len({str(answer.document["outputs"][0]["data"]) for answer in answers}) == 1
        assert len(client.parsed) == 3  # without the numbers, whose head was known by then

    talk(front, conversation)
    assert threads == ["small", "MainThread", "MainThread", "small", "small"]


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("n_waiting", [0, 1])
def test_client_that_goes_ends_its_long_call(front, monkeypatch, is_known, n_waiting):
    """It is counted as gone, whatever waits behind it, and before the process ends."""
    monkeypatch.setattr(pending_module, "WRITE_SECONDS", 0)

    async def conversation(client: Client) -> None:
        if is_known:
            await client.ask(score(NORMAL))
        monkeypatch.setattr(front.serving.runner, "estimate", lambda calls: 1.0)
        monkeypatch.setattr(front.small_pool, "_watched", lambda work, record, who: gone(who))
        client.writer.write(score(ANOMALY))
        await asyncio.sleep(0.05)
        for _ in range(n_waiting):
            client.protocol.data_received(score(NORMAL))
        client.protocol.transport.abort()
        await asyncio.sleep(0 if is_known else 0.1)  # until it is told; uvicorn itself waits for its own
        await end(front)
        assert ended == [True]

    ended = []

    async def gone(who: Any) -> None:
        await who.wait_until_gone()
        await asyncio.sleep(0.01)
        ended.append(True)
        raise ClientGone

    talk(front, conversation)

    series = read_metrics(front.serving.metrics.exposition().decode())
    assert series["residual_requests_total", "499", "/score", "tiny", "1"] == 1


async def end(front: Front) -> None:
    """Send the event of a server whose connections are all closed."""

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.shutdown"}

    async def send(message: dict[str, str]) -> None:
        assert message == {"type": "lifespan.shutdown.complete"}

    await front({"type": "lifespan"}, receive, send)


def test_process_that_ends_closes_after_the_answer(front):
    """A known head is parsed then, and answered with `Connection: close`."""

    async def conversation(client: Client) -> None:
        await client.ask(score(NORMAL))
        client.protocol.data_received(score(ANOMALY))
        client.protocol.shutdown()
        answer = await client.answer()

        assert answer.is_anomaly == [True]
        assert answer.fields["connection"] == "close"
        assert await client.reader.read() == b""

    talk(front, conversation)


def test_repeats_are_counted_and_logged_like_any_other(front, caplog):
    """Four requests and four lines, with rows and model."""

    async def conversation(client: Client) -> None:
        for _ in range(4):
            await client.ask(score(NORMAL))

    with caplog.at_level("INFO", "service.access"):
        talk(front, conversation)
        series = read_metrics(front.serving.metrics.exposition().decode())

    lines = [line for record in caplog.records if record.name == "service.access" for line in record.fields]
    assert series["residual_requests_total", "200", "/score", "tiny", "1"] == 4
    assert series["residual_rows_total", "tiny", "1"] == 4
    told = ("path", "status", "method", "model", "version", "rows")
    assert [[line[name] for name in told] for line in lines] == [["/score", 200, "POST", "tiny", "1", 1]] * 4


def test_large_request_is_refused_by_a_known_head(large_front):
    """The answer is the same as under an unknown head, and the connection goes on."""
    front = large_front

    async def conversation(client: Client) -> None:
        first = await client.ask(large())
        n_parsed = len(client.parsed)
        with busy(front):
            known = await client.ask(large(("X-Request-Id", "a-1")))
            assert len(client.parsed) == n_parsed
            unknown = await client.ask(large(("X-Request-Id", "a-1"), ("X", "new")))
        last = await client.ask(large())

        assert [first.status, known.status, last.status] == [200, 503, 200]
        assert known == unknown
        assert known.document["type"] == "overloaded"
        assert (known.fields["retry-after"], known.fields["x-model-version"]) == ("1", "1")
        assert first.document == last.document

    talk(front, conversation)
    assert front.serving.admission.n_bytes == front.serving.admission.seconds == 0


def test_head_of_a_refused_request_is_known_from_then_on(large_front):
    """It is refused once more with the next, and accepted when there is time for it."""

    async def conversation(client: Client) -> None:
        with busy(large_front):
            refused = [await client.ask(large()) for _ in range(3)]
        answer = await client.ask(large())

        assert [each.status for each in (*refused, answer)] == [503, 503, 503, 200]
        assert sum(head_of(large()) in data for data in client.parsed) == 2

    talk(large_front, conversation)


@pytest.mark.parametrize("behind", [b"", score(ANOMALY)])
@pytest.mark.parametrize("n_sent", [0, 1, 1000])
def test_body_of_a_refused_request_is_dropped(large_front, n_sent, behind):
    """The body is discarded, however it is split and whatever follows it."""
    sent, n_head = large(), len(head_of(large()))
    first, middle, rest = sent[: n_head + n_sent], sent[n_head + n_sent : -3], sent[-3:]

    async def conversation(client: Client) -> None:
        await client.ask(sent)
        n_parsed = len(client.parsed)
        with busy(large_front):
            client.protocol.data_received(first)
            refused = await client.answer()
            client.protocol.data_received(middle)
            assert len(client.parsed) == n_parsed
            client.protocol.data_received(rest + behind)
        following = [await client.answer()] if behind else []
        await asyncio.sleep(0.7)  # nobody waits for the rest any more
        after = await client.ask(score(NORMAL))

        assert refused.status == 503
        assert [each.is_anomaly for each in (*following, after)] == [*([[True]] if behind else []), [False]]

    talk(large_front, conversation)


def test_body_of_a_refused_request_has_the_time_of_a_head(large_front):
    """Then its connection is closed."""

    async def conversation(client: Client) -> None:
        await client.ask(large())
        with busy(large_front):
            client.protocol.data_received(large()[:-1])
            assert (await client.answer()).status == 503
        async with asyncio.timeout(3):  # before it would be closed as idle
            assert await client.reader.read() == b""

    talk(large_front, conversation)


def test_what_comes_behind_a_refused_request_in_its_packet_is_answered(large_front):
    """The next request in the same packet is answered."""

    async def conversation(client: Client) -> None:
        await client.ask(large())
        with busy(large_front):
            client.protocol.data_received(large() + score(ANOMALY))
            refused, following = await client.answer(), await client.answer()

        assert (refused.status, following.is_anomaly) == (503, [True])

    talk(large_front, conversation)


@pytest.mark.parametrize(
    "sent",
    [
        large(("Connection", "close")),
        large(("Expect", "100-continue")),
        large(path="/models/none/score"),
        large().replace(b"HTTP/1.1", b"HTTP/1.0"),
        large() + b"POST",
        large() + large(("X", "a")),
        b"\r\n\r\n" + large(),
    ],
)
def test_large_heads_that_are_not_kept(large_front, sent):
    """A head is not kept if it changes the connection, has no answer, or does not come alone."""

    async def conversation(client: Client) -> None:
        client.protocol.data_received(sent)
        async with asyncio.timeout(SECONDS):
            await client.reader.read(1)

    talk(large_front, conversation)

    with busy(large_front):
        assert large_front.known_heads.find(sent) is None
        assert large_front.known_heads.find(large()) is None


def test_refused_repeats_are_counted_and_logged_like_any_other(large_front, caplog):
    """They are counted by path, model and reason."""

    async def conversation(client: Client) -> None:
        with busy(large_front):
            for _ in range(3):
                await client.ask(large())

    with caplog.at_level("INFO", "service.access"):
        talk(large_front, conversation)
        series = read_metrics(large_front.serving.metrics.exposition().decode())

    lines = [line for record in caplog.records if record.name == "service.access" for line in record.fields]
    assert series["residual_requests_total", "503", "/score", "tiny", "1"] == 3
    assert series["residual_rejected_total", "overloaded"] == 3
    told = ("path", "status", "problem", "model", "version", "rows")
    wanted = ["/score", 503, "overloaded", "tiny", "1", None]
    assert [[line[name] for name in told] for line in lines] == [wanted] * 3


def test_answers_are_written_when_they_are_many_or_old(front, monkeypatch):
    """Each is counted and logged a moment later, and none of many has to wait for that moment."""
    monkeypatch.setattr(pending_module, "WRITE_REQUESTS", 3)
    monkeypatch.setattr(pending_module, "WRITE_SECONDS", 0.2)
    waiting = []

    async def conversation(client: Client) -> None:
        for _ in range(4):
            await client.ask(score(NORMAL))
            await asyncio.sleep(0)
            waiting.append(front.serving.pending.n_requests)
        await asyncio.sleep(0.3)
        waiting.append(front.serving.pending.n_requests)

    talk(front, conversation)
    assert waiting == [1, 2, 0, 1, 0]


def test_what_is_no_request_is_counted_and_logged(front, caplog):
    """The count has no route."""

    async def conversation(client: Client) -> None:
        answer = await client.ask(b"POST /score HTTP/3.0\r\nHost: a\r\n\r\n")
        assert answer.status == 400

    with caplog.at_level("INFO", "service.access"):
        talk(front, conversation)
        series = read_metrics(front.serving.metrics.exposition().decode())

    (line,) = [line for record in caplog.records if record.name == "service.access" for line in record.fields]
    assert series["residual_rejected_total", "bad-request"] == 1
    assert series["residual_requests_total", "400", "", "", ""] == 1
    assert (line["path"], line["status"]) == ("/score", 400)


def test_no_more_than_so_many_heads_are_kept(front):
    """All heads are forgotten at the limit, and those in use are learned again."""
    kept = KnownHeads(front.serving, None, None)
    reader = types.SimpleNamespace(is_slow=None)
    known = Known(
        reader, open_record("POST", "/score", None, None), len(score(NORMAL)) - len(head_of(score(NORMAL)))
    )
    first, another = score(NORMAL, ("X", "0")), score(NORMAL, ("X", "another"))
    for number in range(MAX_HEADS):
        kept.keep(head_of(score(NORMAL, ("X", str(number)))), known, front.serving.models.models)
    assert kept.find(first).known is known

    kept.keep(head_of(another), known, front.serving.models.models)

    assert kept.find(first) is None
    assert kept.find(another).known is known

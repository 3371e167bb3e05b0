"""One connection in this process: no decision about a request depends on where the network cuts it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from detector import ModelStore
from service.asgi.connection import FIELD_BYTES, HEAD_BYTES, HttpProtocol
from service.asgi.front import Front, create_front
from service.settings import Settings
from tests.model_folder import publish_model

SECONDS = 10
BODY = b'{"instances": [[1.0, 2.0, 30.0]]}'
LENGTH = b"Content-Length: %d" % len(BODY)
CHUNKED = b"a\r\n" + BODY[:10] + b"\r\n%x\r\n" % (len(BODY) - 10) + BODY[10:] + b"\r\n0\r\n\r\n"
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


def head(*lines: bytes, first: bytes = b"POST /score HTTP/1.1") -> bytes:
    """Return the head of a POST of JSON with more lines."""
    lines = (first, b"Host: a", b"Content-Type: application/json", *lines)
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


UPGRADE = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
# Every feature of a head that decides about the answer, with the status that it has.
FEATURES = {
    "plain": (head(LENGTH) + BODY, 200),
    "upgrade": (head(*UPGRADE, LENGTH) + BODY, 200),
    "upgrade of chunks": (head(b"Transfer-Encoding: chunked", *UPGRADE) + CHUNKED, 200),
    "upgrade in other letters": (head(b"connection:upgrade", b"UPGRADE:websocket", LENGTH) + BODY, 200),
    "chunks": (head(b"Transfer-Encoding: chunked") + CHUNKED, 200),
    "key": (head(b"X-API-Key: secret", LENGTH) + BODY, 200),
    "request id": (head(b"X-Request-Id: mine", LENGTH) + BODY, 200),
    "accept": (head(b"Accept: text/csv", LENGTH) + BODY, 200),
    "close": (head(b"Connection: close", LENGTH) + BODY, 200),
    "HTTP/1.0": (head(LENGTH, first=b"POST /score HTTP/1.0") + BODY, 200),
    "absolute target": (head(LENGTH, first=b"POST http://a/score?explain=1 HTTP/1.1") + BODY, 200),
    "empty path": (b"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    "empty path and a query": (b"GET http://a?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", 404),
    "no path": (b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 404),
    "two hosts": (head(b"Host: b", LENGTH) + BODY, 400),
    "tunnel": (b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "length and chunks": (head(LENGTH, b"Transfer-Encoding: chunked") + CHUNKED, 400),
    "coding": (head(b"Transfer-Encoding: gzip") + CHUNKED, 400),
    "folding": (head(b"X: a", b" b", LENGTH) + BODY, 400),
    "HTTP/1.2": (head(LENGTH, first=b"POST /score HTTP/1.2") + BODY, 400),
}


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """A front of `tiny`."""
    store = ModelStore(tmp_path_factory.mktemp("connection") / "models")
    publish_model(store)
    front = create_front(Settings.from_environ({"RESIDUAL_STORE": str(store.root)}))
    yield front
    front.close()


class Talk:
    """One connection whose protocol gets its bytes in pieces of our choice."""

    def __init__(self, protocol: HttpProtocol, reader: asyncio.StreamReader) -> None:
        self.protocol = protocol
        self.reader = reader

    async def ask(self, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send the pieces, each by itself, and return the answer: status, fields, body; 0 if it is closed."""
        for piece in pieces:
            self.protocol.data_received(piece)
            await asyncio.sleep(0)
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Return the next answer."""
        async with asyncio.timeout(SECONDS):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return 0, {}, b""
            first, *lines = head.decode().split("\r\n")
            fields = dict(line.split(": ", 1) for line in lines if line)
            return int(first.split()[1]), fields, await self.reader.readexactly(int(fields["content-length"]))


@contextlib.asynccontextmanager
async def connected(front: Front) -> AsyncIterator[Talk]:
    """Connect to a front in this process."""
    config = Config(front, access_log=False, log_config=None, proxy_headers=False)
    config.load()
    state = ServerState()
    protocol = HttpProtocol(config, state, {}, asyncio.get_running_loop())
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    reader, writer = await asyncio.open_connection(sock=theirs)
    try:
        yield Talk(protocol, reader)
    finally:
        if state.tasks:
            await asyncio.wait(state.tasks)
        protocol.transport.abort()
        writer.close()


def outcome(answer: tuple[int, dict[str, str], bytes]) -> tuple:
    """Return an answer without what differs between two requests."""
    status, fields, body = answer
    request_id = fields.pop("x-request-id")
    fields.pop("date", None)
    return status, fields, body.replace(request_id.encode(), b"ID"), request_id == "mine"


@pytest.mark.parametrize(("sent", "status"), FEATURES.values(), ids=FEATURES)
def test_answer_does_not_depend_on_where_a_head_is_cut(front, sent, status):
    """Cut in two at each byte of its head, in pieces of one byte, and behind another request."""
    n_head = sent.index(b"\r\n\r\n") + 4
    pieces = [[sent[:cut], sent[cut:]] for cut in range(1, n_head + 1) if cut < len(sent)]
    pieces.append([sent[index : index + 1] for index in range(len(sent))])

    async def ask_all() -> None:
        async with connected(front) as talk:
            wanted = outcome(await talk.ask(sent))
        assert wanted[0] == status
        for cut in pieces:
            async with connected(front) as talk:
                assert outcome(await talk.ask(*cut)) == wanted, cut
        async with connected(front) as talk:
            assert (await talk.ask(GET + sent))[0] == 200
            behind = await talk.answer()
            # After an answer, a refusal is no more than the end of the connection.
            assert behind[0] == 0 if status == 400 else outcome(behind) == wanted

    asyncio.run(ask_all())


@pytest.mark.parametrize("n_fields", [1, 12])
def test_size_of_a_head_does_not_depend_on_where_it_is_cut(front, n_fields):
    """Neither of a field that is too large, nor of fields that are too large together."""
    size = FIELD_BYTES + 1 if n_fields == 1 else HEAD_BYTES // 10
    fields = b"".join(b"X-%d: %b\r\n" % (number, b"a" * size) for number in range(n_fields))
    sent = GET[:-2] + fields + b"\r\n"

    async def ask_all() -> list[int]:
        statuses = []
        for cut in (0, 100, len(sent) // 2, len(sent) - 1):
            async with connected(front) as talk:
                statuses.append((await talk.ask(sent[:cut], sent[cut:]))[0])
        async with connected(front) as talk:
            await talk.ask(GET + sent)
            statuses.append((await talk.answer())[0])
        return statuses

    assert asyncio.run(ask_all()) == [431, 431, 431, 431, 0]

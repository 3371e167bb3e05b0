"""Bodies as an ASGI server hands them over, piece by piece."""

import asyncio
import socket

import numpy as np
import pytest

from service.asgi.body import BodyReader
from service.http.problems import Problem
from service.scoring.admission import Admission
from service.settings import Settings
from tests.raw_http import request
from tests.service.asgi.test_known_heads import make_protocol
from tests.service.responses import to_npy


@pytest.fixture
def admission() -> Admission:
    """Room for 1,000 bytes."""
    return Admission(Settings.from_environ({"RESIDUAL_MAX_QUEUED_BYTES": "1000"}))


def receiver(*parts: bytes, pause: float = 0.0):
    """Return an ASGI `receive` that returns these parts, each after a pause, and then waits for ever."""
    messages = iter(parts)

    async def receive():
        await asyncio.sleep(pause)
        for part in messages:
            return {"type": "http.request", "body": part, "more_body": part != parts[-1]}
        return await asyncio.Event().wait()

    return receive


def read(receive, headers, *, max_seconds=60.0, ticket=None):
    """Return the body, of at most 2,000 bytes and with pauses of at most a second."""
    reader = BodyReader(receive, headers, 2000, 1.0, max_seconds)
    return asyncio.run(reader.read(ticket))


@pytest.mark.parametrize("headers", [{}, {"content-length": "9"}])
def test_bytes_are_taken_on_as_they_come(admission, headers):
    """All bytes are passed on, whether or not their number is known in advance."""
    with admission.ticket() as ticket:
        assert read(receiver(b"abc", b"defg", b"hi"), headers, ticket=ticket) == b"abcdefghi"
        assert admission.n_bytes == 9
    assert admission.n_bytes == 0


def test_announced_bytes_keep_nobody_out(admission):
    """Announced bytes that have not been sent do not count as work in progress."""

    async def announce_and_ask() -> int:
        announced = BodyReader(receiver(b"a", b"b", pause=0.01), {"content-length": "900"}, 2000, 1.0)
        with admission.ticket() as first, admission.ticket() as second:
            waiting = asyncio.ensure_future(announced.read(first))
            await asyncio.sleep(0)
            own = await BodyReader(receiver(b"abc"), {"content-length": "900"}, 2000, 1.0).read(second)
            await waiting
            return len(own)

    assert asyncio.run(announce_and_ask()) == 3


def test_announced_bytes_beyond_the_limit_are_refused_at_once(admission):
    """While other requests are at work, a body above the limit is refused before a byte is read."""
    with admission.ticket() as others, admission.ticket() as ticket:
        others.add(n_bytes=600)

        with pytest.raises(Problem, match="requests with 600 bytes are in progress") as refused:
            read(receiver(pause=60), {"content-length": "500"}, ticket=ticket)
    assert refused.value.type == "overloaded"


def test_body_is_not_waited_for_beyond_the_deadline():
    """The deadline applies even if bytes keep arriving."""
    receive = receiver(*[b"%d" % number for number in range(100)], pause=0.01)

    with pytest.raises(Problem, match=r"did not arrive within 0\.1 seconds") as refused:
        read(receive, {}, max_seconds=0.1)
    assert refused.value.type == "deadline-exceeded"
    assert refused.value.headers["Connection"] == "close"


def test_reader_of_a_few_bytes_a_second_is_cut_off(make_front):
    """It never pauses, but the answer would stay in memory for hours."""
    front = make_front(max_body_bytes=2**24, max_rows=100_000, body_seconds=0.5)
    samples = np.ones((100_000, 3), np.float32)
    headers = [("Content-Type", "application/x-npy")]

    async def read_slowly(ours: socket.socket, theirs: socket.socket) -> int:
        loop, protocol = asyncio.get_running_loop(), make_protocol(front)
        theirs.setblocking(False)
        await loop.create_connection(lambda: protocol, sock=ours)
        await loop.sock_sendall(theirs, request("/denoise", to_npy(samples), headers=headers))
        n_bytes = 0
        async with asyncio.timeout(10):
            while not protocol.transport.is_closing():
                n_bytes += len(await loop.sock_recv(theirs, 10))
                await asyncio.sleep(0.1)
        theirs.close()
        return n_bytes

    assert 0 < asyncio.run(read_slowly(*socket.socketpair())) < samples.nbytes

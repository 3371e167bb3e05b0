"""HTTP at the edges, byte by byte, to the service as it is run."""

import contextlib
import http.client
import json
import select
import signal
import threading
import time

import numpy as np
import pytest

from detector import ModelStore
from tests.gunicorn_server import GunicornServer, wait_until
from tests.model_folder import publish_model
from tests.raw_http import Connection, request
from tests.service.responses import to_npy

pytestmark = pytest.mark.slow

BODY = json.dumps({"instances": [[1.0, 2.0, 30.0]]}).encode()
CHUNKED = (
    b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
)
CHUNKS = b"a\r\n" + BODY[:10] + b"\r\n" + f"{len(BODY) - 10:X}\r\n".encode() + BODY[10:] + b"\r\n0\r\n"
POST = request(body=BODY)
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n"
LENGTH = f"Content-Length: {len(BODY)}\r\n".encode()
LIVE = b'{"status":"alive"}'


def with_head(*lines: bytes) -> bytes:
    """Return a POST of `BODY` with more lines in its head, its own Content-Length not among them."""
    head = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + BODY


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with `tiny` version 1."""
    store = ModelStore(tmp_path_factory.mktemp("edges") / "models")
    publish_model(store)
    return store


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    """One process with the limits that ship."""
    server = GunicornServer(store, tmp_path_factory.mktemp("log") / "log", workers=1, max_body_bytes=2**20)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def hasty(store, tmp_path_factory):
    """One process with little patience and few connections."""
    server = GunicornServer(
        store,
        tmp_path_factory.mktemp("log") / "log",
        workers=1,
        head_seconds=0.4,
        body_seconds=0.4,
        idle_seconds=1,
        max_connections=20,
        max_rows=300_000,
    )
    yield server
    server.stop()


@pytest.mark.parametrize(
    "parts",
    [
        [POST],
        [CHUNKED + b"\r\n" + CHUNKS + b"\r\n"],
        [CHUNKED + b"\r\n" + CHUNKS.replace(b"a\r\n", b'a;x=y;z="1"\r\n', 1) + b"\r\n"],
        [CHUNKED + b"\r\n" + CHUNKS + b"X-Trailer: 1\r\n\r\n"],
        [POST[index : index + 1] for index in range(len(POST))],
        [b"\r\n" + POST],
        [POST.replace(b"/score", b"http://other/score", 1)],
        [with_head(LENGTH[:-2], b"X-Odd: \xe4\xff")],
        [
            with_head(
                LENGTH[:-2], b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AA"
            )
        ],
    ],
    ids=["plain", "chunks", "extension", "trailer", "bytes", "blank-line", "absolute", "latin1", "upgrade"],
)
def test_every_form_of_a_request_has_the_same_answer(server, parts):
    """The connection can be used again."""
    with Connection(server.address) as connection:
        connection.send(*parts)
        answer = connection.answer()
        connection.send(GET + b"\r\n")

        assert answer.json()["score"] == [300.0]
        assert connection.answer().body == LIVE


def test_body_is_asked_for_when_a_client_waits_for_that(server):
    """`Expect: 100-continue`: a 100 comes before the body, the answer after it."""
    with Connection(server.address) as connection:
        connection.send(with_head(LENGTH[:-2], b"Expect: 100-continue")[: -len(BODY)])
        asked = connection.answer()
        connection.send(BODY)

        assert asked.status == 100
        assert connection.answer().json()["score"] == [300.0]


def test_body_that_is_refused_is_not_asked_for(server):
    """A body with too large a Content-Length gets no 100."""
    with Connection(server.address) as connection:
        connection.send(with_head(b"Content-Length: 1048577", b"Expect: 100-continue")[: -len(BODY)])

        assert connection.answer().status == 413


def test_pipelined_requests_are_answered_in_their_order(server):
    """The order is kept, whichever answer is ready first."""
    sent = [request("/score", BODY), request("/nowhere", BODY), GET + b"\r\n", request("/encode", BODY)] * 5
    with Connection(server.address) as connection:
        connection.send(b"".join(sent))
        answers = [connection.answer() for _ in sent]

    assert [answer.status for answer in answers] == [200, 404, 200, 200] * 5
    assert [b"latent" in answer.body for answer in answers] == [False, False, False, True] * 5


def test_head_has_the_head_of_get(server):
    """The answer to HEAD has no body, which a client would take for the next answer."""
    with Connection(server.address) as connection:
        connection.send(GET.replace(b"GET", b"HEAD") + b"\r\n" + GET + b"\r\n")
        head, get = connection.answer("HEAD"), connection.answer()

    assert head.status == get.status == 200
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(LIVE))


def test_connection_ends_when_its_client_says_so(server):
    """Both HTTP/1.0 and `Connection: close` end it."""
    for head in (b"GET /livez HTTP/1.0\r\n", GET + b"Connection: close\r\n"):
        with Connection(server.address) as connection:
            connection.send(head + b"\r\n")

            assert connection.answer().body == LIVE
            assert connection.is_closed()


# Two servers in a row may see other borders in each of these; none may be guessed at.
AMBIGUOUS = {
    "two lengths": with_head(LENGTH[:-2], b"Content-Length: 5"),
    "two equal lengths": with_head(LENGTH[:-2], LENGTH[:-2]),
    "list of lengths": with_head(LENGTH[:-2] + b", %d" % len(BODY)),
    "signed length": with_head(LENGTH[:-2].replace(b": ", b": +")),
    "negative length": with_head(b"Content-Length: -1"),
    "spaced length": with_head(b"Content-Length: 3 0"),
    "hexadecimal length": with_head(b"Content-Length: 0x1e"),
    "length with underscore": with_head(b"Content-Length: 3_0"),
    "empty length": with_head(b"Content-Length:"),
    "endless length": with_head(b"Content-Length: " + b"9" * 30),
    "space before the colon": with_head(LENGTH[:-2].replace(b":", b" :")),
    "length and chunks": CHUNKED + LENGTH + b"\r\n" + CHUNKS + b"\r\n",
    "chunks and length": CHUNKED.replace(b"Transfer", LENGTH + b"Transfer") + b"\r\n" + CHUNKS + b"\r\n",
    "chunks twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"\r\n",
    "other coding": CHUNKED.replace(b": chunked", b": gzip, chunked") + b"\r\n" + CHUNKS + b"\r\n",
    "unknown coding": CHUNKED.replace(b": chunked", b": xchunked") + b"\r\n" + CHUNKS + b"\r\n",
    "chunks not last": CHUNKED.replace(b": chunked", b": chunked, identity") + b"\r\n" + CHUNKS + b"\r\n",
    "vertical tab in the coding": CHUNKED.replace(b": chunked", b": \x0bchunked")
    + b"\r\n"
    + CHUNKS
    + b"\r\n",
    "chunks in HTTP/1.0": CHUNKED.replace(b"1.1", b"1.0") + b"\r\n" + CHUNKS + b"\r\n",
    "bare LF": POST.replace(b"\r\n", b"\n"),
    "one bare LF": POST.replace(b"Host: a\r\n", b"Host: a\n"),
    "bare CR": POST.replace(b"Host: a\r\n", b"Host: a\rX: b\r\n"),
    "folding": POST.replace(b"Host: a\r\n", b"Host: a\r\nX: b\r\n c\r\n"),
    "folding at once": POST.replace(b"Host: a\r\n", b" Host: a\r\n"),
    "two hosts": POST.replace(b"Host: a\r\n", b"Host: a\r\nHost: b\r\n"),
    "no colon": POST.replace(b"Host: a\r\n", b"Host: a\r\nnonsense\r\n"),
    "no name": POST.replace(b"Host: a\r\n", b"Host: a\r\n: b\r\n"),
    "space in a name": POST.replace(b"Host: a\r\n", b"Host: a\r\nX Y: b\r\n"),
    "NUL in a value": POST.replace(b"Host: a\r\n", b"Host: a\r\nX: a\0b\r\n"),
    "NUL in the path": POST.replace(b"/score", b"/sco\0re"),
    "space in the path": POST.replace(b"/score", b"/sc ore"),
    "raw UTF-8 in the path": POST.replace(b"/score", "/scöre".encode()),
    "HTTP/0.9": b"GET /livez\r\n\r\n",
    "HTTP/1.2": POST.replace(b"1.1", b"1.2"),
    "HTTP/2.0": POST.replace(b"1.1", b"2.0"),
    "preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
    "tunnel": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": bytes.fromhex("16030100c6010000c20303") + b"\1" * 150,
    "chunk size 0x": CHUNKED + b"\r\n0xa" + CHUNKS[1:] + b"\r\n",
    "chunk size with sign": CHUNKED + b"\r\n+" + CHUNKS + b"\r\n",
    "chunk size with space": CHUNKED + b"\r\n " + CHUNKS + b"\r\n",
    "chunk size overflows": CHUNKED + b"\r\n" + b"F" * 20 + CHUNKS[1:] + b"\r\n",
    "chunk too long": CHUNKED + b"\r\n" + CHUNKS.replace(b"a\r\n", b"9\r\n", 1) + b"\r\n",
    "bare LF after a size": CHUNKED + b"\r\n" + CHUNKS.replace(b"a\r\n", b"a\n", 1) + b"\r\n",
    "bare LF after a chunk": CHUNKED
    + b"\r\n"
    + CHUNKS.replace(BODY[:10] + b"\r\n", BODY[:10] + b"\n")
    + b"\r\n",
    "bare LF in an extension": CHUNKED + b"\r\n" + CHUNKS.replace(b"a\r\n", b"a;x\n\r\n", 1) + b"\r\n",
    "length in a trailer": CHUNKED + b"\r\n" + CHUNKS + b"Content-Length: 3\r\n\r\n",
}


@pytest.mark.parametrize("shape", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_requests_are_refused(server, shape):
    """There is one problem, and the bytes that follow are not read as a request."""
    with Connection(server.address) as connection:
        connection.send(shape + b"GET /models HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        (answer,) = connection.answers()

    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert answer.json()["instance"] == answer.headers["x-request-id"]


def test_refusal_waits_for_the_answers_before_it(server):
    """Otherwise it would be taken for one of them."""
    with Connection(server.address) as connection:
        connection.send(POST + b"nonsense\r\n\r\n")
        answers = connection.answers()

    assert [answer.status for answer in answers][:1] == [200]
    assert {answer.status for answer in answers[1:]} <= {400}


def test_host_is_asked_for_in_http_1_1(server):
    """RFC 9112 requires it in section 3.2; the connection goes on."""
    with Connection(server.address) as connection:
        connection.send(POST.replace(b"Host: a\r\n", b""), POST)

        assert connection.answer().status == 400
        assert connection.answer().status == 200


def test_trailers_are_no_headers(server):
    """A proxy that looks at headers has not looked at them."""
    with Connection(server.address) as connection:
        connection.send(CHUNKED + b"\r\n" + CHUNKS + b"X-Request-Id: smuggled\r\nAccept: text/csv\r\n\r\n")
        answer = connection.answer()

    assert answer.headers["x-request-id"] != "smuggled"
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("sent", "status", "type"),
    [
        (b"GET /" + b"a" * 8190 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri-too-long"),
        (GET + b"X: " + b"a" * 8190 + b"\r\n\r\n", 431, "header-too-large"),
        (GET + b"".join(b"X-%d: a\r\n" % number for number in range(100)) + b"\r\n", 431, "header-too-large"),
        (GET + b"X" * 2**19, 431, "header-too-large"),
        (GET + b"X: " + b"a" * 2**19, 431, "header-too-large"),
        (CHUNKED + b"\r\n" + CHUNKS + b"X: " + b"a" * 2**19, 431, "header-too-large"),
        (CHUNKED + b"\r\na;" + b"x" * 2**19, 431, "header-too-large"),
        (with_head(b"Content-Length: 1048577") + b"a" * 2**20, 413, "body-too-large"),
        (CHUNKED + b"\r\n" + b"10000\r\n" + b"a" * 2**16 + b"\r\n" + b"10001\r\n" + b"a" * 2**20, 413, None),
    ],
    ids=["target", "field", "fields", "name", "value", "trailer", "extension", "body", "chunks"],
)
def test_limits_are_answered_with_a_problem(server, sent, status, type):  # noqa: A002
    """The client gets the problem although it is still sending."""
    sent = sent if status != 413 or type else sent.replace(b"10001", b"100001")
    with Connection(server.address) as connection:
        connection.send(sent)
        answer = connection.answer()

    assert answer.status == status
    assert answer.json()["type"] == type or type is None


def test_path_decides_about_the_form_of_a_refusal(server):
    """Clients of platforms read `error`."""
    with Connection(server.address) as connection:
        connection.send(b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        problem = connection.answer().json()

    assert problem["error"] == problem["detail"] == "a request may have only one host header"


def test_half_a_head_is_answered_408(hasty):
    """A head that arrives slowly is ended, too."""
    with Connection(hasty.address) as connection:
        started = time.monotonic()
        connection.send(b"POST /sc")
        while time.monotonic() < started + 3 and not select.select([connection.socket], [], [], 0.1)[0]:
            connection.send(b"o")
        answer = connection.answer()

        assert answer.status == 408
        assert answer.json()["detail"] == "the head of a request must arrive within 0.4 seconds"
        assert 0.3 < time.monotonic() - started < 1.5
        assert connection.is_closed()


def test_half_a_body_is_answered_408(hasty):
    """Half of one with a length, and of one in chunks."""
    for sent in (POST[:-5], CHUNKED + b"\r\n" + CHUNKS):
        with Connection(hasty.address) as connection:
            connection.send(sent)
            answer = connection.answer()

            assert answer.status == 408
            assert answer.json()["type"] == "request-timeout"
            assert connection.is_closed()


def test_half_bodies_for_flask_keep_no_probe_waiting(hasty):
    """Its threads are few, so it gets whole bodies alone."""
    sent = b"POST /v2/repository/index HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{"
    with contextlib.ExitStack() as opened:
        halves = [opened.enter_context(Connection(hasty.address)) for _ in range(8)]
        for half in halves:
            half.send(sent)

        assert hasty.get("/livez").status_code == 200
        assert [half.answer().json()["type"] for half in halves] == ["request-timeout"] * 8
    with Connection(hasty.address) as connection:
        connection.send(request("/v2/repository/index", b'{"ready": true}'))

        assert [entry["state"] for entry in connection.answer().json()] == ["READY"]


def test_answer_that_nobody_takes_is_cut_off(hasty):
    """It would hold its memory for as long as the client likes; one that is taken slowly comes whole."""
    samples = np.random.default_rng(0).normal(size=(300_000, 3))  # more than the kernel holds for a client
    sent = request("/denoise", to_npy(samples), headers=[("Content-Type", "application/x-npy")])
    with Connection(hasty.address, 4096) as stalled:
        stalled.send(sent)
        time.sleep(2)
        with Connection(hasty.address, 2**16) as slow:
            slow.send(sent)
            answer = b""
            while not answer.endswith(b"]]}") and (part := slow.socket.recv(2**18)):
                answer += part
                time.sleep(0.005)

        taken = sum(map(len, iter(lambda: stalled.socket.recv(2**16), b"")))
        assert answer.endswith(b"]]}")
        assert taken < len(answer)


def test_rest_of_a_refused_body_is_not_waited_for_long(hasty):
    """The answer is sent first, and the wait is limited however many bytes follow."""
    with Connection(hasty.address) as connection:
        started = time.monotonic()
        connection.send(with_head(b"Content-Length: 999999999"))
        assert connection.answer().status == 413
        while time.monotonic() < started + 3 and not select.select([connection.socket], [], [], 0.05)[0]:
            connection.send(b"a" * 1000)

        assert connection.is_closed()
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize(
    ("sent", "answered"),
    [(b"", 0), (POST, 1), (POST + b"\r\n", 1), (POST * 3, 3)],
    ids=["nothing", "answered", "blank-line", "pipelined"],
)
def test_idle_connections_are_closed(hasty, sent, answered):
    """No answer is sent; a connection that never asked is closed sooner than one that did."""
    with Connection(hasty.address) as connection:
        started = time.monotonic()
        connection.send(sent)
        for _ in range(answered):
            assert connection.answer().status == 200

        assert connection.is_closed()
        assert time.monotonic() - started < 2


def test_connection_is_idle_from_its_last_answer_on(hasty):
    """The time counts from the last answer, however often the same head came before."""
    with Connection(hasty.address) as connection:
        for _ in range(4):
            connection.send(POST)
            assert connection.answer().status == 200
            time.sleep(0.6)
        answered = time.monotonic() - 0.6

        assert connection.is_closed()
        assert 0.9 < time.monotonic() - answered < 2


def test_idle_connection_is_not_kept_by_blank_lines(hasty):
    """They are no request."""
    with Connection(hasty.address) as connection:
        connection.send(POST)
        connection.answer()
        started = time.monotonic()
        while time.monotonic() < started + 3 and not select.select([connection.socket], [], [], 0.1)[0]:
            connection.send(b"\r\n")

        connection.answers()

        assert time.monotonic() - started < 2


def test_connections_beyond_the_limit_are_answered_503(hasty):
    """They are refused at once, and a place that becomes free can be used again."""
    answers = []

    def is_refused() -> bool:
        with contextlib.ExitStack() as stack:
            *_, last = [stack.enter_context(Connection(hasty.address)) for _ in range(21)]
            answers.extend(last.answers())
        return bool(answers)

    wait_until(is_refused)  # in vain where the first had to go before the last came

    (answer,) = answers
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["connection"] == "close"
    wait_until(lambda: hasty.get("/livez").status_code == 200)


def test_requests_in_flight_are_answered_at_the_end(store, tmp_path):
    """After SIGTERM kept connections may ask once more, half-sent requests are answered, and all close."""
    server = GunicornServer(store, tmp_path / "log", workers=1, idle_seconds=60)
    with Connection(server.address) as half_way, Connection(server.address) as idle:
        half_way.send(POST[:-5])
        idle.send(POST)
        idle.answer()
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        idle.send(POST)
        last = idle.answer()
        half_way.send(POST[-5:])
        answer = half_way.answer()

        assert answer.json()["score"] == last.json()["score"] == [300.0]
        assert answer.headers["connection"] == last.headers["connection"] == "close"
        assert server.process.wait(10) == 0
    assert '"error"' not in server.lines()


def test_reload_loses_no_request(store, tmp_path):
    """HUP while clients ask on kept and on new connections."""
    server = GunicornServer(store, tmp_path / "log")
    wait_until(lambda: server.lines().count("Application startup complete") == 2)
    stop, outcomes = threading.Event(), []

    def ask(keep: bool) -> None:
        connection = None
        while not stop.is_set():
            connection = connection or http.client.HTTPConnection(*server.address, timeout=10)
            try:
                connection.request("POST", "/score", BODY, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                outcomes.append(answer.status)
            except OSError as error:
                outcomes.append(repr(error))
            if not keep or connection.sock is None or outcomes[-1] != 200:
                connection = connection.close()
        if connection:
            connection.close()

    clients = [threading.Thread(target=ask, args=(number % 2 == 0,)) for number in range(4)]
    for client in clients:
        client.start()
    server.process.send_signal(signal.SIGHUP)
    try:
        wait_until(lambda: server.lines().count("Finished server process") == 2)
    finally:
        stop.set()
        for client in clients:
            client.join()

    assert server.stop() == 0
    assert len(outcomes) > 20
    assert set(outcomes) == {200}


@pytest.mark.parametrize("line", [b"Connection: close", b"Connection: keep-alive"])
def test_answer_before_the_body_has_come_can_be_read(server, line):
    """A client that sends its whole body first is not reset, also where the connection then ends."""
    body = bytes(4 * 2**20)
    head = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n" + line + b"\r\n"
    with Connection(server.address) as client:
        client.send(head + b"Content-Length: %d\r\n\r\n" % len(body))
        time.sleep(0.1)  # it is refused by its head
        client.socket.sendall(body)  # raises where the connection is reset

        answer = client.answer()

    assert answer is not None
    assert answer.status == 413

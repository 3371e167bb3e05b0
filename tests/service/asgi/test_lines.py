"""Bodies of lines over real connections: answered while they come, paced, bounded and ended in good order.

That is the work of the event loop; gthread answers 64 KiB at a time and has no limits of time, so the Flask
application is asked only where both can do the same.
"""

import contextlib
import json
import random
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from detector import ModelStore
from tests.gunicorn_server import GTHREAD, GunicornServer, wait_until
from tests.model_folder import publish_model
from tests.raw_http import Connection, request

pytestmark = pytest.mark.slow

HEAD = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-ndjson\r\n"
HEAD += b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
BODY_SECONDS = 0.5
MIB = 2**20


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with `tiny` version 1."""
    store = ModelStore(tmp_path_factory.mktemp("lines") / "models")
    publish_model(store)
    return store


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    """Start one process with small limits, which do not apply to lines."""
    log = tmp_path_factory.mktemp("log") / "log"
    server = GunicornServer(
        store, log, workers=1, max_body_bytes=20_000, max_rows=50, body_seconds=BODY_SECONDS
    )
    yield server
    server.stop()


def chunk(content: bytes) -> bytes:
    """Return a chunk in the framing of HTTP/1.1."""
    return b"%x\r\n%s\r\n" % (len(content), content)


class LiveConnection(Connection):
    """Reads an answer part by part."""

    def head(self) -> int:
        """Read the head and return the status."""
        status = int(self._line().split()[1])
        while self._line().strip():
            pass
        return status

    def part(self) -> list[dict] | None:
        """Return the lines of the next chunk, or None at the end of the answer."""
        size = int(self._line(), 16)
        content = self._reader.read(size)
        self._reader.read(2)
        return [json.loads(line) for line in content.splitlines()] if size else None


def test_a_line_is_answered_before_the_next_one_is_sent(server):
    """The connection can be used again afterwards."""
    with LiveConnection(server.address) as connection:
        connection.send(HEAD)
        for row in range(5):
            connection.send(chunk(b"[1,2,"), chunk(b"%d]\n" % row))
            if row == 0:
                assert connection.head() == 200
            (line,) = connection.part()
            assert (line["row"], line["score"]) == (row, pytest.approx(row**2 / 3))
        connection.send(LAST)
        assert connection.part() is None

        connection.send(GET)
        assert connection.answer().json() == {"status": "alive"}


def test_lines_before_a_pause_are_answered_and_the_pause_ends_the_body(server):
    """The status is sent before the pause, so the last line reports the fault; it has no row number.

    The request is counted by its status and not as refused; the log has both.
    """
    answered, before = ("residual_requests_total", "200", "/score", "tiny", "1"), server.metrics()
    with LiveConnection(server.address) as connection:
        connection.send(HEAD + chunk(b"[1,2,3]\n[1,2,"))
        assert connection.head() == 200
        assert [line["row"] for line in connection.part()] == [0]
        (last,) = connection.part()

        assert last.keys() == {"error"}
        assert (last["error"]["type"], last["error"]["status"]) == ("request-timeout", 408)
        assert connection.part() is None
    wait_until(lambda: server.metrics()[answered] == before.get(answered, 0) + 1)
    refused = ("residual_rejected_total", "request-timeout")
    assert server.metrics().get(refused) == before.get(refused)
    assert '"status":200,"problem":"request-timeout"' in server.lines()


def test_open_stream_is_a_gauge_and_not_a_slow_request(server):
    """The client waits before its first line and between lines; neither is time that the service took."""
    before = server.metrics()
    with LiveConnection(server.address) as connection:
        connection.send(HEAD)
        time.sleep(0.3)
        connection.send(chunk(b"[1,2,3]\n"))
        assert connection.head() == 200
        connection.part()
        assert server.metrics()["residual_open_streams",] == 1
        time.sleep(0.3)
        connection.send(chunk(b"[1,2,3]\n"))
        connection.part()
        connection.send(LAST)
        assert connection.part() is None
    with LiveConnection(server.address) as connection:  # one that never sends a line
        connection.send(HEAD)
        assert connection.answer().status == 408

    count = ("residual_request_duration_seconds_count", "/score")
    wait_until(lambda: server.metrics()[count] == before.get(count, 0) + 2)

    after = server.metrics()
    for name, labels in (
        ("residual_request_duration_seconds_sum", ("/score",)),
        ("residual_model_request_seconds_total", ("tiny", "success", "1")),
    ):
        assert after[name, *labels] - before.get((name, *labels), 0) < 0.2
    assert after["residual_open_streams",] == 0
    durations = re.findall(r'"duration_seconds":([\d.]+)', server.lines())
    assert any(0.6 <= float(duration) < 5 for duration in durations)


def test_pause_before_the_first_line_has_its_status(server):
    """Blank lines and an incomplete line do not count as lines."""
    with LiveConnection(server.address) as connection:
        connection.send(HEAD + chunk(b"\n\n[1"))

        answer = connection.answer()

        assert (answer.status, answer.json()["type"]) == (408, "request-timeout")


def test_a_client_that_sends_lines_in_time_may_take_long(server):
    """The whole body may take longer than the longest allowed pause."""
    with LiveConnection(server.address) as connection:
        connection.send(HEAD)
        for row in range(6):
            connection.send(chunk(b"[1,2,3]\n"))
            if row == 0:
                connection.head()
            assert connection.part()[0]["row"] == row
            time.sleep(BODY_SECONDS / 2)
        connection.send(LAST)
        assert connection.part() is None


def test_broken_chunks_end_the_connection(server):
    """Nothing is put into the answer that is no part of it."""
    with LiveConnection(server.address) as connection:
        connection.send(HEAD + chunk(b"[1,2,3]\n"))
        connection.head()
        connection.part()
        connection.send(b"nonsense\r\n")

        assert connection.is_closed()


def test_http_1_0_is_refused(server):
    """HTTP/1.0 has no chunks for the answer."""
    head = b"POST /score HTTP/1.0\r\nContent-Type: application/x-ndjson\r\nContent-Length: 8\r\n\r\n[1,2,3]\n"
    with LiveConnection(server.address) as connection:
        connection.send(head)

        assert connection.answer().status == 400


def memory_mib(server: GunicornServer) -> float:
    """Return the memory of the one worker in MiB."""
    pid = server.process.pid
    worker = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout
    status = Path(f"/proc/{worker.split()[0]}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def test_a_client_that_takes_no_answers_is_no_longer_read(server):
    """The unread bytes stay in the sockets until the connection is cut off."""
    piece = chunk(b"[1.25,2.5,30.125]\n" * 4000)
    with LiveConnection(server.address) as connection:
        connection.send(HEAD)
        before, sent = memory_mib(server), 0
        connection.socket.settimeout(BODY_SECONDS * 0.8)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < 400:
                connection.socket.sendall(piece)
                sent += 1

        assert sent < 400, f"{sent * len(piece)} bytes were taken, and no answer was"
        assert memory_mib(server) - before < 50
        assert server.post("/score", json={"instances": [[1, 2, 3]]}).status_code == 200


def test_a_client_that_takes_answers_slowly_gets_all_of_them(server):
    """Answers are in order, and no line of the request is lost."""
    pieces = [chunk(b"[1.25,2.5,30.125]\n" * 4000) for _ in range(40)]
    with LiveConnection(server.address) as connection:
        sender = threading.Thread(target=connection.send, args=(HEAD, *pieces, LAST))
        sender.start()
        assert connection.head() == 200
        rows = []
        while lines := connection.part():
            rows += [line["row"] for line in lines]
            time.sleep(0.01)
        sender.join()

    assert rows == list(range(160_000))


def test_memory_does_not_grow_with_the_body(server):
    """40 MiB in, 40 MiB and more out, through 20,000 bytes that any other body may have."""
    line = b"[" + b" " * 4000 + b"1,2,3]\n"
    piece = chunk(line * 250)
    rows = 40 * MIB // len(line) // 250 * 250
    before = memory_mib(server)
    with LiveConnection(server.address) as connection:
        connection.send(HEAD)
        answered = 0
        for sent in range(250, rows + 1, 250):
            connection.send(piece)
            if sent == 250:
                connection.head()
            while answered < sent:
                answered += len(connection.part())
        connection.send(LAST)
        assert connection.part() is None
    assert answered == rows
    assert memory_mib(server) - before < 30


def test_work_of_a_client_that_went_is_dropped(server):
    """One more line in the log, and nothing else there."""
    before = server.lines().count('"status":499')
    connection = LiveConnection(server.address)
    connection.send(HEAD + chunk(b"[1,2,3]\n"))
    connection.head()
    connection.part()
    connection.__exit__()

    wait_until(lambda: server.lines().count('"status":499') == before + 1)
    assert "raceback" not in server.lines()


def test_many_streams_at_once(store, tmp_path, arguments):
    """More streams than threads are open, and each gets its own lines."""
    server = GunicornServer(store, tmp_path / "log", arguments, workers=1)
    try:
        connections = [LiveConnection(server.address) for _ in range(20)]
        for number, connection in enumerate(connections):
            connection.send(HEAD + chunk(b"[1,2,%d]\n" % number * 3))
        for connection in connections:
            connection.send(chunk(b"nope") + LAST)
        for number, connection in enumerate(connections):
            lines = [json.loads(line) for line in connection.answer().body.splitlines()]
            assert [line.get("score") for line in lines] == [*[pytest.approx(number**2 / 3)] * 3, None]
            connection.__exit__()
        assert "raceback" not in server.lines()
    finally:
        assert server.stop() == 0


def test_front_and_flask_answer_the_same(store, tmp_path):
    """Good lines and bad ones, in any chunks: every byte of status and body."""
    draw = random.Random(0)
    kinds = [
        b"[1,2,30]", b'{"c":1,"b":2,"a":0.5}', b"", b"nope", b"[1,2]", b"[1,2,1e39]", b"[1,2,3],[4,5,6]",
        b"[" + b" " * MIB + b"1,2,3]", b"[1,2,null]", b"\xff", b" [1,2,3]\r", b"[[1,2,3]]", b"{}", b"7",
    ]  # fmt: skip
    servers = [GunicornServer(store, tmp_path / str(n), of, workers=1) for n, of in enumerate([(), GTHREAD])]
    try:
        for _ in range(15):
            end = draw.choice([b"", b"\n"])
            lines = draw.choices(kinds, [50, 5, 5, *[2] * (len(kinds) - 3)], k=draw.choice([0, 1, 20, 3000]))
            body = b"\n".join(lines) + end
            target = draw.choice([b"/score", b"/score?explain=1", b"/denoise", b"/encode", b"/score?fdr=0.1"])
            head = HEAD.replace(b"/score", target) if draw.random() < 0.5 else None
            sent = request(target.decode(), body, headers=[("Content-Type", "application/x-ndjson")])
            if head:
                size = draw.choice([3000, 100_000, 10**7])
                parts = [chunk(body[at : at + size]) for at in range(0, len(body), size)]
                sent = b"".join([head, *parts, LAST])

            front, flask = (essence(server.address, sent) for server in servers)

            assert front == flask, sent[:300]
    finally:
        for server in servers:
            server.stop()


def essence(address: tuple[str, int], sent: bytes) -> tuple[int, str, bytes]:
    """Return status, content type and body of an answer, without the id that is drawn for a problem."""
    with Connection(address) as connection:
        sender = threading.Thread(target=connection.send, args=(sent,))
        sender.start()
        answer = connection.answer()
        sender.join()
    drawn = answer.headers["x-request-id"].encode()
    return answer.status, answer.headers["content-type"], answer.body.replace(drawn, b"")

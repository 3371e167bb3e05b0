"""600 clients that send nothing, half a head or half a body, together with one fast client.

Only the front's worker is tested: under gthread each slow client holds a thread.
"""

import http.client
import json
import select
import time
from collections import Counter

import numpy as np
import pytest

from detector import ModelStore
from tests.gunicorn_server import GunicornServer
from tests.model_folder import publish_model
from tests.raw_http import Connection, request

pytestmark = pytest.mark.slow

BODY = json.dumps({"instances": [[1.0, 2.0, 30.0]]}).encode()
POST = request(body=BODY)
SENT = {"idle": b"", "head": POST[:20], "body": POST[:-5]}
N_EACH = 200
LIMIT_SECONDS = 4
ATTEMPTS = 3  # the machine may be busy with other things


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Two processes, as they are run, with shorter limits."""
    store = ModelStore(tmp_path_factory.mktemp("slow") / "models")
    publish_model(store)
    limits = {"head_seconds": LIMIT_SECONDS, "body_seconds": LIMIT_SECONDS}
    server = GunicornServer(store, tmp_path_factory.mktemp("log") / "log", **limits)
    yield server
    server.stop()


def p99(server: GunicornServer, seconds: float = 2.0) -> float:
    """Seconds within which 99 of 100 requests are answered, on new connections and kept ones in turn."""
    end, took = time.perf_counter() + seconds, []
    while time.perf_counter() < end:
        connection = http.client.HTTPConnection(*server.address, timeout=10)
        for _ in range(10):
            started = time.perf_counter()
            connection.request("POST", "/score", BODY, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            took.append(time.perf_counter() - started)
            assert answer.status == 200
        connection.close()
    return float(np.quantile(took, 0.99))


def connect(server: GunicornServer) -> dict[Connection, str]:
    """Connect every slow client; return the clients with the bytes that they sent."""
    clients = {}
    for _ in range(N_EACH):
        for kind, sent in SENT.items():
            client = Connection(server.address)
            client.send(sent)
            clients[client] = kind
    return clients


def test_slow_clients_slow_nobody_down(server):
    """The p99 of the others is under twice the quiet one; each slow one is ended by its limit."""
    p99(server, 0.5)
    for _ in range(ATTEMPTS):
        quiet = p99(server)
        started = time.monotonic()
        clients = connect(server)
        beside = p99(server)
        in_time = time.monotonic() - started < LIMIT_SECONDS  # they were there while the others were timed
        outcomes = Counter()
        while clients:
            left = LIMIT_SECONDS + 3 - (time.monotonic() - started)
            ended = select.select([client.socket for client in clients], [], [], max(0, left))[0]
            assert ended, f"not ended: {Counter(clients.values())}"
            for client in [client for client in clients if client.socket in ended]:
                answer = client.answer()
                outcomes[clients.pop(client), answer and answer.status] += 1
                client.__exit__()

        assert outcomes == {("idle", None): N_EACH, ("head", 408): N_EACH, ("body", 408): N_EACH}
        if in_time and beside < 2 * quiet:
            return
    pytest.fail(f"p99 of {1000 * beside:.1f} ms beside slow clients, {1000 * quiet:.1f} ms without")

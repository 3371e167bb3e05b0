"""The front under its worker and the Flask application under gthread: the same requests, the same answers."""

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from detector import ModelStore
from detector.images import encode_image
from tests.gunicorn_server import GTHREAD, GunicornServer
from tests.model_folder import CLASSIFIER, LATENT_INT8, publish_model
from tests.raw_http import Connection, RawAnswer, request
from tests.service.responses import to_npy

pytestmark = pytest.mark.slow

TOGETHER = 16
N_REQUESTS = 250 * TOGETHER
N_HEADS = 800
# The connection and the clock set these headers, not the answer.
OWN = {"date", "server", "connection", "transfer-encoding", "keep-alive"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Vectors with all verbs, images, a series, and a model without a latent."""
    store = ModelStore(tmp_path_factory.mktemp("differential") / "models")
    publish_model(store, "tiny", latent_int8=LATENT_INT8, classifier=CLASSIFIER)
    publish_model(store, "images", sample_shape=(4, 5))
    publish_model(store, "flat", latent_shape=None)
    store.set_label("tiny", "canary", 1)
    return store


@pytest.fixture(scope="module")
def servers(store, tmp_path_factory):
    """Front and Flask alone, one process each, with small limits."""
    logs = tmp_path_factory.mktemp("logs")
    limits = {
        "default_model": "tiny",
        "max_body_bytes": 20_000,
        "max_rows": 50,
        "body_seconds": 0.5,
        "workers": 1,
    }
    pair = [
        GunicornServer(store, logs / "front", **limits),
        GunicornServer(store, logs / "gthread", GTHREAD, **limits),
    ]
    yield pair
    for server in pair:
        server.stop()


class Draw:
    """Requests that a client may send, good and bad, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rng = np.random.default_rng(seed)

    def one(self, *choices: object) -> object:
        """Return any of the choices."""
        return self.random.choice(choices)

    def request(self, number: int) -> tuple[str, bytes]:
        """Draw a request; return method and bytes."""
        method = self.random.choices(
            ["POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"], [60, 5, 2, 1, 1, 1, 1]
        )[0]
        target, content_type, body = self.fitting() if self.random.random() < 0.6 else self.any()
        headers = [("Host", "a"), ("X-Request-Id", self.one(f"r-{number}", f"r-{number}", "odd id"))]
        if content_type:
            headers.append(("Content-Type", content_type))
        if self.random.random() < 0.3:
            headers.append(("Accept", self.accept()))
        if self.random.random() < 0.15:
            coding, body = self.one(
                ("gzip", gzip.compress(body, mtime=0)),
                ("gzip", body),
                ("gzip", gzip.compress(body, mtime=0)[:-3]),
                ("br", body),
                ("identity", body),
            )
            headers.append(("Content-Encoding", coding))
        if self.random.random() < 0.2:
            headers.append(("Inference-Header-Content-Length", str(self.one(0, 5, len(body), 10**6, "x"))))
        self.random.shuffle(headers)
        if self.random.random() < 0.25:
            headers.append(("Transfer-Encoding", "chunked"))
            body = b"".join(self.chunks(body))
        else:
            headers.append(("Content-Length", str(len(body))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return method, f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body

    def alike(self) -> list[tuple[str, bytes]]:
        """Draw requests that share a head except for the length, so that the front may batch them."""
        target = self.one(
            "/score", "/score", "/score", "/score?alpha=0.1", "/score?explain=1", "/denoise", "/encode",
            "/classify", "/models/flat/score", "/models/images/score", "/v2/models/tiny/infer",
        )  # fmt: skip
        form = self.random.randrange(13)
        accept = self.one(None, None, None, "application/x-npy", "text/csv")
        requests = []
        for _ in range(TOGETHER):
            samples = self.rng.normal(size=(self.one(0, 1, 1, 1, 2, 7), 3)) * self.one(1, 1, 1e4)
            kind, body = list(self.bodies(samples))[form]
            body = self.damage(body) if self.random.random() < 0.2 else body
            head = [("Content-Type", kind.lower()), ("X-Request-Id", "r")]
            head += [("Accept", accept)] if accept else []
            requests.append(("POST", request(target, body, headers=head)))
        return requests

    def any(self) -> tuple[str, str | None, bytes]:
        """Return a target and a body that hardly go together."""
        return self.target(), *self.body()

    def fitting(self) -> tuple[str, str | None, bytes]:
        """Return a target and a body that go together, until the body is damaged."""
        samples = self.rng.normal(size=(self.one(1, 1, 2, 5, 50), 3)) * self.one(1, 10, 1e4)
        bodies = list(self.bodies(samples))
        rows, tensor, tables = [bodies[0], bodies[1], *bodies[7:11]], bodies[5], bodies[9:11]
        target, (kind, body) = self.one(
            (self.one("/score", "/models/tiny/labels/canary/score", "/models/flat/score"), self.one(*rows)),
            (self.one("/score?explain=2", "/score?alpha=0.1", "/score?fdr=0.2", "/score"), self.one(*rows)),
            (
                self.one("/denoise", "/encode", "/encode?dtype=int8", "/classify"),
                self.one(*rows[:1], *rows[2:]),
            ),
            (self.one("/denoise", "/score"), self.one(*tables)),
            ("/decode", bodies[4]),
            (self.one("/v2/models/tiny/infer", "/v2/models/tiny/versions/1/infer"), tensor),
            ("/v1/models/tiny:predict", bodies[0]),
            (
                self.one("/v1/models/tiny:predict", "/v1/models/tiny:explain"),
                ("application/json", self.one(*self.predict_bodies(samples.tolist()))),
            ),
            (
                self.one("/models/images/score", "/models/images/denoise"),
                self.one(bodies[3], *bodies[11:]),
            ),
        )
        return target, kind, self.damage(body) if self.random.random() < 0.3 else body

    def predict_bodies(self, rows: list[list[float]]) -> Iterator[bytes]:
        """The same samples in the forms of TensorFlow Serving, and base64 that this model does not take."""
        named = [{"samples": row} for row in rows]
        for body in (
            {"inputs": rows},
            {"inputs": {"samples": rows}},
            {"instances": named, "signature_name": ""},
            {"explain": 2, "inputs": named},
            {"instances": [*named, *rows]},
            {"instances": [{"b64": "AAAA"}]},
        ):
            yield json.dumps(body).encode()

    def target(self) -> str:
        """Return a path with a query."""
        model = self.one("tiny", "tiny", "images", "flat", "none", "T%C3%A4", "..", "")
        prefix = self.one(
            "", f"/models/{model}", f"/models/{model}/versions/{self.one(1, 2, '01', 'x')}",
            f"/models/{model}/labels/{self.one('canary', 'stable')}",
        )  # fmt: skip
        verb = self.one("score", "score", "denoise", "encode", "decode", "classify", "nothing", "", "score/")
        path = self.one(
            *[f"{prefix}/{verb}"] * 6,
            f"/v1/models/{model}{self.one(':predict', '', '/versions/1:predict', ':explain')}",
            f"/v2/models/{model}{self.one('', '/ready', '/infer', '/versions/1/infer', '/infer')}",
            self.one("/v2", "/v2/health/live", "/v2/repository/index", "/v2/repository/models/tiny/load"),
            self.one("/livez", "/readyz", "/openapi.json", "/", "//score", "/score/../livez", "/%73core"),
            self.one("/a%2Fb", "/models/%FF", "/score%00", "/models/tiny%20", "/a%0Ab", "/score;x"),
        )  # fmt: skip
        query = self.one(
            *[""] * 6, "?", "?explain=2", "?explain=-1", "?alpha=0.1", "?alpha=1e-9", "?alpha=x", "?fdr=0.1",
            "?dtype=int8", "?dtype=float16", "?dtype=x", "?unknown=1", "?alpha=0.1&alpha=0.2", "?%61lpha=0.1",
            "?alpha=%FF", "?alpha=0.1;fdr=0.2", "?explain=1#x", "?&&", "?explain=1+", "?alpha",
        )  # fmt: skip
        return path + query

    def accept(self) -> str:
        """Draw an Accept header."""
        return self.one(
            "*/*", "application/json", "application/x-npy", "text/csv", "application/x-ndjson", "image/png",
            "application/octet-stream", "text/html", "application/json;q=0.1, text/csv", "q=", "a/b;q=",
        )  # fmt: skip

    def body(self) -> tuple[str | None, bytes]:
        """Return a content type and a body, in a third of all cases damaged."""
        rows = self.one(0, 1, 1, 2, 3, 60)
        samples = self.rng.normal(size=(rows, 3)) * self.one(1, 10, 1e4)
        kind, body = self.one(*self.bodies(samples))
        if self.random.random() < 0.35:
            body = self.damage(body)
        if self.random.random() < 0.1:
            kind = self.one(None, "", "text/plain", "application/json", "application/x-npy", "a/b", kind)
        return kind, body

    def bodies(self, samples: np.ndarray) -> Iterator[tuple[str, bytes]]:
        """The same samples in every form, and bodies of other kinds."""
        rows = samples.tolist()
        image = self.rng.integers(0, 256, size=(4, 5)).astype(float)
        json_types = ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON")
        yield self.one(*json_types), json.dumps({"instances": rows}).encode()
        yield "application/json", json.dumps({"instances": rows, "alpha": self.one(0.1, 2, "x")}).encode()
        yield "application/json", json.dumps([dict(zip("abc", row, strict=True)) for row in rows]).encode()
        yield "application/json", json.dumps({"instances": [image.tolist()]}).encode()
        yield "application/json", json.dumps({"instances": self.rng.normal(size=(2, 2)).tolist()}).encode()
        tensor = {"name": "samples", "shape": list(samples.shape), "datatype": "FP32", "data": rows}
        yield "application/json", json.dumps({"inputs": [tensor], "id": "x"}).encode()
        yield "application/json", self.one(b"", b"{}", b"[]", b"null", b'{"instances": NaN}', b"[" * 3000)
        yield "application/x-npy", to_npy(samples.astype(self.one("<f4", "<f8", ">f4", "<i2")))
        yield "application/octet-stream", samples.astype("<f4").tobytes()
        yield "text/csv", b"a,b,c\n" + "".join(",".join(map(str, row)) + "\n" for row in rows).encode()
        yield "application/x-ndjson", "".join(json.dumps(row) + "\n" for row in rows).encode()
        yield "image/png", encode_image(image, (0, 255))
        form = b'--B\r\nContent-Disposition: form-data; name="f"; filename="p.png"\r\n'
        form += b"Content-Type: image/png\r\n\r\n"
        yield "multipart/form-data; boundary=B", form + encode_image(image, (0, 255)) + b"\r\n--B--\r\n"

    def damage(self, body: bytes) -> bytes:
        """Return the body with bytes changed, cut off, doubled or inserted."""
        changed = bytearray(body)
        for _ in range(self.random.randint(1, 3)):
            place = self.random.randrange(len(changed) + 1)
            action = self.random.randrange(4)
            if action == 0:
                del changed[place:]
            elif action == 1:
                changed[place:place] = bytes([self.random.randrange(256)])
            elif action == 2:
                changed[place : place + 1] = bytes([self.random.randrange(256)])
            else:
                changed += changed[place : place + 50]
        return bytes(changed)

    def chunks(self, body: bytes) -> Iterator[bytes]:
        """A body in chunks."""
        while body:
            size = self.random.randint(1, len(body))
            yield f"{size:{self.one('x', 'X')}}\r\n".encode() + body[:size] + b"\r\n"
            body = body[size:]
        yield b"0\r\n\r\n"

    def head(self) -> bytes:
        """Return a request whose head is damaged, byte by byte or by a line that does not belong."""
        body = b'{"instances": [[1, 2, 3]]}'
        head = (
            b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nX-Request-Id: r\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        if self.random.random() < 0.5:
            odd = self.one(*b"\r\n\t \0:,;\x7f\x80-+_0aZ")
            place = self.random.randrange(len(head) - 4)
            head = head[:place] + bytes([odd]) + head[place + self.one(0, 1) :]
        else:
            lines = head.split(b"\r\n")
            odd = self.one(
                b"Transfer-Encoding: chunked", b"Content-Length: 3", b"Host: b", b" folded", b"X: \xff",
                b"Connection: close", b"Expect: 100-continue", b"Connection: Upgrade", b"Upgrade: h2c",
                b"X-Forwarded-For: 1.2.3.4", b"Content-Type: text/plain", b"Cookie: a=b", b"TE: trailers",
                b"X:" + b"a" * self.one(10, 8180, 8200), b"Range: bytes=0-1", b"Content_Length: 3",
            )  # fmt: skip
            lines.insert(self.random.randrange(1, len(lines) - 1), odd)
            head = b"\r\n".join(lines)
        return head + body


class Asker:
    """Sends to one server, on one connection for as long as that lasts."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._connection = Connection(address)

    def send(self, sent: bytes) -> None:
        """Ask."""
        self._connection.send(sent)

    def answer(self, method: str = "POST") -> RawAnswer | None:
        """Return the final answer."""
        answer = self._connection.answer(method)
        while answer and answer.status == 100:
            answer = self._connection.answer(method)
        if answer is None or answer.headers.get("connection") == "close":
            self.close()
            self._connection = Connection(self._address)
        return answer

    def close(self) -> None:
        """End."""
        self._connection.__exit__()


@pytest.fixture
def askers(servers):
    """Return `TOGETHER` askers for each server."""
    askers = [[Asker(server.address) for _ in range(TOGETHER)] for server in servers]
    yield askers
    for asker in (*askers[0], *askers[1]):
        asker.close()


def essence(answer: RawAnswer) -> tuple:
    """Return status, headers and body, without the parts that differ in each answer."""
    drawn = answer.headers.get("x-request-id", "")
    headers = {name: value for name, value in answer.headers.items() if name not in OWN}
    body = answer.body
    if re.fullmatch("[0-9a-f]{32}", drawn):
        headers["x-request-id"] = "drawn"
        body = body.replace(drawn.encode(), b"drawn")
    return answer.status, headers, body


def ask_all(askers: list[Asker], requests: list[tuple[str, bytes]]) -> list[tuple]:
    """Send all requests at once and return the answers."""
    for asker, (_, sent) in zip(askers, requests, strict=True):
        asker.send(sent)
    return [essence(asker.answer(method)) for asker, (method, _) in zip(askers, requests, strict=True)]


def test_generated_requests_have_equal_answers(askers):
    """Status, body and all headers but the connection's own are equal.

    Sixteen requests are sent at a time, so that the front runs good and bad ones together; every second time
    they share a head. Flask gets them one by one. The front is asked twice, because it knows the heads the
    second time.
    """
    draw, statuses = Draw(0), Counter()
    for first in range(0, N_REQUESTS, TOGETHER):
        requests = [draw.request(number) for number in range(first, first + TOGETHER)]
        if first % (2 * TOGETHER):
            requests = draw.alike()
        front, flask, again = (ask_all(each, requests) for each in (*askers, askers[0]))
        statuses.update(status for status, _, _ in front)

        for (_, sent), one, other, repeated in zip(requests, front, flask, again, strict=True):
            assert one == other == repeated, sent[:500]
    assert statuses[200] > N_REQUESTS / 5
    assert statuses.keys() >= {200, 400, 404, 405, 406, 409, 413, 415, 422}


@pytest.mark.parametrize(
    ("kind", "good", "odd"),
    [
        ("text/csv", b"a,b,c\n1,2,3\n", b"a,b,c\n"),
        ("text/csv", b"a,b,c\n1,2,3\n", b"a,b\n1,2\n"),
        ("application/json", b'{"instances": [[1, 2, 3]]}', b'{"instances": []}'),
        ("application/json", b'{"instances": [[1, 2, 3]]}', b'{"instances": [[1, 2, null]]}'),
        ("application/x-npy", to_npy(np.ones((1, 3))), to_npy(np.ones((0, 3)))),
        ("application/x-npy", to_npy(np.ones((1, 3))), to_npy(np.full((1, 3), np.inf))),
    ],
)
def test_odd_request_among_good_ones_is_refused_alone(askers, kind, good, odd):
    """Requests with one head are answered as one batch, but an odd one gets the problem it gets alone."""
    bodies = [good] * TOGETHER
    bodies[TOGETHER // 2] = odd
    head = [("Content-Type", kind), ("X-Request-Id", "r")]
    for _ in range(5):
        front, flask = (
            ask_all(each, [("POST", request("/score", body, headers=head)) for body in bodies])
            for each in askers
        )

        assert front == flask
        assert [status for status, _, _ in front].count(200) == TOGETHER - 1


# Statuses of front and Flask that differ, and are both right.
EXPLAINED = {
    "the front leaves out the refusal that follows an answer, and closes": (
        lambda front, flask, sent: flask[:-1] == front and flask[-1] == 400
    ),
    "llhttp knows only registered methods, gunicorn leaves that to the application": (
        lambda front, flask, sent: front == [400] and flask == [405, 200] and not sent.startswith(b"POST ")
    ),
    "llhttp takes two spaces after the method (RFC 9112, section 3, allows that)": (
        lambda front, flask, sent: flask == [400] and sent.startswith(b"POST  /")
    ),
    "gthread waits for a body without a limit of time": (
        lambda front, flask, sent: flask[-1:] == [None] and front[-1:] == [408]
    ),
}


def statuses_of(address: tuple[str, int], sent: bytes) -> list[int | None]:
    """Return the statuses of all answers until the server closes, or None if it does not close."""
    statuses = []
    with Connection(address) as connection:
        connection.send(sent + b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        connection.socket.settimeout(1)
        try:
            while answer := connection.answer():
                statuses.append(answer.status)
        except TimeoutError:
            statuses.append(None)
    return [status for status in statuses if status != 100]


def test_damaged_heads_are_taken_by_both_or_by_none(servers):
    """Both servers also agree on the bytes that follow; known differences are explained."""
    draw, seen = Draw(1), Counter()
    front, flask = (server.address for server in servers)
    for _ in range(N_HEADS):
        sent = draw.head()
        one, other = statuses_of(front, sent), statuses_of(flask, sent)
        seen.update(one)

        assert one == other or any(holds(one, other, sent) for holds in EXPLAINED.values()), (
            one,
            other,
            sent,
        )
    assert seen[200] > N_HEADS / 3
    assert seen[400] > N_HEADS / 3

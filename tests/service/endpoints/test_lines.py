"""Bodies of lines: cut, run and answered, the same whatever the chunks they come in."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector import Detector, ModelStore
from service.endpoints.lines import BATCH_BYTES, LINE_BYTES, LineReader, Lines
from service.http.messages import Head
from service.http.request_record import open_record
from service.serving import Serving
from service.wsgi.app import EXTENSION
from tests.model_folder import CLASSIFIER, MIXED, publish_model
from tests.service.responses import assert_problem, read_metrics

NDJSON = "application/x-ndjson"
BODY = (
    b'[1,2,30]\n\n [1, 2, 0.5] \r\n[1,2]\nnope\n[1,2,3],[4,5,6]\n{"c":5,"a":1,"b":2}\n{"a":1,"b":2}\n'
    b'[1,2,1e39]\n[1,2,"x"]\n\xff\n[],[1,2,3\n]\n[1,2,3]'
)


@pytest.fixture
def store(tmp_path) -> ModelStore:
    """Rows, rows with words, windows of two channels and of one, a decoder of many values."""
    store = ModelStore(tmp_path / "models")
    publish_model(store, "tiny", classifier=CLASSIFIER)
    publish_model(store, "mixed", **MIXED)
    publish_model(store, "plant", kind="sequence", sample_shape=(4, 2))
    publish_model(store, "pulse", kind="sequence", sample_shape=(4, 1))
    return store


@pytest.fixture
def post(client):
    """Post lines and return the lines of the answer."""

    def post(path: str, body: bytes) -> list[dict]:
        answer = client.post(path, data=body, content_type=NDJSON)
        assert answer.status_code == 200, answer.text
        assert answer.content_type == NDJSON
        lines = [json.loads(line) for line in answer.data.splitlines()]
        answer.close()
        return lines

    return post


def cut(body: bytes, places: list[int], lines: Lines) -> list[bytes | int]:
    """Feed a body in chunks, take batches in between, and return all lines."""
    taken = []
    for start, end in zip([0, *sorted(places)], [*sorted(places), len(body)], strict=True):
        lines.feed(body[start:end])
        while batch := lines.take():
            assert batch.first == len(taken)
            taken += batch.lines
    lines.end()
    while batch := lines.take():
        taken += batch.lines
    return taken


# --- lines --------------------------------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([b"[1]", b"", b" ", b"\r", b"123456", b"1234567", b"[1, 2]"]), max_size=12),
    st.lists(st.integers(0, 60), max_size=8),
)
def test_lines_are_the_same_in_any_chunks(parts, places):
    """Blank lines are left out, and of lines longer than six bytes only the length is kept."""
    body = b"\n".join(parts)
    expected = [
        len(part) if len(part) > 6 else part.strip() for part in parts if len(part) > 6 or part.strip()
    ]

    assert cut(body, [min(place, len(body)) for place in places], Lines(3, 6)) == expected


def test_batches_are_bounded_and_so_is_what_is_kept():
    """The limits are rows and bytes; a line that is too long is not kept."""
    lines = Lines(100, 1000)
    lines.feed(b"[1]\n" * 250)
    assert [len(lines.take().lines) for _ in range(3)] == [100, 100, 50]

    lines = Lines(10**6, LINE_BYTES)
    line = b"1" * 99_999 + b"\n"
    lines.feed(line * 10)
    assert lines.is_full
    assert len(lines.take().lines) == BATCH_BYTES // 99_999 + 1

    lines = Lines(100, 1000)
    for _ in range(100):
        lines.feed(b"x" * 500)
        assert lines.begun_bytes <= 1000


# --- answers ------------------------------------------------------------------------------------------------


def test_every_line_has_its_answer_and_a_bad_one_its_problem(post, store):
    """Answers are in order, and good lines have the scores of the library."""
    own = Detector.load(store.root / "tiny" / "1").score([[1, 2, 30], [1, 2, 0.5], [1, 2, 5], [1, 2, 3]])

    lines = post("/score", BODY)

    assert [line["row"] for line in lines] == list(range(13))
    good = [line for line in lines if "error" not in line]
    assert [line["row"] for line in good] == [0, 1, 5, 12]
    assert [line["score"] for line in good] == own.score.tolist()
    assert [line["p_value"] for line in good] == own.p_value.tolist()
    errors = {line["row"]: line["error"] for line in lines if "error" in line}
    assert errors[2] == {
        "type": "invalid-input",
        "title": "The model cannot take the samples in the body",
        "status": 422,
        "detail": "the line must have 3 elements, got 2",
        "errors": [{"detail": "the line must have 3 elements, got 2", "pointer": ""}],
    }
    assert errors[3]["detail"] == "the line is not JSON: JSON is malformed: invalid character (byte 4)"
    assert errors[4]["detail"] == "a line must hold one instance, got 2"
    assert errors[6]["detail"] == "the line must have exactly the model's features: it lacks 'c'"
    assert errors[7]["errors"] == [
        {"detail": "samples must be finite float32 values, got 1e+39 in c", "column": "c"}
    ]
    assert errors[8]["errors"][0]["pointer"] == "/2"
    assert [errors[row]["status"] for row in (9, 10, 11)] == [400, 400, 400]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(places=st.lists(st.integers(0, len(BODY)), max_size=10))
def test_answers_are_the_same_in_any_chunks(app, places):
    """They are equal byte for byte and batch for batch."""
    serving = app.extensions[EXTENSION]
    reader = _reader(serving)
    whole, parts = reader.open(), reader.open()
    whole.feed(BODY)
    whole.end()
    expected = reader.answer(whole.take(), serving.runner.run)

    answered = []
    for start, end in zip([0, *sorted(places)], [*sorted(places), len(BODY)], strict=True):
        parts.feed(BODY[start:end])
        if end == len(BODY):
            parts.end()
        while batch := parts.take():
            answered.append(reader.answer(batch, serving.runner.run))

    assert b"".join(answered) == expected


def _reader(serving: Serving) -> LineReader:
    head = Head("POST", "/score", "", {"content-type": NDJSON})
    return serving.readers.open(serving.endpoints["/score"], head, open_record("POST", "", "", None), {})


def test_options_stand_in_the_query(post):
    """The query may have a rate and an explanation."""
    (line,) = post("/score?alpha=0.1&explain=1", b"[1,2,30]")

    assert line["explanation"][0]["feature"] == "c"


@pytest.mark.parametrize("verb", ["denoise", "encode", "classify"])
def test_other_verbs_answer_what_they_answer_in_ndjson(client, post, verb):
    """Members and digits are the same as in an NDJSON answer."""
    rows = [[1, 2, 30], [1, 2, 0.5]]
    whole = client.post(f"/{verb}", json={"instances": rows}, headers={"Accept": NDJSON})

    lines = post(f"/{verb}", "\n".join(map(str, rows)).encode())

    assert lines == [json.loads(line) for line in whole.data.splitlines()]


def test_decode_takes_latents(client, post):
    """Latents may be integers if the model has an 8-bit form."""
    latent = client.post("/encode", json={"instances": [[1, 2, 3]]}).json["latent"]

    (line,) = post("/decode", json.dumps(latent[0]).encode())

    assert line == {"row": 0, "reconstruction": [1.0, 2.0, 0.0]}


def test_rows_may_hold_words_and_gaps(client, post):
    """Lines have the same form as rows in JSON."""
    rows = [[1.5, "idle", 0], [None, "run", 2.5], {"b": "stop", "a": 2, "c": 3}]
    body = client.post("/models/mixed/score", json={"instances": rows}).json

    lines = post("/models/mixed/score", "\n".join(map(json.dumps, rows)).encode())

    assert [line["score"] for line in lines] == body["score"]


@pytest.mark.parametrize(
    ("model", "lines"),
    [
        ("plant", [[[1, 2]] * 4, [{"a": 1, "b": 2}] * 4]),
        ("pulse", [[[1], [2], [3], [9]], [1, 2, 3, 9]]),
    ],
)
def test_a_line_of_a_sequence_model_is_a_window(client, post, model, lines):
    """A single channel needs no axis of its own; a single step is refused."""
    one = client.post(f"/models/{model}/score", json={"instances": lines[:1]}).json

    answers = post(f"/models/{model}/score", "\n".join(map(json.dumps, [*lines, [1, 2], 3])).encode())

    assert [line["score"] for line in answers[:2]] == one["score"] * 2
    assert [line["error"]["status"] for line in answers[2:]] == [422, 422]


def test_body_has_no_limit_of_rows_or_bytes(post):
    """20,000 bytes and 50 rows are the limits of every other body here."""
    lines = post("/score", b"[1.000000,2.000000,30.000000]\n" * 5000)

    assert [line["row"] for line in lines] == list(range(5000))


def test_a_long_line_is_refused_and_the_next_one_answered(post):
    """A line has its own limit of bytes."""
    first, second = post("/score", b"[" + b" " * LINE_BYTES + b"1,2,3]\n[1,2,3]")

    assert first["error"]["type"] == "line-too-long"
    assert first["error"]["detail"] == f"a line may have at most {LINE_BYTES} bytes, got {LINE_BYTES + 7}"
    assert second["score"] == pytest.approx(3)


@pytest.mark.parametrize(
    ("path", "headers", "status", "type_"),
    [
        ("/score?fdr=0.1", {}, 422, "invalid-option"),
        ("/score?alpha=0.00001", {}, 422, "invalid-option"),
        ("/score", {"Accept": "application/json"}, 406, "not-acceptable"),
        ("/score", {"Content-Encoding": "gzip"}, 415, "unsupported-media-type"),
        ("/models/none/score", {}, 404, "no-such-model"),
        ("/models/plant/classify", {}, 409, "no-classifier"),
        ("/v1/models/tiny:predict", {}, 415, "unsupported-media-type"),
    ],
)
def test_what_the_head_condemns_has_its_status(client, path, headers, status, type_):
    """The status is sent before any line is read."""
    answer = client.post(path, data=b"[1,2,3]", content_type=NDJSON, headers=headers)

    assert_problem(answer, status, type_)


def test_body_without_a_line_is_refused(client):
    """Blank lines do not count."""
    assert_problem(client.post("/score", data=b"\n \n", content_type=NDJSON), 400, "malformed-body")


def test_lines_are_counted_as_one_request(client, post):
    """The request is counted with all its rows."""
    before = read_metrics(client.get("/metrics").text)

    post("/score", b"[1,2,30]\n" * 10 + b"nope\n")

    after = read_metrics(client.get("/metrics").text)
    for name, key, moved in (
        ("residual_requests_total", ("200", "/score", "tiny", "1"), 1),
        ("residual_rows_total", ("tiny", "1"), 10),
    ):
        assert after[name, *key] - before.get((name, *key), 0) == moved

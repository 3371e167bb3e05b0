"""Passing trouble is overcome, lasting trouble is told, and nothing is asked twice that was refused."""

import datetime
import email.utils
import json
import socket
import time

import pytest

from residual_client import AnswerError, BadRequest, NoAnswer, Overloaded, ServiceFailed
from residual_client.retries import Pause, Retries, retry_after_seconds
from residual_client.wire import Answer, Failure, Request

SCORES = json.dumps(
    {
        "model": "tiny",
        "version": 1,
        "alpha": 0.05,
        "expected_rate": 0.025,
        "threshold": 1.5,
        "score": [3.0],
        "ratio": [2.0],
        "p_value": [0.005],
        "is_anomaly": [True],
    }
).encode()
OK = (200, {"Content-Type": "application/json"}, SCORES)
BUSY = (
    503,
    {"Content-Type": "application/problem+json", "Retry-After": "0"},
    b'{"type": "overloaded", "title": "too much", "detail": "24 requests are at work"}',
)
PAGE = (502, {"Content-Type": "text/html"}, b"<h1>Bad Gateway</h1>")
REFUSED = (422, {"Content-Type": "application/problem+json"}, b'{"type": "invalid-input", "detail": "no"}')
FAILED = (500, {"Content-Type": "application/problem+json"}, b'{"type": "internal-error", "detail": "oh"}')
ROW = [[1, 2, 3]]


@pytest.mark.parametrize("trouble", [[BUSY], [PAGE, PAGE], [None], [BUSY, None, (429, {}, b"")]])
def test_passing_trouble_is_overcome(connect, script, trouble):
    """503, 429, a proxy's page and a connection that breaks; each attempt under the same request id."""
    server = script(*trouble, OK)

    assert connect(server.url).score(ROW).is_anomaly.tolist() == [True]
    assert len(server.asked) == len(trouble) + 1
    assert len({headers["X-Request-Id"] for _, headers in server.asked}) == 1


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        (REFUSED, BadRequest, "no"),
        (FAILED, ServiceFailed, "oh"),
        ((404, {}, b""), BadRequest.__base__, "the server answered 404 Not Found"),
        ((302, {"Location": "/login"}, b""), AnswerError, "got 302 to '/login'"),
        ((204, {}, b""), AnswerError, "got 204"),
        ((200, {"Content-Encoding": "gzip"}, b"hello"), NoAnswer, "the connection to the service at"),
        ((200, {"Content-Type": "text/html"}, b"hello"), AnswerError, "must be a JSON object, got text/html"),
        ((200, {"Content-Type": "application/json"}, b"{"), AnswerError, "not JSON"),
        ((200, {"Content-Type": "application/json"}, b"{}"), AnswerError, "not one of /score"),
        ((200, {"Content-Type": "application/json"}, b"[]"), AnswerError, "must be a JSON object"),
        ((422, {"Content-Type": "application/problem+json"}, b"["), AnswerError, "not JSON"),
    ],
)
def test_what_is_not_passing_is_asked_once(connect, script, answer, error, sentence):
    """Errors of the caller and of the service, and answers of something else."""
    server = script(answer)

    with pytest.raises(error) as caught:
        connect(server.url).score(ROW)
    assert sentence in str(caught.value)
    assert len(server.asked) == 1


def test_trouble_that_lasts_is_told(connect, script):
    """The error has the words of the last answer, after the allowed number of retries."""
    server = script(*[BUSY] * 3)

    with pytest.raises(Overloaded, match="24 requests are at work") as caught:
        connect(server.url, retries=2).score(ROW)
    assert caught.value.retry_after == 0
    assert server.answers == []


def test_broken_connections_are_told(connect, script):
    """The error is raised after the retries."""
    server = script(None, None)

    with pytest.raises(NoAnswer, match="the connection to the service at http:"):
        connect(server.url, retries=1).score(ROW)
    assert server.answers == []


def test_retry_after_is_honoured(connect, script):
    """The client waits for the given second."""
    server = script((503, {"Retry-After": "1"}, b""), OK)
    started = time.monotonic()

    connect(server.url).score(ROW)
    assert time.monotonic() - started >= 1


LATE = (503, {**BUSY[1]}, b'{"type": "deadline-exceeded", "detail": "too long"}')
MODEL = b'{"name": "tiny", "version": 1, "labels": {}, "versions": [{"version": 1, "digest": "d"}]}'
MANIFEST = b'{"manifest": {"kind": "vector", "sample_shape": [3], "feature_names": null}, "digest": "d"}'


def test_what_took_the_service_too_long_is_sent_in_halves(connect, script):
    """A single sample is not sent again."""
    kind = {"Content-Type": "application/json"}
    server = script(LATE, (200, kind, MODEL), (200, kind, MANIFEST), OK, OK, LATE)
    client = connect(server.url, model="tiny")

    assert len(client.score(ROW * 2).score) == 2
    with pytest.raises(Overloaded, match="too long"):
        client.score(ROW)
    assert server.answers == []
    assert [path for path, _ in server.asked][3:] == ["/models/tiny/versions/1/score"] * 2 + [
        "/models/tiny/score"
    ]


def test_timeout_is_told_at_once(connect):
    """A server that takes too long would do so again, so there is no retry."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(NoAnswer, match=r"did not answer within 0\.2 s"):
            connect(f"http://127.0.0.1:{port}", timeout=0.2).score(ROW)


def pauses_of(retries, *answers):
    """Return the pauses between attempts that are answered so."""
    steps, answers, pauses = retries.record(Request("POST", "/score")), list(answers), []
    step = next(steps)
    try:
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                step = steps.send(None)
            else:
                step = steps.send(answers.pop(0))
    except (StopIteration, NoAnswer):
        assert answers == []
        return pauses


def test_pauses_grow_and_differ():
    """Twice as long each time up to a bound, half of it by chance."""
    down = Failure("down", OSError(), is_passing=True)
    pauses = pauses_of(Retries(9), *[down] * 10)

    for pause, longest in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5], strict=True):
        assert longest / 2 <= pause <= longest


@pytest.mark.parametrize("text", ["61", "9" * 30])
def test_service_that_is_down_for_long_is_not_waited_for(text):
    """More than a minute is for the caller to decide."""
    assert pauses_of(Retries(4), Answer(503, {"retry-after": text}, b"")) == []


def test_refused_clients_spread_out():
    """They are all asked to wait as long, and would all come back at once."""
    busy = Answer(503, {"retry-after": "1"}, b"")
    runs = [pauses_of(Retries(4), *[busy] * 5) for _ in range(50)]

    for pauses, longest in zip(zip(*runs, strict=True), [2, 3, 5, 6], strict=True):
        assert min(pauses) >= 1
        assert max(pauses) <= longest
        assert max(pauses) - min(pauses) > (longest - 1) / 2


def test_retry_after_may_be_a_date():
    """A date becomes seconds; other texts become None."""
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)

    def seconds(text):
        return retry_after_seconds(Answer(503, {"retry-after": text}, b""))

    assert 28 < seconds(email.utils.format_datetime(soon, usegmt=True)) <= 30
    assert seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert [seconds(text) for text in ("", "soon", "-1", "1.5")] == [None] * 4


def test_version_that_a_worker_has_not_loaded_yet_is_asked_for_again():
    """Only a version that the client itself looked up is requested again."""
    missing, found = Answer(404, {}, b""), Answer(200, {}, b"")
    steps = Retries(4).record(Request("GET", "/models/a/versions/2", is_resolved=True))
    next(steps)

    assert isinstance(steps.send(missing), Pause)
    assert isinstance(steps.send(None), Request)
    with pytest.raises(StopIteration) as end:
        steps.send(found)
    assert end.value.value is found
    assert pauses_of(Retries(4), missing) == []

"""The fast front: rounds of small requests, the pool of large ones, and one that fails among others."""

import asyncio
import gzip
import json
import os
import sys
import threading
import time

import numpy as np
import pytest

from detector.engine import session
from detector.engine.engine import Engine
from detector.engine.session import Session
from detector.images import encode_image
from service.asgi import front as front_module
from service.asgi.rounds import LOOP_BYTES
from service.bodies import codecs
from tests.asgi_client import AsgiRequest, post_together
from tests.service.responses import read_metrics, to_npy

NORMAL, ANOMALY = [1.0, 2.0, 0.5], [1.0, 2.0, 30.0]


def post(front, *requests):
    """Return answers to requests of the same moment."""

    async def send():
        return await post_together(front, [AsgiRequest(*request) for request in requests])

    return asyncio.run(send())


def score(*instances, **members):
    """Return a request to `/score`."""
    return "/score", json.dumps({"instances": list(instances), **members}).encode()


def rows_of_runs(front):
    """Return the number of runs so far and their rows."""
    series = read_metrics(front.serving.metrics.exposition().decode())
    return series["residual_batch_rows_count", "tiny"], series["residual_batch_rows_sum", "tiny"]


def test_requests_of_one_moment_are_one_run(front):
    """Each has its own answer, the one that it has alone."""
    requests = [score([1.0, 2.0, float(value)]) for value in range(12)]

    together = post(front, *requests)

    assert rows_of_runs(front) == (1, 12)
    assert [answer.json() for answer in together] == [post(front, request)[0].json() for request in requests]


def test_requests_with_different_heads_have_what_each_asked_for(front):
    """Options, verbs, forms and lengths do not mix."""
    answers = post(
        front,
        score(NORMAL),
        score(NORMAL, ANOMALY),
        score(ANOMALY, alpha=0.2),
        score(ANOMALY, explain=1),
        ("/denoise", json.dumps({"instances": [ANOMALY]}).encode()),
        ("/score", to_npy(np.array([ANOMALY])), {"content-type": "application/x-npy"}),
        (*score(ANOMALY), {"accept": "application/x-npy"}),
    )

    assert [answer.status for answer in answers] == [200] * 7
    assert answers[0].json()["is_anomaly"] == [False]
    assert answers[1].json()["is_anomaly"] == [False, True]
    assert answers[2].json()["alpha"] == 0.2
    assert [len(one) for one in answers[3].json()["explanation"]] == [1]
    assert answers[4].json()["reconstruction"] == [[1.0, 2.0, 0.0]]
    assert answers[5].json()["score"] == answers[3].json()["score"]
    assert answers[6].headers["content-type"] == "application/x-npy"


@pytest.mark.parametrize(
    ("bad", "status", "type_"),
    [
        (b"", 400, "malformed-body"),
        (b"{", 400, "malformed-body"),
        (b'{"instances": []}', 422, "invalid-input"),
        (b'{"instances": [[1, 2]]}', 422, "invalid-input"),
        (b'{"instances": [[1, 2, 1e60]]}', 422, "invalid-input"),
        (b'{"instances": [[1, 2, "3"]]}', 422, "invalid-input"),
        (b'{"instances": [[1, 2, 3]], "alpha": 1e-9}', 422, "invalid-option"),
    ],
)
def test_bad_request_leaves_its_neighbours_alone(front, bad, status, type_):
    """It says its own fault, they get their own scores."""
    answers = post(front, score(NORMAL), ("/score", bad), score(ANOMALY), score(NORMAL, ANOMALY))

    assert [answer.status for answer in answers] == [200, status, 200, 200]
    assert answers[1].json()["type"] == type_
    assert [answers[at].json()["is_anomaly"] for at in (0, 2, 3)] == [[False], [True], [False, True]]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 4


def test_every_request_is_answered_whatever_raises(front, monkeypatch):
    """A fault of ours is a 500 for each, and none waits for ever."""

    def fail(self, waiting):
        raise RuntimeError("not foreseen")

    monkeypatch.setattr("service.asgi.rounds.Rounds._settle_all", fail)

    answers = post(front, score(NORMAL), score(ANOMALY))

    assert [answer.json()["type"] for answer in answers] == ["internal-error"] * 2


def test_unforeseen_fault_of_one_body_is_its_own(front, monkeypatch):
    """A reader that fails on one body of a round fails for nobody else."""
    read = codecs.decode_json

    def fail(content, **form):
        if b"666" in content:
            raise TypeError("not foreseen")
        return read(content, **form)

    monkeypatch.setattr(codecs, "decode_json", fail)

    answers = post(front, score(NORMAL), score([6.0, 6.0, 666.0]), score(ANOMALY))

    assert [answer.status for answer in answers] == [200, 500, 200]


def test_run_that_fails_together_is_tried_alone(front, monkeypatch):
    """Only the request that the graph cannot take fails."""
    run = Session.run

    def refuse(self, samples, names):
        if (np.asarray(samples) == 30.0).any():
            raise RuntimeError("the graph fails")
        return run(self, samples, names)

    monkeypatch.setattr(Session, "run", refuse)

    answers = post(front, score(NORMAL), score(ANOMALY), score(NORMAL))

    assert [answer.status for answer in answers] == [200, 500, 200]


def test_client_that_is_gone_takes_no_answer_from_others(front):
    """Its task is cancelled while it waits for its round."""

    async def run():
        requests = [AsgiRequest(*score(NORMAL)) for _ in range(3)]
        tasks = [asyncio.ensure_future(request.send_to(front)) for request in requests]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = asyncio.run(run())

    assert isinstance(second, asyncio.CancelledError)
    assert [first.status, third.status] == [200, 200]


def test_large_body_is_answered_from_the_pool(make_front):
    """The answer equals the answers of single rows."""
    front = make_front(max_body_bytes=2**24, max_rows=100_000)
    rows = np.random.default_rng(0).normal(size=(20_000, 3))
    body = to_npy(rows)
    assert len(body) > LOOP_BYTES

    (answer,) = post(front, ("/score", body, {"content-type": "application/x-npy"}))

    (detector,) = [
        entry.detector for entry in front.serving.models.loaded() if entry.detector.manifest.name == "tiny"
    ]
    np.testing.assert_array_equal(answer.json()["score"], detector.score(rows).score)
    assert front.serving.admission.rows == front.serving.admission.n_bytes == 0


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a process has one niceness for all its threads"
)
def test_threads_of_the_pool_let_the_loop_go_first(front):
    """They are nicer by ten than the thread that started them, whose niceness stays."""

    def niceness():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()

    assert front.pool.executor.submit(niceness).result() == min(before + 10, 19)
    assert niceness() == before


@pytest.mark.skipif(sys.platform != "linux", reason="the niceness of threads is not touched elsewhere")
def test_sandbox_without_niceness_has_a_pool_all_the_same(make_front, monkeypatch):
    """The pool works without it, e.g. under `SystemCallFilter=~@resources` of systemd."""

    def forbid(increment):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "nice", forbid)

    assert make_front().pool.executor.submit(int, "1").result() == 1


def test_pace_of_small_images_is_not_that_of_large_bodies(front):
    """Otherwise a few images would make a large body look like minutes of work, and it would be refused."""
    rows = np.random.default_rng(0).normal(size=(45, 4, 5)).tolist()
    body = json.dumps({"instances": rows}).encode()
    image = encode_image(np.zeros((4, 5), np.float32), (0.0, 16.0))
    learned = []
    front.small_pool.byte_pace.learn = lambda kind, *_: learned.append(kind)

    answers = post(
        front,
        ("/models/images/score", image, {"content-type": "image/png"}),
        ("/models/images/score", gzip.compress(body), {"content-encoding": "gzip"}),
    )

    assert [answer.status for answer in answers] == [200, 200]
    assert len(set(learned)) == 2


@pytest.fixture
def slow_runs(monkeypatch):
    """Runs of large bodies wait until they are released, or stopped; how many have begun."""
    release, begun = threading.Event(), []
    run = Engine.run_together

    def wait(self, parts, names):
        stop = session._STOP.get()  # none while a model is loaded
        if stop is not None:
            begun.append(parts)
            while not release.wait(0.01):
                stop.check()
        return run(self, parts, names)

    monkeypatch.setattr(Engine, "run_together", wait)
    yield release, begun
    release.set()


LARGE = ("/score", to_npy(np.ones((10_000, 3))), {"content-type": "application/x-npy"})


def post_during(front, slow_runs):
    """Return answers to a large request that is at work, and to another one meanwhile."""
    release, begun = slow_runs

    async def run():
        first = asyncio.ensure_future(AsgiRequest(*LARGE).send_to(front))
        while not begun:
            await asyncio.sleep(0.01)
        (second,) = await post_together(front, [AsgiRequest(*LARGE)])
        release.set()
        return await first, second

    return asyncio.run(run())


def test_run_ends_at_its_deadline(make_front, slow_runs):
    """503 with Retry-After, in time, and nothing of it stays at work."""
    front = make_front(max_body_bytes=2**24, max_rows=100_000, deadline_seconds=0.3)
    started = time.monotonic()

    (answer,) = post(front, LARGE)

    assert 0.3 <= time.monotonic() - started < 2
    assert (answer.status, answer.json()["type"]) == (503, "deadline-exceeded")
    assert answer.headers["retry-after"] == "1"
    assert front.serving.admission.rows == front.serving.admission.n_bytes == 0


def test_request_in_the_queue_ends_at_its_deadline_too(make_front, slow_runs):
    """Its time does not begin anew when those before it are done."""
    front = make_front(
        max_body_bytes=2**24, max_rows=100_000, deadline_seconds=0.5, pool_threads=1, max_wait_seconds=60.0
    )
    started = time.monotonic()

    answers = post(front, *[LARGE] * 6)

    assert time.monotonic() - started < 2
    assert [answer.json()["type"] for answer in answers] == ["deadline-exceeded"] * 6


def test_work_of_a_client_that_is_gone_is_dropped(make_front, slow_runs):
    """Its run is stopped, its place given back, and the log has it as 499."""
    front = make_front(max_body_bytes=2**24, max_rows=100_000)

    async def run():
        request = AsgiRequest(*LARGE)
        task = asyncio.ensure_future(request.send_to(front))
        while not slow_runs[1]:
            await asyncio.sleep(0.01)
        request.gone.set()
        return await asyncio.wait_for(task, 5)

    answer = asyncio.run(run())

    assert answer.status == 0
    assert front.serving.admission.rows == front.serving.admission.n_bytes == 0
    series = read_metrics(front.serving.metrics.exposition().decode())
    assert series["residual_requests_total", "499", "/score", "tiny", "1"] == 1


@pytest.mark.parametrize(
    "limits", [{"max_queued_bytes": 200_000}, {"max_queued_rows": 15_000, "pool_threads": 2}]
)
def test_more_than_may_be_at_work_is_refused_at_once(make_front, slow_runs, limits):
    """The request that is already at work goes on."""
    front = make_front(max_body_bytes=2**24, max_rows=100_000, **limits)

    first, refused = post_during(front, slow_runs)

    assert first.status == 200
    assert (refused.status, refused.json()["type"]) == (503, "overloaded")
    assert refused.headers["retry-after"] == "1"


def test_request_that_would_wait_too_long_is_refused_at_once(make_front, slow_runs):
    """The time is estimated from earlier requests of the same kind."""
    front = make_front(max_body_bytes=2**24, max_rows=100_000, pool_threads=1, max_wait_seconds=0.05)
    kind = ("tiny", "1", "/score", "application/x-npy", "")
    front.pool.byte_pace.learn(kind, len(LARGE[1]), 10.0)

    first, refused = post_during(front, slow_runs)

    assert first.status == 200
    assert "takes about 10.0 s" in refused.json()["detail"]


def test_slow_kinds_of_small_requests_leave_the_loop(front, monkeypatch):
    """Requests of a kind that took long before run in the pool."""
    first = post(front, score(NORMAL))[0]
    reader = next(iter(front.serving.readers._kept.values()))[0]
    call = reader(score(NORMAL)[1])
    front.serving.runner._pace.learn(("tiny", 1, call.asker.run, False), 1, 10.0)
    threads = []
    run = Engine.judge
    monkeypatch.setattr(
        Engine, "judge", lambda *a, **k: threads.append(threading.current_thread().name) or run(*a, **k)
    )

    second = post(front, score(NORMAL))[0]

    assert [name.partition("_")[0] for name in threads] == ["small"]
    assert first.json() == second.json()


@pytest.mark.parametrize(
    ("headers", "is_imported"),
    [
        ({}, False),
        ({"accept": "*/*"}, False),
        ({"content-type": "Application/vnd.apache.parquet"}, True),
        ({"accept": "text/csv;q=0.1, application/vnd.apache.arrow.stream"}, True),
    ],
)
def test_pyarrow_is_imported_once_by_a_thread_that_gives_way_to_none(
    front, monkeypatch, headers, is_imported
):
    """Those of the pools do: under load the import took seconds there."""
    seen = []
    monkeypatch.setattr(
        front_module,
        "_import_pyarrow",
        lambda: seen.append(
            (threading.get_ident(), os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        ),
    )

    async def ask() -> None:
        for _ in range(2):
            await AsgiRequest("/score", b'{"instances": [[1, 2, 3]]}', headers).send_to(front)

    asyncio.run(ask())

    assert len(seen) == is_imported
    for thread, niceness in seen:
        assert thread != threading.get_ident()
        assert niceness == os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

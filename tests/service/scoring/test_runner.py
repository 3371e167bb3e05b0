"""The runner: calls with equal keys run as one batch, and a call that fails leaves the others alone."""

import numpy as np
import pytest

from detector import Detector, InputError
from detector.engine.session import Session
from service.scoring import verbs
from service.scoring.calls import Call
from service.scoring.runner import Runner
from service.watching.metrics import Metrics
from service.watching.pending import Pending
from tests.model_folder import write_model_folder


@pytest.fixture
def detectors(tmp_path) -> list[Detector]:
    """Two models of rows."""
    for name in "ab":
        write_model_folder(tmp_path / name, name=name)
    return [Detector.load(tmp_path / name) for name in "ab"]


@pytest.fixture
def runner() -> Runner:
    """A runner that nobody waits for."""
    return Runner(Pending(Metrics()), deadline_seconds=10.0)


@pytest.fixture
def runs(monkeypatch) -> list[int]:
    """Rows of each run of a graph; a graph fails if a value of its samples is 666."""
    rows, run = [], Session.run

    def count(session, samples, names):
        if (np.asarray(samples) == 666).any():
            raise RuntimeError("the graph fails")
        rows.append(len(samples))
        return run(session, samples, names)

    monkeypatch.setattr(Session, "run", count)
    return rows


class ScoreAsker:
    """Scores; the answer is the result itself, or `finish` fails."""

    run = staticmethod(verbs.score)

    def __init__(self, detector: Detector, fails: bool = False) -> None:
        self.detector = detector
        self.fails = fails

    def request(self, samples, options):
        """Return a request for these samples."""
        return verbs.ScoreRequest(self.detector, samples, **options)

    def finish(self, call, result):
        """Return the result itself."""
        if self.fails:
            raise ZeroDivisionError
        if isinstance(result, Exception):
            raise result
        return result

    def finish_joined(self, result, lengths):
        """Return scores of each call."""
        ends = np.cumsum(lengths)
        return [result.take(np.arange(end - length, end)) for length, end in zip(lengths, ends, strict=True)]


def score(detector, *values, joins=False, fails=False, **options):
    """Return a call to score rows of equal values."""
    samples = np.repeat(np.float64(values)[:, None], 3, axis=1)
    return Call((detector, *options), ScoreAsker(detector, fails), samples, options, None, None, joins)


def test_calls_with_equal_keys_are_one_run(detectors, runner, runs):
    """Detector, verb and options part them; the order of the outcomes is the order of the calls."""
    first, second = detectors
    calls = [
        score(first, 1),
        score(second, 2),
        score(first, 3, 4),
        score(second, 5),
        score(first, 6, alpha=0.2),
    ]

    outcomes = runner.run(calls)

    assert sorted(runs) == [1, 2, 3]
    for call, outcome in zip(calls, outcomes, strict=True):
        np.testing.assert_array_equal(outcome.score, call.asker.detector.score(call.samples).score)
    assert [outcome.alpha for outcome in outcomes] == [0.05, 0.05, 0.05, 0.05, 0.2]


def test_invalid_request_does_not_fail_its_batch(detectors, runner, runs):
    """The valid ones still run together."""
    calls = [score(detectors[0], value) for value in (1, np.nan, 3)]

    outcomes = runner.run(calls)

    assert runs == [2]
    assert [isinstance(outcome, InputError) for outcome in outcomes] == [False, True, False]


def test_batch_that_raises_is_run_call_by_call(detectors, runner, runs):
    """Only the call that the graph cannot take fails."""
    outcomes = runner.run([score(detectors[0], value) for value in (1, 666, 3)])

    assert runs == [1, 1]
    assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False]


@pytest.mark.parametrize("bad", [666, np.nan])
def test_joined_calls_are_one_request_or_run_alone(detectors, runner, runs, bad):
    """The samples of valid calls run as one array; if one call is invalid, each runs alone."""
    good = runner.run([score(detectors[0], value, joins=True) for value in (1, 2, 3)])
    mixed = runner.run([score(detectors[0], value, joins=True) for value in (1, bad, 3)])

    assert runs == [3, 1, 1]
    assert [outcome.score.size for outcome in good] == [1, 1, 1]
    assert [isinstance(outcome, Exception) for outcome in mixed] == [False, True, False]


def test_call_that_would_take_too_long_is_not_run(detectors, runner, runs):
    """It is returned unchanged; the others run."""
    calls = [score(detectors[0], *[1.0] * rows) for rows in (1, 100, 2)]

    outcomes = runner.run(calls, max_seconds=0.05)

    assert outcomes[1] is calls[1]
    assert runs == [3]


def test_call_that_cannot_be_finished_fails_alone(detectors, runner):
    """The others succeed, whatever it raises."""
    failed, good = runner.run([score(detectors[0], 1, fails=True), score(detectors[0], 2)])

    assert isinstance(failed, ZeroDivisionError)
    assert isinstance(good, verbs.Scores)

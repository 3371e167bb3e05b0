"""The estimate of how long work takes."""

import time

import pytest

from service.scoring.runner import MAX_KINDS, OVERHEAD_SECONDS, SHORT_SECONDS, Pace


def test_unknown_work_takes_what_is_guessed():
    """The estimate is a guess for each unit."""
    assert Pace(0.5).estimate("a", 4) == pytest.approx(2 + OVERHEAD_SECONDS)


def test_estimate_is_the_mean_of_late_work_by_its_size():
    """A large piece says more than a small one, and kinds do not mix."""
    pace = Pace(1.0)
    pace.learn("a", 1, OVERHEAD_SECONDS + 1.0)
    pace.learn("a", 999, OVERHEAD_SECONDS + 0.999)

    assert pace.estimate("a", 1000) == pytest.approx(1.9, rel=0.01)
    assert pace.estimate("b", 1) == pytest.approx(1 + OVERHEAD_SECONDS)


def test_work_that_gets_slower_is_noticed():
    """Some dozens of observations are enough."""
    pace = Pace(1.0)
    for seconds in [0.001] * 1000 + [0.1] * 50:
        pace.learn("a", 1, OVERHEAD_SECONDS + seconds)

    assert pace.estimate("a", 1) == pytest.approx(0.1, rel=0.05)


def test_kinds_are_bounded():
    """Old versions do not fill the memory."""
    pace = Pace(1.0)
    for kind in range(3 * MAX_KINDS):
        pace.learn(kind, 1, 1.0)

    assert len(pace._known) <= MAX_KINDS


def compute(seconds: float) -> None:
    """Take this much CPU time of the thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def observe(pace: Pace, work: object, n_pieces: int) -> float:
    """Do pieces of work of one unit; return what the next one is expected to take."""
    for _ in range(n_pieces):
        begun = pace.begin("a")
        work()
        pace.end("a", 1, begun)
    return pace.estimate("a", 1)


def test_time_in_which_others_had_the_processor_is_not_learned():
    """Small requests would leave the loop because large ones fill the machine."""
    assert observe(Pace(1e-4), lambda: time.sleep(5 * SHORT_SECONDS), 3) < SHORT_SECONDS


def test_long_work_is_learned_from_the_second_piece_on():
    """The first one tells that the clock of the thread is worth its time."""
    pace = Pace(1e-4)

    assert observe(pace, lambda: compute(0.01), 1) == pytest.approx(1e-4 + OVERHEAD_SECONDS)
    assert observe(pace, lambda: compute(0.01), 1) == pytest.approx(0.01, rel=0.2)

"""The estimate of how long work takes."""

import pytest

from service.scoring.runner import MAX_KINDS, OVERHEAD_SECONDS, Pace


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

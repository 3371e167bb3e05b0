"""Limits of the work in progress."""

import dataclasses

import pytest

from service.http.problems import Problem
from service.scoring.admission import Admission


@pytest.fixture
def admission(settings):
    """Ten samples, a hundred bytes, and two seconds of work in two threads."""
    limits = {"max_queued_rows": 10, "max_queued_bytes": 100, "max_wait_seconds": 1.0}
    return Admission(dataclasses.replace(settings, **limits), threads=2)


@pytest.mark.parametrize(
    ("work", "sentence"),
    [
        ({"rows": 6}, "requests with 6 samples are in progress, the limit is 10"),
        ({"n_bytes": 60}, "requests with 60 bytes are in progress, the limit is 100"),
    ],
)
def test_work_beyond_a_limit_is_refused(admission, work, sentence):
    """The work is accepted when the other work is done."""
    with admission.ticket() as other:
        other.add(**work)
        with pytest.raises(Problem, match=sentence) as caught, admission.ticket() as ticket:
            ticket.add(**work)
    with admission.ticket() as ticket:
        ticket.add(**work)

    assert caught.value.type == "overloaded"


def test_request_that_is_alone_is_taken_on(admission):
    """A single request is not limited here, because other limits bound its size."""
    with admission.ticket() as ticket:
        ticket.add(rows=1000)
        ticket.add(n_bytes=1000, seconds=1000.0)

        assert (admission.rows, admission.n_bytes) == (1000, 1000)
    assert (admission.rows, admission.n_bytes, admission.seconds) == (0, 0, 0.0)


def test_wait_for_those_before_is_bounded(admission):
    """The bound is the time that the work before it takes with all threads."""
    with admission.ticket() as first, admission.ticket() as second, admission.ticket() as third:
        first.add(seconds=1.5)
        second.add(seconds=1.5)
        with pytest.raises(Problem, match=r"takes about 1\.5 s, the limit is 1"):
            third.add(seconds=0.1)

        assert third.seconds == 0.0


def test_work_is_given_back_whatever_is_raised(admission):
    """A refused request holds nothing."""

    def fail():
        with admission.ticket() as ticket:
            ticket.add(rows=5, n_bytes=5, seconds=5.0)
            raise RuntimeError("refused")

    with pytest.raises(RuntimeError, match="refused"):
        fail()

    assert (admission.rows, admission.n_bytes, admission.seconds) == (0, 0, 0.0)

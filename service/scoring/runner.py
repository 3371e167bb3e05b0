"""Runs calls: small ones as batches, a long one alone and within its deadline; learns how long they take."""

import contextlib
import math
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np

from detector import DetectorError, RunStopped, Scores
from detector.engine.session import Stop, stopped_by
from service.http.messages import Answer
from service.http.problems import Problem
from service.http.request_record import Run
from service.scoring.calls import Call
from service.watching.pending import Pending

ROW_SECONDS = 1e-3  # a guess, used until a run has been measured
OVERHEAD_SECONDS = 2e-4  # of every piece of work, whatever its size
SHORT_SECONDS = 1e-3  # work that is timed by the wall clock alone
MEMORY = 0.9  # weight that the past keeps at each new observation
MAX_KINDS = 4096  # model versions come and go; beyond this number everything is learned anew


class Pace:
    """Learns the seconds for a unit of work of each kind: a mean of recent work, weighted by size.

    `begin` and `end` learn the CPU seconds of their thread: on a busy machine the time on the wall says more
    about other work. The clock of a thread costs as much as a tenth of a small request, so short work is
    timed by the wall clock, which never shows less. A piece of work that took long is not learned; the next
    one of its kind is timed by both clocks.

    If two threads learn at once, one of the two observations is lost, which does no harm.

    Parameters
    ----------
    guess : float
        Seconds for a unit, until there is an observation.
    """

    def __init__(self, guess: float) -> None:
        self._guess = guess
        self._known: dict[Hashable, tuple[float, float]] = {}
        self._long: set[Hashable] = set()  # kinds whose last work was long

    def begin(self, kind: Hashable) -> tuple[float, float | None]:
        """Return the readings of both clocks before a piece of work, for `end`; None for one not read."""
        return time.perf_counter(), time.thread_time() if kind in self._long else None

    def end(self, kind: Hashable, units: int, begun: tuple[float, float | None]) -> None:
        """Learn from a piece of work that ends now, in the thread in which it began."""
        started, cpu_started = begun
        seconds = time.perf_counter() - started
        if seconds <= SHORT_SECONDS:
            self._long.discard(kind)
        elif cpu_started is None:
            self._long.add(kind)
            return
        else:
            seconds = time.thread_time() - cpu_started
        self.learn(kind, units, seconds)

    def estimate(self, kind: Hashable, units: int) -> float:
        """Return the seconds that a piece of work will take."""
        seconds, observed = self._known.get(kind, (self._guess, 1))
        return OVERHEAD_SECONDS + units * seconds / observed

    def learn(self, kind: Hashable, units: int, seconds: float) -> None:
        """Note how long a piece of work of at least one unit took."""
        old_seconds, old_units = self._known.get(kind, (0.0, 0.0))
        rest = seconds - OVERHEAD_SECONDS
        self._known[kind] = (
            MEMORY * old_seconds + (rest if rest > 0 else 0.0),
            MEMORY * old_units + units,
        )
        if len(self._known) + len(self._long) > MAX_KINDS:
            self._known, self._long = {}, set()


class Runner:
    """Runs calls and records the scored rows."""

    def __init__(self, pending: Pending, deadline_seconds: float) -> None:
        self._pace = Pace(ROW_SECONDS)
        self._pending = pending
        self._deadline_seconds = deadline_seconds

    def estimate(self, calls: Sequence[Call]) -> float:
        """Return the seconds that calls with equal keys will take."""
        return self._pace.estimate(_kind(calls[0]), sum([len(call.samples) for call in calls]))

    def run(self, calls: Sequence[Call], max_seconds: float = math.inf) -> list[Answer | Call | Exception]:
        """Run calls; those with equal keys run as one batch.

        Parameters
        ----------
        calls : sequence of Call
        max_seconds : float
            A call that would take longer is not run.

        Returns
        -------
        list
            For each call its answer, or the exception that it raised; the call itself if it was not run. No
            call fails because of another.
        """
        batches: dict[Hashable, list[Call]] = {}
        for call in calls:
            batches.setdefault(call.key, []).append(call)
        if len(batches) == 1 and self.estimate(calls) <= max_seconds:  # nearly always
            return self._run_batch(calls)
        outcomes: dict[int, Answer | Call | Exception] = {id(call): call for call in calls}
        for batch in batches.values():
            if self.estimate(batch) > max_seconds:
                batch = [call for call in batch if self.estimate([call]) <= max_seconds]
            if batch:
                outcomes |= zip(map(id, batch), self._run_batch(batch), strict=True)
        return [outcomes[id(call)] for call in calls]

    def run_alone(self, call: Call, stop: Stop | None, started: float) -> Answer:
        """Return the answer of one call, within its deadline.

        Parameters
        ----------
        call : Call
        stop : Stop or None
            Ends the run when it is set; its owner sets it at the deadline. None for a timer that does.
        started : float
            When the request arrived, in seconds of `time.perf_counter`.

        Raises
        ------
        Problem
            `deadline-exceeded`, and whatever the call itself raises.
        """
        (outcome,) = self.run_in_time([call], stop, started)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def run_in_time(
        self, calls: Sequence[Call], stop: Stop | None, started: float
    ) -> list[Answer | Exception]:
        """Run calls as `run` does, within their deadline; arguments as for `run_alone`."""
        left = self.seconds_left(started)
        if left <= 0:
            raise self.too_late()
        with contextlib.nullcontext(stop) if stop else _alarm(left) as stop, stopped_by(stop):
            outcomes = self.run(calls)
        for outcome in outcomes:
            if isinstance(outcome, RunStopped):
                raise self.too_late() from outcome
        return outcomes

    def seconds_left(self, started: float) -> float:
        """Return the seconds until the deadline of a request; `started` as for `run_alone`."""
        return started + self._deadline_seconds - time.perf_counter()

    def too_late(self) -> Problem:
        """Return the problem of a request whose deadline has passed."""
        return Problem(
            "deadline-exceeded",
            f"the answer was not ready within {self._deadline_seconds:g} seconds: send fewer samples, or try "
            "again in a moment",
        )

    def _run_batch(self, calls: Sequence[Call]) -> list[Answer | Exception]:
        """Run calls with equal keys together; if that raises, each alone."""
        first = calls[0]
        kind = _kind(first)
        begun = self._pace.begin(kind)
        try:
            if first.joins and len(calls) > 1:
                samples = np.concatenate([call.samples for call in calls])
                requests = [first.asker.request(samples, first.options)]
            else:
                requests = [call.asker.request(call.samples, call.options) for call in calls]
            results = first.asker.run(requests)
            ran = time.perf_counter()
            outcomes = _finish(calls, results)
        except Exception as error:
            if len(calls) == 1:
                return [error]
            return [outcome for call in calls for outcome in self._run_batch([call])]
        good = [n for n, result in enumerate(results) if not isinstance(result, DetectorError)]
        if good:
            rows = sum([len(requests[n].samples) for n in good])
            scores = [results[n].score for n in good if isinstance(results[n], Scores)]
            self._pace.end(kind, rows, begun)
            self._pending.note_run(Run(first.asker.detector.manifest, rows, ran - begun[0], scores))
        return outcomes


def _finish(calls: Sequence[Call], results: Sequence[Any]) -> list[Answer | Exception]:
    """Turn the results of a batch into answers; raise if one error concerns several joined calls."""
    if calls[0].joins and not isinstance(results[0], Exception):
        return calls[0].asker.finish_joined(results[0], [len(call.samples) for call in calls])
    if len(results) < len(calls):
        raise results[0]
    outcomes = []
    for call, result in zip(calls, results, strict=True):
        try:
            outcomes.append(call.asker.finish(call, result))
        except Exception as error:  # it concerns this call only
            outcomes.append(error)
    return outcomes


def _kind(call: Call) -> tuple:
    """Calls of one kind take about the same time for each row."""
    manifest = call.asker.detector.manifest
    return manifest.name, manifest.version, call.asker.run, "explain" in call.options


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[Stop]:
    stop = Stop()
    timer = threading.Timer(seconds, stop.set)
    timer.daemon = True
    timer.start()
    try:
        yield stop
    finally:
        timer.cancel()

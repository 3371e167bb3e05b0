"""Runs calls: those of one round together, a long one alone and not beyond its deadline."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from detector import Detector, DetectorError, RunStopped, Scores
from detector.engine.session import Stop, stopped_by
from service.http.messages import Answer
from service.http.problems import Problem
from service.http.request_record import Run
from service.scoring.calls import Call
from service.scoring.pace import Pace
from service.watching.pending import Pending

ROW_SECONDS = 1e-3  # until a run has been seen


class Runner:
    """Runs calls and notes what they score."""

    def __init__(self, pending: Pending, deadline_seconds: float) -> None:
        self._pace = Pace(ROW_SECONDS)
        self._pending = pending
        self._deadline_seconds = deadline_seconds

    def estimate(self, call: Call) -> float:
        """Seconds that the run of a call will take."""
        return self._pace.estimate(_kind(call), call.rows)

    def run_together(self, calls: Sequence[Call]) -> list[Answer | Exception]:
        """The answer or the error of each call; those of one verb and detector run as one batch.

        Whatever a call raises, every other one gets its own answer.
        """
        if len(calls) == 1:
            return self._run_batch(calls)
        outcomes: list[Answer | Exception | None] = [None] * len(calls)
        batches: dict[tuple, list[int]] = {}
        for position, call in enumerate(calls):
            batches.setdefault((call.run, call.request.detector), []).append(position)
        for positions in batches.values():
            for position, outcome in zip(
                positions, self._run_batch([calls[position] for position in positions]), strict=True
            ):
                outcomes[position] = outcome
        return outcomes

    def run_alone(self, call: Call, stop: Stop | None, started: float) -> Answer:
        """The answer of one call, at the latest when its deadline is over.

        Parameters
        ----------
        call : Call
        stop : Stop or None
            Ends the run when it is set, which its owner does at the deadline; None for an alarm that does.
        started : float
            When the request came, in seconds of `time.perf_counter`.

        Raises
        ------
        Problem
            `deadline-exceeded`; and what the call itself raises.
        """
        (outcome,) = self.run_in_time([call], stop, started)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def run_in_time(
        self, calls: Sequence[Call], stop: Stop | None, started: float
    ) -> list[Answer | Exception]:
        """As `run_together`, at the latest when their deadline is over; arguments as of `run_alone`."""
        left = self.seconds_left(started)
        if left <= 0:
            raise self.too_late()
        with contextlib.nullcontext(stop) if stop else _alarm(left) as stop, stopped_by(stop):
            outcomes = self.run_together(calls)
        for outcome in outcomes:
            if isinstance(outcome, RunStopped):
                raise self.too_late() from outcome
        return outcomes

    def seconds_left(self, started: float) -> float:
        """Until the deadline of a request that came then, in seconds of `time.perf_counter`."""
        return started + self._deadline_seconds - time.perf_counter()

    def too_late(self) -> Problem:
        """The problem of a deadline that is over."""
        return Problem(
            "deadline-exceeded",
            f"the answer was not ready within {self._deadline_seconds:g} seconds: send fewer samples, or try "
            "again in a moment",
        )

    def _run_batch(self, calls: Sequence[Call]) -> list[Answer | Exception]:
        started = time.perf_counter()
        try:
            results = calls[0].run([call.request for call in calls])
        except Exception as error:  # no neighbour may suffer: each once more, alone
            if len(calls) == 1:
                return [error]
            return [outcome for call in calls for outcome in self._run_batch([call])]
        ran = time.perf_counter()
        outcomes = [_attempt(call.finish, result) for call, result in zip(calls, results, strict=True)]
        rows, good = 0, []
        for call, result in zip(calls, results, strict=True):
            if not isinstance(result, DetectorError):
                rows += call.rows
                good.append(result)
        if good:
            self._pace.learn(_kind(calls[0]), rows, time.perf_counter() - started)
            self._note(calls[0].request.detector, rows, ran - started, good)
        return outcomes

    def _note(self, detector: Detector, rows: int, seconds: float, results: Sequence[object]) -> None:
        scores = [result.score for result in results if isinstance(result, Scores)]
        together = (scores[0] if len(scores) == 1 else np.concatenate(scores)) if scores else None
        self._pending.note_run(Run(detector.manifest, rows, seconds, together))


def _kind(call: Call) -> tuple:
    """Calls of one kind take the same time for a row."""
    manifest = call.request.detector.manifest
    return manifest.name, manifest.version, call.run, getattr(call.request, "explain", None) is not None


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


def _attempt(finish: Callable[[object], Answer], result: object) -> Answer | Exception:
    try:
        return finish(result)
    except Exception as error:  # every call gets an answer, whatever raises
        return error

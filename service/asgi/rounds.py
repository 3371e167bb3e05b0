"""Small requests, answered together in rounds of the event loop: docs/decisions/0019.

No request waits in order to be batched: requests that arrive while a round is answered are the next round.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Sequence

from service.endpoints.base import Reader
from service.http import problems
from service.http.messages import Answer, Body
from service.http.request_record import RequestRecord
from service.scoring.calls import Call
from service.scoring.runner import Pace
from service.serving import Serving

# Larger bodies are decoded and run in the pool, since all other requests wait for the loop meanwhile.
LOOP_BYTES = 64 * 2**10
# The most CPU time that one request, and one round, may take in the loop.
REQUEST_SECONDS = 0.004
ROUND_SECONDS = 0.01
FIRST_GUESS = 1e-4  # seconds of a request, until a round has been measured

logger = logging.getLogger(__name__)


HandOver = Callable[[Answer | Call], None]


@dataclasses.dataclass(slots=True)
class Waiting:
    """A request until it is answered."""

    reader: Reader
    content: Body
    record: RequestRecord
    hand_over: HandOver | None


class Rounds:
    """Answers small requests in the event loop."""

    def __init__(self, serving: Serving) -> None:
        self._runner, self._pending = serving.runner, serving.pending
        self._pace = Pace(FIRST_GUESS)
        self._waiting: list[Waiting] = []
        self._n_last = 0

    def join(self, reader: Reader, content: Body, record: RequestRecord, hand_over: HandOver) -> None:
        """Answer a request in the next round.

        Parameters
        ----------
        reader : Reader
        content : bytes or bytearray
        record : RequestRecord
            Closed when there is an answer.
        hand_over : callable
            Called once, with the answer or with a `Call` that takes too long for a round.
        """
        waiting = self._waiting
        if not waiting:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._look_again, loop)
        waiting.append(Waiting(reader, content, record, hand_over))

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer after one more look at the sockets, which finds the requests that arrived in the meantime.

        Skip that look if a single request is waiting and the last round had one.
        """
        if self._n_last + len(self._waiting) <= 2:
            self._answer()
        else:
            loop.call_soon(self._answer)

    def _answer(self) -> None:
        """Answer as many waiting requests as `ROUND_SECONDS` allow; leave the others to the next round."""
        begun = self._pace.begin(None)
        n_now = max(1, int(ROUND_SECONDS / self._pace.estimate(None, 1)))
        waiting, self._waiting = self._waiting[:n_now], self._waiting[n_now:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        try:
            self._settle_all(waiting)
        except Exception as error:  # unforeseen: requests without an answer must not wait for ever
            logger.exception("a round failed")
            for each in waiting:
                self._settle(each, error)
        self._pace.end(None, len(waiting), begun)
        self._n_last = len(waiting)
        self._pending.write_soon()

    def _settle_all(self, waiting: Sequence[Waiting]) -> None:
        """Decode all bodies, run the calls, and hand every outcome over."""
        decoded, calls = [], []
        for each in waiting:
            try:
                call = each.reader(each.content)
            except Exception as error:  # it concerns this request only
                self._settle(each, error)
                continue
            each.record.rows = len(call.samples)
            decoded.append(each)
            calls.append(call)
        for each, outcome in zip(decoded, self._runner.run(calls, REQUEST_SECONDS), strict=True):
            self._settle(each, outcome)

    def _settle(self, waiting: Waiting, outcome: Answer | Call | Exception) -> None:
        """Hand an outcome over, unless one was handed over before; an answer closes the record."""
        hand_over, waiting.hand_over = waiting.hand_over, None
        if hand_over is None:
            return
        if isinstance(outcome, Exception):
            outcome = problems.answer(outcome, waiting.record)
        if isinstance(outcome, Answer):
            self._pending.close(waiting.record, outcome.status)
        try:
            hand_over(outcome)
        except Exception:  # the other answers must still be handed over
            logger.exception("an answer was lost")

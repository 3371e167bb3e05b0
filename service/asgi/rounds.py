"""Small requests, answered together: all that are there in one round of the event loop.

Nothing waits in order to be batched: what came while the last round was answered is the next one.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from service.endpoints.base import Reader
from service.http import problems
from service.http.messages import Answer, Body
from service.http.request_record import RequestRecord
from service.scoring.calls import Call
from service.scoring.pace import Pace
from service.serving import Serving

# What may hold the loop, which all other requests wait for meanwhile: one request, and one round.
REQUEST_SECONDS = 0.004
ROUND_SECONDS = 0.01
FIRST_GUESS = 1e-4  # seconds of a request, until a round has been seen

logger = logging.getLogger(__name__)


HandOver = Callable[[Answer | Call], None]


class Waiting:
    """A request until its round."""

    __slots__ = ("call", "content", "hand_over", "reader", "record")

    def __init__(self, reader: Reader, content: Body, record: RequestRecord, hand_over: HandOver) -> None:
        self.reader = reader
        self.content = content
        self.record = record
        self.hand_over: HandOver | None = hand_over


class Rounds:
    """Answers small requests in the event loop; `after_round` is called when some have been."""

    def __init__(self, serving: Serving, after_round: Callable[[], None]) -> None:
        self._runner, self._pending = serving.runner, serving.pending
        self._after_round = after_round
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
            Is closed with the answer.
        hand_over : callable
            Gets the answer, or a `Call` that takes long; once.
        """
        waiting = self._waiting
        if not waiting:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._look_again, loop)
        waiting.append(Waiting(reader, content, record, hand_over))

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer after one more look at the sockets: what came in the meantime is there, too.

        Who is alone now and was before is spared the look.
        """
        if self._n_last + len(self._waiting) <= 2:
            self._answer()
        else:
            loop.call_soon(self._answer)

    def _answer(self) -> None:
        """Settle what waits, whatever is raised; what would hold the loop for too long, in the next round."""
        started = time.perf_counter()
        n_now = max(1, int(ROUND_SECONDS / self._pace.estimate(None, 1)))
        waiting, self._waiting = self._waiting[:n_now], self._waiting[n_now:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        try:
            self._settle_all(waiting)
        except Exception as error:  # not foreseen; who has an answer keeps it, nobody waits for ever
            logger.exception("a round failed")
            for each in waiting:
                self._settle(each, error)
        self._pace.learn(None, len(waiting), time.perf_counter() - started)
        self._n_last = len(waiting)
        self._after_round()

    def _settle_all(self, waiting: Sequence[Waiting]) -> None:
        """Those of one head as one; then together the rest, and those of which one is not in order."""
        alike: dict[int, list[Waiting]] = {}
        for each in waiting:
            alike.setdefault(id(each.reader), []).append(each)
        rest = [each for group in alike.values() if not self._settle_joined(group) for each in group]
        ready = [each for each in rest if self._prepare(each)]
        if not ready:
            return
        outcomes = self._runner.run_together([each.call for each in ready])
        for each, outcome in zip(ready, outcomes, strict=True):
            self._settle(each, outcome)

    def _settle_joined(self, group: Sequence[Waiting]) -> bool:
        """Whether the requests of one head were answered as one."""
        call = group[0].reader.join([each.content for each in group])
        if call is None or self._runner.estimate(call) > ROUND_SECONDS:
            return False
        (replies,) = self._runner.run_together([call])
        if isinstance(replies, Exception):  # of one of them: which one, the others must not know
            return False
        for each, reply, rows in zip(group, replies, call.lengths, strict=True):
            each.record.rows = rows
            self._settle(each, reply)
        return True

    def _prepare(self, waiting: Waiting) -> bool:
        """Decode a request; whether it runs now. One that cannot, or takes long, is settled."""
        try:
            waiting.call = call = waiting.reader(waiting.content)
            waiting.record.rows = call.rows
        except Exception as error:
            self._settle(waiting, error)
            return False
        if self._runner.estimate(call) > REQUEST_SECONDS:
            self._settle(waiting, call)
            return False
        return True

    def _settle(self, waiting: Waiting, outcome: Answer | Call | Exception) -> None:
        """Hand an outcome over, once; an answer closes the record."""
        hand_over, waiting.hand_over = waiting.hand_over, None
        if hand_over is None:
            return
        if isinstance(outcome, Exception):
            outcome = problems.answer(outcome, waiting.record)
        if isinstance(outcome, Answer):
            self._pending.close(waiting.record, outcome.status)
        try:
            hand_over(outcome)
        except Exception:  # whatever becomes of one answer, the others are handed over
            logger.exception("an answer was lost")

"""When to ask again, and how long to wait before: pure, no connection and no clock of its own."""

import dataclasses
import datetime
import email.utils
import random
from collections.abc import Generator
from typing import TypeVar

from residual_client.errors import DEADLINE, NoAnswer
from residual_client.wire import PROBLEM, Answer, Failure, Request

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
LONGEST_RETRY_AFTER_SECONDS = 60.0  # a service that wants more is down, and the caller should know
RETRIED = frozenset({429, 502, 503})

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Pause:
    """Wait so long."""

    seconds: float


# What a client does step by step: it sends what is yielded and gives back what came of it.
Steps = Generator[Request | Pause, Answer | Failure | None, Result]


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often a request is repeated, and after which pauses.

    A verb changes nothing in the service, so a request may be sent twice.

    Attributes
    ----------
    most : int
        At most so many repetitions of a request, not negative.
    """

    most: int = 4

    def record(self, request: Request) -> Steps[Answer]:
        """Send a request until there is an answer that is no passing trouble, or no retry is left.

        Raises
        ------
        NoAnswer
            If the last attempt had none.
        """
        for attempt in range(self.most + 1):
            answer = yield request
            seconds = self._pause(request, answer, attempt)
            if seconds is None or attempt == self.most:
                break
            yield Pause(seconds)
        if isinstance(answer, Failure):
            raise NoAnswer(answer.sentence) from answer.cause
        return answer

    def _pause(self, request: Request, answer: Answer | Failure, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; None where there shall be none."""
        backoff = min(FIRST_PAUSE_SECONDS * 2**attempt, LONGEST_PAUSE_SECONDS) * _jitter(0.5, 1)
        if isinstance(answer, Failure):
            return backoff if answer.is_passing else None
        if answer.status == 404 and request.is_resolved:
            return backoff  # a worker that has not yet loaded the version another one named
        if answer.status not in RETRIED or _took_too_long(answer):
            return None
        asked = retry_after_seconds(answer)
        if asked is None:
            return backoff
        if asked > LONGEST_RETRY_AFTER_SECONDS:
            return None
        # All who were refused together are asked to wait as long; each time they spread out further.
        spread = max(asked, FIRST_PAUSE_SECONDS) * 2**attempt
        return asked + _jitter(0, min(spread, LONGEST_PAUSE_SECONDS))


def _took_too_long(answer: Answer) -> bool:
    """Whether the service gave up on this very request: it would again, but not on a smaller one."""
    return answer.media_type == PROBLEM and f'"{DEADLINE}"'.encode() in answer.content


def _jitter(least: float, most: float) -> float:
    """By chance, so that clients that failed together do not come back together."""
    return random.uniform(least, most)  # noqa: S311 - no secret


def retry_after_seconds(answer: Answer) -> float | None:
    """What `Retry-After` asks for, a number of seconds or a date; None where it says neither."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - datetime.datetime.now(datetime.UTC)).total_seconds())

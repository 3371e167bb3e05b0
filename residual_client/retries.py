"""When to repeat a request, and how long to wait before. Pure: nothing is sent, and nothing waits."""

import dataclasses
import datetime
import email.utils
import random
from collections.abc import Generator
from typing import TypeVar, cast

from residual_client.errors import DEADLINE, NoAnswer
from residual_client.wire import PROBLEM, Answer, Failure, Request

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
LONGEST_RETRY_AFTER_SECONDS = 60.0  # a service that asks for more is down, and the caller should know
RETRIED = frozenset({429, 502, 503})

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Pause:
    """A wait before the next step."""

    seconds: float


# The steps of a call: a client sends each request or waits, and sends the outcome into the generator.
Steps = Generator[Request | Pause, Answer | Failure | None, Result]


@dataclasses.dataclass(frozen=True)
class Retries:
    """How often to repeat a request, and after which pauses.

    A request changes nothing in the service, so it may be sent twice.
    """

    most: int = 4  # repetitions, at least 0

    def record(self, request: Request) -> Steps[Answer]:
        """Send a request until its outcome is final or no repetition is left; else raise `NoAnswer`."""
        for attempt in range(self.most + 1):
            answer = cast(Answer | Failure, (yield request))
            seconds = self._pause(request, answer, attempt)
            if seconds is None or attempt == self.most:
                break
            yield Pause(seconds)
        if isinstance(answer, Failure):
            raise NoAnswer(answer.sentence) from answer.cause
        return answer

    def _pause(self, request: Request, answer: Answer | Failure, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; None if the outcome is final."""
        backoff = min(FIRST_PAUSE_SECONDS * 2.0**attempt, LONGEST_PAUSE_SECONDS) * _jitter(0.5, 1)
        if isinstance(answer, Failure):
            return backoff if answer.is_passing else None
        if answer.status == 404 and request.is_resolved:
            return backoff  # this worker has not loaded the version yet that another worker named
        # Only a smaller request may succeed after one that took longer than the service's deadline.
        too_long = answer.media_type == PROBLEM and f'"{DEADLINE}"'.encode() in answer.content
        if answer.status not in RETRIED or too_long:
            return None
        asked = retry_after_seconds(answer)
        if asked is None:
            return backoff
        if asked > LONGEST_RETRY_AFTER_SECONDS:
            return None
        # Clients that were refused together are told the same time; each refusal spreads them out further.
        spread = max(asked, FIRST_PAUSE_SECONDS) * 2.0**attempt
        return asked + _jitter(0, min(spread, LONGEST_PAUSE_SECONDS))


def _jitter(least: float, most: float) -> float:
    """Draw at random, so that clients that failed together do not come back together."""
    return random.uniform(least, most)  # noqa: S311 - no secret


def retry_after_seconds(answer: Answer) -> float | None:
    """Read `Retry-After`, a number of seconds or a date; None if it is neither."""
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

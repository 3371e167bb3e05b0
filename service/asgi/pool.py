"""Large and slow requests: decoded and run one by one, in a bounded pool of threads."""

import asyncio
import contextlib
import functools
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from detector.engine.session import Stop, stopped_by
from service.asgi.body import BodyReader, ClientGone, ignore_result
from service.endpoints.base import Reader
from service.http.messages import Answer, Body
from service.http.request_record import RequestRecord
from service.scoring.admission import Admission, Ticket
from service.scoring.calls import Call
from service.scoring.runner import Pace
from service.serving import Serving

BYTE_SECONDS = 1e-7  # a guess, used until a large body has been measured
NICENESS = 10  # a tenth of the loop's share of a busy processor: docs/decisions/0019


class Client(Protocol):
    """A client that waits for an answer."""

    async def wait_until_gone(self) -> None:
        """Return when the client has closed its connection."""


class Pool:
    """Threads for requests that would hold the loop for too long.

    Parameters
    ----------
    serving : Serving
    admission : Admission
        The work in progress in these threads.
    name : str
        Of the threads.

    Attributes
    ----------
    executor : ThreadPoolExecutor
    byte_pace : Pace
        How long a byte of a body takes, by the kind of request.
    """

    def __init__(self, serving: Serving, admission: Admission, name: str) -> None:
        self._serving = serving
        self._admission = admission
        self.executor = ThreadPoolExecutor(
            serving.settings.pool_threads, name, initializer=_let_others_go_first
        )
        self.byte_pace = Pace(BYTE_SECONDS)

    def close(self) -> None:
        """Start no more work."""
        self.executor.shutdown(wait=False, cancel_futures=True)

    async def run(self, call: Call, record: RequestRecord, client: Client) -> Answer:
        """Return the answer to a decoded request.

        Raises
        ------
        Problem
            `overloaded`, `deadline-exceeded`, and the problems of the call itself.
        ClientGone
        """
        with self._admission.ticket() as ticket:
            ticket.add(seconds=self._serving.runner.estimate([call]))
            work = functools.partial(self._serving.answer, call, ticket, started=record.started)
            return await self._watched(work, record, client)

    async def read_and_run(
        self, reader: Reader, record: RequestRecord, body: BodyReader, content: Body | None = None
    ) -> Answer:
        """Return the answer to a request; read its body unless `content` is given. Raise as `run` does."""
        with self._admission.ticket() as ticket:
            if content is None:
                ticket.check_wait()  # refuse before the body is received
                content = await body.read(ticket)
            kind = (record.model, record.version, record.template, *body.form)
            ticket.add(seconds=self.byte_pace.estimate(kind, len(content)))
            work = functools.partial(self._read_and_run, reader, content, kind, ticket, record)
            return await self._watched(work, record, body)

    def _read_and_run(
        self, reader: Reader, content: Body, kind: tuple, ticket: Ticket, record: RequestRecord, stop: Stop
    ) -> Answer:
        started = time.perf_counter()
        with stopped_by(stop):
            call = reader(content)
        record.rows = call.rows
        answer = self._serving.answer(call, ticket, stop, record.started)
        self.byte_pace.learn(kind, len(content), time.perf_counter() - started)
        return answer

    async def _watched(self, work: Callable[..., Answer], record: RequestRecord, client: Client) -> Answer:
        """Work in a thread; stop at the deadline, or when the client closes its connection."""
        stop = Stop()
        job = self.executor.submit(work, stop=stop)
        working = asyncio.wrap_future(job)
        working.add_done_callback(ignore_result)
        watching = asyncio.ensure_future(client.wait_until_gone())
        try:
            await asyncio.wait(
                {working, watching},
                timeout=self._serving.runner.seconds_left(record.started),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not working.done():
                stop.set()
                if not job.cancel():  # the job gives its ticket back when it ends
                    await asyncio.wait({working})
                raise ClientGone if watching.done() else self._serving.runner.too_late()
            return working.result()
        finally:
            stop.set()
            watching.cancel()


def _let_others_go_first() -> None:
    """Lower the priority of this thread, so that the event loop gets a processor first."""
    if sys.platform == "linux":  # elsewhere a process has one niceness for all its threads
        with contextlib.suppress(OSError):  # a sandbox may forbid it
            os.nice(NICENESS)

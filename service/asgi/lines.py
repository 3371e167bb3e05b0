"""A body of lines under ASGI: received, run and answered at the same time, each at the pace of the others."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable

from detector.engine.session import Stop
from service.asgi.body import BYTES_PER_SECOND, ClientGone, Receive, Send, ignore_result
from service.asgi.pool import Pool
from service.endpoints import lines
from service.endpoints.lines import Batch, LineReader
from service.http.problems import Problem, translate
from service.http.request_record import RequestRecord
from service.scoring.admission import Ticket
from service.serving import Serving

Start = Callable[[], Awaitable[None]]


class LineAnswer:
    """One body of lines and its answer.

    Parameters
    ----------
    serving : Serving
    pool : Pool
        Runs the batches.
    reader : LineReader
    record : RequestRecord
    receive, send : callable
        The callables of ASGI.
    start : callable
        Sends the head of the answer.
    """

    def __init__(
        self,
        serving: Serving,
        pool: Pool,
        reader: LineReader,
        record: RequestRecord,
        receive: Receive,
        send: Send,
        start: Start,
    ) -> None:
        self._serving = serving
        self._pool = pool
        self._kind = (record.model, record.version, record.template, "lines")
        self._reader = reader
        self._record = record
        self._receive = receive
        self._send = send
        self._start = start
        self._lines = reader.open()
        self._complete = self._started = False
        self._receiving: asyncio.Future | None = None

    async def answer(self) -> None:
        """Answer every line.

        Raises
        ------
        Problem
            If the answer has not begun; a later problem becomes its last line.
        ClientGone
        """
        self._record.latency = 0.0
        try:
            with self._serving.metrics.open_streams.track_inprogress():
                await self._answer_all()
            await self._send({"type": "http.response.body", "body": b""})
        except (ClientGone, asyncio.CancelledError):
            raise
        except Exception as error:
            if not self._started:
                raise
            self._record.problem = translate(error).type
            last = lines.to_error_line(error)
            await self._send({"type": "http.response.body", "body": last})
        finally:
            if self._receiving:
                self._receiving.cancel()

    async def _answer_all(self) -> None:
        while batch := await self._next_batch():
            begun = time.perf_counter()
            content = await self._run(batch)
            if not self._started:
                self._started, self._record.latency = True, time.perf_counter() - begun
                await self._start()
            await self._send({"type": "http.response.body", "body": content, "more_body": True})
            self._record.rows = self._lines.rows
        if not self._started:
            raise lines.no_lines()

    # --- receiving ------------------------------------------------------------------------------------------

    async def _next_batch(self) -> Batch | None:
        """Wait for at least one line and return all that have arrived; None at the end of the body."""
        begun = time.monotonic()
        while True:
            batch = self._lines.take()
            if batch or self._complete:
                return batch
            most = self._serving.settings.body_seconds + self._lines.begun_bytes / BYTES_PER_SECOND
            receiving = self._receive_more()
            await asyncio.wait({receiving}, timeout=max(0.0, begun + most - time.monotonic()))
            if not receiving.done():
                raise self._too_slow()
            self._take_received()

    def _receive_more(self) -> asyncio.Future:
        if self._receiving is None:
            self._receiving = asyncio.ensure_future(self._receive())
        return self._receiving

    def _take_received(self) -> None:
        message, self._receiving = self._receiving.result(), None
        if message["type"] == "http.disconnect":
            raise ClientGone
        self._lines.feed(message.get("body", b""))
        if not message.get("more_body", False):
            self._complete = True
            self._lines.end()

    def _too_slow(self) -> Problem:
        return Problem(
            "request-timeout",
            f"a line must arrive within {self._serving.settings.body_seconds:g} seconds after the "
            f"previous one, a long line at a rate of at least {BYTES_PER_SECOND} bytes per second",
        )

    # --- running --------------------------------------------------------------------------------------------

    async def _run(self, batch: Batch) -> bytes:
        """Return the answer to a batch; receive more lines meanwhile, as long as there is room."""
        begun = time.perf_counter()
        with self._serving.admission.ticket() as ticket:
            await self._admit(batch, ticket, begun)
            stop = Stop()
            job = self._pool.executor.submit(self._work, batch, stop, begun)
            working = asyncio.wrap_future(job)
            working.add_done_callback(ignore_result)
            try:
                await self._wait(working, begun)
                return working.result()
            finally:
                stop.set()
                if not working.done() and not job.cancel():  # the ticket is given back when it ends
                    await asyncio.wait({working})

    async def _admit(self, batch: Batch, ticket: Ticket, begun: float) -> None:
        """Admit the batch; under overload wait up to the deadline; raise at once if no line is answered."""
        seconds = self._pool.byte_pace.estimate(self._kind, batch.n_bytes)
        while True:
            try:
                ticket.add(rows=len(batch.lines), n_bytes=batch.n_bytes, seconds=seconds)
                return
            except Problem:
                if not self._started or self._serving.runner.seconds_left(begun) < 0:
                    raise
            await asyncio.sleep(lines.RETRY_SECONDS)

    def _work(self, batch: Batch, stop: Stop, begun: float) -> bytes:
        started = time.perf_counter()
        run = functools.partial(self._serving.runner.run_in_time, stop=stop, started=begun)
        content = self._reader.answer(batch, run)
        self._pool.byte_pace.learn(self._kind, batch.n_bytes, time.perf_counter() - started)
        return content

    async def _wait(self, working: asyncio.Future, begun: float) -> None:
        while not working.done():
            waited_for = {working}
            if self._complete or not self._lines.is_full:  # after a complete body only the disconnect arrives
                waited_for.add(self._receive_more())
            left = self._serving.runner.seconds_left(begun)
            await asyncio.wait(waited_for, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
            if self._receiving and self._receiving.done():
                self._take_received()
            elif not working.done() and left <= 0:
                raise self._serving.runner.too_late()

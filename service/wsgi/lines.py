"""Answer a body of lines under a WSGI server: read it in pieces, and answer after each."""

import contextlib
import functools
import itertools
import time
from collections.abc import Callable, Iterator

from werkzeug.exceptions import HTTPException

from service.endpoints import lines
from service.endpoints.lines import Batch, LineReader, Lines
from service.http.problems import Problem, translate
from service.http.request_record import RequestRecord
from service.serving import Serving

# A server such as gunicorn waits until this many bytes or the whole body have arrived.
PIECE_BYTES = 64 * 2**10


def answer_lines(
    read: Callable[[int], bytes], reader: LineReader, serving: Serving, record: RequestRecord
) -> Iterator[bytes]:
    """Return the answers to all lines, in parts.

    Parameters
    ----------
    read : callable
        Reads this many bytes of the body, fewer at its end.
    reader : LineReader
    serving : Serving
    record : RequestRecord

    Raises
    ------
    Problem
        If a fault comes before the first part; a later one becomes the last part.
    """
    parts = _Parts(read, reader, serving, record)
    iterator = iter(parts)
    first = next(iterator, None)
    if first is None:
        raise lines.no_lines()
    parts.started = True
    return itertools.chain([first], _to_the_end(iterator, record))


@contextlib.contextmanager
def check_framing() -> Iterator[None]:
    """Turn the errors of a server that reads invalid chunks into a problem."""
    try:
        yield
    except HTTPException:
        raise
    except Exception as error:  # each server has its own classes of errors
        raise Problem("bad-request", "the body is not framed as HTTP/1.1 requires") from error


def _to_the_end(parts: Iterator[bytes], record: RequestRecord) -> Iterator[bytes]:
    try:
        yield from parts
    except Exception as error:
        record.problem = translate(error).type
        yield lines.to_error_line(error)


class _Parts:
    """Iterates over the answers to batches."""

    def __init__(
        self, read: Callable[[int], bytes], reader: LineReader, serving: Serving, record: RequestRecord
    ) -> None:
        self._read = read
        self._reader = reader
        self._serving = serving
        self._record = record
        self._lines: Lines = reader.open()
        self.started = False

    def __iter__(self) -> Iterator[bytes]:
        while piece := self._read_piece():
            self._lines.feed(piece)
            yield from self._answer_ready()
        self._lines.end()
        yield from self._answer_ready()

    def _read_piece(self) -> bytes:
        with check_framing():
            return self._read(PIECE_BYTES)

    def _answer_ready(self) -> Iterator[bytes]:
        while batch := self._lines.take():
            content = self._answer(batch)
            self._record.rows = self._lines.rows
            yield content

    def _answer(self, batch: Batch) -> bytes:
        begun = time.perf_counter()
        with self._serving.admission.ticket() as ticket:
            while True:
                try:
                    ticket.add(rows=len(batch.lines), n_bytes=batch.n_bytes)
                    break
                except Problem:  # the service is overloaded
                    if not self.started or self._serving.runner.seconds_left(begun) < 0:
                        raise
                time.sleep(lines.RETRY_SECONDS)
            run = functools.partial(self._serving.runner.run_in_time, stop=None, started=begun)
            return self._reader.answer(batch, run)

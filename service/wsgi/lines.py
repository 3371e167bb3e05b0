"""Answer a body of lines under a WSGI server: read it in pieces, and answer after each."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator

from werkzeug.exceptions import HTTPException

from service.endpoints import lines
from service.endpoints.lines import Batch, LineReader
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
    record.latency = 0.0
    parts = _answer_batches(read, reader, serving, record)
    first = next(parts, None)
    if first is None:
        raise lines.no_lines()
    return _to_the_end(first, parts, serving, record)


def _to_the_end(
    first: bytes, parts: Iterator[bytes], serving: Serving, record: RequestRecord
) -> Iterator[bytes]:
    with serving.metrics.open_streams.track_inprogress():
        yield first
        try:
            yield from parts
        except Exception as error:
            record.problem = translate(error).type
            yield lines.to_error_line(error)


def _answer_batches(
    read: Callable[[int], bytes], reader: LineReader, serving: Serving, record: RequestRecord
) -> Iterator[bytes]:
    received, started, piece = reader.open(), False, b"none yet"
    while piece:
        with check_framing():
            piece = read(PIECE_BYTES)
        if piece:
            received.feed(piece)
        else:
            received.end()
        while batch := received.take():
            begun = time.perf_counter()
            content = _answer(batch, reader, serving, started)
            record.rows = received.rows
            if not started:
                record.latency = time.perf_counter() - begun
            yield content
            started = True


def _answer(batch: Batch, reader: LineReader, serving: Serving, started: bool) -> bytes:
    """Answer a batch; if the answer has started, wait while the service is overloaded."""
    begun = time.perf_counter()
    with serving.admission.ticket() as ticket:
        while True:
            try:
                ticket.add(rows=len(batch.lines), n_bytes=batch.n_bytes)
                break
            except Problem:
                if not started or serving.runner.seconds_left(begun) < 0:
                    raise
            time.sleep(lines.RETRY_SECONDS)
        run = functools.partial(serving.runner.run_in_time, stop=None, started=begun)
        return reader.answer(batch, run)


@contextlib.contextmanager
def check_framing() -> Iterator[None]:
    """Turn the errors of a server that reads invalid chunks into a problem."""
    try:
        yield
    except HTTPException:
        raise
    except Exception as error:  # each server has its own classes of errors
        raise Problem("bad-request", "the body is not framed as HTTP/1.1 requires") from error

"""Lines on their way to a reader that is slow, absent or gone."""

import contextlib
import os
import time
from collections.abc import Iterator

import pytest

from service.watching.stdout import PIPE_BYTES, QUEUE_BYTES, LineWriter, _pieces

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe: for reading and for writing."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def write_until_dropped(writer: LineWriter) -> int:
    """Write lines until the first is dropped, and return the number of those before."""
    for number in range(10**6):
        writer.write(LINE)
        if writer.take_dropped():
            return number
    pytest.fail("no line was dropped")


def test_without_a_thread_lines_are_written_at_once(pipe):
    """As in gunicorn's master."""
    reader, end = pipe
    writer = LineWriter(end)

    writer.write(LINE)

    assert os.read(reader, 1000) == LINE
    assert writer.take_dropped() == 0


def test_without_a_thread_a_full_pipe_is_not_waited_for(pipe):
    """Lines are dropped while it is full, and written whole when there is room again."""
    reader, end = pipe
    writer = LineWriter(end)

    n_written = write_until_dropped(writer)
    begun = os.read(reader, 2**20)
    writer.write(LINE)

    assert n_written > 100
    assert begun + os.read(reader, 2**20) == LINE * (n_written + 1)


def test_without_a_thread_a_line_longer_than_the_pipe_is_continued(pipe):
    """Its rest comes before the next line."""
    reader, end = pipe
    writer = LineWriter(end)
    long = b"y" * 100_000 + b"\n"

    writer.write(long)
    begun = os.read(reader, 2**20)
    writer.write(LINE)

    assert len(begun) < len(long)
    assert begun + os.read(reader, 2**20) == long + LINE


def test_thread_writes_lines_in_order(pipe):
    """As in a worker."""
    reader, end = pipe
    writer = LineWriter(end)
    writer.start()

    for number in range(1000):
        writer.write(b"%d\n" % number)
    writer.flush()

    assert os.read(reader, 2**20).split() == [b"%d" % number for number in range(1000)]


def test_thread_alone_waits_for_the_reader(pipe):
    """The queue is bounded, lines beyond are counted, and the others come when somebody reads."""
    reader, end = pipe
    writer = LineWriter(end)
    writer.start()
    started = time.monotonic()

    n_taken = write_until_dropped(writer)
    writer.write(LINE * 7)
    n_dropped = writer.take_dropped()
    took = time.monotonic() - started
    received = 0
    while received < n_taken * len(LINE):
        received += len(os.read(reader, 2**20))

    assert QUEUE_BYTES <= n_taken * len(LINE) + len(LINE) <= QUEUE_BYTES + len(LINE)
    assert n_dropped == 7
    assert took < 5
    writer.write(LINE)
    assert os.read(reader, 1000) == LINE


def test_end_of_a_process_waits_a_moment_only(pipe):
    """Otherwise it would never end."""
    _, end = pipe
    writer = LineWriter(end)
    writer.start()
    writer.write(LINE * 10_000)
    started = time.monotonic()

    writer.flush()

    assert 0.9 < time.monotonic() - started < 5


@pytest.mark.parametrize("has_thread", [False, True])
def test_reader_that_has_gone_stops_nothing(pipe, has_thread):
    """A thread counts its lines as dropped."""
    reader, end = pipe
    writer = LineWriter(end)
    if has_thread:
        writer.start()
    os.close(reader)

    writer.write(LINE * 3)
    writer.flush()

    assert writer.take_dropped() == (3 if has_thread else 0)


def test_lines_of_several_processes_do_not_mix():
    """The kernel does not cut a write of at most `PIPE_BYTES`, and each holds whole lines."""
    content = LINE * 1000 + b"y" * 3 * PIPE_BYTES + b"\n" + LINE * 50 + b"z" * (PIPE_BYTES - 1) + b"\n"

    pieces = [content[start:end] for start, end in _pieces(content)]

    assert b"".join(pieces) == content
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert [len(piece) for piece in pieces if len(piece) > PIPE_BYTES] == [3 * PIPE_BYTES + 1]
    assert len(pieces) < len(content) / PIPE_BYTES + 4

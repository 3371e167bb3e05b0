"""Write lines to stdout without waiting for its reader.

A pipe that nobody reads is full after 64 KiB, and a write to it then waits for ever. If the event loop wrote
the log itself, such a pipe would stop the service.
"""

import os
import select
import threading
from collections.abc import Iterator

STDOUT = 1
PIPE_BYTES = select.PIPE_BUF  # the lines of several processes do not mix in writes of at most so many bytes
QUEUE_BYTES = 4 * 2**20
FLUSH_SECONDS = 1.0


class LineWriter:
    """Writes lines to a file descriptor; drops and counts them while its reader is too slow.

    In gunicorn's master, which forks and so must have no thread, a line is written if it need not wait. In a
    worker, after `start`, a thread writes, and lines wait in a queue of `QUEUE_BYTES`. Safe to use from
    several threads.

    Attributes
    ----------
    n_dropped : int
        Lines that were dropped since they were last taken.
    """

    def __init__(self, descriptor: int = STDOUT) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._queue: list[bytes] = []
        self._n_bytes = 0  # in the queue, and on their way out
        self.n_dropped = 0
        self._rest = b""  # of a line that the pipe took in part
        self._has_thread = False

    def start(self) -> None:
        """Write in a thread from now on."""
        self._has_thread = True
        threading.Thread(target=self._write_queue, name="log", daemon=True).start()

    def write(self, lines: bytes) -> None:
        """Write whole lines, each with its line feed, now or a little later."""
        with self._changed:
            if self._has_thread and self._n_bytes + len(lines) <= QUEUE_BYTES:
                self._queue.append(lines)
                self._n_bytes += len(lines)
                self._changed.notify_all()
            elif self._has_thread or not self._write_if_ready(lines):
                self.n_dropped += lines.count(b"\n")

    def flush(self) -> None:
        """Wait until everything is written, at most `FLUSH_SECONDS`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._n_bytes, FLUSH_SECONDS)

    def take_dropped(self) -> int:
        """Return the number of lines that were dropped since the last call."""
        with self._changed:
            n_dropped, self.n_dropped = self.n_dropped, 0
        return n_dropped

    def _write_queue(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                content, self._queue = b"".join(self._queue), []
            n_lost = self._write_all(content)
            with self._changed:
                self._n_bytes -= len(content)
                self.n_dropped += n_lost
                self._changed.notify_all()

    def _write_all(self, content: bytes) -> int:
        """Write lines, however long it takes; return how many are lost because the reader has gone."""
        for start, end in _pieces(content):
            try:
                while start < end:
                    start += os.write(self._descriptor, content[start:end])
            except OSError:
                return content.count(b"\n", start)
        return 0

    def _write_if_ready(self, lines: bytes) -> bool:
        """Write lines if the descriptor takes them at once; return whether it does."""
        self._rest = self._push(self._rest)
        if self._rest or not self._is_ready():
            return False
        self._rest = self._push(lines)
        return True

    def _push(self, content: bytes) -> bytes:
        """Write as much as fits, and return the rest."""
        try:
            while content and self._is_ready():
                content = content[os.write(self._descriptor, content[:PIPE_BYTES]) :]
        except OSError:  # the reader has gone
            return b""
        return content

    def _is_ready(self) -> bool:
        """Whether a write of `PIPE_BYTES` need not wait."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(0))


def _pieces(content: bytes) -> Iterator[tuple[int, int]]:
    """Yield the places of whole lines of at most `PIPE_BYTES` together, or of one line that is longer."""
    start = 0
    while start < len(content):
        end = content.rfind(b"\n", start, start + PIPE_BYTES) + 1 or content.index(b"\n", start) + 1
        yield start, end
        start = end


writer = LineWriter()  # of this process

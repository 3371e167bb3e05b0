"""Load a version in a child process first, so that a bad one ends that process and not a worker.

A graph may loop for ever, need more memory than there is, or crash ONNX Runtime: docs/decisions/0033. The
child limits itself before it reads a version, and yields the processor to the workers.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, cast

from detector import Detector, DetectorError
from service.models.malloc import give_back

# A busy machine gives the child a small share of its processors, so the clock allows more than the processor:
# the time to start, and a multiple of the processor time.
START_SECONDS = 10
CLOCK_FACTOR = 3
NICENESS = 10


class TrialKilled(DetectorError):
    """The child ended for a reason that need not lie in the version: no answer in time, or out of memory."""


class Trial:
    """A child process that loads versions, one at a time; started when it is needed.

    Parameters
    ----------
    seconds : float
        Processor time that a version may take to load and pass its self-test.
    max_bytes : int
        Memory of the child.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._clock_seconds = START_SECONDS + CLOCK_FACTOR * seconds
        self._max_bytes = max_bytes
        self._niceness = 0
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def check(self, folder: Path) -> None:
        """Load a version folder in the child.

        Raises
        ------
        DetectorError
            If it is refused, breaks a limit or crashes.
        TrialKilled
            If the same folder may pass another time.
        OSError
            If no process can be started.
        """
        with self._lock:
            process = self._start()
            timer = threading.Timer(self._clock_seconds, process.kill)
            timer.start()
            try:
                answer = _ask(process, str(folder))
            finally:
                timer.cancel()
            if not answer:
                self._close()
                raise self._explain(process.returncode)
        reason = json.loads(answer)
        if reason is not None:
            raise DetectorError(reason)

    def rest(self) -> None:
        """End the child if it is idle; the next one has a low priority, since no start waits for it."""
        self._niceness = NICENESS
        if self._lock.acquire(blocking=False):
            try:
                self._close()
            finally:
                self._lock.release()

    def stop(self) -> None:
        """End the child, whatever it does."""
        process = self._process
        if process is not None:
            process.kill()
        self.rest()

    def _start(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is not None:
            self._close()
        if self._process is None:
            limits = map(str, (self._seconds, self._max_bytes, self._niceness))
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this module
                [sys.executable, "-P", "-m", __name__, *limits],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,  # Ctrl-C in a terminal is for the service
            )
        return self._process

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(BrokenPipeError), process:
                pass  # the end of its input ends it

    def _explain(self, status: int) -> DetectorError:
        """Return the error of a child that ended without an answer."""
        if status == -signal.SIGXCPU:
            return DetectorError(
                f"it used more than {self._seconds:g} seconds of processor time to load and pass its "
                "self-test"
            )
        if status == -signal.SIGKILL:
            return TrialKilled(
                f"it did not load and pass its self-test within {self._clock_seconds:g} seconds, or the "
                "system had no memory left"
            )
        ended = signal.Signals(-status).name if status < 0 else f"status {status}"
        return DetectorError(f"it ended the process that loaded it for a trial: {ended}")


def _ask(process: subprocess.Popen[str], question: str) -> str:
    """Return the next line of the child; empty if it has ended."""
    questions, answers = cast(IO[str], process.stdin), cast(IO[str], process.stdout)
    with contextlib.suppress(BrokenPipeError):
        questions.write(json.dumps(question) + "\n")
        questions.flush()
    return answers.readline()


def main() -> None:
    """Answer each folder on the standard input with the reason why it is refused, or null."""
    seconds, max_bytes, niceness = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    answers = _take_output()
    os.nice(niceness)
    with contextlib.suppress(OSError):  # only Linux has it: when memory runs out, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, max_bytes))
    for line in sys.stdin:
        _limit_processor_time(seconds)
        answers.write(json.dumps(_load(Path(json.loads(line)), max_bytes)) + "\n")
        answers.flush()
        give_back()


def _take_output() -> IO[str]:
    """Return the standard output, which whatever a library prints can then not reach."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _limit_processor_time(seconds: float) -> None:
    """Let this process use so many seconds from now on."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _load(folder: Path, max_bytes: int) -> str | None:
    """Return why a version is refused; None if it passes."""
    try:
        Detector.load(folder)
    except Exception as error:  # a graph may raise anything
        name = "" if isinstance(error, DetectorError) else f"{type(error).__name__}: "
        reason = f"{name}{error}".strip()
        if isinstance(error, MemoryError) or "alloc" in reason:
            reason += f" (it may use {max_bytes} bytes of memory)"
        return reason
    return None


if __name__ == "__main__":
    main()

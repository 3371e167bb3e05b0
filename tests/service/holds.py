"""How long work in one thread keeps the other threads of the process from running."""

import gc
import sys
import threading
import time
from collections.abc import Callable

SWITCH_SECONDS = 1e-4  # after which a thread is asked for the interpreter's lock
TRIES = 3


def longest_hold(work: Callable[[], object], most: float) -> float:
    """Return the longest time that `work` holds the interpreter's lock, in CPU seconds of its thread.

    That is how long an event loop would stand while a pool thread does the work. The CPU clock makes it
    independent of other programs on the machine, save that work without the lock counts while the watching
    thread has no processor; so up to three times are tried until one is below `most`.
    """
    shortest = _hold(work)
    for _ in range(1, TRIES):
        if shortest < most:
            break
        shortest = min(shortest, _hold(work))
    return shortest


def _hold(work: Callable[[], object]) -> float:
    begin, done, leave = threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        begin.wait()
        try:
            work()
        finally:
            done.set()
            leave.wait()  # the clock ends with the thread

    thread = threading.Thread(target=run)
    thread.start()
    clock = time.pthread_getcpuclockid(thread.ident)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.freeze()  # as the service does; the objects of all tests would take long to visit
    longest, last = 0.0, time.clock_gettime(clock)
    begin.set()
    try:
        while not done.is_set():
            now = time.clock_gettime(clock)
            longest, last = max(longest, now - last), now
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
        leave.set()
        thread.join()
    return max(longest, 0.0)

"""End a command by SIGTERM as by Ctrl-C: with KeyboardInterrupt, even inside a finalizer."""

import contextlib
import signal
import sys
from collections.abc import Iterator

SECONDS_UNTIL_RAISED_AGAIN = 0.01  # by then the interrupted finalizer has ended


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt in the main thread, as Ctrl-C does.

    Python drops exceptions raised inside a `__del__`, and TensorFlow runs some all through a fit: one in
    forty interrupts was lost. Such an interrupt is raised again a moment later.
    """
    former_hook = sys.unraisablehook

    def raise_again(dropped: "sys.UnraisableHookArgs") -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, SECONDS_UNTIL_RAISED_AGAIN)
        else:
            former_hook(dropped)

    former = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGALRM)
    }
    sys.unraisablehook = raise_again
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = former_hook
        for number, handler in former.items():
            signal.signal(number, handler)

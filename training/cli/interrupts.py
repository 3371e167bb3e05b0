"""How a command is ended from outside: by KeyboardInterrupt, which no finalizer swallows."""

import contextlib
import signal
import sys
from collections.abc import Iterator

SECONDS_UNTIL_RAISED_AGAIN = 0.01  # the finalizer that it interrupted is long done


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Meanwhile SIGTERM raises KeyboardInterrupt as Ctrl-C does, in the main thread.

    Python drops what is raised inside a `__del__`, and TensorFlow has some that run all through a fit: one
    in forty interrupts ended there. Such an interrupt is raised once more, a moment later.
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

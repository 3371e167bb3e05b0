"""Progress of a fit on stderr: a live bar on a terminal, plain lines elsewhere."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator

import keras
from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0
BAR = "fitting {n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}"  # fits into 80 columns
ROOM_UNKNOWN = {"ncols": 80, "nrows": 24}  # for a terminal that does not tell its size


@contextlib.contextmanager
def progress_callback(epochs: int, max_seconds: float = math.inf) -> Iterator[keras.callbacks.Callback]:
    """Choose bar or lines; the next output starts on a new line, however the fit ended.

    Parameters
    ----------
    epochs : int
        Most epochs of the fit.
    max_seconds : float
        Time after which no further epoch begins.
    """
    if not sys.stderr.isatty():
        yield _Lines(epochs, max_seconds)
        return
    # tqdm would draw nothing in a terminal of 0 columns.
    room = {} if os.get_terminal_size(sys.stderr.fileno()).columns else ROOM_UNKNOWN
    with tqdm(total=epochs, bar_format=BAR, **room) as bar:
        yield _Bar(bar)


class _Bar(keras.callbacks.Callback):
    """One line, redrawn after every epoch: epochs, time left, losses."""

    def __init__(self, bar: tqdm) -> None:
        super().__init__()
        self._bar = bar

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Move on by one epoch."""
        self._bar.set_postfix(_losses(logs))
        self._bar.update()


class _Lines(keras.callbacks.Callback):
    """The first epoch, then a line every ten seconds: readable in a log."""

    def __init__(self, epochs: int, max_seconds: float) -> None:
        super().__init__()
        self._epochs = epochs
        self._max_seconds = max_seconds
        self._start = time.monotonic()
        self._printed = -SECONDS_BETWEEN_LINES

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print a line if ten seconds have passed."""
        elapsed = time.monotonic() - self._start
        if elapsed - self._printed < SECONDS_BETWEEN_LINES:
            return
        self._printed = elapsed
        left = min(elapsed / (epoch + 1) * (self._epochs - epoch - 1), max(self._max_seconds - elapsed, 0))
        losses = ", ".join(f"{name} {value}" for name, value in _losses(logs).items())
        print(
            f"epoch {epoch + 1}/{self._epochs}, {losses}, at most {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def _losses(logs: dict[str, float] | None) -> dict[str, str]:
    names = {"loss": "loss", "val_loss": "validation loss"}
    return {words: f"{logs[name]:.5g}" for name, words in names.items() if logs and name in logs}

"""How a fit shows its progress: a live bar on a terminal, plain lines elsewhere; on stderr either way."""

import sys
import time

import keras
from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


def progress_callback(epochs: int) -> keras.callbacks.Callback:
    """The form that fits stderr."""
    return _Bar(epochs) if sys.stderr.isatty() else _Lines(epochs)


class _Bar(keras.callbacks.Callback):
    """One line that is drawn again: epochs, time left, losses."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._bar = tqdm(total=epochs, unit="epoch", desc="fitting", leave=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Move on by one epoch."""
        self._bar.set_postfix(_losses(logs))
        self._bar.update()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Leave the last state on the screen."""
        self._bar.close()


class _Lines(keras.callbacks.Callback):
    """The first epoch, then a line every ten seconds: readable in a log."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs
        self._start = time.monotonic()
        self._printed = -SECONDS_BETWEEN_LINES

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Print where the fit is, if it is time."""
        elapsed = time.monotonic() - self._start
        if elapsed - self._printed < SECONDS_BETWEEN_LINES:
            return
        self._printed = elapsed
        left = elapsed / (epoch + 1) * (self._epochs - epoch - 1)
        losses = ", ".join(f"{name} {value}" for name, value in _losses(logs).items())
        print(
            f"epoch {epoch + 1}/{self._epochs}, {losses}, at most {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def _losses(logs: dict[str, float] | None) -> dict[str, str]:
    names = {"loss": "loss", "val_loss": "validation loss"}
    return {words: f"{logs[name]:.5g}" for name, words in names.items() if logs and name in logs}

"""Progress is a live bar on a terminal and lines elsewhere."""

import contextlib
import os
import select

import pytest

from training.cli.progress import progress_callback

LOGS = {"loss": 0.0123456789, "val_loss": 0.0123456789}


@pytest.fixture
def terminal():
    """A terminal that does not report its size: the file to write to, and a function that reads it."""
    screen, stderr = os.openpty()

    def read_line() -> str:
        """Read until a line has ended; the kernel may hand over less than was written."""
        drawn = b""
        while not drawn.endswith(b"\n"):
            assert select.select([screen], [], [], 10)[0], drawn
            drawn += os.read(screen, 65536)
        return drawn.decode()

    with os.fdopen(stderr, "w") as writer:
        yield writer, read_line
    os.close(screen)


def run_epochs(epochs, *, stop_after=None):
    """A fit as far as progress sees it."""
    with progress_callback(epochs) as progress:
        for epoch in range(epochs):
            progress.on_epoch_end(epoch, LOGS)
            if epoch + 1 == stop_after:
                raise KeyboardInterrupt


def test_a_terminal_gets_a_bar_with_losses_and_time_left(terminal):
    """Drawn again in its line, which is ended at last."""
    stderr, shown = terminal
    with contextlib.redirect_stderr(stderr):
        run_epochs(3)

    drawn = shown()
    assert drawn.endswith("\r\n")
    last = drawn.rstrip().split("\r")[-1]
    assert last.startswith("fitting 3/3 |█")
    assert last.endswith("| 00:00 left, loss=0.012346, validation loss=0.012346")
    assert len(last) <= 80


def test_an_interrupted_bar_ends_its_line(terminal):
    """Later output starts on a line of its own."""
    stderr, shown = terminal
    with contextlib.redirect_stderr(stderr), pytest.raises(KeyboardInterrupt):
        run_epochs(3, stop_after=1)

    assert shown().endswith("\r\n")


def test_a_log_gets_the_first_epoch_and_then_few_lines(capsys):
    """A thousand epochs within ten seconds are one line."""
    run_epochs(1000)

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("epoch 1/1000, loss 0.012346, validation loss 0.012346, at most")
    assert line.endswith("s left")


def test_the_time_left_is_at_most_what_the_limit_leaves(capsys, monkeypatch):
    """A fit of 300 epochs that may take half a minute does not announce quarters of an hour."""
    monkeypatch.setattr("training.cli.progress.time.monotonic", iter([0.0, 12.0, 31.0]).__next__)
    with progress_callback(300, max_seconds=30) as progress:
        progress.on_epoch_end(0, LOGS)
        progress.on_epoch_end(1, LOGS)

    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("at most 18 s left")
    assert second.endswith("at most 0 s left")

"""What the command lines of this package share: the form of the help, flags of the data, one clean end."""

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence

from detector.errors import DetectorError
from training.errors import TrainingError


def command_parser(module: str, manual: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=manual,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_label_flags(parser: argparse.ArgumentParser) -> None:
    """Where labels stand and which of them is the normal one."""
    parser.add_argument("--label-column", metavar="COLUMN", help="of a table")
    parser.add_argument(
        "--normal-label", metavar="VALUE", help="samples of this label are normal, others not"
    )


def names(text: str) -> list[str]:
    """`A,B,C` as a list."""
    return [name.strip() for name in text.split(",")]


def value_range(text: str) -> tuple[float, float]:
    """`LOW,HIGH` as two numbers."""
    try:
        low, high = text.split(",")
        return float(low), float(high)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be LOW,HIGH, two numbers, got {text!r}") from error


def run_command(action: Callable[[], None], interrupted: str = "nothing was written") -> int:
    """Exit status of an action: 0 done, 1 failed with one sentence on stderr, 130 interrupted."""
    try:
        with _terminable():
            action()
    except (TrainingError, DetectorError, OSError) as error:  # OSError: a disk that is full
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return 130
    return 0


def print_notes(notes: Sequence[str]) -> None:
    """What was assumed, on stderr."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell: the first is words, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip())


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Being terminated cleans up as Ctrl-C does."""
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)

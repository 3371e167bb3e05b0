"""The command lines of the benchmarks: parser, types of arguments, progress lines, exit status."""

import argparse
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from benchmarks.errors import BenchmarkError


def parser(
    manual: str, out: str = "JSON file; a row that it has is not measured again"
) -> argparse.ArgumentParser:
    """Make a parser with `--out` whose `--help` prints the docstring of the module as it is."""
    made = argparse.ArgumentParser(description=manual, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", required=True, type=Path, help=out)
    return made


def names(text: str) -> list[str]:
    """Split names at commas."""
    return text.split(",")


def names_among(known: Collection[str]) -> Callable[[str], list[str]]:
    """Make an argument type: names separated by commas, each one of `known`."""
    return lambda text: check_names(names(text), known)


def check_names(named: list[str], known: Collection[str]) -> list[str]:
    """Return the names; raise ArgumentTypeError if one is not known."""
    unknown = [name for name in named if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"must be among {', '.join(known)}, got {', '.join(unknown)}")
    return named


def integers(least: int) -> Callable[[str], list[int]]:
    """Make an argument type: integers of at least `least`, separated by commas."""

    def parse(text: str) -> list[int]:
        try:
            numbers = [int(number) for number in names(text)]
        except ValueError:
            numbers = [least - 1]
        if min(numbers) < least:
            raise argparse.ArgumentTypeError(
                f"must be integers of at least {least} separated by commas, got {text!r}"
            )
        return numbers

    return parse


def progress(line: str) -> None:
    """Print a line with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def report(failures: Iterable[str]) -> int:
    """Print failed measurements to stderr; return the exit status, 1 if there are any."""
    status = 0
    for failure in failures:
        print(f"not measured: {failure}", file=sys.stderr)
        status = 1
    return status


def run(main: Callable[[Sequence[str] | None], int]) -> NoReturn:
    """Run a benchmark as a program: a BenchmarkError ends it with one sentence and status 1."""
    try:
        sys.exit(main(None))
    except BenchmarkError as error:
        sys.exit(f"error: {error}")

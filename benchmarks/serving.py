"""How fast is it? This service beside other ways to serve the same ONNX file, driven by wrk.

  python benchmarks/serving.py --out benchmarks/results/serving.json
  python benchmarks/serving.py --contenders residual,fastapi-tuned --work dense --rows 1 --out FILE
  python benchmarks/serving.py --contenders residual --rows 10000 --seconds 4 --repeats 3 --out FILE

Contenders are started in turn, the other way round in every second repeat, each from an environment of its
own that is made where it is missing (`residual` from the one that runs this). Before it is timed, each has to
answer the scores that the model has. `engine` is ONNX Runtime in processes of one thread without a server:
rows are its batch, concurrency the processes. docs/serving.md says what every figure means.

A run that the output file has is not run again, and after a stop the rest goes on. What cannot be measured is
reported, the others go on, and the exit status is 1. At the end a table of medians is printed, with ratios
against `fastapi-tuned`, and drawn beside the output.
"""

import argparse
import functools
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.protocol import QualityError
from benchmarks.rows import Row, find_row, read_rows, write_rows
from benchmarks.servers import engine, wrk
from benchmarks.servers.contenders import CONTENDERS
from benchmarks.servers.errors import ServingError
from benchmarks.servers.server import Server, bulk_seconds, started
from benchmarks.servers.summary import summarise, table
from benchmarks.servers.usage import DIRTY_SHARE, cleanly
from benchmarks.servers.work import FITS, Work, make

BODIES = ("json", "npy", "raw")
WARM_UP_SECONDS, WARM_UP_CONCURRENCY = 2, 8


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, print the table; 1 if something could not be measured."""
    arguments = _parser().parse_args(argv)
    try:
        wrk.check_installed()
        for name in arguments.contenders:
            if name != engine.ENGINE:
                CONTENDERS[name].make()
        works = [make(name) for name in arguments.work]
    except (QualityError, ServingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    run = _Run(arguments)
    failures = [failure for repeat in range(arguments.repeats) for failure in run.measure(works, repeat)]
    _show(run.wanted(), arguments.figure or arguments.out.with_suffix(".png"))
    for failure in failures:
        print(f"not measured: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = [*CONTENDERS, engine.ENGINE]
    parser.add_argument("--contenders", type=_names(known), default=known, help="separated by commas")
    parser.add_argument("--work", type=_names(FITS), default=list(FITS), help="dense, conv")
    parser.add_argument("--bodies", type=_names(BODIES), default=list(BODIES), help="json, npy, raw")
    parser.add_argument("--rows", type=_integers, default=[1, 1000, 10_000], help="of one request")
    parser.add_argument(
        "--concurrency", type=_integers, default=[1, 8, 32, 64], help="connections of single rows"
    )
    parser.add_argument(
        "--bulk-concurrency", type=_integers, default=[1, 2], help="connections of requests of many rows"
    )
    parser.add_argument("--seconds", type=float, default=4, help="of a run, after a warm-up")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--figure", type=Path, help="picture (default: --out with .png)")
    parser.add_argument("--out", required=True, type=Path)
    return parser


def _names(known: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"must be of {', '.join(known)}, got {', '.join(unknown)}")
        return names

    return parse


def _integers(text: str) -> list[int]:
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"must be positive integers separated by commas, got {text!r}")
    return numbers


# --- what is missing ----------------------------------------------------------------------------------------


class _Run:
    """The rows of a file, and what is added to them."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments

    def wanted(self) -> list[Row]:
        """The rows of the file that were asked for."""
        asked_for = [
            case
            for repeat in range(self._arguments.repeats)
            for name in self._arguments.contenders
            for work in self._arguments.work
            for case in self._cases(name, work, repeat)
        ]
        rows = read_rows(self._arguments.out)
        return [row for case in asked_for if (row := find_row(rows, **case)) is not None]

    def measure(self, works: Sequence[Work], repeat: int) -> Iterator[str]:
        """Measure what the file lacks of a repeat; what cannot be measured comes back as sentences."""
        names = self._arguments.contenders[:: -1 if repeat % 2 else 1]
        for work in works:
            for name in names:
                rows = read_rows(self._arguments.out)
                missing = [
                    case for case in self._cases(name, work.name, repeat) if not find_row(rows, **case)
                ]
                try:
                    if name == engine.ENGINE:
                        self._measure_engine(work, missing)
                    else:
                        self._measure_server(name, work, missing)
                except ServingError as error:
                    yield str(error)

    def _cases(self, name: str, work: str, repeat: int) -> list[Row]:
        """What tells one row from another."""
        is_engine = name == engine.ENGINE
        if is_engine:
            bodies, n_rows = [engine.BODY], engine.BATCHES
        else:
            bodies = [body for body in self._arguments.bodies if body in CONTENDERS[name].formats]
            n_rows = self._arguments.rows
        return [
            {
                "contender": name,
                "work": work,
                "body": body,
                "rows": rows,
                "concurrency": concurrency,
                "repeat": repeat,
            }
            for rows in n_rows
            for body in bodies
            for concurrency in self._concurrency(rows, is_engine)
        ]

    def _concurrency(self, n_rows: int, is_engine: bool) -> Sequence[int]:
        if is_engine:
            return (1, 2)
        return self._arguments.concurrency if n_rows == 1 else self._arguments.bulk_concurrency

    def _measure_engine(self, work: Work, missing: Sequence[Row]) -> None:
        for case in missing:
            measure = functools.partial(
                engine.measure, work, case["rows"], case["concurrency"], self._arguments.seconds
            )
            self._add(case, cleanly(measure))

    def _measure_server(self, name: str, work: Work, missing: Sequence[Row]) -> None:
        """Single rows and bulk apart: a server may be set up in another way for each."""
        for bulk in (False, True):
            cases = [case for case in missing if (case["rows"] > 1) == bulk]
            if cases:
                with started(CONTENDERS[name], work, bulk) as server:
                    self._measure_cases(server, cases)

    def _measure_cases(self, server: Server, cases: Sequence[Row]) -> None:
        checked = None
        for case in cases:
            body, n_rows, concurrency = case["body"], case["rows"], case["concurrency"]
            if (body, n_rows) != checked:
                once = server.check_scores(body, n_rows)
                server.drive(body, n_rows, WARM_UP_CONCURRENCY if n_rows == 1 else 1, WARM_UP_SECONDS)
                checked = (body, n_rows)
            seconds = bulk_seconds(self._arguments.seconds, once if n_rows > 1 else 0.0)
            self._add(case, server.measure(body, n_rows, concurrency, seconds))

    def _add(self, case: Row, figures: dict[str, Any]) -> None:
        row = case | figures | {"seconds": self._arguments.seconds}
        write_rows(self._arguments.out, [*read_rows(self._arguments.out), row])
        print(f"{time.strftime('%H:%M:%S')} {_line(row)}", flush=True)


def _line(row: Row) -> str:
    what = f"{row['contender']} {row['work']} {row['body']} rows {row['rows']} c {row['concurrency']}"
    figures = f"{row['requests_per_second']:,.1f} requests/s, p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms"
    others = f", {row['foreign_cpu']:.0%} of the machine used by others" if row["dirty"] else ""
    errors = f", {row['errors']} errors" if row["errors"] else ""
    return f"{what}, repeat {row['repeat']}: {figures}{errors}{others}"


# --- what came out ------------------------------------------------------------------------------------------


def _show(rows: Sequence[Row], picture: Path) -> None:
    """Print the table, draw the figure."""
    medians = summarise(rows)
    print("\n".join(table(medians)))
    n_dirty = sum(row["dirty"] for row in rows)
    if n_dirty:
        print(f"\n{n_dirty} of {len(rows)} runs had over {DIRTY_SHARE:.0%} of the machine used by others.")
    if medians:
        from benchmarks.servers.picture import draw  # matplotlib takes a second to import

        draw(picture, medians)
        print(f"\nfigure: {picture}")


if __name__ == "__main__":
    sys.exit(main())

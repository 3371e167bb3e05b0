"""How fast is it? This service and other ways to serve the same ONNX file, driven by wrk.

  python benchmarks/serving.py --out benchmarks/results/serving.json
  python benchmarks/serving.py --contenders residual,fastapi-tuned --work dense --rows 1 --out FILE
  python benchmarks/serving.py --contenders residual --rows 10000 --seconds 4 --repeats 3 --out FILE

  python benchmarks/serving.py --mixed --out FILE     single rows during requests of many rows without a pause
  python benchmarks/serving.py --overload --out FILE  five times the capacity, offered by an open-loop client
  python benchmarks/serving.py --proxy --out FILE     the same requests through nginx, set up as in compose
  python benchmarks/serving.py --new-heads --out FILE the same requests, each with a different head

Contenders are started one after the other, in reverse order in every second repeat. Each has an environment
of its own, made if it is missing; `residual` uses the environment that runs this script. Before a contender
is timed, its scores are compared with the model's. `engine` is ONNX Runtime without a server, in processes of
one thread: its rows are the batch, its concurrency the processes. docs/serving.md explains every figure.

A run that the output file has is not run again, so a stopped benchmark can be continued. If something cannot
be measured, the others are, and the exit status is 1. At the end a table of medians is printed, with ratios
to `fastapi-tuned`, and drawn as an image.
"""

import argparse
import contextlib
import dataclasses
import functools
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import commands
from benchmarks.errors import BenchmarkError
from benchmarks.rows import Row, append_row, find_row, read_rows
from benchmarks.servers import engine, mixed, overload, proxy, wrk
from benchmarks.servers.contenders import CONTENDERS
from benchmarks.servers.plan import (
    BODIES,
    DEFAULTS,
    MIXED,
    NEW_HEADS,
    OVERLOAD,
    PLAIN,
    PROXY,
    ServingPlan,
    needed_bodies,
)
from benchmarks.servers.server import Server, bulk_seconds, proxied, started
from benchmarks.servers.summary import mixed_table, overload_table, proxy_table, summarise, table
from benchmarks.servers.usage import DIRTY_SHARE, cleanly
from benchmarks.servers.work import FITS, Work, make

WARM_UP_SECONDS, WARM_UP_CONCURRENCY = 2, 8


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, print the table; return 1 if something could not be measured."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    plan = ServingPlan(arguments)
    if engine.ENGINE in plan.contenders and plan.mode != PLAIN:
        parser.error(f"{engine.ENGINE} has no server to measure with --{plan.mode}")
    try:
        wrk.check_installed()
        nginx = proxy.program(arguments.nginx) if plan.mode == PROXY else None
        for name in plan.contenders:
            if name != engine.ENGINE:
                CONTENDERS[name].make()
        works = [make(name) for name in plan.works]
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results = _Results(plan, arguments.out, arguments.seconds, nginx)
    failures = [failure for repeat in range(arguments.repeats) for failure in results.measure(works, repeat)]
    _show(plan, read_rows(arguments.out), arguments.figure or arguments.out.with_suffix(".png"))
    return commands.report(failures)


def _parser() -> argparse.ArgumentParser:
    parser = commands.parser(__doc__)
    mode = parser.add_mutually_exclusive_group()
    for name in (MIXED, OVERLOAD, PROXY, NEW_HEADS):
        mode.add_argument(f"--{name}", dest="mode", action="store_const", const=name, default=PLAIN)
    names, counts = commands.names_among, commands.integers(1)
    contenders = "separated by commas (default: all, with a mode one or two)"
    parser.add_argument("--contenders", type=names(DEFAULTS[PLAIN]), help=contenders)
    parser.add_argument("--work", type=names(FITS), default=list(FITS), help="dense, conv")
    parser.add_argument("--bodies", type=names(BODIES), default=list(BODIES), help="json, npy, raw")
    parser.add_argument("--rows", type=counts, default=[1, 1000, 10_000], help="in one request")
    singles, bulk = "connections for single rows", "connections for requests of many rows"
    parser.add_argument("--concurrency", type=counts, default=[1, 8, 32, 64], help=singles)
    parser.add_argument("--bulk-concurrency", type=counts, default=[1, 2], help=bulk)
    parser.add_argument("--seconds", type=float, default=4, help="of a run, after a warm-up")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--nginx", default="nginx", help="program for --proxy")
    parser.add_argument("--figure", type=Path, help="image (default: --out with .png)")
    return parser


# --- missing runs ----------------------------------------------------------------------------------------


class _Results:
    """The rows of the output file; adds missing rows."""

    def __init__(self, plan: ServingPlan, out: Path, seconds: float, nginx: str | None) -> None:
        self._plan, self._out, self._seconds, self._nginx = plan, out, seconds, nginx

    def measure(self, works: Sequence[Work], repeat: int) -> Iterator[str]:
        """Measure the missing runs of a repeat; yield a sentence for each one that fails."""
        for work in works:
            for name in self._plan.contenders[:: -1 if repeat % 2 else 1]:
                rows = read_rows(self._out)
                cases = self._plan.cases(name, work.name, repeat)
                missing = [case for case in cases if not find_row(rows, **case)]
                try:
                    if name == engine.ENGINE:
                        self._measure_engine(work, missing)
                    else:
                        self._measure_server(name, work, missing)
                except BenchmarkError as error:
                    yield str(error)

    def _measure_engine(self, work: Work, missing: Sequence[Row]) -> None:
        for case in missing:
            measure = functools.partial(
                engine.measure, work, case["rows"], case["concurrency"], self._seconds
            )
            self._add(case, cleanly(measure))

    def _measure_server(self, name: str, work: Work, missing: Sequence[Row]) -> None:
        """Measure single rows and bulk apart, because a server may be set up differently for each."""
        for bulk in (False, True):
            cases = [case for case in missing if (case["rows"] > 1 and case["mode"] == PLAIN) == bulk]
            if cases:
                with contextlib.ExitStack() as stack:
                    server = stack.enter_context(started(CONTENDERS[name], work, bulk))
                    if self._nginx is not None:
                        server = stack.enter_context(proxied(server, self._nginx))
                    server = dataclasses.replace(server, new_heads=self._plan.mode == NEW_HEADS)
                    self._measure_cases(server, cases)

    def _measure_cases(self, server: Server, cases: Sequence[Row]) -> None:
        checked: dict[tuple[str, int], float] = {}
        for case in cases:
            for body, n_rows in needed_bodies(case):
                if (body, n_rows) not in checked:
                    checked[body, n_rows] = server.check_scores(body, n_rows)
                    server.drive(body, n_rows, WARM_UP_CONCURRENCY if n_rows == 1 else 1, WARM_UP_SECONDS)
            once = checked[case["body"], case["rows"]]
            measure = functools.partial(_measure_case, server, case, self._seconds, once)
            self._add(case, server.cleanly(measure))

    def _add(self, case: Row, figures: dict[str, Any]) -> None:
        row = case | figures | {"seconds": self._seconds}
        append_row(self._out, row)
        commands.progress(_line(row))


def _measure_case(server: Server, case: Row, seconds: float, once: float) -> dict[str, Any]:
    """Measure one run; `once` is how long one request took, in seconds."""
    body, n_rows, concurrency = case["body"], case["rows"], case["concurrency"]
    if case["mode"] == OVERLOAD:
        return overload.measure(server, seconds)
    if case["mode"] == MIXED:
        return mixed.measure(server, body, n_rows, concurrency, bulk_seconds(seconds, once))
    return server.measure(body, n_rows, concurrency, bulk_seconds(seconds, once if n_rows > 1 else 0.0))


def _line(row: Row) -> str:
    case = f"{row['contender']} {row['mode']} {row['work']} {row['body']} rows {row['rows']}"
    others = f", {row['foreign_cpu']:.0%} of the machine used by others" if row["dirty"] else ""
    if row["mode"] == OVERLOAD:
        figures = f"{row['accepted_per_second']} accepted/s of {row['offered_per_second']}"
        return f"{case}, repeat {row['repeat']}: {figures}, {row['refused']} refused{others}"
    figures = f"{row['requests_per_second']:,.1f} requests/s, p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms"
    errors = f", {row['errors']} errors" if row["errors"] else ""
    return f"{case} c {row['concurrency']}, repeat {row['repeat']}: {figures}{errors}{others}"


# --- tables and image
# ------------------------------------------------------------------------------------------


def _show(plan: ServingPlan, rows: Sequence[Row], image: Path) -> None:
    """Print the table of the mode, draw the image of plain runs."""
    wanted = [row for case in plan.all_cases() if (row := find_row(rows, **case)) is not None]
    if plan.mode == PLAIN:
        medians = summarise(wanted)
        print("\n".join(table(medians)))
        if medians:
            from benchmarks.servers.charts import draw  # matplotlib takes a second to import

            draw(image, medians)
            print(f"\nfigure: {image}")
    elif plan.mode == NEW_HEADS:
        print("\n".join(table(summarise(wanted))))
    elif plan.mode == PROXY:
        plain = summarise([row for row in rows if row.get("mode") == PLAIN])
        print("\n".join(proxy_table(summarise(wanted), plain)))
    else:
        print("\n".join(mixed_table(wanted) if plan.mode == MIXED else overload_table(wanted)))
    n_dirty = sum(row["dirty"] for row in wanted)
    if n_dirty:
        print(
            f"\n{n_dirty} of {len(wanted)} runs had over {DIRTY_SHARE:.0%} of the machine used by other work."
        )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that started processes are ended
    sys.exit(main())

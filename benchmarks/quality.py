"""How well does it detect? Our detector and others on identical splits and seeds, set by set.

  python benchmarks/quality.py --protocol T2 --data-dir DIR --out benchmarks/results/quality-T2.json
  python benchmarks/quality.py --protocol T2 --data-dir DIR --methods residual,knn --seeds 0,1,2 --out FILE
  python benchmarks/quality.py --protocol T2 --quick --out /tmp/quick.json

DIR is the folder with the files of the sets; every set in it is used. docs/quality.md describes the files,
the splits and the metrics of every protocol. `residual` is our default preset for the kind of data, fitted in
this process by the code of `python -m training.fit`, exported to ONNX and scored by `detector.Detector`.

A run that the output file has, for the same data, is not run again, so a stopped benchmark can be continued;
`--again METHODS` repeats the runs of these methods. If a set or method cannot be measured, the others are,
and the exit status is 1. The results are printed as tables: every set, means, medians, average ranks, and
Wilcoxon's signed-rank test of `residual` against each method over the sets. They are also drawn as an image.

`--quick` uses the two smallest sets, one seed and few methods; without --data-dir it uses small sets that
need no file: does it run?
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import commands
from benchmarks.errors import BenchmarkError
from benchmarks.measures.comparison import compare, overview, shown, tables
from benchmarks.protocols import PROTOCOLS
from benchmarks.protocols.base import DataSet, Protocol
from benchmarks.rows import Row, append_row, find_row, read_rows, write_rows
from detector.errors import DetectorError
from training.errors import TrainingError

N_QUICK_SETS = 2
ALIASES = {"knn": "knn5"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, print the tables; return 1 if something could not be measured."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    name, protocol = arguments.protocol, PROTOCOLS[arguments.protocol]
    methods = arguments.methods
    if methods is None:
        methods = protocol.quick_methods if arguments.quick else protocol.default_methods or protocol.methods
    again = arguments.again or []
    try:
        commands.check_names([*methods, *again], protocol.methods)
    except argparse.ArgumentTypeError as error:
        parser.error(f"methods {error}")
    if not (arguments.quick or arguments.data_dir):
        parser.error("--data-dir must name the folder of the sets, or give --quick")
    try:
        sets = protocol.find(arguments.data_dir)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seeds = arguments.seeds or (protocol.seeds[:1] if arguments.quick else protocol.seeds)
    sets = sets[:N_QUICK_SETS] if arguments.quick else sets
    results = _Results(name, protocol, arguments.out, again)
    failures = [failure for data in sets for failure in results.measure(data, seeds, methods)]
    rows = [row for row in results.rows if results.is_wanted(row, sets, seeds, methods)]
    _show(name, protocol, rows, methods, arguments.figure or arguments.out.with_suffix(".png"))
    return commands.report(failures)


def _parser() -> argparse.ArgumentParser:
    parser = commands.parser(__doc__)
    parser.epilog = "protocols:\n" + "\n".join(_protocol_lines())
    parser.add_argument("--protocol", required=True, choices=PROTOCOLS, metavar="PROTOCOL", help="see below")
    parser.add_argument("--data-dir", type=Path, help="folder of the sets")
    parser.add_argument("--methods", type=_methods, help="separated by commas (default: the protocol's)")
    parser.add_argument(
        "--seeds", type=commands.integers(0), help="separated by commas (default: the protocol's)"
    )
    parser.add_argument("--again", type=_methods, help="methods whose runs are repeated")
    parser.add_argument("--quick", action="store_true", help="smallest sets, one seed, few methods")
    parser.add_argument("--figure", type=Path, help="image (default: --out with .png)")
    return parser


def _protocol_lines() -> Iterator[str]:
    for name, protocol in PROTOCOLS.items():
        yield f"  {name:4} {protocol.words}"
        yield f"       methods: {', '.join(protocol.methods)}"


def _methods(text: str) -> list[str]:
    return [ALIASES.get(name, name) for name in commands.names(text)]


# --- missing runs ----------------------------------------------------------------------------------------


class _Results:
    """The rows of the output file; adds missing rows."""

    def __init__(self, name: str, protocol: Protocol, out: Path, again: Sequence[str]) -> None:
        self._name, self._protocol, self._out = name, protocol, out
        found = read_rows(out)
        self.rows = [row for row in found if not (row["protocol"] == name and row["method"] in again)]
        if len(self.rows) < len(found):
            write_rows(out, self.rows)

    def measure(self, data: DataSet, seeds: Sequence[int], methods: Sequence[str]) -> Iterator[str]:
        """Measure the missing runs of a set; yield a sentence for each one that fails."""
        missing = [
            (seed, method) for seed in seeds for method in methods if not self._has(data, seed, method)
        ]
        if not missing:
            return
        try:
            loaded = data.load()
        except BenchmarkError as error:
            yield str(error)
            return
        for seed, method in missing:
            try:
                self._add(data, seed, method, self._protocol.measure(loaded, seed, method))
            except (BenchmarkError, TrainingError, DetectorError) as error:
                yield f"{method} on {data.name}, seed {seed}: {error}"

    def is_wanted(
        self, row: Row, sets: Sequence[DataSet], seeds: Sequence[int], methods: Sequence[str]
    ) -> bool:
        """Tell whether a row of the file was asked for."""
        digests = {data.name: data.digest for data in sets}
        return (
            row["protocol"] == self._name
            and digests.get(row["set"]) == row["data"]
            and row["seed"] in seeds
            and row["method"] in methods
        )

    def _has(self, data: DataSet, seed: int, method: str) -> bool:
        """Tell whether the file has the row; copy it from `same_rows_as` if only that protocol has it."""
        wanted = {"set": data.name, "data": data.digest, "seed": seed, "method": method}
        if find_row(self.rows, protocol=self._name, **wanted):
            return True
        same = find_row(self.rows, protocol=self._protocol.same_rows_as, **wanted)
        if same is None:
            return False
        self._append(same | {"protocol": self._name})
        return True

    def _add(self, data: DataSet, seed: int, method: str, measured: dict[str, Any]) -> None:
        start = {"protocol": self._name, "set": data.name, "seed": seed, "method": method}
        row = start | dict(measured) | {"data": data.digest}
        self._append(row)
        figures = ", ".join(f"{name} {shown(row.get(name))}" for name in self._protocol.metrics)
        seconds = " + ".join(f"{row[name]:.1f}" for name in ("fit_seconds", "score_seconds") if name in row)
        commands.progress(f"{data.name} seed {seed} {method}: {figures}; {seconds} s")

    def _append(self, row: Row) -> None:
        append_row(self._out, row)
        self.rows = read_rows(self._out)


# --- tables and image
# ------------------------------------------------------------------------------------------


def _show(name: str, protocol: Protocol, rows: Sequence[Row], methods: Sequence[str], image: Path) -> None:
    """Print the tables, draw the image."""
    compared = [
        compare(rows, metric, methods, lower_is_better=metric in protocol.lower_is_better)
        for metric in protocol.metrics
    ]
    print("\n".join([*tables(compared), *overview(compared)]))
    if protocol.summary is not None:
        print("\n".join(["", *protocol.summary(rows)]))
    compared = [one for one in compared if one.sets]
    if compared:
        from benchmarks.charts import draw  # matplotlib takes a second to import

        draw(image, name, compared)
        print(f"\nfigure: {image}")


if __name__ == "__main__":
    sys.exit(main())

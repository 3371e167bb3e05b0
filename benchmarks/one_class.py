"""Does the promise hold? Fit each class of a labelled data set as the normal one, with default settings.

  python benchmarks/one_class.py --data mnist.npz --out benchmarks/results/one_class.json
  python benchmarks/one_class.py --data mnist.npz --labels 0,8 --out /tmp/two.json

Every row is one `python -m training.fit --normal-label LABEL --seed SEED` in a process of its own: the false
alarms on the normal samples of the test split, beside what was promised and expected, and the ROC AUC
against the other classes. A label and seed that the output file has for this alpha is not run again; so one
file is for one data set. `--quick` fits two epochs each, for a file of its own: does it run?
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
from scipy.stats import betabinom

from benchmarks.rows import find_row, read_rows, write_rows

# A realised count above this quantile of its own distribution would be a broken promise, not bad luck.
QUANTILE = 0.999


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, print the table and whether each promise held."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--labels", default="0,1,2,3,4,5,6,7,8,9", help="normal labels, one fit each")
    parser.add_argument("--seeds", default="0", help="seeds, one fit each")
    parser.add_argument("--alpha", default=0.05, type=float)
    parser.add_argument("--quick", action="store_true", help="two epochs for each fit: does it run?")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args(argv)
    options = ["--epochs", "2"] if arguments.quick else []
    rows = read_rows(arguments.out)
    asked_for = []
    for seed, label in itertools.product(arguments.seeds.split(","), arguments.labels.split(",")):
        row = find_row(rows, label=label, seed=int(seed), promised_rate=arguments.alpha)
        if row is None:
            row = fit_one(arguments.data, label, int(seed), arguments.alpha, options)
            rows.append(row)
            write_rows(arguments.out, rows)
        asked_for.append(row)
        print(describe(row), flush=True)
    return summarise(asked_for)


def fit_one(data: str, label: str, seed: int, alpha: float, options: Sequence[str]) -> dict[str, Any]:
    """One fit in a process of its own, and its figures."""
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "training.fit", "--data", data, "--name", "one", "--store", store]
        command += ["--normal-label", label, "--seed", str(seed), "--alpha", str(alpha), *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        figures = json.loads((Path(store) / "one" / "1" / "report.json").read_bytes())
    rule, evaluation = figures["threshold"], figures["evaluation"]
    n_test, rank = evaluation["n_normal"], rule["rank"]
    return {
        "label": label,
        "seed": seed,
        "promised_rate": rule["alpha"],
        "expected_rate": rule["expected_rate"],
        "realised_rate": evaluation["false_alarm_rate"]["value"],
        "false_alarms": evaluation["false_alarm_rate"]["count"],
        "most_false_alarms": int(betabinom.ppf(QUANTILE, n_test, rank, rule["n_calibration"] + 1 - rank)),
        "n_calibration": rule["n_calibration"],
        "n_test": n_test,
        "roc_auc": evaluation["roc_auc"]["value"],
        "recall": evaluation["recall"]["value"],
        "fit_seconds": round(figures["fit"]["seconds"], 1),
    }


def describe(row: dict[str, Any]) -> str:
    """One line of the table."""
    return (
        f"label {row['label']} seed {row['seed']}: promised {row['promised_rate']:.4f}, "
        f"expected {row['expected_rate']:.4f}, realised {row['realised_rate']:.4f} "
        f"({row['false_alarms']} of {row['n_test']}, at most {row['most_false_alarms']}; "
        f"n = {row['n_calibration']}), ROC AUC {row['roc_auc']:.4f}, fitted in {row['fit_seconds']:.0f} s"
    )


def summarise(rows: list[dict[str, Any]]) -> int:
    """Print the pooled figures; 1 if a promise was broken."""
    alarms, n_test = (sum(row[name] for row in rows) for name in ("false_alarms", "n_test"))
    broken = [row for row in rows if row["false_alarms"] > row["most_false_alarms"]]
    print(f"{len(rows)} fits: pooled rate {alarms / n_test:.4f} ({alarms} of {n_test}),")
    print(f"{len(broken)} above the {QUANTILE} quantile of their count,")
    print(f"mean ROC AUC {np.mean([row['roc_auc'] for row in rows]):.4f}")
    return 1 if broken or alarms / n_test > rows[0]["promised_rate"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Does the promise hold? Fit each class of a labelled data set as the normal one, with default settings.

  python benchmarks/one_class.py --data mnist.npz --out benchmarks/results/one_class.json
  python benchmarks/one_class.py --data mnist.npz --labels 0,8 --out /tmp/two.json

Every row is one `python -m training.fit --normal-label LABEL --seed SEED` in a process of its own. It has the
false alarms on the normal samples of the test split, the promised and the expected rate, and the ROC AUC
against the other classes. A label and seed that the output file has for this alpha is not run again, so use
one file for one data set. `--quick` fits two epochs each and needs a file of its own: does it run?
"""

import functools
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import betabinom

from benchmarks import commands, fit_command
from benchmarks.rows import Row, found_or_measured

# A count of false alarms above this quantile of its own distribution is a broken promise, not bad luck.
QUANTILE = 0.999


def main(argv: Sequence[str] | None = None) -> int:
    """Run the fits that are missing, print the table; return 1 if a promise was broken."""
    parser = commands.parser(__doc__)
    parser.add_argument("--data", required=True, help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument(
        "--labels", type=commands.names, default=[*"0123456789"], help="normal labels, one fit each"
    )
    parser.add_argument("--seeds", type=commands.integers(0), default=[0], help="seeds, one fit each")
    parser.add_argument("--alpha", default=0.05, type=float)
    parser.add_argument("--quick", action="store_true", help="two epochs for each fit: does it run?")
    arguments = parser.parse_args(argv)
    options = ["--epochs", "2"] if arguments.quick else []
    rows = []
    for seed, label in itertools.product(arguments.seeds, arguments.labels):
        measure = functools.partial(fit_one, arguments.data, label, seed, arguments.alpha, options)
        key = {"label": label, "seed": seed, "promised_rate": arguments.alpha}
        row = found_or_measured(arguments.out, measure, **key)
        rows.append(row)
        print(describe(row), flush=True)
    return summarise(rows)


def fit_one(data: str, label: str, seed: int, alpha: float, options: Sequence[str]) -> Row:
    """Fit once and return the row."""
    options = ["--normal-label", label, "--seed", seed, "--alpha", alpha, *options]
    with tempfile.TemporaryDirectory() as store:
        report = fit_command.fit(data, Path(store), "one", *options)
    rule, evaluation = report["threshold"], report["evaluation"]
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
        "fit_seconds": round(report["fit"]["seconds"], 1),
    }


def describe(row: Row) -> str:
    """Return one line of the table."""
    return (
        f"label {row['label']} seed {row['seed']}: promised {row['promised_rate']:.4f}, "
        f"expected {row['expected_rate']:.4f}, realised {row['realised_rate']:.4f} "
        f"({row['false_alarms']} of {row['n_test']}, at most {row['most_false_alarms']}; "
        f"n = {row['n_calibration']}), ROC AUC {row['roc_auc']:.4f}, fitted in {row['fit_seconds']:.0f} s"
    )


def summarise(rows: list[Row]) -> int:
    """Print the pooled figures; return 1 if a promise was broken."""
    alarms, n_test = (sum(row[name] for row in rows) for name in ("false_alarms", "n_test"))
    broken = [row for row in rows if row["false_alarms"] > row["most_false_alarms"]]
    print(f"{len(rows)} fits: pooled rate {alarms / n_test:.4f} ({alarms} of {n_test}),")
    print(f"{len(broken)} above the {QUANTILE} quantile of their count,")
    print(f"mean ROC AUC {np.mean([row['roc_auc'] for row in rows]):.4f}")
    return 1 if broken or alarms / n_test > rows[0]["promised_rate"] else 0


if __name__ == "__main__":
    commands.run(main)

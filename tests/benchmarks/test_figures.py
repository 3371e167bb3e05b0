"""The figures in the README equal the committed results of the benchmark."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[2]
METHODS = ("residual", "knn5", "pca", "iforest")


@pytest.mark.parametrize(
    ("protocol", "metric", "words", "form"),
    [
        ("T2", "auroc", "21 tables of ADBench", "{:.3f}"),
        ("S1", "vus_pr", "23 channels of telemetry", "{:.3f}"),
        ("S2", "vus_pr", "37 channels of telemetry", "{:.3f}"),
        ("S3", "standard", "Numenta Anomaly Benchmark", "{:.1f}"),
        ("S4", "f1", "SKAB's water circuit", "{:.3f}"),
        ("S4", "false_alarm_rate", "the same", "{:.3f}"),
    ],
)
def test_readme_has_the_measured_means(protocol, metric, words, form):
    """Each is a mean over sets of means over seeds, one line of the table each."""
    path = REPOSITORY / "benchmarks" / "results" / f"quality-{protocol}.json"
    values = defaultdict(lambda: defaultdict(list))
    for row in json.loads(path.read_text())["rows"]:
        values[row["method"]][row["set"]].append(row[metric])
    means = [np.mean([np.mean(seeds) for seeds in values[method].values()]) for method in METHODS]

    lines = (REPOSITORY / "README.md").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"| {words}")]

    assert line.endswith(" | ".join(["", *(form.format(mean) for mean in means)]) + " |")

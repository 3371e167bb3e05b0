"""VUS-PR equals the answers of two public packages, and refuses input without a volume."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measures.vus import find_period, labelled_runs, range_auc_pr, vus_pr

ORACLE = json.loads((Path(__file__).parent / "fixtures" / "vus_oracle.json").read_text())


@pytest.mark.parametrize("series", ORACLE["surfaces"], ids=lambda series: series["name"])
def test_vus_pr_is_that_of_the_public_packages(series):
    """The results agree with the packages TSB-AD and vus for windows of 0, 1, 10 and 33 steps."""
    labels, scores = np.array(series["labels"]), np.array(series["scores"])
    for answer in series["answers"]:
        ours = vus_pr(labels, scores, answer["window"])

        assert ours == pytest.approx(answer["vus_pr"], abs=1e-9)
        assert ours == pytest.approx(answer["vus_package"], abs=1e-9)
        assert range_auc_pr(labels, scores, answer["window"]) == pytest.approx(
            answer["range_auc_pr"], abs=1e-9
        )


@pytest.mark.parametrize("series", ORACLE["periods"], ids=lambda series: str(len(series["values"])))
def test_the_period_is_that_of_the_public_package(series):
    """Series may be periodic, noisy, rising, constant or have too long a period."""
    assert find_period(np.array(series["values"])) == series["period"]


def test_vus_pr_depends_on_ranks_only():
    """An increasing function of the scores, or another type of labels, does not change it."""
    random = np.random.default_rng(0)
    labels, scores = random.random(500) < 0.05, random.normal(size=500)

    assert vus_pr(labels.astype(np.uint8), np.exp(scores), 20) == vus_pr(labels.astype(int), scores, 20)


def test_a_score_that_rises_at_the_anomaly_only_reaches_1():
    """Only a window of 0 allows this; with wider ones the neighbouring steps must score high, too."""
    labels = np.zeros(1000)
    labels[400:500] = 1

    assert vus_pr(labels, labels, 0) == pytest.approx(1)


@pytest.mark.parametrize(
    ("labels", "scores", "window", "message"),
    [
        ([0, 1], [0.0, 1.0, 2.0], 1, "the same shape (n_steps,), got (2,) and (3,)"),
        ([0, 0], [0.0, 1.0], 1, "at least one 1"),
        ([0, 2], [0.0, 1.0], 1, "must be 0 or 1"),
        ([0, 1], [0.0, np.nan], 1, "must be finite, got 1 that are not"),
        ([0, 1], [0.0, 1.0], -1, "0 or more steps, got -1"),
    ],
)
def test_what_has_no_volume_is_refused(labels, scores, window, message):
    """NaN is refused instead of counting as the lowest score."""
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        vus_pr(np.array(labels), np.array(scores), window)


def test_runs_of_labels_are_inclusive_of_both_ends():
    """Runs at the first and the last step are found, too."""
    assert labelled_runs(np.array([1, 0, 1, 1, 0, 1])) == [(0, 0), (2, 3), (5, 5)]
    assert labelled_runs(np.zeros(3)) == []

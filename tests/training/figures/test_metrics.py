"""Figures of scores against closed forms."""

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import average_precision_score, roc_auc_score

from detector.results import Scores
from training.figures.metrics import evaluate, operating_points


def scores_of(values, threshold):
    """Return scores with the decisions of a threshold."""
    values = np.asarray(values, dtype=float)
    return Scores(values, values / threshold, values, values > threshold, threshold, 0.05, 0.04, "tiny", 1)


def test_evaluate_counts_false_alarms_and_recall():
    """Rates are counts over the split's sizes."""
    labels = np.array([False] * 10 + [True] * 4)
    figures = evaluate(scores_of([0.1] * 8 + [2, 3] + [5, 6, 7, 0.5], 1.0), labels, seed=0)

    assert figures["false_alarm_rate"]["value"] == 0.2
    assert figures["false_alarm_rate"]["count"] == 2
    assert figures["recall"]["value"] == 0.75
    assert figures["n_normal"] == 10
    assert figures["n_anomalies"] == 4


def test_rate_interval_is_clopper_and_pearson():
    """The interval equals quantiles of the Beta distribution."""
    figures = evaluate(scores_of([2, 2] + [0.1] * 18, 1.0), np.zeros(20, dtype=bool), seed=0)

    expected = [beta.ppf(0.025, 2, 19), beta.ppf(0.975, 3, 18)]
    np.testing.assert_allclose(figures["false_alarm_rate"]["interval"], expected)


def test_evaluate_ranks_perfectly_separated_scores_at_1():
    """Its interval has length 0."""
    figures = evaluate(scores_of([1, 2, 3, 10, 11], 5.0), np.array([0, 0, 0, 1, 1], dtype=bool), seed=0)

    assert figures["roc_auc"] == {"value": 1.0, "interval": [1.0, 1.0]}
    assert figures["average_precision"]["value"] == 1.0


def test_roc_auc_is_the_share_of_ordered_pairs():
    """The value equals a naive count, with ties as a half."""
    rng = np.random.default_rng(0)
    values, labels = rng.integers(0, 20, size=60), rng.random(60) < 0.3
    pairs = values[labels][:, None] - values[~labels][None, :]

    figures = evaluate(scores_of(values, 9.5), labels, seed=0)

    assert figures["roc_auc"]["value"] == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean())
    low, high = figures["roc_auc"]["interval"]
    assert low < figures["roc_auc"]["value"] < high


def test_evaluate_without_anomalies_says_nothing_of_ranking():
    """There is no recall and no AUC of normal data."""
    figures = evaluate(scores_of([1, 2, 3], 5.0), np.zeros(3, dtype=bool), seed=0)

    assert figures["recall"] is figures["roc_auc"] is figures["average_precision"] is None


@pytest.mark.parametrize("n_scores", [3, 40, 100_000])
def test_ranking_figures_are_those_of_scikit_learn(n_scores):
    """The figures agree with many ties, few and none."""
    rng = np.random.default_rng(0)
    values, labels = rng.integers(0, n_scores, size=500), rng.random(500) < 0.2

    figures = evaluate(scores_of(values, 9.5), labels, seed=0)

    assert figures["roc_auc"]["value"] == pytest.approx(roc_auc_score(labels, values))
    assert figures["average_precision"]["value"] == pytest.approx(average_precision_score(labels, values))


def test_intervals_are_quantiles_of_resampled_figures():
    """The intervals equal a bootstrap over rows within each group."""
    rng = np.random.default_rng(1)
    labels = np.arange(200) >= 150
    values = rng.normal(size=200) + labels
    draws = []
    rng = np.random.default_rng(7)
    for _ in range(300):
        rows = np.concatenate(
            [rng.choice(group, group.size) for group in (np.arange(150), np.arange(150, 200))]
        )
        draws.append(
            [metric(labels[rows], values[rows]) for metric in (roc_auc_score, average_precision_score)]
        )

    figures = evaluate(scores_of(values, 1.0), labels, seed=7)

    for name, expected in zip(
        ("roc_auc", "average_precision"), np.quantile(draws, [0.025, 0.975], axis=0).T, strict=True
    ):
        np.testing.assert_allclose(figures[name]["interval"], expected)


def test_operating_points_count_what_each_threshold_would_do():
    """By counting; an alpha that the calibration is too small for is left out."""
    calibration = np.arange(1.0, 200)
    score = np.array([10.0, 150, 185, 191, 195, 170, 196, 198.5])
    is_anomaly = np.arange(8) >= 5

    points = operating_points(calibration, "none", score, is_anomaly)

    assert [point["alpha"] for point in points] == [0.005, 0.01, 0.02, 0.05, 0.1, 0.2]
    assert points[0] == {
        "alpha": 0.005,
        "threshold": 199.0,
        "expected_rate": 0.005,
        "recall": 0.0,
        "precision": None,
        "false_alarm_rate": 0.0,
    }
    assert points[3] == {  # the tenth largest of 199 scores
        "alpha": 0.05,
        "threshold": 190.0,
        "expected_rate": 0.05,
        "recall": 2 / 3,
        "precision": 0.5,
        "false_alarm_rate": 0.4,
    }
    assert operating_points(calibration, "none", score, np.zeros(8, dtype=bool)) == []

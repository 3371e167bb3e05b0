"""Baselines are computed as named, on the model's input, and reported where they are better."""

import numpy as np
import pytest

from training.figures import baselines
from training.figures.baselines import BASELINES, compare_baselines

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(200, 4)).astype(np.float32)
TEST = np.concatenate([RNG.normal(size=(60, 4)), RNG.normal(size=(40, 4)) + 3]).astype(np.float32)
IS_ANOMALY = np.arange(100) >= 60
PERFECT = IS_ANOMALY.astype(float)


def test_neighbour_distance_is_that_to_the_fifth():
    """The value equals a sort of all distances."""
    score = BASELINES["nearest neighbours"](TRAIN, TEST, 0)

    distances = np.linalg.norm(TEST[:, None].astype(float) - TRAIN[None], axis=2)
    np.testing.assert_allclose(score, np.sort(distances, axis=1)[:, 4], rtol=1e-3)


@pytest.mark.parametrize("n_train", [200, 3])
def test_pca_residual_is_what_the_main_components_leave(n_train):
    """Nothing of a row on the line that the training rows lie on, all of a step off it."""
    direction = np.array([3.0, 4.0, 0.0, 0.0])
    train = np.linspace(-1, 1, n_train)[:, None] * direction
    test = np.array([[6.0, 8.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]])

    score = BASELINES["PCA residual"](train, test, 0)

    np.testing.assert_allclose(score, [0, 1], atol=1e-9)


def test_training_rows_that_are_all_the_same_are_no_fault():
    """Training rows may all be equal, and different rows are still found."""
    for score_with in BASELINES.values():
        score = score_with(np.ones((20, 3), np.float32), np.float32([[1, 1, 1], [5, 1, 9]]), 0)

        assert np.isfinite(score).all()


def test_samples_of_any_shape_are_compared_and_figures_have_intervals():
    """Images are rows of pixels."""
    comparison = compare_baselines(TRAIN.reshape(-1, 2, 2), TEST.reshape(-1, 2, 2), IS_ANOMALY, PERFECT, 0)

    assert (comparison["n_train"], comparison["n_test"]) == (200, 100)
    assert comparison["own"]["roc_auc"] == {"value": 1.0, "interval": [1.0, 1.0]}
    for figures in comparison["methods"].values():
        low, high = figures["roc_auc"]["interval"]
        assert 0.9 < low <= figures["roc_auc"]["value"] <= high <= 1
    assert comparison["better"] == []


def test_a_model_that_simple_detectors_beat_is_told():
    """All three rank shifted rows better than chance does."""
    comparison = compare_baselines(TRAIN, TEST, IS_ANOMALY, RNG.normal(size=100), 0)

    assert comparison["better"] == list(BASELINES)


@pytest.mark.parametrize("is_anomaly", [np.zeros(100, bool), np.ones(100, bool)])
def test_without_normal_samples_and_anomalies_there_is_nothing_to_compare(is_anomaly):
    """The result is None."""
    assert compare_baselines(TRAIN, TEST, is_anomaly, PERFECT, 0) is None


def test_many_samples_are_drawn_from_in_the_same_shares(monkeypatch):
    """The result has the numbers of samples, and the share of anomalies does not change."""
    monkeypatch.setattr(baselines, "MOST_ROWS", 50)

    comparison = compare_baselines(TRAIN, TEST, IS_ANOMALY, PERFECT, 0)

    assert (comparison["n_train"], comparison["n_test"]) == (50, 50)
    assert comparison["own"]["average_precision"]["value"] == 1

"""Temperature, classifier figures and folds, compared with known results."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import f1_score

from training.classifiers.probability import (
    class_figures,
    deal_folds,
    expected_calibration_error,
    fit_temperature,
    macro_f1,
)


def drawn(n_samples=20_000, temperature=1.0):
    """Return logits, and classes drawn from their probabilities at a temperature."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2, size=(n_samples, 4))
    chances = softmax(logits / temperature, axis=1).cumsum(axis=1)
    return logits, (rng.uniform(size=(n_samples, 1)) > chances).sum(axis=1).clip(max=3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_fit_temperature_finds_the_one_that_was_drawn_from(temperature):
    """The error is within the uncertainty of 20,000 draws."""
    logits, targets = drawn(temperature=temperature)

    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.05)


def test_temperature_of_perfect_logits_is_bounded():
    """Without mistakes the likelihood has no maximum, but the temperature is bounded."""
    logits = 10 * np.eye(3)[np.arange(30) % 3]

    assert 0.04 < fit_temperature(logits, np.arange(30) % 3) < 1


def test_calibration_error_tells_right_probabilities_from_wrong_ones():
    """The error is small at the temperature of the draws and large at a tenth of it."""
    logits, targets = drawn()

    assert expected_calibration_error(softmax(logits, axis=1), targets) < 0.02
    assert expected_calibration_error(softmax(10 * logits, axis=1), targets) > 0.1


def test_calibration_error_by_hand():
    """Two samples that are 90 % sure, one of them right, and one that is 60 % sure and right."""
    probability = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])

    error = expected_calibration_error(probability, np.array([0, 1, 0]))

    assert error == pytest.approx((0.8 + 0.4) / 3)


def test_macro_f1_is_that_of_scikit_learn():
    """Every class that occurs has the same weight, rare or frequent."""
    rng = np.random.default_rng(0)
    targets = rng.choice(4, size=300, p=[0.6, 0.3, 0.08, 0.02])
    predicted = np.where(rng.uniform(size=300) < 0.7, targets, rng.integers(0, 4, size=300))

    assert macro_f1(predicted, targets) == pytest.approx(f1_score(targets, predicted, average="macro"))


def test_class_figures_count_right_answers():
    """Three of four, with the exact interval round them."""
    figures = class_figures(np.array([[2, 0], [2, 0], [0, 2], [2, 0]]), 1.0, np.array([0, 0, 1, 1]))

    assert figures["accuracy"]["value"] == 0.75
    assert figures["accuracy"]["count"] == 3
    low, high = figures["accuracy"]["interval"]
    assert low < 0.75 < high
    assert figures["n_samples"] == 4


@pytest.mark.parametrize("seed", [0, 1])
def test_folds_hold_every_class_evenly(seed):
    """Fold sizes differ by at most one per class, and the remaining folds have every class."""
    targets = np.repeat([0, 1, 2], [101, 12, 2])

    folds = deal_folds(targets, 5, seed)

    counts = np.array([np.bincount(targets[folds == fold], minlength=3) for fold in range(5)])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert all((np.bincount(targets[folds != fold], minlength=3) > 0).all() for fold in range(5))
    assert np.ptp(counts.sum(axis=1)) <= 1

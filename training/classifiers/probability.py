"""Calibrated probabilities from logits, and their figures; needs no Keras."""

from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import f1_score

from training.figures.metrics import rate

N_BINS = 10
# Beyond it all probabilities are 0 and 1, or equal; few, easily separated samples would lead there.
TEMPERATURE_RANGE = (0.05, 20.0)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Find the number to divide logits by that maximises the likelihood of these classes.

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
        Logits of samples that the network was not fitted on.
    targets : ndarray of shape (n_samples,), int

    References
    ----------
    Guo, Pleiss, Sun, Weinberger (2017). On calibration of modern neural networks. ICML.
    """
    rows = np.arange(len(targets))

    def loss(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[rows, targets].mean()

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURE_RANGE), method="bounded")
    return float(np.exp(found.x))


def class_figures(logits: np.ndarray, temperature: float | np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    """Compute the figures of a classifier on samples that it was not fitted on.

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
    temperature : float, or ndarray of shape (n_samples, 1)
    targets : ndarray of shape (n_samples,), int

    Returns
    -------
    dict
        `accuracy` with `value`, `count` and `interval` (Clopper-Pearson, 95 %), `macro_f1`,
        `expected_calibration_error`, `log_loss`, `n_samples`.
    """
    probability = softmax(logits / temperature, axis=1)
    predicted = probability.argmax(axis=1)
    own = probability[np.arange(targets.size), targets]
    return {
        "n_samples": targets.size,
        "accuracy": rate(predicted == targets),
        "macro_f1": macro_f1(predicted, targets),
        "expected_calibration_error": expected_calibration_error(probability, targets),
        "log_loss": float(-np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean()),
    }


def macro_f1(predicted: np.ndarray, targets: np.ndarray) -> float:
    """Mean over the classes in `targets` of the harmonic mean of precision and recall."""
    return float(f1_score(targets, predicted, labels=np.unique(targets), average="macro"))


def expected_calibration_error(probability: np.ndarray, targets: np.ndarray) -> float:
    """Mean gap between how sure the classifier is and how often it is right, over ten bins of equal width.

    References
    ----------
    Naeini, Cooper, Hauskrecht (2015). Obtaining well calibrated probabilities using Bayesian binning. AAAI.
    """
    sure = probability.max(axis=1)
    right = probability.argmax(axis=1) == targets
    bins = np.minimum((sure * N_BINS).astype(int), N_BINS - 1)
    gaps = [abs((right[bins == number] - sure[bins == number]).sum()) for number in range(N_BINS)]
    return float(np.sum(gaps) / targets.size)


def deal_folds(targets: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """A fold number for each sample, every class spread over the folds as evenly as can be.

    A class with two samples or more is never in one fold alone, so no fit is without it.
    """
    rng = np.random.default_rng(seed)
    folds = np.empty(targets.size, dtype=int)
    start = 0
    for name in np.unique(targets):
        members = rng.permutation(np.flatnonzero(targets == name))
        folds[members] = (start + np.arange(members.size)) % n_folds
        start += members.size
    return folds

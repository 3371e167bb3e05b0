"""From calibration scores to decisions: thresholds with a promise, p-values, false-discovery selection."""

import math

import numpy as np

from detector.errors import InputError
from detector.manifest import Threshold
from detector.schema import CONDITIONAL_PROMISE, NO_PROMISE

CONFIDENCE = 0.95


def promised_rank(n_calibration: int, alpha: float, confidence: float = CONFIDENCE) -> int:
    """Return the largest k for which the k-th largest calibration score, as threshold, keeps the promise.

    The realised false-alarm rate of that threshold is Beta(k, n + 1 - k) distributed over the draw of the
    calibration split, so it exceeds `alpha` with probability P(Binomial(n, alpha) <= k - 1).

    Parameters
    ----------
    n_calibration : int
        Number of calibration scores, n; at least 0.
    alpha : float
        False-alarm rate to promise, in (0, 1).
    confidence : float
        Probability with which the promise holds, in (0, 1).

    Returns
    -------
    int
        0 if n is too small for any promise: below `smallest_calibration(alpha)`.

    References
    ----------
    Bates, Candès, Lei, Romano, Sesia (2023). Testing for outliers with conformal p-values.
    Annals of Statistics 51(1), 149-178. The Beta law of order statistics: David, Nagaraja (2003), 2.1.
    """
    # P(Binomial <= k - 1) grows with k, and passes 1 - confidence below the mean n * alpha.
    n_terms = min(n_calibration, math.ceil(n_calibration * alpha)) + 1
    successes = np.arange(1, n_terms + 1)
    log_ratios = np.log((n_calibration - successes + 1).clip(min=1e-300) / successes)
    log_odds = math.log(alpha) - math.log1p(-alpha)
    log_pmf = n_calibration * math.log1p(-alpha) + np.concatenate(([0.0], np.cumsum(log_ratios + log_odds)))
    cdf = np.cumsum(np.exp(log_pmf))
    return int(np.searchsorted(cdf[:n_calibration], 1 - confidence, side="right"))


def marginal_rank(n_calibration: int, alpha: float) -> int:
    """Return the largest k whose expected false-alarm rate k / (n + 1) is at most `alpha`, or 0."""
    # The user writes alpha as a decimal: 0.29 * 100 is 28.999999999999996 and means 29.
    return min(n_calibration, math.floor(alpha * (n_calibration + 1) + 1e-9))


def smallest_calibration(alpha: float, confidence: float = CONFIDENCE) -> int:
    """Return how many calibration samples a promise of `alpha` needs: 59 for 5 %, 299 for 1 %.

    The largest of n scores is exceeded too often with probability (1 - alpha) ** n.
    """
    n_calibration = math.ceil(math.log(1 - confidence) / math.log1p(-alpha))
    while promised_rank(n_calibration, alpha, confidence) == 0:  # rounding of the logarithms
        n_calibration += 1
    return n_calibration


def smallest_alpha(n_calibration: int, promise: str) -> float:
    """Return the smallest alpha possible with `n_calibration` scores and this promise, rounded up."""
    least = 1 / (n_calibration + 1)
    if promise != NO_PROMISE:
        exact = -math.expm1(math.log(1 - CONFIDENCE) / n_calibration)
        least = exact * (1 + 1e-12)  # more than rounding errors
    return math.ceil(least * 1e6) / 1e6


def threshold_at(
    calibration_scores: np.ndarray, alpha: float, promise: str = CONDITIONAL_PROMISE
) -> Threshold:
    """Compute the threshold for a false-alarm rate.

    Parameters
    ----------
    calibration_scores : ndarray of shape (n_calibration,), float64
        Ascending, finite; scores of normal samples that the network was not fitted on.
    alpha : float
        Requested false-alarm rate, in (0, 1).
    promise : str
        `calibration-conditional` (`promised_rank`) or `none` (`marginal_rank`).

    Raises
    ------
    InputError
        If `alpha` is not in (0, 1), is too small for this number of scores (the error names the smallest
        possible), or is so large that the threshold would be 0, which leaves a ratio undefined.
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha must be between 0 and 1, got {alpha}")
    n_calibration = calibration_scores.size
    rank = (marginal_rank if promise == NO_PROMISE else promised_rank)(n_calibration, alpha)
    if rank == 0:
        raise InputError(
            f"alpha must be at least {smallest_alpha(n_calibration, promise):g} with "
            f"{n_calibration} calibration samples, got {alpha:g}"
        )
    rule = threshold_of_rank(calibration_scores, rank, alpha, promise)
    if rule.value <= 0:
        raise InputError(f"alpha must be small enough for a positive threshold, got {alpha:g}")
    return rule


def threshold_of_rank(calibration_scores: np.ndarray, rank: int, alpha: float, promise: str) -> Threshold:
    """Make the threshold at the `rank`-th largest of the ascending calibration scores."""
    n_calibration = calibration_scores.size
    return Threshold(
        value=float(calibration_scores[n_calibration - rank]),
        alpha=float(alpha),
        promise=promise,
        confidence=None if promise == NO_PROMISE else CONFIDENCE,
        rank=rank,
        n_calibration=n_calibration,
        expected_rate=rank / (n_calibration + 1),
    )


def p_values(scores: np.ndarray, calibration_scores: np.ndarray) -> np.ndarray:
    """Compute the share of calibration samples that score at least as high, counting the sample itself.

    Parameters
    ----------
    scores : ndarray of shape (n_samples,), float64
        Anomaly scores, finite; higher is more anomalous.
    calibration_scores : ndarray of shape (n_calibration,), float64
        Ascending; from the calibration split, never from data that the network was fitted on.

    Returns
    -------
    ndarray of shape (n_samples,), float64
        In [1 / (n_calibration + 1), 1]; small is unusual.

    References
    ----------
    Bates, Candès, Lei, Romano, Sesia (2023), as above.
    """
    size = calibration_scores.size
    return (1 + size - calibration_scores.searchsorted(scores, side="left")) / (1 + size)


def select_false_discovery(p_values: np.ndarray, fdr: float) -> np.ndarray:
    """Select samples; on average at most a share `fdr` of the selected ones is normal (Benjamini-Hochberg).

    Parameters
    ----------
    p_values : ndarray of shape (n_samples,), float64
        Conformal p-values of one batch.
    fdr : float
        Requested false-discovery rate, in (0, 1).

    Returns
    -------
    ndarray of shape (n_samples,), bool

    Raises
    ------
    InputError
        If `fdr` is not in (0, 1).

    References
    ----------
    Benjamini, Hochberg (1995). Controlling the false discovery rate. JRSS B 57(1), 289-300; valid for
    conformal p-values by Bates et al. (2023), theorem 2.
    """
    if not 0 < fdr < 1:
        raise InputError(f"fdr must be between 0 and 1, got {fdr}")
    n_samples = p_values.size
    ascending = np.sort(p_values)
    below = np.flatnonzero(ascending <= fdr * np.arange(1, n_samples + 1) / n_samples)
    if below.size == 0:
        return np.zeros(n_samples, dtype=bool)
    selected: np.ndarray = p_values <= ascending[below[-1]]
    return selected

"""Two detectors of the NAB tables, from their published descriptions; they prove that our scoring is NAB's.

Both also take part in the comparison. Windowed Gaussian reads the past only. Relative entropy knows the
smallest and the largest value of the whole series beforehand, as NAB allows every detector.

References
----------
Wang, Viswanathan, Choudur, Talwar, Satterfield, Schwan (2011). Statistical techniques for online anomaly
detection in data centers. IFIP/IEEE IM. (Relative entropy, figure 1.)
"""

import numpy as np
from scipy.special import erfc, rel_entr
from scipy.stats import chi2

N_DECIMALS = 12  # as in the official result files; Gaussian tails closer to 1 become equal


def windowed_gaussian(values: np.ndarray, size: int = 6400, stride: int = 100) -> np.ndarray:
    """Score each step by 1 minus its Gaussian tail probability, given the window of steps before it.

    Parameters
    ----------
    values : ndarray of shape (n_steps,)
    size : int
        Steps of the window, which grows step by step at first; tuned on the benchmark by its authors.
    stride : int
        A full window moves by this many steps at once.

    Returns
    -------
    ndarray of shape (n_steps,)
        In [0, 1]; 0 for the first step, 0.5 for a value equal to the mean of the window.
    """
    values = np.asarray(values, np.float64)
    scores = np.zeros(len(values))
    first, end = 0, 0
    mean, spread = 0.0, 1.0
    for step, value in enumerate(values):
        if step:
            scores[step] = 1 - erfc(abs(value - mean) / spread / np.sqrt(2)) / 2
        if step >= size and (step - size + 1) % stride:
            continue
        first, end = (first + stride if step >= size else 0), step + 1
        window = values[first:end]
        mean, spread = window.mean(), window.std() or 1e-6
    return scores.round(N_DECIMALS)


def relative_entropy(values: np.ndarray, n_bins: int = 5, size: int = 52, risk: float = 0.01) -> np.ndarray:
    """Score 1 if the values of the last window are distributed unlike every earlier window, otherwise 0.

    A hypothesis is a distribution: the shares of a window's values in equal bins between the extremes of the
    series. A window agrees with a hypothesis if `2 * size` times their relative entropy is below the quantile
    of chi squared. A window that agrees with none raises an alarm and becomes a hypothesis.
    """
    values = np.asarray(values, np.float64)
    scores = np.zeros(len(values))
    if not np.ptp(values):
        return scores
    bins = np.ceil((values - values.min()) / (np.ptp(values) / n_bins)).clip(0, n_bins - 1).astype(int)
    limit = chi2.isf(risk, n_bins - 1)
    hypotheses = np.empty((0, n_bins))
    for step in range(size - 1, len(values)):
        shares = np.bincount(bins[step - size + 1 : step + 1], minlength=n_bins) / size
        distances = 2 * size * rel_entr(shares, hypotheses).sum(axis=1)
        if not (distances < limit).any():
            scores[step] = float(len(hypotheses) > 0)
            hypotheses = np.vstack([hypotheses, shares])
    return scores

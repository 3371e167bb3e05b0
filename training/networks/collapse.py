"""Whether a network has learned anything, or answers the same for every sample."""

import dataclasses

import numpy as np

from training.errors import TrainingError

# Relative to the error of foreign reconstructions. Networks that learned had at least 10 % less error (100
# independent features, 180 samples), and 29 to 98 % less on 21 tables; collapsed ones 0.0 %.
LEAST_GAIN = 0.01
# An untrained network answers almost 0, or 0.5 with a sigmoid: after one epoch the error of every preset was
# at most 1.1 times the error of such a constant.
MOST_UNTRAINED = 1.25
FAR_QUANTILE = 0.9  # of the distance from the mean; from there on a sample counts less
LEAST_SAMPLES, MOST_SAMPLES = 10, 5000
LEAST_SPREAD = 1e-6  # of the scores, relative; float32 tells apart a sixteenth of it
WAYS_OUT = "try a smaller --learning-rate, more samples or another --preset"
WAYS_OUT_OF_MEMORY = "try another --preset, or publish it all the same with --no-collapse-check"


@dataclasses.dataclass(frozen=True)
class Rebuilding:
    """How near reconstructions are to their samples, compared with constant answers.

    A sample far from the mean counts less, so that a few of them do not outweigh all others.

    Attributes
    ----------
    error : float
        Mean squared difference of samples and their reconstructions, scaled units.
    mean_error : float
        The same if every sample were rebuilt as the mean of the training split.
    middle_error : float
        The same if every sample were rebuilt as the middle of the output range.
    foreign_error : float
        The same for samples and the reconstructions of all others.
    """

    error: float
    mean_error: float
    middle_error: float
    foreign_error: float


def measure_rebuilding(
    samples: np.ndarray, reconstructions: np.ndarray, mean: np.ndarray, middle: float
) -> Rebuilding:
    """Compare reconstructions with their samples.

    Parameters
    ----------
    samples, reconstructions : ndarray of shape (n_samples, *sample_shape)
        At least two, scaled.
    mean : ndarray of shape sample_shape
        Mean of the training split.
    middle : float
        0, or 0.5 for outputs between 0 and 1.
    """
    n_samples = len(samples)
    flat, rebuilt = (part.reshape(n_samples, -1).astype(np.float64) for part in (samples, reconstructions))
    own = np.square(flat - rebuilt).mean(axis=1)
    from_mean = np.square(flat - mean.reshape(-1)).mean(axis=1)
    # Mean error of each sample and all reconstructions, its own included, without forming the pairs.
    product = (flat * rebuilt.mean(axis=0)).mean(axis=1)
    from_all = np.square(flat).mean(axis=1) + np.square(rebuilt).mean() - 2 * product
    far = np.quantile(from_mean, FAR_QUANTILE) or from_mean.max()
    weights = far / np.maximum(from_mean, far) if far else np.ones(n_samples)

    def average(errors: np.ndarray) -> float:
        return float(weights @ errors / weights.sum())

    return Rebuilding(
        error=average(own),
        mean_error=average(from_mean),
        middle_error=average(np.square(flat - middle).mean(axis=1)),
        foreign_error=average((n_samples * from_all - own) / (n_samples - 1)),
    )


def check_rebuilding(rebuilding: Rebuilding, *, is_trained: bool, was_learning: bool) -> list[str]:
    """Refuse a collapsed network.

    Parameters
    ----------
    rebuilding : Rebuilding
        Measured on samples that the network was not fitted on; a memory may contain them.
    is_trained : bool
        Whether a loss trained the reconstruction. A memory need not beat the mean: with many independent
        features even the nearest sample is farther away than the mean, but nearer to a normal sample than to
        an anomaly.
    was_learning : bool
        Whether the loss still fell when the fit reached its limit: such a network has not collapsed, it is
        unfinished.

    Returns
    -------
    list of str
        A note if an unfinished network does not beat the mean yet.

    Raises
    ------
    TrainingError
        If the reconstruction is no nearer to its own sample than to others, or no nearer than the mean.
    """
    error, mean_error = rebuilding.error, rebuilding.mean_error
    follows, beats_mean = error < (1 - LEAST_GAIN) * rebuilding.foreign_error, error < mean_error
    # NaN counts as worse than the error of an untrained network.
    if is_trained and was_learning and error <= MOST_UNTRAINED * rebuilding.middle_error:
        if follows and beats_mean:
            return []
        return [
            f"the fit ended before the network rebuilt samples better than their mean does (mean squared "
            f"error {error:.3g} against {mean_error:.3g} in scaled units): fit for more --epochs"
        ]
    if not follows:
        raise TrainingError(
            "the network has collapsed: its reconstructions are no nearer to their own samples than to "
            f"others (mean squared error {error:.3g} against {rebuilding.foreign_error:.3g} in scaled "
            f"units); {WAYS_OUT if is_trained else WAYS_OUT_OF_MEMORY}"
        )
    if is_trained and not beats_mean:
        raise TrainingError(
            f"the network rebuilds samples no better than their mean does (mean squared error {error:.3g} "
            f"against {mean_error:.3g} in scaled units), so its scores would only tell the "
            f"distance from the mean; {WAYS_OUT}"
        )
    return []


def check_spread(samples: np.ndarray, scores: np.ndarray) -> None:
    """Refuse scores that are all the same for samples that differ.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, *sample_shape)
    scores : ndarray of shape (n_samples,)

    Raises
    ------
    TrainingError
        If all scores are the same.
    """
    if np.ptp(scores) > LEAST_SPREAD * np.abs(scores).max() or (samples == samples[:1]).all():
        return
    raise TrainingError(
        f"the network has collapsed: all {len(scores)} calibration samples have the same score, "
        f"{scores.max():.6g}, though they differ; {WAYS_OUT}"
    )

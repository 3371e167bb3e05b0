"""Leave out the training samples that are farthest from all others, if some may be anomalies."""

import dataclasses

import numpy as np

from training.data.dataset import Dataset
from training.data.scaling import Scaling
from training.data.splits import LEAST_TRAIN, Splits
from training.errors import DataError

# The anomalies are guessed, so more samples are left out than there are anomalies. On 21 tables with 1 % and
# 5 % of anomalies 1.5 or 3 times as many were no better.
TRIMMED_SHARE = 2.0
# Similar anomalies are near each other, so the distance to a neighbour beyond all of them counts.
COMPANY_SHARE, LEAST_COMPANY = 1.5, 5
MOST_REFERENCES = 1000  # 3,000 give the same result
BLOCK_VALUES = 2**24


def trim_splits(
    dataset: Dataset, splits: Splits, scaling: Scaling, contamination: float, seed: int
) -> Splits:
    """Leave out the training and validation samples that are farthest from all others.

    Twice the assumed share is left out. Calibration and test are unchanged: docs/decisions/0014.

    Parameters
    ----------
    dataset : Dataset
    splits : Splits
    scaling : Scaling
        Fitted on the training split before trimming.
    contamination : float
        Assumed share of anomalies among the samples that are called normal.
    seed : int
        Seed of the samples that distances are measured to.

    Raises
    ------
    DataError
        If too few samples are left to train on.
    """
    rows = np.concatenate([splits.train, splits.validation])
    scaled = scaling.apply(dataset.samples[rows]).reshape(rows.size, -1)
    n_trimmed = round(TRIMMED_SHARE * contamination * rows.size)
    farthest = np.argsort(loneliness(scaled, contamination, seed), kind="stable")
    kept = rows[farthest[: rows.size - n_trimmed]]
    train, validation = (np.intersect1d(split, kept) for split in (splits.train, splits.validation))
    if train.size < LEAST_TRAIN or (splits.validation.size and not validation.size):
        raise DataError(
            f"a contamination of {contamination:g} leaves {train.size} samples to train on and "
            f"{validation.size} for validation, at least {LEAST_TRAIN} and 1 are needed: bring more samples"
        )
    return dataclasses.replace(splits, train=train, validation=validation, n_trimmed=n_trimmed)


def loneliness(samples: np.ndarray, contamination: float, seed: int) -> np.ndarray:
    """Squared distance to the nearest neighbour that is unlikely to be the same kind of anomaly.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, n_values), float32
        Scaled.
    contamination : float
        Assumed share of anomalies. Among 1,000 drawn samples it is at most 1.5 times as large by chance: the
        next neighbour counts, at least the fifth.
    seed : int
        Seed of these 1,000 samples.

    Returns
    -------
    ndarray of shape (n_samples,), float32
    """
    n_samples = len(samples)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(n_samples)[:MOST_REFERENCES]
    references = samples[chosen]
    wanted = max(LEAST_COMPANY, round(COMPANY_SHARE * contamination * chosen.size))
    wanted = min(wanted, chosen.size - 1)
    place = np.full(n_samples, -1)
    place[chosen] = np.arange(chosen.size)
    squares = np.square(references).sum(axis=1)
    lonely = np.empty(n_samples, dtype=np.float32)
    size = BLOCK_VALUES // chosen.size
    for start in range(0, n_samples, size):
        rows = np.arange(start, min(start + size, n_samples))
        block = samples[rows]
        distances = np.square(block).sum(axis=1, keepdims=True) + squares - 2 * (block @ references.T)
        own = place[rows]
        distances[np.flatnonzero(own >= 0), own[own >= 0]] = np.inf  # a sample is no neighbour of itself
        lonely[rows] = np.partition(distances, wanted - 1, axis=1)[:, wanted - 1]
    return lonely

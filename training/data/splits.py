"""Four splits that never overlap: train, validation, calibration, test."""

import dataclasses
import hashlib

import numpy as np

from detector.calibration import smallest_calibration
from training.config import FitConfig
from training.data.dataset import Dataset
from training.errors import DataError

LEAST_TRAIN = 16
LARGEST_CALIBRATION_SHARE = 0.4
# With few calibration samples the threshold is high and misses much: for a promise of 5 % it is near the 4 %
# quantile of 500 scores, and the maximum of 71. Small data sets give up to this share for calibration.
COMFORTABLE_CALIBRATION, COMFORTABLE_SHARE = 500, 0.3


@dataclasses.dataclass(frozen=True)
class Splits:
    """Ascending row numbers of a data set; only `test` has anomalies, and it has at least one sample.

    Attributes
    ----------
    train, validation, calibration, test : ndarray of int
    n_calibration_duplicates : int
        Calibration samples that are byte-for-byte copies of a training or validation sample.
    n_duplicates : int
        Normal test samples that are copies of a sample of another split.
    n_trimmed : int
        Training and validation samples that were left out as likely anomalies.
    """

    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    test: np.ndarray
    n_calibration_duplicates: int
    n_duplicates: int
    n_trimmed: int = 0

    def sizes(self) -> dict[str, int]:
        """Number of samples of each split."""
        return {name: getattr(self, name).size for name in ("train", "validation", "calibration", "test")}


def split_dataset(dataset: Dataset, config: FitConfig) -> Splits:
    """Distribute the normal samples over the four splits; anomalies go to the test split.

    If the data have a test split of their own, it is taken unchanged, so that figures can be compared with
    published ones; anomalies outside it are left out.

    The windows of a series were distributed when they were cut.

    Parameters
    ----------
    dataset : Dataset
    config : FitConfig
        Fractions, `alpha`, `promise`, `rows` and the seed of the shuffle.

    Raises
    ------
    DataError
        If there are too few normal samples to train on, or for the promise of `alpha`.
    """
    if dataset.cut is not None:
        split_of = dataset.cut.split_of
        return _with_duplicates(dataset, *(np.flatnonzero(split_of == split) for split in range(4)))
    rng = np.random.default_rng(config.seed)
    available = rng.permutation(np.flatnonzero(~dataset.held_out))[: config.rows]
    normal = available[~dataset.is_anomaly[available]]
    anomalies = available[dataset.is_anomaly[available]]
    brings_test = dataset.held_out.any()
    n_test = 0 if brings_test else max(1, round(config.test_fraction * normal.size))
    n_validation = max(1, round(config.validation_fraction * normal.size))
    n_calibration = _calibration_size(normal.size, config)
    n_train = normal.size - n_test - n_validation - n_calibration
    if n_train < LEAST_TRAIN:
        raise DataError(
            f"{normal.size} normal samples are too few: {max(n_train, 0)} would be left to train on, and at "
            f"least {LEAST_TRAIN} are needed"
        )
    ends = np.cumsum([n_train, n_validation, n_calibration])
    train, validation, calibration, test = np.split(normal, ends)
    test = np.flatnonzero(dataset.held_out) if brings_test else np.concatenate([test, anomalies])
    return _with_duplicates(dataset, *(np.sort(part) for part in (train, validation, calibration, test)))


def _with_duplicates(
    dataset: Dataset, train: np.ndarray, validation: np.ndarray, calibration: np.ndarray, test: np.ndarray
) -> Splits:
    fitted = np.concatenate([train, validation])
    n_copies = _count_duplicates(dataset, fitted, calibration)
    normal_test = test[~dataset.is_anomaly[test]]
    n_duplicates = _count_duplicates(dataset, np.concatenate([fitted, calibration]), normal_test)
    return Splits(train, validation, calibration, test, n_copies, n_duplicates)


def _calibration_size(n_normal: int, config: FitConfig) -> int:
    """The configured share, or more if the data are few or the promise needs it."""
    comfortable = min(COMFORTABLE_CALIBRATION, int(COMFORTABLE_SHARE * n_normal))
    wanted = max(1, round(config.calibration_fraction * n_normal), comfortable)
    needed = smallest_calibration(config.alpha) if config.promise else 1
    if needed > max(wanted, int(LARGEST_CALIBRATION_SHARE * n_normal)):
        least = int(np.ceil(needed / max(LARGEST_CALIBRATION_SHARE, config.calibration_fraction)))
        raise DataError(
            f"the promise of alpha {config.alpha:g} needs {needed} calibration samples, so at least {least} "
            f"normal samples, got {n_normal}: bring more, ask for a larger --alpha, or fit without a "
            "promise (--no-promise)"
        )
    return max(wanted, needed)


def _count_duplicates(dataset: Dataset, earlier: np.ndarray, later: np.ndarray) -> int:
    """Count the samples of `later` that are byte-for-byte copies of samples of `earlier`."""

    def digest(row: int) -> bytes:
        return hashlib.blake2b(np.ascontiguousarray(dataset.samples[row]).data, digest_size=16).digest()

    seen = set(map(digest, earlier))
    return sum(digest(row) in seen for row in later)

"""Read samples and labels from the arrays of an `.npy` or `.npz`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from detector.columns import listed
from detector.errors import InputError
from detector.sources.array_names import (
    LABELS,
    SAMPLES,
    TEST,
    TRAIN,
    VALIDATION,
    check_inflated,
    find_roles,
)
from training.data.built_in import train_and_test
from training.data.dataset import RawData
from training.data.series import Timeline
from training.data.tables import label_texts, missing_labels
from training.errors import DataError

ARRAY_SUFFIXES = (".npy", ".npz")


def read_arrays(path: Path, *, is_series: bool) -> RawData:
    """Read the arrays of an `.npz`, or the one array of an `.npy`, told apart by the content.

    `detector.sources.array_names` knows the names. Validation samples join the training samples if there are
    test samples, and are the test split otherwise; labels without a split are those of the test samples.
    Notes name the arrays that are not used.

    Raises
    ------
    DataError
        If the file cannot be read, its compressed arrays are too large, it has no array of samples, or
        samples or labels are not as they must be.
    """
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            return _one_array(arrays, path, is_series=is_series)
        with arrays as archive:
            return _archive(_Archive(path, archive))
    except DataError:
        raise
    except InputError as error:
        raise DataError(str(error)) from error
    except Exception as error:  # NumPy lets SyntaxError, TokenError and errors of zipfile through
        raise DataError(f"{path.name} cannot be read as arrays without pickles: {error}") from error


def _one_array(samples: np.ndarray, path: Path, *, is_series: bool) -> RawData:
    if is_series and path.suffix.lower() == ".npy" and samples.ndim in (1, 2):
        steps = _real(samples.reshape(len(samples), -1), "X", path)
        return RawData(steps, timeline=Timeline(np.zeros(len(steps), dtype=np.int64)))
    return RawData(_real(samples, "X", path))


class _Archive:
    """The arrays of an `.npz` by their roles; remembers which were read."""

    def __init__(self, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
        self.path = path
        self.names = tuple(arrays)
        self.roles = find_roles(arrays)
        check_inflated(path, self.roles.values())
        self._arrays = arrays
        self._unused = set(arrays)

    def has(self, split: str | None, what: str = SAMPLES) -> bool:
        """Tell whether there are samples, or labels, of a split."""
        return (split, what) in self.roles

    def samples(self, split: str | None) -> np.ndarray:
        """Read the samples of a split."""
        return _real(self._take(split, SAMPLES), self.roles[split, SAMPLES], self.path)

    def labels(self, split: str | None, n_samples: int) -> np.ndarray | None:
        """Read the labels of a split, one for each sample; None if there are none."""
        if not self.has(split, LABELS):
            return None
        name, labels = self.roles[split, LABELS], self._take(split, LABELS).ravel()
        if labels.size != n_samples:
            raise DataError(f"{self.path.name}: {name} must have {n_samples} labels, got {labels.size}")
        missing = missing_labels(label_texts(labels))
        if missing.size:
            raise DataError(
                f"{self.path.name}: {name} must have a label for every sample, got "
                f"{str(labels[missing[0]])!r} in row {missing[0]}"
            )
        return labels

    def notes(self) -> tuple[str, ...]:
        """Name the arrays that were not read."""
        unused = [name for name in self.names if name in self._unused]
        return (f"arrays of {self.path.name} that are not used: {listed(unused)}",) if unused else ()

    def _take(self, split: str | None, what: str) -> np.ndarray:
        name = self.roles[split, what]
        self._unused.discard(name)
        return self._arrays[name]


def _archive(archive: _Archive) -> RawData:
    splits = [split for split, what in archive.roles if what == SAMPLES]
    if archive.has(TRAIN) and (archive.has(TEST) or archive.has(VALIDATION)):
        return _with_test(archive)
    if None not in splits and len(splits) != 1:
        raise DataError(
            f"{archive.path.name} must hold X and optionally y, or x_train and x_test and optionally y_train "
            f"and y_test, or the same by other usual names; got {listed(archive.names)}"
        )
    split = None if None in splits else splits[0]
    samples = archive.samples(split)
    labels = archive.labels(split if archive.has(split, LABELS) else None, len(samples))
    return RawData(samples, labels, notes=archive.notes())


def _with_test(archive: _Archive) -> RawData:
    """Join training and test samples, the latter held out."""
    test_split = TEST if archive.has(TEST) else VALIDATION
    train, test = archive.samples(TRAIN), archive.samples(test_split)
    labels = archive.labels(TRAIN, len(train))
    own = test_split if archive.has(test_split, LABELS) else None
    test_labels = archive.labels(own, len(test))
    notes = []
    if test_split == VALIDATION:
        notes.append("the validation samples are the test split, since no array is called test")
    elif archive.has(VALIDATION) and archive.has(VALIDATION, LABELS) == archive.has(TRAIN, LABELS):
        more = archive.samples(VALIDATION)
        if labels is not None:
            labels = np.concatenate([labels, archive.labels(VALIDATION, len(more))])
        train = np.concatenate([train, more])
        notes.append("the validation samples join the training split, which is split again")
    return train_and_test(train, labels, test, test_labels, notes=(*notes, *archive.notes()))


def _real(samples: np.ndarray, name: str, path: Path) -> np.ndarray:
    if samples.dtype.kind not in "fiu":
        raise DataError(f"{path.name}: {name} must be real numbers, got an array of {samples.dtype}")
    if samples.ndim < 2 or 0 in samples.shape:
        raise DataError(f"{path.name}: {name} must have shape (n, ...), got {samples.shape}")
    return samples

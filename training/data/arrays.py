"""Read samples and labels from the arrays of an `.npy` or `.npz`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from training.data.built_in import train_and_test
from training.data.dataset import RawData
from training.data.series import Timeline
from training.data.tables import label_texts, missing_labels
from training.errors import DataError

ARRAY_SUFFIXES = (".npy", ".npz")


def read_arrays(path: Path, *, is_series: bool) -> RawData:
    """Read the arrays of an .npz, or the one array of an .npy as `X`, told apart by the content."""
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            arrays = {"X": arrays}
        else:
            with arrays as archive:
                arrays = dict(archive)
    except Exception as error:  # NumPy lets SyntaxError, TokenError and errors of zipfile through
        raise DataError(f"{path.name} cannot be read as arrays without pickles: {error}") from error
    if is_series and path.suffix.lower() == ".npy" and arrays["X"].ndim in (1, 2):
        steps = arrays["X"].reshape(len(arrays["X"]), -1)
        return RawData(
            _real({"X": steps}, "X", path), timeline=Timeline(np.zeros(len(steps), dtype=np.int64))
        )
    if "X" in arrays:
        return RawData(_real(arrays, "X", path), _labels(arrays, "y", "X", path))
    if {"x_train", "x_test"} <= arrays.keys():
        return train_and_test(
            _real(arrays, "x_train", path),
            _labels(arrays, "y_train", "x_train", path),
            _real(arrays, "x_test", path),
            _labels(arrays, "y_test", "x_test", path),
        )
    raise DataError(
        f"{path.name} must hold X and optionally y, or x_train, y_train, x_test and y_test; "
        f"got {sorted(arrays)}"
    )


def _real(arrays: Mapping[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    samples = arrays[name]
    if samples.dtype.kind not in "fiu":
        raise DataError(f"{path.name}: {name} must be real numbers, got an array of {samples.dtype}")
    if samples.ndim < 2 or 0 in samples.shape:
        raise DataError(f"{path.name}: {name} must have shape (n, ...), got {samples.shape}")
    return samples


def _labels(arrays: Mapping[str, np.ndarray], name: str, samples_name: str, path: Path) -> np.ndarray | None:
    """Labels, one for each sample; None if there are none."""
    if name not in arrays:
        return None
    labels, n_samples = arrays[name].ravel(), len(arrays[samples_name])
    if labels.size != n_samples:
        raise DataError(f"{path.name}: {name} must have {n_samples} labels, got {labels.size}")
    missing = missing_labels(label_texts(labels))
    if missing.size:
        raise DataError(
            f"{path.name}: {name} must have a label for every sample, got {str(labels[missing[0]])!r} in row "
            f"{missing[0]}"
        )
    return labels

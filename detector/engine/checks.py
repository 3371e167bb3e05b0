"""Pure: samples and latents of a caller, held against shape, dtype and range, as the graphs take them."""

from collections.abc import Callable

import numpy as np

from detector.errors import InputError
from detector.latents import FLOAT32, INT8, INT8_RANGE, LARGEST_FLOAT16
from detector.manifest import Manifest


def check_array(
    values: np.ndarray,
    shape: tuple[int, ...],
    what: str,
    feature_name: Callable[[tuple[int, ...]], str],
    row: str = "row",
    *,
    missing: bool = False,
    hint: str = "",
) -> np.ndarray:
    """An array as the graphs take it: float32, contiguous, finite but for missing values.

    Parameters
    ----------
    values : array of shape (n, *shape), any real dtype
        At least one.
    shape : tuple of int
    what : str
        Its name in errors.
    feature_name : callable
        Index within one of the n -> name.
    row : str
        What one of the n is called.
    missing : bool
        Whether NaN stands for a missing value.
    hint : str
        What a refused NaN is answered beside.

    Raises
    ------
    InputError
        Naming shape or dtype, or the first value that is not a finite float32.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "fiu":
        raise InputError(f"{what} must be real numbers, got an array of {values.dtype}")
    if values.ndim != len(shape) + 1 or values.shape[1:] != shape:
        wanted = ", ".join(map(str, ("n", *shape)))
        raise InputError(f"{what} must have shape ({wanted}), got {values.shape}")
    if len(values) == 0:
        raise InputError(f"{what} must hold at least one sample, got shape {values.shape}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
        checked = np.ascontiguousarray(values, dtype=np.float32)
    finite = np.isfinite(checked)
    if missing:
        finite |= np.isnan(checked)
    if not np.logical_and.reduce(finite, axis=None):
        index = tuple(map(int, np.argwhere(~finite)[0]))
        raise InputError(
            f"{what} must be finite float32 values, got {values[index]} in {row} {index[0]}, "
            f"{feature_name(index[1:])}{hint if np.isnan(values[index]) else ''}",
            index,
        )
    return checked


def check_packed(checked: np.ndarray, dtype: str) -> None:
    """Every value is one that a latent of this dtype can have; 8-bit integers may come as JSON numbers.

    Parameters
    ----------
    checked : ndarray of shape (n_samples, *latent_shape), float32
    dtype : str
        One of `detector.latents.DTYPES`.

    Raises
    ------
    InputError
        Naming the first value that is not.
    """
    if dtype == FLOAT32:
        return
    least, largest = INT8_RANGE if dtype == INT8 else (-LARGEST_FLOAT16, LARGEST_FLOAT16)
    faulty = (checked < least) | (checked > largest)
    words = f"between {least:g} and {largest:g}"
    if dtype == INT8:
        faulty |= checked != np.rint(checked)
        words = f"integers from {least} to {largest}"
    if faulty.any():
        index = tuple(map(int, np.argwhere(faulty)[0]))
        raise InputError(
            f"latent of dtype {dtype} must be {words}, got {checked[index]:g} in row {index[0]}, "
            f"{position(index[1:])}",
            index,
        )


def position(index: tuple[int, ...]) -> str:
    """An index as text: [3, 1]."""
    return "[" + ", ".join(map(str, index)) + "]"


def sequence_shapes(manifest: Manifest) -> str:
    """The shapes that samples of a sequence model may have, in words."""
    window, n_channels = manifest.sample_shape
    if n_channels == 1:
        return f"(n, {window}, 1) or (n, {window}) for windows, (n_steps, 1) or (n_steps,) for a series"
    return f"(n, {window}, {n_channels}) for windows, (n_steps, {n_channels}) for a series"

"""Latents in fewer bytes: as float16, or as 8-bit integers by the offset and scale of the manifest."""

import numpy as np

from detector.errors import InputError
from detector.manifest import LatentInt8

FLOAT32, FLOAT16, INT8 = DTYPES = ("float32", "float16", "int8")
INT8_RANGE = (-128, 127)
LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def check_dtype(dtype: str) -> str:
    """The dtype itself.

    Raises
    ------
    InputError
        If it is none of `DTYPES`.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return dtype


def fit_int8(latent: np.ndarray) -> LatentInt8:
    """The 8-bit form whose ends are the least and the largest value of each component.

    Parameters
    ----------
    latent : ndarray of shape (n_samples, *latent_shape), float32
        Finite; components are counted along the last axis.
    """
    components = latent.reshape(-1, latent.shape[-1]).astype(np.float64)
    low, high = components.min(axis=0), components.max(axis=0)
    least, largest = INT8_RANGE
    scale = (high - low) / (largest - least)
    # A constant component, or one as good as that: any positive scale gives its value back.
    scale = np.maximum(scale, np.finfo(np.float32).eps * np.maximum(np.abs(low), 1))
    offset = np.where(high > low, low - least * scale, low)
    return LatentInt8(tuple(offset.tolist()), tuple(scale.tolist()))


def pack(latent: np.ndarray, dtype: str, form: LatentInt8 | None) -> np.ndarray:
    """Latents in another dtype; what is beyond its range becomes its end.

    Parameters
    ----------
    latent : ndarray of shape (n_samples, *latent_shape), float32
    dtype : str
        One of `DTYPES`.
    form : LatentInt8 or None
        Needed for `int8`.
    """
    if dtype == FLOAT16:
        return np.clip(latent, -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16)
    if dtype == INT8:
        steps = (latent.astype(np.float64) - form.offset) / form.scale
        with np.errstate(invalid="ignore"):  # whoever packs NaN has been told before
            return np.clip(np.rint(steps), *INT8_RANGE).astype(np.int8)
    return latent


def unpack(packed: np.ndarray, dtype: str, form: LatentInt8 | None) -> np.ndarray:
    """Packed latents as the decoder takes them: float32, computed in float64."""
    if dtype == INT8:
        return (form.offset + packed.astype(np.float64) * form.scale).astype(np.float32)
    return packed.astype(np.float32, copy=False)

"""Store latents in fewer bytes: as float16, or as 8-bit integers with the manifest's offset and scale."""

import numpy as np

from detector.errors import InputError, NoInt8Latent
from detector.manifest import LatentInt8

FLOAT32, FLOAT16, INT8 = DTYPES = ("float32", "float16", "int8")
INT8_RANGE = (-128, 127)
LARGEST_FLOAT16 = float(np.finfo(np.float16).max)


def check_dtype(dtype: str) -> str:
    """Return the dtype; raise `InputError` if it is not one of `DTYPES`."""
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return dtype


def fit_int8(latent: np.ndarray) -> LatentInt8:
    """Choose the 8-bit form that covers the range of each component of these latents.

    Parameters
    ----------
    latent : ndarray of shape (n_samples, *latent_shape), float32
        Finite; the components are the last axis.
    """
    components = latent.reshape(-1, latent.shape[-1]).astype(np.float64)
    low, high = components.min(axis=0), components.max(axis=0)
    least, largest = INT8_RANGE
    scale = (high - low) / (largest - least)
    # A component that is constant, or nearly: any positive scale restores its value.
    scale = np.maximum(scale, np.finfo(np.float32).eps * np.maximum(np.abs(low), 1))
    offset = np.where(high > low, low - least * scale, low)
    return LatentInt8(tuple(offset.tolist()), tuple(scale.tolist()))


def pack(latent: np.ndarray, dtype: str, form: LatentInt8 | None) -> np.ndarray:
    """Convert latents to another dtype; values outside its range are clipped.

    Parameters
    ----------
    latent : ndarray of shape (n_samples, *latent_shape), float32
    dtype : str
        One of `DTYPES`.
    form : LatentInt8 or None
        Required for `int8`.
    """
    if dtype == FLOAT16:
        latent = np.clip(latent, -LARGEST_FLOAT16, LARGEST_FLOAT16).astype(np.float16)
    elif dtype == INT8:
        offset, scale = _arrays(form)
        with np.errstate(invalid="ignore"):  # NaN has been reported before it is packed
            latent = np.clip(np.rint((latent - offset) / scale), *INT8_RANGE).astype(np.int8)
    return latent


def unpack(packed: np.ndarray, dtype: str, form: LatentInt8 | None) -> np.ndarray:
    """Convert packed latents to the input of the decoder: float32, computed in float64."""
    if dtype == INT8:
        offset, scale = _arrays(form)
        packed = offset + packed * scale
    return packed.astype(np.float32, copy=False)


def _arrays(form: LatentInt8 | None) -> tuple[np.ndarray, np.ndarray]:
    """Offset and scale, float64; `Engine.require_latent` has refused a model without them."""
    if form is None:
        raise NoInt8Latent("the model has no 8-bit form of its latent")
    return np.array(form.offset, dtype=np.float64), np.array(form.scale, dtype=np.float64)

"""Choose the kind of the samples: vector, image or sequence."""

from collections.abc import Sequence

import numpy as np

from training.errors import DataError

FLOAT32 = np.finfo(np.float32)


def choose_kind(samples: np.ndarray, value_range: tuple[float, float] | None, kinds: Sequence[str]) -> str:
    """Return the kind that shape and dtype suggest if it is one of `kinds`, else the first of these."""
    if len(kinds) == 1:
        return kinds[0]
    if samples.ndim == 2:
        own = "vector"
    elif samples.ndim in (3, 4) and (samples.dtype == np.uint8 or value_range is not None):
        own = "image"
    else:
        raise DataError(
            f"name the kind with --kind: samples of shape {samples.shape[1:]} and type {samples.dtype} could "
            "be images or sequences"
        )
    return own if own in kinds else kinds[0]


def as_kind(samples: np.ndarray, kind: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Samples in the form of a kind, and a note where that is not the form that they came in."""
    shape = samples.shape[1:]
    if kind == "vector" and len(shape) > 1:
        rows = samples.reshape(len(samples), -1)
        return rows, (f"samples of shape {shape} are taken as rows of {rows.shape[1]} features",)
    if kind == "sequence" and len(shape) == 3:
        windows = samples.reshape(len(samples), shape[0], -1)
        return windows, (
            f"samples of shape {shape} are taken as {shape[0]} steps of {windows.shape[2]} channels",
        )
    if kind == "sequence" and len(shape) == 1:
        return samples[..., np.newaxis], ()
    return samples, ()


def check_kind(samples: np.ndarray, kind: str, value_range: tuple[float, float] | None) -> None:
    """Refuse samples that cannot be of this kind, and a value range that cannot be theirs."""
    shape = samples.shape[1:]
    if kind == "sequence" and (len(shape) != 2 or shape[0] < 2):
        raise DataError(f"a window has shape (steps, channels), two steps at least, got {shape}")
    if kind == "image" and (len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3))):
        raise DataError(
            f"an image has shape (height, width) or (height, width, 3), got {shape}{_channel_hint(shape)}"
        )
    if kind == "image" and min(shape[:2]) < 2:
        raise DataError(
            f"an image must have at least 2 x 2 pixels, got shape {shape}: fit it as --kind vector"
        )
    check_range(samples, value_range)


def _channel_hint(shape: tuple[int, ...]) -> str:
    if len(shape) != 3:
        return ""
    if shape[0] in (1, 3):
        return ": channels come last, so save numpy.moveaxis(X, 1, -1)"
    if shape[2] == 4 or shape[0] == 4:
        return ": leave out the alpha channel, and put channels last"
    return ""


def check_range(samples: np.ndarray, value_range: tuple[float, float] | None) -> None:
    """Refuse a value range that float32 cannot tell apart, or that does not hold all samples."""
    if value_range is None:
        return
    low, high = value_range
    with np.errstate(over="ignore", invalid="ignore"):
        span = np.float32(high) - np.float32(low)
    if not FLOAT32.tiny <= span <= FLOAT32.max:  # NaN is not between them either
        raise DataError(
            f"--value-range must be two ascending numbers that float32 can tell apart, got {low:g},{high:g}"
        )
    if samples.min() < low or samples.max() > high:
        raise DataError(
            f"samples must lie within the value range {low:g} to {high:g}, "
            f"got {samples.min():g} to {samples.max():g}"
        )


def assumed_range(samples: np.ndarray) -> tuple[tuple[float, float], tuple[str, ...]]:
    """The value range of images that came without one, and the note that it was assumed."""
    if samples.dtype == np.uint8:
        return (0.0, 255.0), ()
    low, high = float(samples.min()), float(samples.max())
    if low == high:
        raise DataError("every pixel of every image has the same value: there is nothing to learn")
    note = f"black and white are the values {low:g} and {high:g} of the data; name others with --value-range"
    return (low, high), (note,)

"""The one place that decodes and encodes pictures, for training and serving alike."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from detector.errors import InputError

MAX_PIXELS = 16_000_000  # 4,000 x 4,000, refused before a pixel is decoded
_MODES = {2: "L", 3: "RGB"}
_PNG_BIT_DEPTH = 24  # after the signature, the length and name of IHDR, width and height
# The second is an error only where the caller made it one; a picture of that size is refused either way.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_image(content: bytes) -> np.ndarray:
    """Decode a PNG or JPEG of 8 bits a channel.

    Parameters
    ----------
    content : bytes
        The file.

    Returns
    -------
    ndarray of shape (height, width) for grey or (height, width, 3) for RGB, uint8

    Raises
    ------
    InputError
        If it is not such a picture: another format or mode, broken, or above `MAX_PIXELS`.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"a picture may have {MAX_PIXELS} pixels, got {image.width} x {image.height}"
                )
            if image.mode not in _MODES.values():
                raise InputError(f"a picture must be 8-bit grey (mode L) or RGB, got mode {image.mode}")
            if image.format == "PNG" and content[_PNG_BIT_DEPTH] > 8:  # Pillow drops the low byte of RGB
                raise InputError(f"a picture must have 8 bits a channel, got {content[_PNG_BIT_DEPTH]}")
            return np.asarray(image)
    except UnidentifiedImageError as error:
        raise InputError("the picture is neither PNG nor JPEG") from error
    except (OSError, SyntaxError, ValueError, *_BOMBS) as error:
        raise InputError(f"the picture cannot be decoded: {error}") from error


def decode_image(
    content: bytes, sample_shape: tuple[int, ...], value_range: tuple[float, float]
) -> np.ndarray:
    """Decode a picture into one sample: 0 becomes the lowest raw value, 255 the highest, linearly between.

    Parameters
    ----------
    content : bytes
        A PNG or JPEG of 8 bits a channel.
    sample_shape : tuple of int
        (height, width), (height, width, 1) or (height, width, 3).
    value_range : tuple of float
        Raw values of black and white.

    Returns
    -------
    ndarray of shape sample_shape, float32, raw units

    Raises
    ------
    InputError
        If it does not decode, or has another size or mode.
    """
    pixels = read_image(content)
    if pixels.shape != _pixel_shape(sample_shape):
        raise InputError(f"the picture must be {_describe(sample_shape)}, got {_describe(pixels.shape)}")
    low, high = value_range
    raw = low + pixels.astype(np.float64) * ((high - low) / 255)
    return raw.astype(np.float32).reshape(sample_shape)


def encode_image(sample: np.ndarray, value_range: tuple[float, float]) -> bytes:
    """Encode one sample as PNG, the inverse of `decode_image`; values beyond the range are clipped.

    Parameters
    ----------
    sample : ndarray of shape (height, width[, 1]) or (height, width, 3), float32, raw units
    value_range : tuple of float

    Returns
    -------
    bytes
        A PNG of mode L or RGB.
    """
    low, high = value_range
    pixels = np.clip((sample.astype(np.float64) - low) / (high - low) * 255, 0, 255)
    pixels = np.rint(pixels).astype(np.uint8).reshape(_pixel_shape(sample.shape))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _pixel_shape(sample_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a decoded picture: a single channel has no axis of its own."""
    return sample_shape[:2] if sample_shape[2:] == (1,) else sample_shape


def _describe(shape: tuple[int, ...]) -> str:
    colour = "RGB" if shape[2:] == (3,) else "grey"
    return f"{shape[1]} pixels wide, {shape[0]} high and {colour}"

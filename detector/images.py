"""Decode and encode images, the same for training and serving."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from detector.errors import InputError

MAX_PIXELS = 16_000_000  # 4,000 x 4,000, refused before a pixel is decoded
_MODES = {2: "L", 3: "RGB"}
# Matplotlib's inferno at its quarters, CC0: lightness grows evenly, which colour-blind readers see too.
_HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
_PNG_BIT_DEPTH = 24  # its offset: after the signature, the length and name of IHDR, width and height
# The warning is an error only if the caller made it one; an image of that size is refused either way.
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


def read_image(content: bytes | bytearray, pixel_shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Decode a PNG or JPEG of 8 bits a channel.

    Parameters
    ----------
    content : bytes
        The file.
    pixel_shape : tuple of int, optional
        Shape to return; an image of another size or colour is refused before a pixel is decoded.

    Returns
    -------
    ndarray of shape (height, width) for grey or (height, width, 3) for RGB, uint8

    Raises
    ------
    InputError
        If the format or mode is another, the file is broken, or it has more than `MAX_PIXELS` pixels.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height}"
                raise InputError(f"an image may have at most {MAX_PIXELS} pixels, got {size}")
            if image.mode not in _MODES.values():
                raise InputError(f"an image must be 8-bit grey (mode L) or RGB, got mode {image.mode}")
            if image.format == "PNG" and content[_PNG_BIT_DEPTH] > 8:  # Pillow drops the low byte of RGB
                raise InputError(f"an image must have 8 bits a channel, got {content[_PNG_BIT_DEPTH]}")
            found = (image.height, image.width, 3)[: 2 + (image.mode == "RGB")]
            if pixel_shape is not None and pixel_shape != found:
                raise InputError(f"the image must be {_describe(pixel_shape)}, got {_describe(found)}")
            return np.asarray(image)
    except UnidentifiedImageError as error:
        raise InputError("the image is neither PNG nor JPEG") from error
    except (OSError, SyntaxError, ValueError, *_BOMBS) as error:
        raise InputError(f"the image cannot be decoded: {error}") from error


def decode_image(
    content: bytes | bytearray, sample_shape: tuple[int, ...], value_range: tuple[float, float]
) -> np.ndarray:
    """Decode an image to one sample: 0 becomes the lowest raw value, 255 the highest, linear in between.

    Parameters
    ----------
    content : bytes
        A PNG or JPEG of 8 bits a channel.
    sample_shape : tuple of int
        (height, width), (height, width, 1) or (height, width, 3).
    value_range : tuple of float
        The raw values of black and white.

    Returns
    -------
    ndarray of shape sample_shape, float32, raw units

    Raises
    ------
    InputError
        If it cannot be decoded, or has another size or mode.
    """
    pixels = read_image(content, _pixel_shape(sample_shape))
    low, high = value_range
    raw = low + pixels.astype(np.float64) * ((high - low) / 255)
    return raw.astype(np.float32).reshape(sample_shape)


def encode_image(sample: np.ndarray, value_range: tuple[float, float]) -> bytes:
    """Encode one sample, float32 in raw units, as a PNG of mode L or RGB: the inverse of `decode_image`.

    Values outside the range are clipped.
    """
    low, high = value_range
    levels = np.clip((sample.astype(np.float64) - low) / (high - low) * 255, 0, 255)
    return _to_png(np.rint(levels).astype(np.uint8).reshape(_pixel_shape(sample.shape)))


def encode_heat_map(error: np.ndarray, usual_error: float) -> bytes:
    """Encode the error of one sample as a PNG of mode RGB, from black for no error to light yellow.

    A colour means the same error in every image of a model: red is `usual_error`, light yellow is four times
    as much or more.

    Parameters
    ----------
    error : ndarray of shape (height, width[, channels]), float32
        At least 0; channels are summed.
    usual_error : float
        Positive.
    """
    total = error.astype(np.float64).reshape(*error.shape[:2], -1).sum(axis=2)
    heat = np.sqrt(total / usual_error) / 2  # above 1 it has the last colour
    steps = np.linspace(0, 1, len(_HEAT))
    pixels = np.stack([np.interp(heat, steps, channel) for channel in np.transpose(_HEAT)], axis=2)
    return _to_png(np.rint(pixels).astype(np.uint8))


def _to_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _pixel_shape(sample_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the decoded image: a single channel has no axis."""
    return sample_shape[:2] if sample_shape[2:] == (1,) else sample_shape


def _describe(shape: tuple[int, ...]) -> str:
    colour = "RGB" if shape[2:] == (3,) else "grey"
    return f"{shape[1]} pixels wide, {shape[0]} high and {colour}"

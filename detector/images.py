"""Decode and encode images, the same for training and serving."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# No other reader is allowed. If one of these were not imported, Pillow would import all that it has.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    Image,
    ImageOps,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from detector.errors import InputError

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_FORMAT_WORDS = "PNG, JPEG, BMP, TIFF or WebP"
MAX_PIXELS = 16_000_000  # 4,000 x 4,000, refused before a pixel is decoded
_GREY = ("1", "L", "LA", "La")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_PHOTOMETRIC = TiffImagePlugin.PHOTOMETRIC_INTERPRETATION  # 0: white is 0; Pillow inverts 8 bits by itself
_HALVES = 257  # 65535 / 255
# Matplotlib's inferno at its quarters, CC0: lightness grows evenly, which colour-blind readers see too.
_HEAT = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
# What Pillow's readers raise for files that are cut, damaged or too large; a warning is an error only if the
# caller made it one.
_FAULTS = (
    *(OSError, SyntaxError, ValueError, KeyError, IndexError, TypeError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Warning),
)


def read_image(
    content: bytes | bytearray | memoryview,
    pixel_shape: tuple[int, ...] | None = None,
    resize: tuple[int, int] | None = None,
) -> np.ndarray:
    """Decode a PNG, JPEG, BMP, TIFF or WebP to the pixels that a viewer shows.

    An EXIF orientation is applied. An opaque alpha channel is dropped. 1 bit becomes black and white; a
    palette and WebP, which have no grey of their own, become grey if all pixels are; CMYK and YCbCr become
    RGB, without colour profiles. Grey of 16 bits keeps them, colours have 8.

    Parameters
    ----------
    content : bytes
        The file.
    pixel_shape : tuple of int, optional
        Shape to return: (height, width) or (height, width, 3). Grey becomes RGB of equal channels, and RGB of
        equal channels grey; without `resize` another size is refused before a pixel is decoded.
    resize : tuple of int, optional
        Height and width that an image of another size is brought to, whatever its aspect: each pixel is a
        weighted mean of the pixels that it covers (Pillow's bilinear filter).

    Returns
    -------
    ndarray of shape (height, width) for grey or (height, width, 3) for RGB, uint8, or uint16 for 16-bit grey

    Raises
    ------
    InputError
        If the format or mode is another, the file is broken or holds several images, a pixel is transparent,
        the image has more than `MAX_PIXELS` pixels, or does not have `pixel_shape`.
    """
    with _opened(content) as image:
        if pixel_shape is not None and resize is None and sorted(image.size) != sorted(pixel_shape[:2]):
            raise _other_size(pixel_shape, image.height, image.width)
        pixels = _pixels(image, resize)
    if pixel_shape is None:
        return pixels
    if pixels.shape[:2] != pixel_shape[:2]:
        raise _other_size(pixel_shape, *pixels.shape[:2])
    return as_colours(pixels) if len(pixel_shape) == 3 else _as_grey(pixels)


def count_pixels(content: bytes | bytearray | memoryview) -> int:
    """Return the number of pixels of an image, from its header; raise `InputError` as `read_image`."""
    with _opened(content) as image:
        return image.width * image.height


def decode_image(
    content: bytes | bytearray | memoryview,
    sample_shape: tuple[int, ...],
    value_range: tuple[float, float],
    resize: tuple[int, int] | None = None,
) -> np.ndarray:
    """Decode an image to one sample: black becomes the lowest raw value, white the highest.

    Parameters
    ----------
    content : bytes
        A file that `read_image` reads.
    sample_shape : tuple of int
        (height, width), (height, width, 1) or (height, width, 3).
    value_range : tuple of float
        The raw values of black and white; levels between them are mapped linearly.
    resize : tuple of int, optional
        As for `read_image`; the `resize` of the model's `Reading`.

    Returns
    -------
    ndarray of shape sample_shape, float32, raw units

    Raises
    ------
    InputError
        As `read_image`; also if a grey sample is wanted and the image has colours.
    """
    pixels = read_image(content, pixel_shape_of(sample_shape), resize)
    return to_raw(pixels, value_range).reshape(sample_shape)


def to_raw(pixels: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Map levels, uint8 or uint16, linearly to raw units: float32 from the lowest to the highest value."""
    low, high = value_range
    raw: np.ndarray = low + pixels.astype(np.float64) * ((high - low) / np.iinfo(pixels.dtype).max)
    return raw.astype(np.float32)


def as_colours(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as RGB of 8 bits: grey has three equal channels."""
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / _HALVES).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, np.newaxis], 3, axis=2)


def as_deep(pixels: np.ndarray) -> np.ndarray:
    """Return grey of 8 or 16 bits as uint16 from 0 to 65535."""
    return pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint16) * np.uint16(_HALVES)


@contextmanager
def _opened(content: bytes | bytearray | memoryview) -> Iterator[Image.Image]:
    """Open an image whose header is within the limits; translate what Pillow raises."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_header(image)
            yield image
    except UnidentifiedImageError as error:
        raise InputError(f"the image is no {_FORMAT_WORDS} that can be read") from error
    except _FAULTS as error:
        raise InputError(f"the image cannot be decoded: {error}") from error


def _check_header(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"an image may have at most {MAX_PIXELS} pixels, got {image.width} x {image.height}")
    if image.mode not in (*_GREY, *_COLOUR) and not image.mode.startswith("I;16"):
        raise InputError(
            f"an image must have 8 bits a channel, or 1 or 16 bits of grey, got mode {image.mode}: give its "
            "values as an array"
        )
    if image.format != "MPO" and getattr(image, "is_animated", False):  # MPO: a photograph and its preview
        raise InputError("a file must hold one image, got several pages or frames")
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        width, height = tags.get(TiffImagePlugin.TILEWIDTH, 1), tags.get(TiffImagePlugin.TILELENGTH, 1)
        if width * height > MAX_PIXELS:  # it has memory of its own
            raise InputError(f"a tile may have at most {MAX_PIXELS} pixels, got {width} x {height}")


def _pixels(image: Image.Image, resize: tuple[int, int] | None) -> np.ndarray:
    """Return the pixels of an image, upright, grey or RGB."""
    flat = _without_alpha(ImageOps.exif_transpose(image))
    if resize is not None and (flat.height, flat.width) != resize:
        flat = flat.resize(resize[::-1], Image.Resampling.BILINEAR)
    pixels = np.asarray(flat)
    if flat.mode == "RGB":
        may_be_grey = image.mode in ("P", "PA") or image.format == "WEBP"
        return pixels[:, :, 0] if may_be_grey and _is_grey(pixels) else pixels
    if flat.mode == "L":
        return pixels
    pixels = pixels.astype(np.uint16)
    is_inverted = isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0
    return np.iinfo(np.uint16).max - pixels if is_inverted else pixels


def _without_alpha(image: Image.Image) -> Image.Image:
    """Return the image in mode L, RGB or I;16; refuse one with a transparent pixel."""
    if image.mode.startswith("I;16"):
        if "transparency" in image.info and (np.asarray(image) == image.info["transparency"]).any():
            raise _transparent()
        return image
    is_grey = image.mode in _GREY
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("LA", "La") else "RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise _transparent()
    return image.convert("L" if is_grey else "RGB")


def _transparent() -> InputError:
    return InputError(
        "the image must have no transparent pixel, since nothing says what is behind: give it a background"
    )


def _as_grey(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    if not _is_grey(pixels):
        raise InputError("the image must be grey, got one with colours")
    return pixels[:, :, 0]


def _is_grey(pixels: np.ndarray) -> bool:
    return bool((pixels == pixels[:, :, :1]).all())


def _other_size(wanted: tuple[int, ...], height: int, width: int) -> InputError:
    return InputError(
        f"the image must be {wanted[1]} pixels wide and {wanted[0]} high, got {width} wide and {height} high"
    )


def encode_image(sample: np.ndarray, value_range: tuple[float, float]) -> bytes:
    """Encode one sample, float32 in raw units, as a PNG of mode L or RGB: the inverse of `decode_image`.

    Values outside the range are clipped.
    """
    low, high = value_range
    levels = np.clip((sample.astype(np.float64) - low) / (high - low) * 255, 0, 255)
    return _to_png(np.rint(levels).astype(np.uint8).reshape(pixel_shape_of(sample.shape)))


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


def pixel_shape_of(sample_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of the image of a sample: a single channel has no axis."""
    return sample_shape[:2] if sample_shape[2:] == (1,) else sample_shape

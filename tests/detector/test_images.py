"""The one place that decodes and encodes images: linear mapping, exact round trips, precise refusals."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from detector import InputError
from detector.images import MAX_PIXELS, decode_image, encode_heat_map, encode_image, read_image

RANGES = [(0.0, 16.0), (0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (20.0, 20.5)]
shapes = st.tuples(st.integers(1, 9), st.integers(1, 9)) | st.tuples(
    st.integers(1, 9), st.integers(1, 9), st.just(3)
)
images = hnp.arrays(np.uint8, shapes)


def image_file(pixels: np.ndarray, form: str = "PNG", mode: str | None = None, **options: object) -> bytes:
    """Return a file of these pixels, in another mode where one is given."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, format=form, **options)
    return buffer.getvalue()


def png_with_header(width: int, height: int, depth: int = 8, colour: int = 0, rows: bytes = b"\0") -> bytes:
    """Return a PNG written by hand, whatever its header claims."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=shape, dtype=np.uint8)


@given(pixels=images)
def test_read_image_returns_the_pixels_of_a_png(pixels):
    """Grey without a channel axis, RGB with three channels, 8 bits as they were written."""
    answer = read_image(image_file(pixels))

    assert answer.dtype == np.uint8
    assert answer.shape == pixels.shape
    assert (answer == pixels).all()


@pytest.mark.parametrize("shape", [(24, 16), (24, 16, 3)])
def test_read_image_reads_jpeg(shape):
    """Pixels differ by no more than the loss of JPEG at its best quality."""
    pixels = np.broadcast_to(np.linspace(0, 255, 16).astype(np.uint8).reshape(1, 16, 1), (24, 16, 3))
    pixels = np.ascontiguousarray(pixels if len(shape) == 3 else pixels[..., 0])

    answer = read_image(image_file(pixels, "JPEG", quality=100))

    assert answer.shape == shape
    assert np.abs(answer.astype(int) - pixels).max() <= 3


@pytest.mark.parametrize("value_range", RANGES)
@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1), (16, 16, 3)])
def test_decode_image_maps_linearly_onto_the_value_range(value_range, shape):
    """0 becomes the lowest value, 255 the highest, and every step between has the same size."""
    low, high = value_range
    pixels = np.resize(np.arange(256, dtype=np.uint8), shape)

    sample = decode_image(image_file(pixels.squeeze()), shape, value_range)

    assert (sample.dtype, sample.shape) == (np.float32, shape)
    assert sample.min() == np.float32(low)
    assert sample.max() == np.float32(high)
    np.testing.assert_allclose(sample, low + pixels / 255 * (high - low), rtol=1e-6, atol=1e-7 * (high - low))


@given(pixels=images, value_range=st.sampled_from(RANGES))
def test_encode_image_is_the_inverse_of_decode_image(pixels, value_range):
    """Every 8-bit image comes back as the same image, and every sample of one as the same sample."""
    sample = decode_image(image_file(pixels), pixels.shape, value_range)

    content = encode_image(sample, value_range)

    assert (read_image(content) == pixels).all()
    assert decode_image(content, pixels.shape, value_range).tobytes() == sample.tobytes()


def test_encode_image_clips_what_lies_beyond_the_range():
    """A reconstruction may leave the range; its image cannot."""
    sample = np.array([[-1e30, -0.1, 0.0, 8.0, 16.0, 16.1, 1e30]], dtype=np.float32)

    assert read_image(encode_image(sample, (0.0, 16.0))).tolist() == [[0, 0, 0, 128, 255, 255, 255]]


@pytest.mark.parametrize(("shape", "mode"), [((4, 5), "L"), ((4, 5, 1), "L"), ((4, 5, 3), "RGB")])
def test_encode_image_answers_png(shape, mode):
    """The image is grey or RGB and has the size of the sample."""
    with Image.open(io.BytesIO(encode_image(np.zeros(shape, np.float32), (0.0, 1.0)))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", mode, (5, 4))


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [
        (
            noise(8, 9),
            "the image must be 8 pixels wide, 8 high and grey, got 9 pixels wide, 8 high and grey",
        ),
        (
            noise(9, 8),
            "the image must be 8 pixels wide, 8 high and grey, got 8 pixels wide, 9 high and grey",
        ),
        (
            noise(8, 8, 3),
            "the image must be 8 pixels wide, 8 high and grey, got 8 pixels wide, 8 high and RGB",
        ),
    ],
)
def test_decode_image_refuses_another_size_or_colour(pixels, sentence):
    """An image is never resized or converted: that would be another sample."""
    with pytest.raises(InputError) as caught:
        decode_image(image_file(pixels), (8, 8), (0.0, 16.0))

    assert str(caught.value) == sentence


def test_decode_image_refuses_grey_for_a_coloured_model():
    """The other way round is refused, too."""
    with pytest.raises(InputError, match=r"must be 8 pixels wide, 8 high and RGB, got .* and grey"):
        decode_image(image_file(noise(8, 8)), (8, 8, 3), (0.0, 16.0))


@pytest.mark.parametrize("mode", ["1", "P", "LA", "RGBA", "I;16"])
def test_read_image_refuses_other_modes_by_name(mode):
    """Black and white, palette, alpha and deep grey would need a choice that the sender must make."""
    pixels = noise(4, 4).astype(np.uint16) if mode == "I;16" else noise(4, 4)
    content = image_file(pixels, mode=None if mode == "I;16" else mode)

    with pytest.raises(InputError, match=r"^an image must be 8-bit grey \(mode L\) or RGB, got mode "):
        read_image(content)


def test_read_image_refuses_cmyk():
    """CMYK is used for print, not for samples."""
    with pytest.raises(InputError, match="got mode CMYK"):
        read_image(image_file(noise(4, 4, 3), "JPEG", mode="CMYK"))


def test_read_image_refuses_16_bits_a_channel():
    """Pillow would drop every low byte of such an image without a word."""
    deep = png_with_header(2, 1, depth=16, colour=2, rows=b"\0" + bytes(range(12)))

    with pytest.raises(InputError, match="an image must have 8 bits a channel, got 16"):
        read_image(deep)


@pytest.mark.parametrize("form", ["GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_read_image_refuses_other_formats(form):
    """Each further decoder would be another source of vulnerabilities."""
    with pytest.raises(InputError, match=r"^the image is neither PNG nor JPEG$"):
        read_image(image_file(noise(8, 8, 3), form))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"[[1, 2]]"])
def test_read_image_refuses_bytes_that_are_no_image(content):
    """Empty, truncated and foreign bytes are refused."""
    with pytest.raises(InputError, match="the image"):
        read_image(content)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_read_image_refuses_half_an_image(form):
    """Missing pixels are never filled with grey."""
    content = image_file(noise(64, 64, 3), form)

    with pytest.raises(InputError, match=r"the image cannot be decoded: .*truncated"):
        read_image(content[: len(content) // 2])


@pytest.mark.parametrize("side", [4001, 10_000, 60_000])
def test_read_image_refuses_a_huge_header_before_decoding(side):
    """A few bytes may claim gigabytes: below, between and above Pillow's own limits."""
    assert side * side > MAX_PIXELS

    with pytest.raises(InputError, match=f"may have at most {MAX_PIXELS} pixels, got|exceeds limit of"):
        read_image(png_with_header(side, side))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@given(data=st.data())
def test_read_image_survives_damaged_files(form, data):
    """A few wrong bytes give pixels or one sentence."""
    content = bytearray(image_file(noise(12, 9, 3), form))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    kept = data.draw(st.integers(0, len(content)) | st.just(len(content)))
    try:
        answer = read_image(bytes(content[:kept]))
    except InputError:
        return
    assert answer.dtype == np.uint8


def colours(content: bytes) -> np.ndarray:
    """Return the pixels of a PNG."""
    return np.asarray(Image.open(io.BytesIO(content), formats=["PNG"]))


def test_heat_map_has_one_colour_for_one_error():
    """Black without an error, red where it is as usual, light yellow from four times that, in any image."""
    error = np.array([[0, 1, 2], [4, 100, 1e30]], dtype=np.float32)

    pixels = colours(encode_heat_map(error, usual_error=1.0))

    assert pixels.shape == (2, 3, 3)
    assert pixels[0, 0].tolist() == [0, 0, 4]
    assert pixels[0, 1].tolist() == [188, 55, 84]
    assert pixels[1].tolist() == [[252, 255, 164]] * 3
    np.testing.assert_array_equal(colours(encode_heat_map(error[:, :2] * 7, 7.0)), pixels[:, :2])


def test_heat_map_adds_the_channels_up():
    """A pixel has one error over all channels."""
    error = np.random.default_rng(0).random((4, 5, 3), dtype=np.float32)

    np.testing.assert_array_equal(
        colours(encode_heat_map(error, 0.5)), colours(encode_heat_map(error.sum(axis=2), 0.5))
    )
    assert colours(encode_heat_map(error[..., :1], 0.5)).shape == (4, 5, 3)


def test_heat_map_grows_lighter_with_the_error():
    """The map can be read without colours."""
    lightness = colours(encode_heat_map(np.linspace(0, 4, 100)[None], 1.0))[0] @ (0.2126, 0.7152, 0.0722)

    assert (np.diff(lightness) >= 0).all()

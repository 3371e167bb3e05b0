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
            "the image must be 8 pixels wide and 8 high, got 9 wide and 8 high",
        ),
        (
            noise(9, 8),
            "the image must be 8 pixels wide and 8 high, got 8 wide and 9 high",
        ),
        (
            noise(8, 8, 3),
            "the image must be grey, got one with colours",
        ),
    ],
)
def test_decode_image_refuses_another_size_or_colours(pixels, sentence):
    """Without `resize` no image is resized, and colours are never dropped."""
    with pytest.raises(InputError) as caught:
        decode_image(image_file(pixels), (8, 8), (0.0, 16.0))

    assert str(caught.value) == sentence


def test_decode_image_reads_grey_and_colours_as_they_look():
    """Grey has three equal channels, and RGB of equal channels is grey."""
    grey = noise(8, 8)
    coloured = np.repeat(grey[..., None], 3, axis=2)

    from_grey = decode_image(image_file(grey), (8, 8, 3), (0.0, 255.0))
    from_coloured = decode_image(image_file(coloured), (8, 8), (0.0, 255.0))

    np.testing.assert_array_equal(from_grey, coloured)
    np.testing.assert_array_equal(from_coloured, grey)


LOOKS = {
    "1": [[0, 255], [255, 0]],
    "L": [[0, 200], [100, 50]],
    "LA": [[0, 200], [100, 50]],
    "P": [[[255, 0, 0], [0, 0, 255]], [[51, 102, 153], [255, 0, 0]]],
    "PA": [[[255, 0, 0], [0, 0, 255]], [[51, 102, 153], [255, 0, 0]]],
    "RGB": [[[255, 0, 0], [0, 0, 255]], [[51, 102, 153], [255, 0, 0]]],
    "RGBA": [[[255, 0, 0], [0, 0, 255]], [[51, 102, 153], [255, 0, 0]]],
    "CMYK": [[[255, 0, 0], [0, 0, 255]], [[51, 102, 153], [255, 0, 0]]],
}


@pytest.mark.parametrize(
    ("mode", "form"),
    [(mode, "TIFF") for mode in LOOKS]
    + [(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
    + [(mode, "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")]
    + [(mode, "WEBP") for mode in ("L", "RGB", "RGBA")],
)
def test_read_image_returns_what_a_viewer_shows(mode, form):
    """Every mode that a format can hold becomes grey or RGB, an opaque alpha channel is dropped."""
    look = np.array(LOOKS[mode], dtype=np.uint8)
    options = {"lossless": True} if form == "WEBP" else {}

    answer = read_image(image_file(look, form, mode, **options))

    assert answer.dtype == np.uint8
    np.testing.assert_array_equal(answer, look)


def test_read_image_takes_a_grey_palette_as_grey():
    """A palette says nothing of colours by itself."""
    pixels = noise(4, 5)

    np.testing.assert_array_equal(read_image(image_file(pixels, mode="P")), pixels)


def test_read_image_reads_a_jpeg_of_cmyk():
    """Ink becomes light, as Pillow converts it without a profile."""
    pixels = np.full((8, 8, 3), (200, 100, 50), np.uint8)

    answer = read_image(image_file(pixels, "JPEG", mode="CMYK", quality=100))

    assert np.abs(answer.astype(int) - pixels).max() <= 3


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_read_image_keeps_16_bits_of_grey(form):
    """Half of the levels lie between those of 8 bits, and raw values are as fine."""
    pixels = np.array([[0, 1, 256], [32768, 65534, 65535]], dtype=np.uint16)

    answer = read_image(image_file(pixels, form))

    assert answer.dtype == np.uint16
    np.testing.assert_array_equal(answer, pixels)
    sample = decode_image(image_file(pixels, form), (2, 3), (0.0, 1.0))
    np.testing.assert_allclose(sample, pixels / 65535, rtol=1e-6)
    assert decode_image(image_file(pixels, form), (2, 3, 3), (0.0, 255.0))[1, 0].tolist() == [128] * 3


def test_read_image_inverts_a_tiff_whose_white_is_zero():
    """Pillow does so for 8 bits only."""
    pixels = np.array([[0, 1000], [65535, 40000]], dtype=np.uint16)
    white_is_zero = {262: 0}

    np.testing.assert_array_equal(
        read_image(image_file(pixels, "TIFF", tiffinfo=white_is_zero)), 65535 - pixels
    )


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda pixels: pixels),
        (2, np.fliplr),
        (3, lambda pixels: np.rot90(pixels, 2)),
        (4, np.flipud),
        (5, np.transpose),
        (6, lambda pixels: np.rot90(pixels, -1)),
        (7, lambda pixels: np.rot90(pixels, 2).T),
        (8, np.rot90),
    ],
)
def test_read_image_applies_the_exif_orientation(orientation, turned, depth):
    """The orientation is the one that every viewer shows, in PNG and TIFF; the size turns with it."""
    pixels = np.arange(12, dtype=depth).reshape(3, 4)
    exif = Image.Exif()
    exif[274] = orientation

    for form in ("PNG", "TIFF"):
        content = image_file(pixels, form, exif=exif)
        np.testing.assert_array_equal(read_image(content), turned(pixels))
        np.testing.assert_array_equal(read_image(content, turned(pixels).shape), turned(pixels))


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_read_image_turns_photographs(form):
    """A photograph of a camera that was held upright stands upright."""
    pixels = np.zeros((16, 32), dtype=np.uint8)
    pixels[:, :16] = 255  # bright on the left, so on top once it is turned to the right
    exif = Image.Exif()
    exif[274] = 6

    answer = read_image(image_file(pixels, form, exif=exif, quality=100))

    assert answer.shape == (32, 16)
    assert answer[:15].min() > 240
    assert answer[17:].max() < 15


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_read_image_resizes_by_means(depth):
    """Two flat halves stay flat, and their values stay; the aspect may change."""
    pixels = np.zeros((60, 80), dtype=depth)
    pixels[:, 40:] = np.iinfo(depth).max

    answer = read_image(image_file(pixels), resize=(8, 16))

    assert (answer.shape, answer.dtype) == ((8, 16), depth)
    assert (answer[:, :6] == 0).all()
    assert (answer[:, 10:] == np.iinfo(depth).max).all()
    np.testing.assert_allclose(answer.mean() / np.iinfo(depth).max, 0.5, atol=0.01)


def test_decode_image_resizes_if_the_model_does():
    """Larger and smaller images become samples; one of the size itself is unchanged."""
    own = noise(8, 8)

    same = decode_image(image_file(own), (8, 8), (0.0, 255.0), (8, 8))
    others = [
        decode_image(image_file(noise(*size)), (8, 8), (0.0, 255.0), (8, 8)) for size in ((32, 24), (3, 2))
    ]

    np.testing.assert_array_equal(same, own)
    assert [sample.shape for sample in others] == [(8, 8), (8, 8)]


def see_through(mode: str, value: object) -> bytes:
    """Return a PNG with an alpha channel or a transparent colour."""
    if mode == "alpha":
        pixels = np.full((4, 4, 4), 255, np.uint8)
        pixels[1, 2, 3] = value
        return image_file(pixels)
    return image_file(np.full((4, 4), 7, np.uint8), transparency=value)


@pytest.mark.parametrize("content", [see_through("alpha", 254), see_through("colour", 7)])
def test_read_image_refuses_transparent_pixels(content):
    """Viewers show them on white, on black or on squares."""
    with pytest.raises(InputError, match=r"no transparent pixel, since nothing says what is behind"):
        read_image(content)


def test_read_image_ignores_a_transparent_colour_that_no_pixel_has():
    """Grey stays grey."""
    assert read_image(see_through("colour", 9)).tolist() == [[7] * 4] * 4


@pytest.mark.parametrize(
    ("pixels", "mode"), [(noise(4, 4).astype(np.float32), "F"), (noise(4, 4).astype(np.int32), "I")]
)
def test_read_image_refuses_numbers_that_are_no_levels(pixels, mode):
    """Nothing says which of them are black and white."""
    with pytest.raises(InputError, match=f"got mode {mode}: give its values as an array"):
        read_image(image_file(pixels, "TIFF"))


@pytest.mark.parametrize("form", ["TIFF", "PNG", "WEBP"])
def test_read_image_refuses_several_pages(form):
    """A file is one sample."""
    pages = {"save_all": True, "append_images": [Image.fromarray(noise(8, 8))]}

    with pytest.raises(InputError, match="a file must hold one image, got several pages or frames"):
        read_image(image_file(np.zeros((8, 8), np.uint8), form, **pages))


@pytest.mark.parametrize("form", ["GIF", "PPM", "TGA"])
def test_read_image_refuses_other_formats(form):
    """Each further decoder would be another source of vulnerabilities."""
    with pytest.raises(InputError, match=r"^the image is no PNG, JPEG, BMP, TIFF or WebP that can be read$"):
        read_image(image_file(noise(8, 8, 3), form))


def test_read_image_refuses_a_tile_that_is_larger_than_an_image():
    """A small TIFF may claim a tile of gigabytes."""
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 60_000, 323: 60_000, 324: 8, 325: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)

    with pytest.raises(InputError, match="a tile may have at most"):
        read_image(content)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"[[1, 2]]"])
def test_read_image_refuses_bytes_that_are_no_image(content):
    """Empty, truncated and foreign bytes are refused."""
    with pytest.raises(InputError, match="the image"):
        read_image(content)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_read_image_refuses_half_an_image(form):
    """Missing pixels are never filled with grey."""
    content = image_file(noise(64, 64, 3), form)

    with pytest.raises(InputError, match=r"the image cannot be decoded: |the image is no PNG"):
        read_image(content[: len(content) // 2])


@pytest.mark.parametrize("side", [4001, 10_000, 60_000])
def test_read_image_refuses_a_huge_header_before_decoding(side):
    """A few bytes may claim gigabytes: below, between and above Pillow's own limits."""
    assert side * side > MAX_PIXELS

    with pytest.raises(InputError, match=f"may have at most {MAX_PIXELS} pixels, got|exceeds limit of"):
        read_image(png_with_header(side, side))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
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

"""Raw tensors; `.npy` is tested with the other codecs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bodies import Decoded, Expected, Limits
from service.bodies.arrays import RAW_DTYPES, decode_raw, raw_type
from service.bodies.codecs import decoder
from service.http.problems import Problem

LIMITS = Limits(max_rows=10, max_bytes=100)
ROW, WINDOW = Expected((3,)), Expected((4, 2), series=True)


def decode(content: bytes, parameters: str = "", expected: Expected = ROW) -> Decoded:
    """`decoder` of a raw tensor."""
    return decoder("application/octet-stream" + parameters, expected, LIMITS, options=())(content)


def refusal(content: bytes, parameters: str = "", expected: Expected = ROW) -> Problem:
    """Return the problem with which a raw tensor is refused."""
    with pytest.raises(Problem) as caught:
        decode(content, parameters, expected)
    return caught.value


def test_raw_bytes_are_samples_of_float32():
    """Without a parameter the number of bytes gives the number of samples."""
    samples = np.arange(6, dtype=np.float32).reshape(2, 3)

    decoded = decode(samples.tobytes())

    assert decoded.samples.dtype == np.float32
    np.testing.assert_array_equal(decoded.samples, samples)


@pytest.mark.parametrize("name", RAW_DTYPES)
def test_raw_bytes_of_every_dtype_are_read(name):
    """The samples are equal to the bit."""
    samples = np.arange(6).reshape(2, 3).astype(name)

    decoded = decode(samples.tobytes(), f"; dtype={name}")

    assert decoded.samples.dtype == samples.dtype
    np.testing.assert_array_equal(decoded.samples, samples)


def test_raw_windows_need_no_shape_and_a_series_does():
    """The same bytes could be windows or a series."""
    values = np.arange(16, dtype=np.float32)

    assert decode(values.tobytes(), expected=WINDOW).samples.shape == (2, 4, 2)
    assert decode(values.tobytes(), "; shape=8x2", WINDOW).samples.shape == (8, 2)


def test_raw_tensor_too_large_for_an_array_is_malformed():
    """Although it has no values, NumPy could not number them."""
    content_type = "application/octet-stream; shape=0x999999999999x999999999999"

    with pytest.raises(Problem, match="cannot exist, even without values") as caught:
        decode_raw(b"", content_type, ROW, LIMITS)

    assert caught.value.type == "malformed-body"


def test_raw_type_is_what_reads_the_array():
    """An answer's media type could be sent with it."""
    array = np.arange(24, dtype=np.int8).reshape(2, 3, 4)

    _, _, parameters = raw_type(array).partition(";")

    np.testing.assert_array_equal(decode(array.tobytes(), ";" + parameters).samples, array)


@pytest.mark.parametrize(
    ("content", "parameters", "words"),
    [
        (bytes(13), "", "a multiple of the 12 bytes of a sample, float32 of shape (3,), got 13"),
        (bytes(24), "; shape=3x3", "float32 values of shape 3x3 have 36 bytes, got 24"),
        (bytes(24), "; shape=999999999999x999999999999", "have 3999999999992000000000004 bytes, got 24"),
        (bytes(12), "; shape=0x3", "have 0 bytes, got 12"),
    ],
)
def test_raw_bytes_of_another_length_are_malformed(content, parameters, words):
    """Nothing is allocated for a shape."""
    problem = refusal(content, parameters)

    assert problem.type == "malformed-body"
    assert words in problem.detail


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ("; dtype=complex64", "must have one of the dtypes float32, float64,"),
        ("; dtype=>f4", "must have one of the dtypes"),
        ("; shape=2,3", "must have a shape such as 2x28x28"),
        ('; shape=""', "must have a shape such as"),
        ("; shape=-1x3", "must have a shape such as"),
        ("; shape=²x3", "must have a shape such as"),
        ("; shape=1x1x1x1x2x3", "at most 5 sizes"),
        ("; shape=" + "9" * 5000, "must have a shape such as"),
        ("; dtype", "must have one of the dtypes"),
        ("; typo=1", "can have the parameters dtype and shape, each once, got 'typo'"),
        ("; shape=2x3; shape=2x3", "each once, got 'shape'"),
    ],
)
def test_raw_parameters_that_are_not_read_are_refused(parameters, words):
    """A typing error is not ignored."""
    problem = refusal(bytes(24), parameters)

    assert problem.type == "unsupported-media-type"
    assert words in problem.detail


def test_raw_rows_are_limited():
    """The limit of rows is the same in every form."""
    assert refusal(bytes(33), "; dtype=int8").type == "too-many-rows"


@settings(max_examples=200, deadline=None)
@given(content=st.binary(min_size=1, max_size=60), parameters=st.text(max_size=30))
def test_raw_bytes_are_read_or_refused(content, parameters):
    """Only problems are raised."""
    try:
        decoded = decode(content, "; " + parameters)
    except Problem as problem:
        assert problem.type in ("malformed-body", "unsupported-media-type", "too-many-rows")  # noqa: PT017
    else:
        assert decoded.samples.nbytes == len(content)

"""Bodies to arrays and back."""

import dataclasses
import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from PIL import Image

from detector.images import encode_image
from service import bodies
from service.bodies import JSON, NPY, PNG, Expected, Limits
from service.bodies.codecs import (
    decode_query,
    decoder,
    merge_options,
    negotiate,
)
from service.http.problems import Problem
from tests.service.responses import to_npy

LIMITS = Limits(max_rows=10, max_bytes=100)
ROW = Expected((3,), ("a", "b", "c/d"))
PNG_IMAGE = Expected((4, 5), value_range=(0.0, 16.0))


SCORE_OPTIONS = ("alpha", "fdr", "explain")


def decode(content, expected=ROW, content_type=JSON, limits=LIMITS, options=SCORE_OPTIONS):
    """`decoder` with the arguments of most tests."""
    return decoder(content_type, expected, limits, options=options)(content)


def refusal(content, expected=ROW, content_type=JSON, **more) -> Problem:
    """Return the problem with which a body is refused."""
    with pytest.raises(Problem) as caught:
        decode(content, expected, content_type, **more)
    return caught.value


def test_json_arrays_and_objects_are_the_same_samples():
    """Objects may name the features in any order."""
    decoded = decode(b'{"instances": [[1, 2.5, -3e2], {"c/d": 3, "a": 1, "b": 2}]}')

    np.testing.assert_array_equal(decoded.samples, [[1, 2.5, -300], [1, 2, 3]])
    assert decoded.point((0, 2)) == "/instances/0/2"
    assert decoded.point((1, 2)) == "/instances/1/c~1d"
    assert (
        decode(b'{"instances": [{"a~/": 1}]}', Expected((1,), ("a~/",))).point((0, 0)) == "/instances/0/a~0~1"
    )


def test_json_options_stand_beside_instances():
    """Options come out as given."""
    body = b'{"instances": [[1, 2, 3]], "alpha": 0.1, "fdr": 0.2, "explain": "map"}'

    assert decode(body).options == {"alpha": 0.1, "fdr": 0.2, "explain": "map"}


def test_json_without_options_has_none():
    """Options that are not given are absent."""
    assert decode(b'{"instances": [[1, 2, 3]]}').options == {}


@given(
    st_numpy.arrays(np.float32, (3, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
)
def test_json_floats_survive_exactly(samples):
    """The shortest digits of a float32 are read back as the same float32."""
    body = ('{"instances": ' + str(samples.tolist()) + "}").encode()

    np.testing.assert_array_equal(decode(body).samples.astype(np.float32), samples)


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        (b'{"instances": [[1, 2, 3], [1, "2", 3]]}', "/instances/1/1", "must be a number, got text"),
        (b'{"instances": [[1, 2, null]]}', "/instances/0/2", "must be a number, got null"),
        (b'{"instances": [[true, 2, 3]]}', "/instances/0/0", "must be a number, got a boolean"),
        (b'{"instances": [[1, 2, 1e400]]}', "/instances/0/2", "must be a number that float64 can hold"),
        (b'{"instances": [{"a": 1, "b": 2, "c/d": "x"}]}', "/instances/0/c~1d", "must be a number, got text"),
        (b'{"instances": [{"a": 1, "b": 2, "c/d": 1e400}]}', "/instances/0", "must be a number that float64"),
        (b'{"instances": [{"a": "x", "a": 1}]}', "/instances/0", "must be a number, got text"),
        (b'{"instances": [{"a": "x"}], "instances": []}', "/instances/0", "must be a number, got text"),
        (b'{"instances": [{"a": "x"}], "instances": 5}', "/instances/0", "must be a number, got text"),
        (b'{"instances": [{"a": ' + b"[" * 9000, "/instances/0", "must be a number, got an array"),
        (b'{"instances": [{"a": 1, "b": 2}]}', "/instances/0", "lacks 'c/d'"),
        (b'{"instances": [{"a": 1, "b": 2, "c/d": 3, "e": 4}]}', "/instances/0", "unknown 'e'"),
        (b'{"instances": [[1, 2, 3], [1, 2]]}', "/instances/1", "must have 3 elements, got 2"),
        (b'{"instances": [[1, 2, 3], 1]}', "/instances/1", "must be an array or an object, got an integer"),
        (b'{"instances": 1}', "/instances", "must be an array, got an integer"),
        (b'{"instance": [[1, 2, 3]]}', "", "has the unknown member 'instance', known are instances,"),
        (b'{"str": 1}', "", "has the unknown member 'str'"),
        (b'{"instances": [[1, 2, 3]], "beta": 1}', "", "has the unknown member 'beta'"),
        (b"[[1, 2, 3]]", "", "must be an object, got an array"),
        (b"{}", "", "must have the member 'instances'"),
    ],
)
def test_json_faults_are_named_with_their_place(body, pointer, words):
    """The place lets a client find the value."""
    problem = refusal(body)

    assert problem.type == "invalid-input"
    assert problem.errors[0]["pointer"] == pointer
    assert words in problem.detail


@pytest.mark.parametrize(
    "body", [b"", b" ", b"{", b"instances", b"\xff\xfe", b'{"instances": [[NaN, 1, 2]]}']
)
def test_json_that_cannot_be_parsed_is_malformed(body):
    """A malformed body is another fault than an invalid value."""
    assert refusal(body).type == "malformed-body"


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_json_with_a_number_of_python_is_told_so(number):
    """`json.dumps` writes these; that the byte 16 is wrong helps nobody."""
    assert "JSON has no NaN and no Infinity" in refusal(b'{"instances": [[1, 2, %s]]}' % number).detail


def test_json_of_any_depth_is_a_problem():
    """Deep nesting leads to an answer, not to a crash."""
    assert refusal(b'{"instances": ' + b"[" * 100_000).type in ("malformed-body", "invalid-input")


@pytest.mark.parametrize(
    ("member", "pointer", "words"),
    [
        ('"alpha": 1', "/alpha", "must be a number between 0 and 1, got 1"),
        ('"alpha": {"a": 1}', "/alpha", 'must be a number between 0 and 1, got {"a":1}'),
        ('"alpha": 2, "alpha": 0.1', "/alpha", "must be a number between 0 and 1"),
        ('"fdr": "0.1"', "/fdr", 'must be a number between 0 and 1, got "0.1"'),
        ('"explain": 0', "/explain", "must be a positive integer or map, got 0"),
        ('"explain": "all"', "/explain", 'must be a positive integer or map, got "all"'),
    ],
)
def test_json_options_out_of_range_are_invalid_options(member, pointer, words):
    """The problem names the option and its value, as for an option of a query."""
    problem = refusal(f'{{"instances": [[1, 2, 3]], {member}}}'.encode())

    assert problem.type == "invalid-option"
    assert problem.errors[0]["pointer"] == pointer
    assert problem.detail == f"{pointer} {words}"


def test_json_options_are_unknown_to_verbs_without_options():
    """/denoise has no option `alpha`."""
    detail = refusal(b'{"instances": [[1, 2, 3]], "alpha": 0.1}', options=()).detail

    assert detail == "the body: has the unknown member 'alpha', known are instances"


def test_json_of_an_image_points_into_its_rows():
    """Ragged rows are found at any depth."""
    problem = refusal(b'{"instances": [[[1, 2], [3]]]}', Expected((2, 2)))

    assert problem.errors[0]["pointer"] == "/instances/0/1"


@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<f2", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"])
def test_npy_is_read_as_numpy_wrote_it(dtype):
    """Arrays of every real dtype are equal to the bit."""
    samples = np.arange(6).reshape(2, 3).astype(dtype)

    decoded = decode(to_npy(samples), content_type=NPY)

    assert decoded.samples.dtype == samples.dtype
    np.testing.assert_array_equal(decoded.samples, samples)
    assert decoded.point is None


@pytest.mark.parametrize(
    ("content", "content_type", "hint"),
    [
        (b"[[1, 2, 3]]", JSON, 'put the array into an object: {"instances": [...]}'),
        (b'{"a": 1, "b": 2, "c/d": 3}', JSON, 'put the row into an array: {"instances": [{...}]}'),
        (
            b'{"a": {"0": 1}, "b": {"0": 2}}',
            JSON,
            'send a data frame as {"instances": frame.to_dict("records")}',
        ),
        (b'{"columns": ["a"], "index": [0], "data": [[1]]}', JSON, 'send a data frame as {"instances"'),
        (b",a,b,c/d\n0,1,2,3\n", "text/csv", "pandas writes its index as a column unless"),
        (b"index,a,b\n0,1,2\n", "text/csv", "pandas writes its index as a column unless"),
        (b"a,b,c/d1,2,3", "application/x-www-form-urlencoded", "which curl sends with -d: name the type"),
    ],
)
def test_common_mistakes_get_a_hint(content, content_type, hint):
    """What pandas and curl send by themselves."""
    assert hint in refusal(content, content_type=content_type).detail


def test_npy_of_format_2_is_read():
    """Its header length has four bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ones((2, 3)), version=(2, 0))

    np.testing.assert_array_equal(decode(buffer.getvalue(), content_type=NPY).samples, np.ones((2, 3)))


def npy_with_header(header: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    """Return a `.npy` with any header."""
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + data


@pytest.mark.parametrize(
    "array",
    [
        np.ones((2, 3), dtype=bool),
        np.ones((2, 3), dtype=complex),
        np.array([["a"]]),
        np.zeros(2, dtype=[("a", "<f4")]),
        np.ones((2, 3), dtype=np.longdouble),
    ],
    ids=["bool", "complex", "text", "structured", "longdouble"],
)
def test_npy_of_another_kind_is_refused(array):
    """Only real numbers of at most 8 bytes are samples."""
    assert refusal(to_npy(array), content_type=NPY).type == "invalid-input"


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", ">i2", ">u8", "<f4", "|i1"])
@pytest.mark.parametrize("shape", [(2, 3), (5, 1), (2, 3, 2)])
def test_npy_in_every_layout_of_numpy_is_read(dtype, shape):
    """Big-endian numbers, and Fortran order, in which NumPy writes the values of a data frame."""
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    for layout in (array, np.asfortranarray(array), array.T.copy().T):
        samples = decode(to_npy(layout), content_type=NPY).samples

        np.testing.assert_array_equal(samples, array)
        assert samples.dtype.isnative
        assert samples.flags.c_contiguous


@pytest.mark.parametrize(
    "content",
    [
        b"x",
        b"\x93NUMPY",
        b"\x93NUMPY\1\0",
        b"\x93NUMPY\3\0" + to_npy(np.ones(3))[8:],
        to_npy(np.ones((2, 3)))[:-1],
        to_npy(np.ones((2, 3))) + b"x",
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (500000000, 3)}"),
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 3)}"),
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3)}"),
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", b"1234"),
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': 3}"),
        npy_with_header("{'descr': '<f4', 'fortran_order': False}"),
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), 'more': 1}"),
        npy_with_header("[" * 900),
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3)}" + " " * 1000, b"\0" * 12),
        npy_with_header("{'descr': '<f4', 'fortran_order': 2, 'shape': (1, 3)}", b"\0" * 12),
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4611686018427387904, 8)}"),
        npy_with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 0, 9223372036854775808)}"),
        npy_with_header("{'descr': '<f4', 'fortran_order': 1if 1else 2, 'shape': (0, 3)}"),
        npy_with_header("'\0"),
        npy_with_header("[]"),
    ],
)
def test_npy_that_is_broken_is_malformed(content):
    """No memory is allocated for a false header, and only problems are raised."""
    assert refusal(content, content_type=NPY).type == "malformed-body"


@settings(max_examples=300, deadline=None)
@given(position=st.integers(0, 120), value=st.integers(0, 255))
def test_npy_with_any_byte_of_its_head_changed_is_read_or_refused(position, value):
    """No byte of a header leads to another exception."""
    content = bytearray(to_npy(np.ones((2, 3), dtype=np.float32)))
    content[position] = value
    try:
        outcome = decode(bytes(content), content_type=NPY).samples.nbytes
    except Problem as problem:
        outcome = problem.type

    assert outcome in (24, "malformed-body", "invalid-input", "too-many-rows")


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b'{"instances": ' + str([[1, 2, 3]] * 11).encode() + b"}", JSON),
        (to_npy(np.ones((11, 3), dtype=np.uint8)), NPY),
    ],
)
def test_bodies_with_too_many_rows_are_refused(content, content_type):
    """The limit is the same for every form."""
    problem = refusal(content, content_type=content_type)

    assert problem.type == "too-many-rows"
    assert problem.detail == "a body may hold at most 10 samples, got 11"


def image(value: int = 8) -> bytes:
    """Return a PNG of 4 x 5 pixels of one raw value."""
    return encode_image(np.full((4, 5), value, dtype=np.float32), (0.0, 16.0))


def multipart(*files: bytes, head: bytes = b'form-data; name="a"; filename="a.png"') -> tuple[bytes, str]:
    """Return a multipart body and its content type."""
    parts = b"".join(b"--XX\r\nContent-Disposition: " + head + b"\r\n\r\n" + file + b"\r\n" for file in files)
    return parts + b"--XX--\r\n", "multipart/form-data; boundary=XX"


def test_image_is_one_sample_in_raw_units():
    """0 to 255 maps onto the model's value range."""
    samples = decode(image(16), PNG_IMAGE, PNG).samples

    np.testing.assert_array_equal(samples, np.full((1, 4, 5), 16, dtype=np.float32))


def test_multipart_images_keep_their_order():
    """Each part is one sample, whatever its name."""
    content, content_type = multipart(image(0), image(16), image(0))

    samples = decode(content, PNG_IMAGE, content_type).samples

    assert samples[:, 0, 0].tolist() == [0, 16, 0]


def test_image_of_another_size_is_refused_by_its_row():
    """The sentence names the image and both sizes."""
    other = encode_image(np.zeros((5, 5), dtype=np.float32), (0.0, 16.0))
    content, content_type = multipart(image(), other)

    problem = refusal(content, PNG_IMAGE, content_type)

    assert "image 1: the image must be 5 pixels wide and 4 high, got 5 wide and 5 high" in problem.detail
    assert problem.errors[0]["row"] == 1


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_every_format_of_images_is_read(form):
    """A bitmap of a microscope is as good as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 5), 255, dtype=np.uint8)).save(buffer, form)

    samples = decode(buffer.getvalue(), PNG_IMAGE, f"image/{form.lower()}").samples

    np.testing.assert_allclose(samples, np.full((1, 4, 5), 16), atol=0.1)


def test_images_of_other_sizes_are_resized_if_the_model_does():
    """One body may hold several sizes."""
    resized = dataclasses.replace(PNG_IMAGE, resize=(4, 5))
    large = encode_image(np.full((8, 4), 4, dtype=np.float32), (0.0, 16.0))
    content, content_type = multipart(large, image(12))

    samples = decode(content, resized, content_type).samples

    np.testing.assert_allclose(samples, [np.full((4, 5), 4), np.full((4, 5), 12)], atol=0.05)


def test_images_that_are_resized_are_counted_at_their_own_size():
    """Ten large images may cost as much as a thousand small ones."""
    resized = dataclasses.replace(PNG_IMAGE, resize=(4, 5))
    large = encode_image(np.full((8, 7), 4, dtype=np.float32), (0.0, 16.0))
    content, content_type = multipart(large, large)

    problem = refusal(content, resized, content_type)

    assert problem.type == "body-too-large"
    assert problem.detail == "the images of a body may have at most 100 bytes of pixels, got 112"


def test_images_above_the_pixel_limit_are_refused_before_they_are_decoded():
    """Small files of large images do not fill the memory."""
    content, content_type = multipart(*[b"not even an image"] * 6)

    assert refusal(content, PNG_IMAGE, content_type).type == "body-too-large"


@pytest.mark.parametrize(
    ("body", "type_"),
    [
        ((b"nothing", "multipart/form-data; boundary=XX"), "malformed-body"),
        ((b"nothing", "multipart/form-data"), "malformed-body"),
        (multipart(), "malformed-body"),
        ((multipart(b"x")[0][:-8], "multipart/form-data; boundary=XX"), "malformed-body"),
        (multipart(b"0.1", head=b'form-data; name="alpha"'), "invalid-input"),
        (multipart(b"GIF89a"), "invalid-input"),
    ],
)
def test_multipart_that_holds_no_images_is_refused(body, type_):
    """Broken, empty, with form fields, or with other files."""
    content, content_type = body

    assert refusal(content, PNG_IMAGE, content_type).type == type_


def test_multipart_without_a_boundary_is_told_so():
    """Clients that set the header by hand forget the boundary."""
    problem = refusal(b"nothing", PNG_IMAGE, "multipart/form-data")

    assert problem.detail == "the Content-Type of a multipart body must name its boundary, got none"


def test_multipart_files_are_limited_while_they_are_found():
    """The number of files is limited like the number of rows, whatever they hold."""
    content, content_type = multipart(*[b""] * 11)

    assert refusal(content, PNG_IMAGE, content_type).type == "too-many-rows"


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_images_with_any_bytes_changed_are_read_or_refused(data):
    """Single images and images in parts raise only problems."""
    content, content_type = data.draw(st.sampled_from([(image(), PNG), multipart(image(), image(0))]))
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    try:
        samples = decode(bytes(changed), PNG_IMAGE, content_type).samples
    except Problem as problem:
        assert problem.type in ("malformed-body", "invalid-input")  # noqa: PT017
    else:
        assert samples.shape[1:] == (4, 5)


@pytest.mark.parametrize("content_type", ["", "text/html", PNG, "application/x-www-form-urlencoded", "\xe9"])
def test_other_media_types_are_refused_with_those_that_are_read(content_type):
    """A vector model takes no images either."""
    problem = refusal(b"x", content_type=content_type)

    assert problem.type == "unsupported-media-type"
    assert "application/json, application/x-npy" in problem.detail
    assert "application/x-ndjson here" in problem.detail


def test_media_type_may_have_parameters():
    """Many clients send `charset=utf-8`."""
    assert (
        decode(b'{"instances": [[1, 2, 3]]}', content_type="Application/JSON; charset=utf-8").samples.size
        == 3
    )


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ({}, {}),
        ({"alpha": ["0.1"], "fdr": ["1e-3"]}, {"alpha": 0.1, "fdr": 1e-3}),
        ({"explain": ["3"]}, {"explain": 3}),
        ({"explain": ["map"]}, {"explain": "map"}),
    ],
)
def test_query_options_are_read(query, options):
    """They have the same values as in JSON."""
    assert decode_query(query, options=SCORE_OPTIONS) == options


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"alfa": ["0.1"]}, "'alfa' is unknown, only alpha, fdr, explain are known"),
        ({"alpha": ["0.1", "0.2"]}, "must be given once, got 2 values"),
        ({"alpha": ["1"]}, "must be a number between 0 and 1, got '1'"),
        ({"alpha": ["nan"]}, "must be a number between 0 and 1"),
        ({"fdr": [""]}, "must be a number between 0 and 1"),
        ({"explain": ["1.5"]}, "must be a positive integer or map"),
        ({"explain": ["-1"]}, "must be a positive integer or map"),
        ({"explain": ["9" * 5000]}, "must be a positive integer or map"),
    ],
)
def test_query_options_are_refused_by_name(query, words):
    """A typing error is not ignored."""
    with pytest.raises(Problem, match="option") as caught:
        decode_query(query, options=SCORE_OPTIONS)

    assert caught.value.type == "invalid-option"
    assert words in caught.value.detail
    assert caught.value.errors[0]["parameter"] == next(iter(query))


def test_query_options_are_unknown_to_verbs_without_options():
    """/denoise has no option `alpha`."""
    with pytest.raises(Problem, match="no option is accepted here"):
        decode_query({"alpha": ["0.1"]}, options=())


def test_options_must_stand_in_one_place():
    """It would be unclear which of two values counts."""
    assert merge_options({"alpha": 0.1}, {"fdr": 0.2}) == {"alpha": 0.1, "fdr": 0.2}
    with pytest.raises(Problem, match="in the query and in the body"):
        merge_options({"alpha": 0.1}, {"alpha": 0.1})


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json; charset=utf-8", JSON),
        ("image/png", PNG),
        ("image/png, */*;q=0.1", PNG),
        ("image/*", PNG),
        ("application/x-npy;q=0.5, application/json;q=0.4", NPY),
        ("application/json;q=0.5, */*", NPY),
        ("application/json;q=0, */*", NPY),
        ("text/html, */*;q=0.8", JSON),
    ],
)
def test_accept_chooses_the_form_of_the_answer(accept, chosen):
    """The choice follows quality and then the most specific range; JSON is the default."""
    assert negotiate(accept, (JSON, NPY, PNG)) == chosen


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", JSON),  # older JDKs
        ("*", JSON),
        ("Application/Json", JSON),
        ("IMAGE/PNG;Q=1, *;q=.5", PNG),
        ("image/png;q=.9, application/x-npy;q=1.", NPY),
        ("image/*;q=.2,*;q=0.1", PNG),
        ('text/plain;v="a,b", application/x-npy;q=high', NPY),
        ("application/json;q=0, *", NPY),
    ],
)
def test_liberal_accept_is_understood(accept, chosen):
    """Any letters, `*` for `*/*`, a quality without its zero or without a number."""
    assert negotiate(accept, (JSON, NPY, PNG)) == chosen


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image/jpeg", "nonsense"])
def test_accept_of_nothing_that_is_offered_is_refused(accept):
    """The sentence lists the media types that are available."""
    with pytest.raises(Problem, match="application/json, application/x-npy") as caught:
        negotiate(accept, (JSON, NPY))

    assert caught.value.type == "not-acceptable"


@pytest.mark.parametrize(
    ("headers", "inflates"),
    [
        ({"content-type": "application/json"}, False),
        ({"content-type": "application/x-npy"}, False),
        ({}, False),
        ({"content-type": "application/json", "content-encoding": "gzip"}, True),
        ({"content-type": "IMAGE/PNG"}, True),
        ({"content-type": "image/jpeg"}, True),
        ({"content-type": "multipart/form-data; boundary=a"}, True),
        ({"content-type": "application/vnd.apache.parquet"}, True),
    ],
)
def test_bodies_that_may_take_long_whatever_their_size(headers, inflates):
    """The front does not read them in its event loop."""
    assert bodies.may_inflate(headers) == inflates

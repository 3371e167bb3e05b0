"""Requests and answers of the Open Inference Protocol, without HTTP."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector import Detector
from detector.images import encode_image
from service.bodies import Limits
from service.endpoints import model_metadata, open_inference
from service.endpoints.tensors import numbers_from_json
from service.http.problems import Problem
from service.scoring import verbs
from tests.model_folder import MIXED, expected_score, write_model_folder

LIMITS = Limits(50, 20_000)
ROWS = np.array([[1, 2, 0.5], [1, 2, 30]])
VALUES = ROWS.ravel().tolist()
NAMES = ["score", "ratio", "p_value", "is_anomaly", "reconstruction", "feature_error", "latent"]


@pytest.fixture
def detector(tmp_path):
    """Three features, two latents."""
    write_model_folder(tmp_path / "tiny")
    return Detector.load(tmp_path / "tiny")


@pytest.fixture
def images(tmp_path):
    """Grey images, 4 high and 5 wide."""
    write_model_folder(tmp_path / "images", sample_shape=(4, 5))
    return Detector.load(tmp_path / "images")


@pytest.fixture(scope="module")
def small_manifest(tmp_path_factory):
    """The manifest of the model with three features."""
    return write_model_folder(tmp_path_factory.mktemp("small") / "tiny")


def document(shape=(2, 3), datatype="FP32", data=VALUES, **members):
    """Return a request with one input."""
    return {"inputs": [{"name": "samples", "shape": shape, "datatype": datatype, "data": data}], **members}


def decode(detector, request, binary=None, limits=LIMITS):
    """Decode a request made of a document, and of bytes after it with the length header."""
    content = json.dumps(request).encode()
    header = None if binary is None else str(len(content))
    return open_inference.decode(content + (binary or b""), header, detector.manifest, limits)


def infer(detector, body):
    """Return body and headers of the answer."""
    request = verbs.InferRequest(
        detector, body.decoded.samples, open_inference.graph_outputs(body), **body.decoded.options
    )
    (result,) = verbs.infer([request])
    content, headers, media_type = open_inference.encode(detector.manifest, body, result)
    assert (media_type == "application/json") == (not headers)
    return content, headers


def answer(detector, request):
    """Return the answer in JSON, its outputs by name."""
    content, headers = infer(detector, decode(detector, request))
    assert not headers
    read = json.loads(content)
    return read | {"outputs": {output["name"]: output for output in read["outputs"]}}


def test_unnamed_outputs_are_all_of_the_model(detector):
    """They have the order, datatypes and shapes of the metadata, row by row."""
    read = answer(detector, document(id="42"))

    metadata = model_metadata.describe_model(detector.manifest, [1])
    assert list(read["outputs"]) == NAMES == [output["name"] for output in metadata["outputs"]]
    for described in metadata["outputs"]:
        output = read["outputs"][described["name"]]
        assert output["datatype"] == described["datatype"]
        assert output["shape"] == [2, *described["shape"][1:]]
        assert len(output["data"]) == np.prod(output["shape"])
    assert (read["model_name"], read["model_version"], read["id"]) == ("tiny", "1", "42")
    assert read["outputs"]["score"]["data"] == pytest.approx(expected_score(ROWS))
    assert read["outputs"]["is_anomaly"]["data"] == [False, True]
    assert read["outputs"]["reconstruction"]["data"] == [1, 2, 0, 1, 2, 0]
    assert read["parameters"].keys() == {"alpha", "expected_rate", "threshold"}


def test_id_is_given_back_only_where_it_was_given(detector):
    """Clients generated from a schema send null for absent members."""
    read = answer(detector, document(id=None, outputs=None, parameters=None))

    assert "id" not in read


@pytest.mark.parametrize(
    ("datatype", "form"),
    [
        ("FP16", "<f2"),
        ("FP64", "<f8"),
        ("INT8", "i1"),
        ("UINT16", "<u2"),
        ("INT32", "<i4"),
        ("UINT64", "<u8"),
    ],
)
def test_every_form_of_the_data_is_the_same_samples(detector, datatype, form):
    """Data may be flat, nested or bytes."""
    rows = np.array([[1, 2, 3], [4, 5, 60]]).astype(form)
    flat = decode(detector, document(datatype=datatype, data=rows.ravel().tolist())).decoded.samples
    nested = decode(detector, document(datatype=datatype, data=rows.tolist())).decoded.samples
    request = document(datatype=datatype)
    request["inputs"][0] |= {"parameters": {"binary_data_size": rows.nbytes}, "data": None}
    binary = decode(detector, request, rows.tobytes()).decoded.samples

    for samples in (flat, nested, binary):
        assert samples.shape == (2, 3)
        assert (samples == rows).all()


def test_binary_answer_has_its_tensors_behind_the_json(detector):
    """A parameter of an output overrides the parameter of the request."""
    request = document(
        parameters={"binary_data_output": True},
        outputs=[
            {"name": "score"},
            {"name": "ratio", "parameters": {"binary_data": False}},
            {"name": "is_anomaly"},
        ],
    )
    content, headers = infer(detector, decode(detector, request))

    end = int(headers["Inference-Header-Content-Length"])
    score, ratio, is_anomaly = json.loads(content[:end])["outputs"]
    assert score["parameters"] == {"binary_data_size": 8}
    assert is_anomaly["parameters"] == {"binary_data_size": 2}
    assert "data" not in score
    assert "parameters" not in ratio
    assert np.frombuffer(content[end : end + 8], "<f4") == pytest.approx(expected_score(ROWS))
    assert content[end + 8 :] == b"\0\1"


def test_body_without_json_is_samples(detector):
    """All outputs come back as bytes."""
    content = ROWS.astype("<f4").tobytes()
    body = open_inference.decode(content, "0", detector.manifest, LIMITS)

    assert (body.decoded.samples == ROWS).all()
    assert all(output.binary for output in body.outputs)
    assert [output.name for output in body.outputs] == NAMES


def test_fdr_adds_an_output(detector):
    """The output can be requested by name, too."""
    read = answer(detector, document(parameters={"fdr": 0.2, "alpha": 0.1, "priority": 3, "triton_x": 1}))
    named = answer(detector, document(parameters={"fdr": 0.2}, outputs=[{"name": "selected"}]))

    assert [*read["outputs"]] == [*NAMES, "selected"]
    assert read["parameters"]["alpha"] == 0.1
    assert named["outputs"]["selected"]["datatype"] == "BOOL"
    assert named["outputs"]["selected"]["data"] == read["outputs"]["selected"]["data"]


@pytest.mark.parametrize("binary", [True, False])
def test_images_come_as_bytes(images, binary):
    """Images are elements of a BYTES tensor: base64 in the JSON, or bytes after their lengths."""
    sample = np.arange(20, dtype=np.float32).reshape(4, 5) / 20 * 16
    image = encode_image(sample, (0.0, 16.0))
    request = document((2,), "BYTES", [base64.b64encode(image).decode()] * 2)
    elements = (len(image).to_bytes(4, "little") + image) * 2
    if binary:
        request["inputs"][0] |= {"data": None, "parameters": {"binary_data_size": len(elements)}}
    samples = decode(images, request, elements if binary else None).decoded.samples

    assert samples.shape == (2, 4, 5)
    assert np.abs(samples - sample).max() < 16 / 255


def test_gaps_are_null_where_a_value_may_be_missing(tmp_path):
    """They are NaN in a binary tensor."""
    write_model_folder(tmp_path / "mixed", **MIXED)
    mixed = Detector.load(tmp_path / "mixed")
    samples = decode(mixed, document((1, 3), data=[None, 1, 2.5])).decoded.samples

    assert np.isnan(samples[0, 0])


def test_place_of_a_value_is_a_pointer(detector):
    """Flat and nested data have pointers."""
    flat = decode(detector, document()).decoded
    nested = decode(detector, document(data=ROWS.tolist())).decoded

    assert flat.point((1, 2)) == "/inputs/0/data/5"
    assert nested.point((1, 2)) == "/inputs/0/data/1/2"


def changed(**members):
    """Return a request whose input has other members."""
    request = document()
    request["inputs"][0] |= members
    return request


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "the body: must have the member 'inputs'"),
        ({"inputs": []}, "/inputs: must hold the input samples once, got 0 inputs"),
        ({"inputs": {}}, "/inputs: must be an array, got an object"),
        (changed(name="input0"), "/inputs/0/name: must be samples, got 'input0'"),
        (changed(shape=[2, 4]), "/inputs/0/shape: must be [n, 3], got [2, 4]"),
        (changed(shape=[-1, 3]), "/inputs/0/shape: must be [n, 3], got [-1, 3]"),
        (changed(shape=[]), "/inputs/0/shape: must be [n, 3], got []"),
        (changed(shape=[3, 3]), "/inputs/0/data: must have 9 elements, got 6"),
        (changed(shape=2), "/inputs/0/shape: must be an array, got an integer"),
        (changed(datatype="BOOL"), "/inputs/0/datatype: must be one of FP16, FP32"),
        (changed(datatype="BYTES"), "/inputs/0/datatype: must be one of FP16, FP32"),
        (changed(datatype="UINT8"), "/inputs/0/data/2: UINT8 must be an integer, got 0.5"),
        (
            changed(datatype="UINT8", data=[0, 1, 2, 3, 4, 256]),
            "/inputs/0/data/5: UINT8 must be from 0 to 255, got 256",
        ),
        (
            changed(datatype="INT64", data=[0, 1, 2, 3, 4, 2**63]),
            "data/5: INT64 must be from -9223372036854775808 to 9223372036854775807, got 9223372036854775808",
        ),
        (
            changed(datatype="UINT64", data=[0, 1, 2, 3, 4, 10**400]),
            "data/5: UINT64 must be from 0 to 18446744073709551615, got 1000",
        ),
        (
            changed(datatype="UINT64", data=[0, 1, 2, 3, 4, 5.0]),
            "/inputs/0/data/5: must be an integer, got a number",
        ),
        (changed(data=[1, 2, 3, 4, 5, "6"]), "/inputs/0/data/5: must be a number, got text"),
        (changed(data=[1, 2, 3, 4, 5, True]), "/inputs/0/data/5: must be a number, got a boolean"),
        (changed(data=[[1, 2, 3], [4, 5]]), "/inputs/0/data/1: must have 3 elements, got 2"),
        (changed(data=[[[1, 2, 3], [4, 5, 6]]]), "/inputs/0/data: must be flat or nested as the shape"),
        (changed(data=7), "/inputs/0/data: must be an array, got an integer"),
        (changed(data=None), "/inputs/0: must have the member data, or the parameter binary_data_size"),
        (changed(parameters={"binary_data_size": 24}), "either the member data or the parameter"),
        (changed(parameters={"shared_memory_region": "a"}), "/inputs/0/parameters/shared_memory_region: is"),
        (document(outputs=[{"name": "selected"}]), "'selected'; selected needs the parameter fdr"),
        (document(outputs=[{"name": "score"}] * 2), "/outputs/1/name: the output score must be named once"),
        (document(outputs=[{"name": "score", "parameters": {"classification": 2}}]), "is not supported here"),
        (document(outputs=[{"name": "score", "parameters": {"binary_data": 1}}]), "must be a boolean, got 1"),
        (document(parameters={"binary_data_output": "yes"}), "must be a boolean, got yes"),
        (document(id=3), "/id: must be text, got an integer"),
    ],
)
def test_bad_request_is_told_what_and_where(detector, request_, message):
    """The problem has one sentence and a pointer."""
    with pytest.raises(Problem) as caught:
        decode(detector, request_)

    assert message in caught.value.detail
    assert caught.value.type == "invalid-input"
    assert caught.value.detail.startswith(caught.value.errors[0]["pointer"] or "the body")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alfa": 0.1}, "the parameter 'alfa' is unknown, only alpha, fdr are known"),
        ({"explain": 3}, "the parameter 'explain' is unknown"),
        ({"alpha": 1.5}, "the parameter alpha must be a number between 0 and 1, got 1.5"),
    ],
)
def test_bad_parameter_is_an_option_that_is_none(detector, parameters, message):
    """Parameters of other servers that change no value are ignored."""
    with pytest.raises(Problem) as caught:
        decode(detector, document(parameters=parameters))

    assert caught.value.type == "invalid-option"
    assert message in caught.value.detail


def test_limit_of_rows_holds_before_anything_is_read(detector):
    """The declared shape is enough to refuse a request."""
    for shape in ([51, 3], [2**70, 3]):
        with pytest.raises(Problem, match="a body may hold at most 50 samples"):
            decode(detector, document(shape))
    with pytest.raises(Problem, match="a body may hold at most 50 samples"):
        open_inference.decode(bytes(51 * 12), "0", detector.manifest, LIMITS)


BINARY = changed(data=None, parameters={"binary_data_size": 24})


@pytest.mark.parametrize(
    ("request_", "binary", "header", "message"),
    [
        (BINARY, bytes(24), "x", "must be a number of bytes, at most the"),
        (BINARY, bytes(24), "-1", "must be a number of bytes, at most the"),
        (BINARY, bytes(24), "9999", "must be a number of bytes, at most the"),
        (BINARY, bytes(23), "right", "must be the 23 bytes that follow the JSON, got 24"),
        (BINARY, bytes(25), "right", "must be the 25 bytes that follow the JSON, got 24"),
        (BINARY, b"", None, "binary data need the header Inference-Header-Content-Length"),
        (document(), bytes(3), "right", "3 bytes follow the JSON, but no input has binary_data_size"),
        (
            changed(data=None, parameters={"binary_data_size": 20}),
            bytes(20),
            "right",
            "takes 24 bytes of data, got 20",
        ),
        (changed(data=None, parameters={"binary_data_size": "24"}), bytes(24), "right", "got 24"),
    ],
)
def test_binary_data_are_exactly_as_long_as_they_say(detector, request_, binary, header, message):
    """Header, size, shape and datatype agree."""
    content = json.dumps(request_).encode()
    header = str(len(content)) if header == "right" else header
    with pytest.raises(Problem) as caught:
        open_inference.decode(content + binary, header, detector.manifest, LIMITS)

    assert message in caught.value.detail


@pytest.mark.parametrize(
    ("elements", "message"),
    [
        (b"\1\0\0", "element 0 is cut off"),
        (b"\2\0\0\0a", "element 0 is cut off"),
        (b"\1\0\0\0a", "the shape has 2 elements, the data hold 1"),
        (b"\1\0\0\0a" * 3, "the shape has 2 elements, the data hold more"),
        (b"\xff\xff\xff\xff" + bytes(8), "element 0 is cut off"),
        (b"\1\0\0\0a" * 2, "image 0: the image is no PNG, JPEG, BMP, TIFF or WebP that can be read"),
    ],
)
def test_elements_are_as_many_as_the_shape_says(images, elements, message):
    """Each element is as long as its length says."""
    request = document((2,), "BYTES", None)
    request["inputs"][0]["parameters"] = {"binary_data_size": len(elements)}
    with pytest.raises(Problem) as caught:
        decode(images, request, elements)

    assert message in caught.value.detail


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b'{"inputs": 1}', b"\xff", b"[" * 5000])
def test_what_is_no_request_is_a_problem(detector, content):
    """Only problems are raised."""
    with pytest.raises(Problem):
        open_inference.decode(content, None, detector.manifest, LIMITS)


SEEDS = [
    (json.dumps(document(id="1", outputs=[{"name": "score"}])).encode(), None),
    (json.dumps(document(data=ROWS.tolist(), parameters={"fdr": 0.1})).encode(), None),
    (json.dumps(BINARY).encode() + bytes(24), str(len(json.dumps(BINARY)))),
    (bytes(24), "0"),
]
PIECES = [*b'[]{},:"-.e0', b"null", b"1e400", b"NaN", b'"data"', b"9" * 30, b"\xff", b"[" * 200]


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 30), st.sampled_from(PIECES)), max_size=4),
    st.none() | st.integers(0, 400).map(str),
)
def test_damaged_requests_are_read_or_refused(small_manifest, seed, damages, header):
    """Only problems are raised, and samples never have another shape."""
    content, own_header = seed
    for start, length, piece in damages:
        insert = piece if isinstance(piece, bytes) else bytes([piece])
        content = content[:start] + insert + content[start + length :]
    try:
        body = open_inference.decode(content, header or own_header, small_manifest, LIMITS)
    except Problem:
        return
    assert body.decoded.samples.shape[1:] == (3,)
    assert len(body.decoded.samples) <= LIMITS.max_rows


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70), max_size=9))
def test_fast_reader_reads_what_the_strict_one_reads(small_manifest, values):
    """Bit for bit: data with a missing value are left to the strict reader."""
    data = json.dumps(values).encode()
    shape = (len(values),)
    fast, _ = numbers_from_json(data, "FP64", shape, "")
    strict, _ = numbers_from_json(
        data[:-1] + (b", null]" if values else b"null]"), "FP64", (shape[0] + 1,), "", gaps=True
    )

    assert fast.tobytes() == strict[:-1].tobytes()


MANY = Limits(100_000, 2**27)
LONG = np.random.default_rng(0).normal(size=(30_000, 3))  # 1.7 MB of JSON


def long_request(data, datatype="FP32", before=b"", after=b""):
    """Return a request with so much data, as text, and more members before and after it."""
    given = b'"name": "samples", "shape": [%d, 3], "datatype": "%s"' % (len(LONG), datatype.encode())
    return b'{%b"inputs": [{%b, "data" : %b}]%b}' % (before, given, data, after)


@pytest.mark.parametrize("nested", [True, False])
def test_long_request_is_read_as_a_short_one(small_manifest, nested):
    """The order of the other members does not matter; bit for bit."""
    data = json.dumps((LONG if nested else LONG.ravel()).tolist(), indent=0 if nested else None).encode()
    request = long_request(data, before=b'"id": "8]}", ', after=b', "outputs": [{"name": "ratio"}] ')
    body = open_inference.decode(bytearray(request), None, small_manifest, MANY)

    assert body.decoded.samples.tobytes() == LONG.tobytes()
    assert body.id == "8]}"
    assert [output.name for output in body.outputs] == ["ratio"]
    assert body.decoded.point((29_999, 1)) == "/inputs/0/data/" + ("29999/1" if nested else "89998")


def test_long_request_of_integers(small_manifest):
    """Each value must lie within its datatype."""
    pixels = np.random.default_rng(0).integers(0, 256, LONG.shape)
    data = json.dumps(pixels.ravel().tolist()).encode()
    body = open_inference.decode(long_request(data, "UINT8"), None, small_manifest, MANY)

    assert body.decoded.samples.dtype == np.uint8
    assert (body.decoded.samples == pixels).all()
    with pytest.raises(Problem, match="INT8 must be from -128 to 127, got"):
        open_inference.decode(long_request(data, "INT8"), None, small_manifest, MANY)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ((b", 1.5, ", b", true, "), "/inputs/0/data/50001: must be a number, got a boolean"),
        ((b", 1.5, ", b', "]", '), "/inputs/0/data/50001: must be a number, got text"),
        ((b", 1.5, ", b", 1.5, 2, "), "/inputs/0/data: must have 90000 elements, got 90001"),
        ((b", 1.5, ", b", [1.5], "), "/inputs/0/data/50001: must be a number, got an array"),
        ((b", 1.5, ", b", 1.5], "), "is not JSON"),
        ((b'"data"', b'"Data"'), "must have the member data"),
        ((b"}]}", b"}]"), "is not JSON"),
        ((b"}]}", b"}]} x"), "is not JSON"),
        ((b"}]}", b', "data": [1, 2]}]}'), "/inputs/0 has the member 'data' more than once"),
        ((b'"shape"', b'"x": "[\\"cut out\\"]", "parameters": {"data": [1]}, "shape"'), None),
    ],
)
def test_long_request_is_refused_as_a_short_one(small_manifest, damage, message):
    """The place of the fault is named; members that only look like data are not cut out."""
    values = [*([0.25] * 50_000), 0.5, 1.5, *([0.75] * 39_998)]
    request = long_request(json.dumps(values).encode()).replace(*damage, 1)
    if message is None:
        body = open_inference.decode(request, None, small_manifest, MANY)
        assert body.decoded.samples.ravel().tolist() == values
        return

    with pytest.raises(Problem) as caught:
        open_inference.decode(request, None, small_manifest, MANY)

    assert message in caught.value.detail


def test_requests_of_one_batch_keep_to_themselves(detector):
    """Each has the outputs and the rule that it asked for."""
    first = verbs.InferRequest(detector, ROWS, ("latent",))
    second = verbs.InferRequest(detector, ROWS[1:], (), alpha=0.1, fdr=0.2)
    bad = verbs.InferRequest(detector, np.full((1, 3), np.nan))
    one, error, two = verbs.infer([first, bad, second])

    assert one.outputs.keys() == {"score", "latent"}
    assert two.outputs.keys() == {"score"}
    assert one.selected is None
    assert two.alpha == 0.1
    assert (two.score == one.score[1:]).all()
    assert "finite" in str(error)

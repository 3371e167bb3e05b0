"""Forms of TensorFlow Serving's REST API and of KServe's V1 besides bare instances."""

import base64
import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image

from detector.images import encode_image
from service.bodies import Expected, Limits
from service.bodies.json import tensorflow
from service.bodies.json.slices import SLICE_BYTES
from service.http.problems import Problem
from tests.model_folder import MIXED, expected_score, publish_model
from tests.service.responses import assert_problem

ROWS = [[1, 2, 0.5], [1, 2, 30]]
PREDICT = "/v1/models/tiny:predict"


def scores_of(client, body, path=PREDICT):
    """Return the scores of an answer in rows."""
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return [prediction["score"] for prediction in response.json["predictions"]]


def image(value):
    """Return a 4 x 5 image with a bright last pixel, and its PNG as TensorFlow Serving sends bytes."""
    pixels = np.zeros((4, 5), np.float32)
    pixels[-1, -1] = value
    return pixels, {"b64": base64.b64encode(encode_image(pixels, (0.0, 16.0))).decode()}


@pytest.mark.parametrize(
    "body",
    [
        {"instances": ROWS},
        {"instances": [{"samples": row} for row in ROWS]},
        {"instances": [{"a": a, "b": b, "c": c} for a, b, c in ROWS]},
        {"instances": [{"samples": {"a": a, "c": c, "b": b}} for a, b, c in ROWS]},
        {"signature_name": "serving_default", "instances": [{"samples": row} for row in ROWS]},
        {"instances": [{"samples": row} for row in ROWS], "alpha": 0.2, "signature_name": ""},
    ],
)
def test_rows_have_one_prediction_each(client, body):
    """The samples may be named by the input of the signature, or by the features."""
    assert scores_of(client, body) == pytest.approx(expected_score(ROWS))


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": ROWS},
        {"inputs": {"samples": ROWS}},
        {"signature_name": "serving_default", "inputs": ROWS},
        {"alpha": 0.2, "inputs": {"samples": ROWS}, "signature_name": ""},
        {"inputs": [{"samples": row} for row in ROWS]},
    ],
)
def test_column_is_answered_by_columns(client, body):
    """TensorFlow Serving calls them outputs."""
    outputs = client.post(PREDICT, json=body).json["outputs"]

    scores = client.post("/score", json={"instances": ROWS, "alpha": body.get("alpha", 0.05)}).json
    assert outputs == {name: scores[name] for name in ("score", "ratio", "p_value", "is_anomaly")}


def test_images_come_as_base64(client):
    """In rows and in a column, named or not; a JPEG too."""
    (dark, first), (bright, second) = image(0), image(16)
    expected = expected_score([dark, bright]).tolist()
    path = "/v1/models/images:predict"

    for files in ([first, second], [{"samples": first}, {"samples": second}]):
        assert scores_of(client, {"instances": files, "alpha": 0.2}, path) == pytest.approx(expected)
    for inputs in ([first, second], {"samples": [first, second]}):
        answer = client.post(path, json={"inputs": inputs}).json
        assert answer["outputs"]["score"] == pytest.approx(expected)
    buffer = io.BytesIO()
    Image.new("L", (5, 4), 255).save(buffer, "JPEG")
    jpeg = {"b64": base64.b64encode(buffer.getvalue()).decode()}
    white = expected_score([np.full((4, 5), 16)]).tolist()
    assert scores_of(client, {"instances": [jpeg]}, path) == pytest.approx(white)
    named = {"instances": [{"samples": dark.tolist()}, {"samples": bright.tolist()}]}
    assert scores_of(client, named, path) == pytest.approx(expected)


def test_feature_may_be_called_like_the_input(client, store):
    """Then an object is a row by its features."""
    publish_model(store, "named", feature_names=("samples", "b", "c"))
    client.application.extensions["residual"].models.poll()
    rows = [{"samples": 1, "b": 2, "c": 30}]

    assert scores_of(client, {"instances": rows}, "/v1/models/named:predict") == pytest.approx([300])


def test_mixed_rows_may_be_named(client, store):
    """Text and missing values are read as ever."""
    publish_model(store, "mixed", **MIXED)
    client.application.extensions["residual"].models.poll()
    rows = [[1, "run", 7], [None, "idle", 0]]
    path = "/v1/models/mixed:predict"

    named = scores_of(client, {"instances": [{"samples": row} for row in rows]}, path)

    assert named == scores_of(client, {"instances": rows}, path)


@pytest.mark.parametrize(
    ("body", "status", "detail", "pointer"),
    [
        ({"inputs": [[1, 2, "x"]]}, 422, "/inputs/0/2: must be a number, got text", "/inputs/0/2"),
        (
            {"inputs": {"samples": [[1, 2, 3], [1, 2]]}},
            422,
            "/inputs/samples/1 must have 3 elements, got 2",
            "/inputs/samples/1",
        ),
        (
            {"instances": [{"samples": ROWS[0]}, {"samples": [1, True, 3]}]},
            422,
            "/instances/1/samples/1: must be a number, got a boolean",
            "/instances/1/samples/1",
        ),
        (
            {"instances": [{"samples": ROWS[0]}, ROWS[1]]},
            422,
            "/instances/1: must be an object, got an array",
            "/instances/1",
        ),
        (
            {"instances": [{"samples": ROWS[0], "key": 1}]},
            422,
            "/instances/0: has the unknown member 'key', known are ",
            "/instances/0",
        ),
        (
            {"inputs": {"x": ROWS}},
            422,
            "/inputs: must be an array of samples, or an object with the only member 'samples'",
            "/inputs",
        ),
        (
            {"inputs": {"samples": ROWS, "more": ROWS}},
            422,
            "/inputs: must be an array of samples, or an object with the only member 'samples'",
            "/inputs",
        ),
        ({"inputs": 3}, 422, "/inputs: must be an array, got an integer", "/inputs"),
        (
            {"inputs": ROWS, "instances": ROWS},
            400,
            "the body has the member 'instances' more than once",
            None,
        ),
        ({"alpha": 0.1}, 422, "the body: must have the member 'instances'", ""),
    ],
)
def test_faults_are_named_in_the_words_of_the_client(client, body, status, detail, pointer):
    """Places are those of the body that was sent."""
    kind = "invalid-input" if status == 422 else "malformed-body"
    problem = assert_problem(client.post(PREDICT, data=json.dumps(body)), status, kind)

    assert problem["detail"].startswith(detail)
    if pointer is not None:
        assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("instances", "detail"),
    [
        ([{"b64": "no base64!"}], "/instances/0/b64: must be base64 text"),
        ([{"b64": 3}], "/instances/0/b64: must be text, got an integer"),
        ([image(0)[1], [[0] * 5] * 4], "/instances/1: must be an object, got an array"),
        ([{"samples": {"b64": "AA"}}], "/instances/0/samples/b64: must be base64 text"),
        ([image(0)[1], {"b64": "AAAA"}], "image 1: "),
        ([{"b64": ""}], "image 0: "),
    ],
)
def test_faulty_images_are_named(client, instances, detail):
    """By their place in the body."""
    problem = assert_problem(
        client.post("/v1/models/images:predict", json={"instances": instances}), 422, "invalid-input"
    )

    assert problem["detail"].startswith(detail)


@pytest.mark.parametrize(
    "content",
    [
        b'{"inputs": [[1, 2, 3]',
        b'{"instances": [{"samples": [1, 2, 3]},]}',
        b'{"instances": [{"samples": [1, 2, 3]}',
        b'{"instances": [{"samples": [1, 2, 3], "samples": [1, 2, 3]}]}',
        b'{"inputs": {"samples": [[1, 2, 3]], "samples": [[1, 2, 3]]}}',
        b'{"inputs": {"samples": [[1, 2, 3]}',
        b'{"inputs"',
        b"\xff",
        b"",
    ],
)
def test_broken_bodies_are_refused(client, content):
    """Nothing is guessed."""
    response = client.post(PREDICT, data=content)

    assert response.status_code in (400, 422)
    assert "(byte" not in response.text or content == b"\xff" or content == b'{"inputs"'


LIMITS = Limits(max_rows=10**6, max_bytes=2**30)
VECTOR = Expected((3,), ("a", "b", "c"))


@pytest.mark.parametrize("write", ["rows", "columns", "named column"])
def test_long_bodies_are_read_in_slices(write):
    """Their values are those of the numbers sent, whatever the form."""
    rows = np.arange(60_000).reshape(-1, 3) / 4
    forms = {
        "rows": {"instances": [{"samples": row} for row in rows.tolist()]},
        "columns": {"inputs": rows.tolist()},
        "named column": {"signature_name": "", "inputs": {"samples": rows.tolist()}},
    }
    content = json.dumps(forms[write]).encode()
    assert len(content) > SLICE_BYTES

    prediction = tensorflow.decode_predict(content, VECTOR, LIMITS, ("alpha", "signature_name"))

    np.testing.assert_array_equal(prediction.decoded.samples, rows)
    assert prediction.is_column == (write != "rows")
    place = {
        "rows": "/instances/7/samples/1",
        "columns": "/inputs/7/1",
        "named column": "/inputs/samples/7/1",
    }
    assert prediction.decoded.point((7, 1)) == place[write]


def test_too_many_named_rows_are_refused_early():
    """Before all of them are read."""
    content = json.dumps({"instances": [{"samples": [1, 2, 3]}] * 30_000}).encode()

    with pytest.raises(Problem, match="at most 10 samples"):
        tensorflow.decode_predict(content, VECTOR, dataclasses.replace(LIMITS, max_rows=10), ())


def test_metadata_have_the_signature(client):
    """TensorFlow Serving's form, for the served version, a numbered one, and that of a label."""
    metadata = client.get("/v1/models/tiny/metadata").json
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]

    assert metadata["model_spec"] == {"name": "tiny", "signature_name": "", "version": "1"}
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"] == {
        "samples": {
            "dtype": "DT_FLOAT",
            "tensor_shape": {
                "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}],
                "unknown_rank": False,
            },
            "name": "samples:0",
        }
    }
    assert {name: tensor["dtype"] for name, tensor in signature["outputs"].items()} == {
        "score": "DT_FLOAT",
        "ratio": "DT_DOUBLE",
        "p_value": "DT_DOUBLE",
        "is_anomaly": "DT_BOOL",
    }
    assert client.get("/v1/models/tiny/versions/1/metadata").json == metadata
    sizes = client.get("/v1/models/images/metadata").json["metadata"]["signature_def"]["signature_def"]
    dimensions = sizes["serving_default"]["inputs"]["samples"]["tensor_shape"]["dim"]
    assert [each["size"] for each in dimensions] == ["-1", "4", "5"]
    for path in ("none", "tiny/versions/2", "tiny/labels/stable"):
        assert_problem(client.get(f"/v1/models/{path}/metadata"), 404, "no-such-model")


def test_explain_explains_each_prediction(client):
    """KServe's answer has both; the explanations are those of `/score`."""
    scores = client.post("/score?explain=10", json={"instances": ROWS}).json
    predictions = client.post(PREDICT, json={"instances": ROWS}).json["predictions"]

    for path in ("tiny", "tiny/versions/1"):
        answer = client.post(f"/v1/models/{path}:explain", json={"instances": ROWS})
        assert answer.json == {"predictions": predictions, "explanations": scores["explanation"]}
    assert [row[0]["feature"] for row in scores["explanation"]] == ["c", "c"]
    few = client.post("/v1/models/tiny:explain", json={"inputs": ROWS, "explain": 1}).json
    assert few["explanations"] == [row[:1] for row in scores["explanation"]]


def test_images_are_explained_by_the_error_of_each_pixel(client):
    """The names of ten pixels would say little."""
    bright, file = image(16)

    answer = client.post("/v1/models/images:explain", json={"instances": [file]}).json

    assert answer["predictions"][0]["score"] == pytest.approx(expected_score([bright])[0])
    np.testing.assert_allclose(answer["explanations"], [np.square(bright)])

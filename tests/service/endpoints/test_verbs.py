"""The verbs over HTTP."""

import dataclasses
import gzip
import io
import threading

import numpy as np
import orjson
import pytest
from werkzeug.test import TestResponse

from detector import Detector, ModelStore
from detector.images import encode_image
from service.endpoints import base
from tests.model_folder import expected_probability, publish_model
from tests.service.polls import follow
from tests.service.responses import assert_problem, from_npy, to_npy

JSON, NPY = "application/json", "application/x-npy"
NORMAL, ANOMALY = [1.0, 2.0, 0.5], [1.0, 2.0, 30.0]


@pytest.fixture
def detector(store) -> Detector:
    """The default model, in this process."""
    return Detector.load(store.folder("tiny", 1))


@pytest.fixture
def samples() -> np.ndarray:
    """Fifty rows for it."""
    return np.random.default_rng(1).normal(size=(50, 3)).astype(np.float32)


def image() -> bytes:
    """Return a PNG for `images`."""
    return encode_image(np.arange(20, dtype=np.float32).reshape(4, 5) % 17, (0.0, 16.0))


def test_score_answers_every_decision(client, detector):
    """The answer has the documented members, with one element for each instance in order."""
    response = client.post("/score", json={"instances": [NORMAL, ANOMALY]})

    scores = detector.score(np.array([NORMAL, ANOMALY]))
    assert response.status_code == 200
    assert response.json == {
        "model": "tiny",
        "version": 1,
        "alpha": 0.05,
        "expected_rate": scores.expected_rate,
        "threshold": scores.threshold,
        "score": scores.score.tolist(),
        "ratio": scores.ratio.tolist(),
        "p_value": scores.p_value.tolist(),
        "is_anomaly": [False, True],
    }
    assert response.headers["X-Model-Version"] == "1"


def test_score_of_npy_and_json_equal_the_library_bit_for_bit(client, detector, samples):
    """There is one way to score."""
    expected = detector.score(samples).score

    by_npy = client.post("/score", data=to_npy(samples), content_type=NPY, headers={"Accept": NPY})
    by_json = client.post("/score", json={"instances": samples.tolist()})

    assert from_npy(by_npy.data).dtype == np.float64
    np.testing.assert_array_equal(from_npy(by_npy.data), expected)
    np.testing.assert_array_equal(by_json.json["score"], expected)


def test_score_of_a_row_is_the_same_alone(client, samples):
    """Neighbours in a body change no bit."""
    together = client.post("/score", json={"instances": samples.tolist()}).json["score"]

    alone = [client.post("/score", json={"instances": [row]}).json["score"][0] for row in samples.tolist()]

    assert alone == together


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8"])
def test_score_explains_samples_of_every_dtype(client, dtype):
    """The actual value is the value of the request."""
    samples = np.array([[1, 2, 30]], dtype=dtype)

    answer = client.post("/score?explain=1", data=to_npy(samples), content_type=NPY).json

    assert answer["explanation"][0][0]["actual"] == 30


@pytest.mark.parametrize("send", ["query", "body"])
def test_score_takes_its_options_from_query_or_body(client, detector, send):
    """Both mean the same."""
    options = {"alpha": 0.1, "fdr": 0.2, "explain": 2}
    body = {"instances": [NORMAL, ANOMALY]}

    if send == "query":
        answer = client.post("/score", query_string=options, json=body).json
    else:
        answer = client.post("/score", json=body | options).json

    scores = detector.score(np.array(body["instances"]), **options)
    assert (answer["alpha"], answer["threshold"]) == (0.1, scores.threshold)
    assert answer["selected"] == scores.selected.tolist()
    assert [item["feature"] for item in answer["explanation"][1]] == ["c", "a"]
    assert answer["explanation"][1][0] == {
        "feature": "c",
        "index": [2],
        "contribution": pytest.approx(1.0),
        "actual": 30.0,
        "expected": 0.0,
    }


def test_score_explains_by_the_whole_map(client):
    """The error of every pixel, in the image's shape; more features than there are means all."""
    body = {"instances": np.ones((2, 4, 5)).tolist()}

    by_map = client.post("/models/images/score?explain=map", json=body).json["explanation"]
    by_features = client.post("/models/images/score?explain=1000", json=body).json["explanation"]

    assert np.shape(by_map) == (2, 4, 5)
    assert [len(row) for row in by_features] == [20, 20]


def test_score_refuses_an_explanation_that_would_fill_the_memory(client, monkeypatch):
    """The number of named features is bounded."""
    monkeypatch.setattr(base, "MAX_CONTRIBUTIONS", 5)

    response = client.post("/score?explain=3", json={"instances": [NORMAL] * 2})

    assert "asks for 6" in assert_problem(response, 422, "invalid-option")["detail"]


def test_score_names_the_smallest_alpha_that_can_be_promised(client):
    """199 calibration samples promise no rate of one in a thousand."""
    response = client.post("/score?alpha=0.001", json={"instances": [NORMAL]})

    assert "alpha must be at least" in assert_problem(response, 422, "invalid-option")["detail"]


@pytest.mark.parametrize(
    ("instances", "message"),
    [
        ([], "at least one sample"),
        ([[1.0, 2.0]], "shape (n, 3), got (1, 2)"),
        ([[1.0, 2.0, None]], "must be a number"),
    ],
)
def test_score_rejects_bad_samples(client, instances, message):
    """Samples the model cannot take are the client's error, named precisely."""
    response = client.post("/score", json={"instances": instances})

    assert message in assert_problem(response, 422, "invalid-input")["detail"]


def test_score_places_a_value_that_is_no_float32(client):
    """Row, column and pointer, by name where the instance was an object."""
    response = client.post("/score", json={"instances": [NORMAL, {"a": 1, "b": 1e39, "c": 2}]})

    (error,) = assert_problem(response, 422, "invalid-input")["errors"]
    assert (error["row"], error["column"], error["pointer"]) == (1, "b", "/instances/1/b")


def test_score_places_a_nan_of_npy(client, samples):
    """A binary body has rows and columns, no pointers."""
    samples[7, 2] = np.nan

    response = client.post("/score", data=to_npy(samples), content_type=NPY)

    (error,) = assert_problem(response, 422, "invalid-input")["errors"]
    assert (error["row"], error["column"]) == (7, "c")
    assert "pointer" not in error


def test_denoise_answers_the_reconstruction(client, detector, samples):
    """JSON has the digits of a float32, and `.npy` the float32 array itself."""
    expected = detector.reconstruct(samples)

    by_json = client.post("/denoise", json={"instances": samples.tolist()})
    by_npy = client.post("/denoise", data=to_npy(samples), content_type=NPY, headers={"Accept": NPY})

    assert by_json.json.keys() == {"model", "version", "reconstruction"}
    np.testing.assert_array_equal(np.float32(by_json.json["reconstruction"]), expected)
    np.testing.assert_array_equal(from_npy(by_npy.data), expected)


def test_encode_and_decode_are_denoise_in_two_steps(client, samples):
    """Decoding the encoded latent gives the reconstruction."""
    latent = client.post("/encode", json={"instances": samples.tolist()}).json["latent"]

    decoded = client.post("/decode", json={"instances": latent}).json["reconstruction"]

    assert np.shape(latent) == (50, 2)
    assert decoded == client.post("/denoise", json={"instances": samples.tolist()}).json["reconstruction"]


@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_latent_verbs_are_a_conflict_without_a_latent(client, verb):
    """The answer does not depend on the body."""
    assert_problem(client.post(f"/models/flat/{verb}", data=b"anything"), 409, "no-latent")


def test_decode_takes_no_images_and_no_names(client):
    """A latent vector has neither."""
    response = client.post("/models/images/decode", data=image(), content_type="image/png")
    assert_problem(response, 415, "unsupported-media-type")

    response = client.post("/decode", json={"instances": [{"a": 1, "b": 2}]})
    assert_problem(response, 422, "invalid-input")


def test_denoise_gives_an_image_for_an_image(client):
    """The request must accept an image and have exactly one."""
    headers = {"Accept": "image/png"}

    response = client.post("/models/images/denoise", data=image(), content_type="image/png", headers=headers)

    assert response.content_type == "image/png"
    sent = client.post("/models/images/denoise", data=image(), content_type="image/png").json
    assert response.data == encode_image(np.float32(sent["reconstruction"][0]), (0.0, 16.0))


@pytest.mark.parametrize(
    ("path", "instances"),
    [
        ("/models/images/denoise", np.ones((2, 4, 5)).tolist()),
        ("/models/images/score", np.ones((1, 4, 5)).tolist()),
        ("/denoise", [NORMAL]),
    ],
)
def test_other_answers_are_no_images(client, path, instances):
    """Two samples, scores and vectors cannot be drawn."""
    response = client.post(path, json={"instances": instances}, headers={"Accept": "image/png"})

    assert_problem(response, 406, "not-acceptable")


def test_images_score_like_the_samples_that_they_are(client):
    """PNG raw, PNG in a form and numbers are one thing."""
    raw = client.post("/models/images/score", data=image(), content_type="image/png").json["score"]
    form = {"one": (io.BytesIO(image()), "1.png"), "two": (io.BytesIO(image()), "2.png")}
    parts = client.post("/models/images/score", data=form, content_type="multipart/form-data").json["score"]
    numbers = np.rint(np.arange(20).reshape(1, 4, 5) % 17 / 16 * 255) / 255 * 16
    by_json = client.post("/models/images/score", json={"instances": numbers.tolist()}).json["score"]

    assert parts == raw * 2
    assert raw == pytest.approx(by_json, rel=1e-6)


def test_named_paths_reach_versions_and_labels(client, store, registry):
    """A bare name means the label stable, else the highest version."""
    publish_model(store)
    store.set_label("tiny", "canary", 1)
    follow(registry)
    body = {"instances": [NORMAL]}

    versions = [
        client.post(path, json=body).headers["X-Model-Version"]
        for path in (
            "/score",
            "/models/tiny/score",
            "/models/tiny/versions/1/score",
            "/models/tiny/labels/canary/score",
        )
    ]

    assert versions == ["2", "2", "1", "1"]


@pytest.mark.parametrize(
    "path", ["/models/none/score", "/models/tiny/versions/9/score", "/models/tiny/labels/none/score"]
)
def test_what_is_not_loaded_is_not_found(client, path):
    """Unknown models, versions and labels are refused alike."""
    assert_problem(client.post(path, json={"instances": [NORMAL]}), 404, "no-such-model")


@pytest.mark.parametrize("version", ["0", "01", "-1", "x", "9" * 11])
def test_what_is_no_version_is_no_path(client, version):
    """A version is a positive integer as the store writes it."""
    assert_problem(client.post(f"/models/tiny/versions/{version}/score"), 404, "not-found")


def test_short_paths_need_a_default_model(settings, make_app):
    """With three models and no default the model is unclear."""
    client = make_app(dataclasses.replace(settings, default_model=None)).test_client()

    problem = assert_problem(client.post("/score", json={"instances": [NORMAL]}), 404, "no-default-model")

    assert "RESIDUAL_DEFAULT_MODEL" in problem["detail"]
    assert client.post("/models/tiny/score", json={"instances": [NORMAL]}).status_code == 200


def test_the_only_model_is_the_default_and_stays_it(settings, make_app, tmp_path):
    """It is fixed at start: a second model changes no client's answers."""
    settings = dataclasses.replace(settings, default_model=None, store=tmp_path / "single")
    store = ModelStore(settings.store)
    publish_model(store)
    app = make_app(settings)
    publish_model(store, "another")
    follow(app.extensions["residual"].models)

    response = app.test_client().post("/score", json={"instances": [NORMAL]})

    assert response.json["model"] == "tiny"


def test_body_above_the_limit_is_refused(client):
    """A body without a Content-Length is refused, too."""
    large = b" " * 20_001
    said = client.post("/score", data=large, content_type="application/json")
    chunked = client.post(
        "/score",
        input_stream=io.BytesIO(large),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
    )

    assert "20000 bytes" in assert_problem(said, 413, "body-too-large")["detail"]
    assert_problem(chunked, 413, "body-too-large")


def test_body_with_too_many_rows_is_refused(client):
    """The setting holds for every form."""
    response = client.post("/score", data=to_npy(np.ones((51, 3), dtype=np.uint8)), content_type=NPY)

    assert_problem(response, 413, "too-many-rows")


def test_compressed_bodies_are_inflated(client):
    """Gzip, up to the limit of a body, whatever the form."""
    body, headers = orjson.dumps({"instances": [NORMAL]}), {"Content-Encoding": "gzip"}

    def post(content: bytes, **headers: str) -> TestResponse:
        return client.post("/score", data=content, content_type=JSON, headers=headers)

    assert post(gzip.compress(body), **headers).json == post(body).json
    assert_problem(post(gzip.compress(bytes(20_001)), **headers), 413, "body-too-large")
    assert_problem(post(body, **headers), 400, "malformed-body")
    refused = post(body, **{"Content-Encoding": "br"})
    assert_problem(refused, 415, "unsupported-media-type")
    assert refused.headers["Accept-Encoding"] == "gzip, deflate, identity"


def test_one_request_too_many_is_answered_at_once(settings, make_app):
    """A slot is taken before the body is read, and given back after the answer."""
    client = make_app(dataclasses.replace(settings, max_concurrency=1)).test_client()
    entered, finish = threading.Event(), threading.Event()

    class SlowBody(io.BytesIO):
        def readinto(self, buffer) -> int:
            entered.set()
            finish.wait(10)
            return super().readinto(buffer)

    slow = threading.Thread(
        target=client.application.test_client().post,
        args=("/score",),
        kwargs={
            "input_stream": SlowBody(b'{"instances": [[1, 2, 3]]}'),
            "content_type": "application/json",
        },
    )
    slow.start()
    assert entered.wait(10)
    response = client.post("/score", json={"instances": [NORMAL]})
    finish.set()
    slow.join(10)

    assert_problem(response, 503, "overloaded")
    assert response.headers["Retry-After"] == "1"
    assert client.post("/score", json={"instances": [NORMAL]}).status_code == 200


def test_refused_requests_give_their_slot_back(settings, make_app):
    """A hundred bad bodies leave the service as free as it was."""
    client = make_app(dataclasses.replace(settings, max_concurrency=1)).test_client()

    for _ in range(100):
        assert client.post("/score", data=b"{", content_type="application/json").status_code == 400

    assert client.post("/score", json={"instances": [NORMAL]}).status_code == 200


# --- latents in fewer bytes ---------------------------------------------------------------------------------


def test_encode_answers_latents_in_the_dtype_asked_for(client):
    """Query option and member, JSON numbers and arrays all give the same values."""
    body = {"instances": [[1.1, 2.2, 3.3]]}
    path = "/encode?dtype=int8"

    by_query = client.post(path, json=body)
    by_member = client.post("/encode", json=body | {"dtype": "int8"})
    array = from_npy(client.post(path, json=body, headers={"Accept": "application/x-npy"}).data)

    assert by_query.json["latent"] == by_member.json["latent"] == [[2, 5]]
    assert array.dtype == np.int8
    assert array.tolist() == [[2, 5]]
    half = client.post("/encode?dtype=float16", json=body, headers={"Accept": "application/x-npy"}).data
    assert from_npy(half).dtype == np.float16


@pytest.mark.parametrize(("dtype", "ratio"), [("float32", 1.5), ("float16", 3), ("int8", 6)])
def test_encode_says_what_the_compression_costs(client, dtype, ratio):
    """Its headers are the ratio of bytes, and the error of decoding exactly this answer."""
    samples = np.random.default_rng(0).normal(size=(20, 3))

    answer = client.post(f"/encode?dtype={dtype}", json={"instances": samples.tolist()})
    latent = {"instances": answer.json["latent"], "dtype": dtype}
    decoded = np.array(client.post("/decode", json=latent).json["reconstruction"])

    assert float(answer.headers["X-Compression-Ratio"]) == ratio
    error = np.sqrt(np.square(samples - decoded).mean())
    assert float(answer.headers["X-Reconstruction-Error"]) == pytest.approx(error, rel=1e-3)


def test_decode_takes_the_array_that_encode_answered(client):
    """8-bit integers are sent back unchanged as .npy."""
    headers = {"Accept": "application/x-npy"}
    packed = client.post("/encode?dtype=int8", json={"instances": [[1, 2, 3]]}, headers=headers).data

    answer = client.post("/decode?dtype=int8", data=packed, content_type="application/x-npy")

    assert answer.json["reconstruction"] == [[1, 2, 0]]
    refused = client.post("/decode", data=packed, content_type="application/x-npy")
    assert "with dtype int8" in assert_problem(refused, 422, "invalid-input")["detail"]


def test_decode_names_an_integer_that_int8_has_not(client):
    """The problem has the place in the body."""
    body = {"instances": [[1, 2], [3, 128]], "dtype": "int8"}

    problem = assert_problem(client.post("/decode", json=body), 422, "invalid-input")

    assert "integers from -128 to 127, got 128" in problem["detail"]
    assert problem["errors"][0]["pointer"] == "/instances/1/1"


@pytest.mark.parametrize("sample_shape", [(3,), (4, 1)])
def test_decode_places_a_fault_by_the_position_in_the_latent(store, settings, make_app, sample_shape):
    """A latent has no feature names, however many features the samples have."""
    kind = "vector" if len(sample_shape) == 1 else "sequence"
    publish_model(store, "named", kind=kind, sample_shape=sample_shape)
    client = make_app(settings).test_client()

    answer = client.post("/models/named/decode?dtype=float16", json={"instances": [[0, 0], [1, 70000]]})

    (place,) = assert_problem(answer, 422, "invalid-input")["errors"]
    assert (place["pointer"], place["row"], place["column"]) == ("/instances/1/1", 1, 1)


@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_int8_of_a_model_without_it_is_a_conflict(client, verb):
    """The dtype is one of ours, this model just has no scale for it."""
    shape = (4, 5) if verb == "encode" else (2,)
    body = {"instances": np.zeros((1, *shape)).tolist(), "dtype": "int8"}

    problem = assert_problem(client.post(f"/models/images/{verb}", json=body), 409, "no-integer-latent")

    assert "model images version 1 has no 8-bit form of its latent" in problem["detail"]


def test_dtype_is_one_of_three(client):
    """The option is checked in query and body, and only these two verbs have it."""
    body = {"instances": [[1, 2, 3]]}

    wrong = client.post("/encode?dtype=int4", json=body)
    member = client.post("/encode", json=body | {"dtype": 8})
    other = client.post("/denoise?dtype=int8", json=body)

    assert "one of float32, float16, int8" in assert_problem(wrong, 422, "invalid-option")["detail"]
    assert "one of float32, float16, int8" in assert_problem(member, 422, "invalid-option")["detail"]
    assert "unknown" in assert_problem(other, 422, "invalid-option")["detail"]


# --- classes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/models/tiny", "/models/tiny/versions/1"])
def test_classify_answers_labels_and_probabilities(client, prefix):
    """One label and one row of probabilities for each sample, in the order of the classes."""
    samples = [[1, 3, 9], [3, 1, 9]]

    answer = client.post(f"{prefix}/classify", json={"instances": samples})

    assert answer.json.keys() == {"model", "version", "classes", "label", "probability"}
    assert answer.json["classes"] == ["low", "high"]
    assert answer.json["label"] == ["high", "low"]
    np.testing.assert_allclose(answer.json["probability"], expected_probability(samples), rtol=1e-5)
    assert answer.headers["X-Model-Version"] == "1"


def test_classify_answers_probabilities_as_npy(client):
    """The array is float32, with one row for each sample."""
    samples = np.random.default_rng(0).normal(size=(7, 3))

    answer = client.post(
        "/classify", data=to_npy(samples), content_type="application/x-npy", headers={"Accept": NPY}
    )

    probability = from_npy(answer.data)
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, expected_probability(samples), rtol=1e-5)


def test_classify_of_a_model_without_a_classifier_is_a_conflict(client):
    """The path exists, but the model has no classifier."""
    body = {"instances": np.zeros((1, 4, 5)).tolist()}

    problem = assert_problem(client.post("/models/images/classify", json=body), 409, "no-classifier")

    assert problem["detail"] == "model images version 1 has no classifier"

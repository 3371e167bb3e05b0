"""V2 and V1 over HTTP: the same scores, limits, counters and keys as `/score`."""

import asyncio
import dataclasses
import gzip
import hashlib
import json

import httpx
import numpy as np
import pytest

from service import answers
from service.asgi.front import create_front
from service.http.messages import MAX_BODY_BYTES
from tests.asgi_client import AsgiRequest, post_together
from tests.model_folder import expected_score, publish_model
from tests.service.responses import assert_problem, read_metrics

ROWS = np.array([[1, 2, 0.5], [1, 2, 30]])


def infer_body(rows=ROWS, **members):
    """Return a V2 request in JSON."""
    samples = {"name": "samples", "shape": list(np.shape(rows)), "datatype": "FP32"}
    return {"inputs": [samples | {"data": np.asarray(rows).ravel().tolist()}], **members}


def test_server_and_models_are_described(client):
    """Paths with and without the slash of the protocol's own description work."""
    metadata = client.get("/v2/models/tiny").json

    assert client.get("/v2").json == client.get("/v2/").json
    assert "binary_tensor_data" in client.get("/v2").json["extensions"]
    assert client.get("/v2/health/live").json == {"live": True}
    assert client.get("/v2/health/ready").json == {"ready": True, "live": True}
    assert client.get("/v2/models").json == {"models": ["flat", "images", "tiny"]}
    assert (metadata["versions"], metadata["platform"]) == (["1"], "onnx_onnxv1")
    assert metadata["inputs"] == [{"name": "samples", "datatype": "FP32", "shape": [-1, 3]}]
    assert metadata["outputs"][-1] == {"name": "latent", "datatype": "FP32", "shape": [-1, 2]}
    assert client.get("/v2/models/tiny/versions/1").json == metadata
    assert client.get("/v2/models/flat").json["outputs"][-1]["name"] == "feature_error"


def test_configuration_is_that_of_the_service(client, store):
    """A single value has one dimension in Triton's form, which the answer does not have."""
    publish_model(store, "tiny")
    client.application.extensions["residual"].models.poll()

    config = client.get("/v2/models/tiny/config").json
    outputs = {tensor["name"]: tensor for tensor in config["output"]}

    assert config["version_policy"] == {"specific": {"versions": ["1", "2"]}}
    assert config["max_batch_size"] == 50
    assert config["input"] == [{"name": "samples", "data_type": "TYPE_FP32", "dims": [3]}]
    assert outputs["is_anomaly"] == {
        "name": "is_anomaly",
        "data_type": "TYPE_BOOL",
        "dims": [1],
        "reshape": {"shape": []},
    }
    assert outputs["latent"] == {"name": "latent", "data_type": "TYPE_FP32", "dims": [2]}
    only = client.get("/v2/models/tiny/versions/2/config").json
    assert only == config | {"version_policy": {"specific": {"versions": ["2"]}}}
    assert client.get("/v2/models/images/config").json["input"][0]["dims"] == [4, 5]
    assert_problem(client.get("/v2/models/none/config"), 404, "no-such-model")
    assert_problem(client.get("/v2/models/tiny/versions/3/config"), 404, "no-such-model")


def test_readiness_is_that_of_the_service(settings, make_app, store):
    """A refused version is not ready, and a version that is not in the store is not found."""
    (store.folder("flat", 1) / "model.onnx").write_bytes(b"broken")
    app = make_app(dataclasses.replace(settings, required_models=("flat",)))
    client = app.test_client()

    assert "flat" in assert_problem(client.get("/v2/health/ready"), 503, "not-ready")["detail"]
    for path in ("/v2/models/flat/ready", "/v2/models/flat/versions/1/ready", "/v1/models/flat"):
        assert_problem(client.get(path), 503, "not-ready")
    for path in ("/v2/models/none/ready", "/v2/models/flat/versions/2/ready", "/v1/models/none"):
        assert_problem(client.get(path), 404, "no-such-model")
    assert_problem(client.get("/v2/models/flat"), 404, "no-such-model")
    assert client.get("/v2/models/tiny/ready").json == {"name": "tiny", "ready": True}
    assert client.get("/v2/models/tiny/versions/1/ready").json == {"name": "tiny", "ready": True}
    index = client.post("/v2/repository/index").json
    (broken,) = (entry for entry in index if entry["state"] == "UNAVAILABLE")
    assert (broken["name"], broken["version"]) == ("flat", "1")
    assert "model.onnx" in broken["reason"]
    assert client.post("/v2/repository/index", json={"ready": True}).json == [
        entry for entry in index if entry["state"] == "READY"
    ]


def test_index_says_what_its_body_must_be(client):
    """An empty body has the defaults."""
    assert client.post("/v2/repository/index", data=b"").status_code == 200
    assert_problem(client.post("/v2/repository/index", data=b"{"), 400, "malformed-body")
    problem = assert_problem(client.post("/v2/repository/index", json={"ready": 1}), 422, "invalid-input")
    assert problem["detail"] == "/ready: must be a boolean, got an integer"


def test_index_reads_no_more_than_it_needs(make_app, settings):
    """The larger limit for bodies of verbs does not apply, in either server."""
    settings = dataclasses.replace(settings, max_body_bytes=2**24)
    path, body = "/v2/repository/index", b" " * (MAX_BODY_BYTES + 1)
    sentence = f"a body may have at most {MAX_BODY_BYTES} bytes, got "

    response = make_app(settings).test_client().post(path, data=body)
    assert assert_problem(response, 413, "body-too-large")["detail"] == f"{sentence}{len(body)}"

    front = create_front(settings)
    try:
        both = [AsgiRequest(path, body), AsgiRequest(path, body, {"content-length": ""})]
        answers = asyncio.run(post_together(front, both))
    finally:
        front.close()
    assert [answer.status for answer in answers] == [413, 413]
    wanted = [f"{sentence}{len(body)}", f"{sentence}more, in chunks"]
    assert [answer.json()["detail"] for answer in answers] == wanted


@pytest.mark.parametrize(
    ("method", "path", "status", "type_"),
    [
        ("POST", "tiny:classify", 404, "not-found"),
        ("POST", "none:classify", 404, "not-found"),
        ("GET", "tiny:classify", 404, "not-found"),
        ("POST", "tiny/versions/1:classify", 404, "not-found"),
        ("GET", "tiny:predict", 405, "method-not-allowed"),
        ("POST", "tiny", 405, "method-not-allowed"),
        ("POST", "none:predict", 404, "no-such-model"),
    ],
)
def test_verb_of_v1_that_is_not_there_is_not_found(client, method, path, status, type_):
    """The path is not read as the name of a model."""
    assert_problem(client.open(f"/v1/models/{path}", method=method, json={"instances": []}), status, type_)


@pytest.mark.parametrize("word", ["load", "unload"])
def test_store_decides_what_is_loaded(client, word):
    """A request cannot load or unload a model."""
    problem = assert_problem(client.post(f"/v2/repository/models/tiny/{word}"), 409, "store-decides")

    assert "by changing the store" in problem["detail"]


def scores_of(client):
    """Return the answer of `/score` for the rows."""
    return client.post("/score", json={"instances": ROWS.tolist()}).json


def outputs_of(answer):
    """Return data by name."""
    return {output["name"]: output["data"] for output in answer["outputs"]}


def test_infer_answers_what_score_answers(client):
    """The answer echoes the id."""
    response = client.post("/v2/models/tiny/infer", json=infer_body(id="a b"))
    scores, outputs = scores_of(client), outputs_of(response.json)

    assert response.json["id"] == "a b"
    assert response.headers["X-Model-Version"] == "1"
    assert np.float32(outputs["score"]).tolist() == np.float32(scores["score"]).tolist()
    for name in ("ratio", "p_value", "is_anomaly"):
        assert outputs[name] == scores[name]
    assert response.json["parameters"]["threshold"] == scores["threshold"]


@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream", "", None])
def test_infer_takes_json_under_any_name_of_a_client(client, content_type):
    """Python's library sends none, its asynchronous one octets."""
    content = json.dumps(infer_body()).encode()
    response = client.post("/v2/models/tiny/versions/1/infer", data=content, content_type=content_type)

    assert outputs_of(response.json)["score"] == pytest.approx(expected_score(ROWS))


def test_infer_in_binary_both_ways(client):
    """The bodies may be compressed with gzip."""
    body = {
        "inputs": [
            {
                "name": "samples",
                "shape": [2, 3],
                "datatype": "FP64",
                "parameters": {"binary_data_size": 48},
            }
        ],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "score"}],
    }
    head = json.dumps(body).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    content = head + ROWS.astype("<f8").tobytes()

    plain = client.post("/v2/models/tiny/infer", data=content, headers=headers)
    packed = client.post(
        "/v2/models/tiny/infer",
        data=gzip.compress(content),
        headers={**headers, "Content-Encoding": "gzip"},
    )

    assert plain.content_type == "application/octet-stream"
    assert plain.data == packed.data
    end = int(plain.headers["Inference-Header-Content-Length"])
    assert json.loads(plain.data[:end])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(plain.data[end:], "<f4") == pytest.approx(expected_score(ROWS))


def test_infer_without_json(client):
    """The body has the bytes of samples, and every tensor comes back as bytes."""
    response = client.post(
        "/v2/models/tiny/infer",
        data=ROWS.astype("<f4").tobytes(),
        headers={"Inference-Header-Content-Length": "0"},
    )

    end = int(response.headers["Inference-Header-Content-Length"])
    head = json.loads(response.data[:end])
    assert head["outputs"][0] == {
        "name": "score",
        "datatype": "FP32",
        "shape": [2],
        "parameters": {"binary_data_size": 8},
    }
    sizes = [output["parameters"]["binary_data_size"] for output in head["outputs"]]
    assert sum(sizes) == len(response.data) - end


@pytest.mark.parametrize(
    ("path", "body", "status", "type_", "message"),
    [
        ("/v2/models/none/infer", infer_body(), 404, "no-such-model", "'none'"),
        ("/v2/models/tiny/versions/7/infer", infer_body(), 404, "no-such-model", "no version 7"),
        ("/v2/models/tiny/infer", {}, 422, "invalid-input", "must have the member 'inputs'"),
        ("/v2/models/tiny/infer", infer_body(np.zeros((51, 3))), 413, "too-many-rows", "50 samples"),
        ("/v2/models/tiny/infer", infer_body(np.zeros((0, 3))), 422, "invalid-input", "at least one sample"),
        ("/v2/models/tiny/infer", infer_body([[0, 1e39, 0]]), 422, "invalid-input", "1e+39 in row 0, b"),
        (
            "/v2/models/tiny/infer",
            infer_body(parameters={"alpha": 1e-9}),
            422,
            "invalid-option",
            "must be at least",
        ),
        ("/v1/models/none:predict", {"instances": []}, 404, "no-such-model", "'none'"),
        ("/v1/models/tiny:predict", {"inputs": []}, 422, "invalid-input", "at least one sample"),
        ("/v1/models/tiny:predict", {"samples": []}, 422, "invalid-input", "instances"),
        ("/v1/models/tiny:predict", {"instances": [[1, 2]]}, 422, "invalid-input", "(n, 3)"),
        ("/v1/models/tiny:predict", {"instances": [[1, 2, 3]], "alpha": 7}, 422, "invalid-option", "alpha"),
        (
            "/v1/models/tiny:predict",
            {"instances": [[1, 2, 3]], "signature_name": "x"},
            422,
            "invalid-option",
            "must be serving_default",
        ),
        ("/v2/nothing", {}, 404, "not-found", "/v2/nothing"),
    ],
)
def test_refusals_are_problems_with_an_error(client, path, body, status, type_, message):
    """The member that clients of these protocols read."""
    assert message in assert_problem(client.post(path, json=body), status, type_)["detail"]


def test_place_of_a_value_is_told(client):
    """The pointer leads into the tensor, and row and column are those of `/score`."""
    problem = assert_problem(
        client.post("/v2/models/tiny/infer", json=infer_body([[0, 1, 2], [0, 1e39, 0]])), 422, "invalid-input"
    )

    (place,) = problem["errors"]
    assert (place["pointer"], place["row"], place["column"]) == ("/inputs/0/data/4", 1, "b")


@pytest.mark.parametrize("path", ["/v2/models/tiny/infer", "/v1/models/tiny:predict"])
def test_other_bodies_are_not_read(client, path):
    """Arrays, images, forms and empty bodies are refused."""
    assert_problem(
        client.post(path, data=b"x", content_type="application/x-npy"), 415, "unsupported-media-type"
    )
    assert_problem(client.post(path, data=b""), 400, "malformed-body")
    assert_problem(client.get(path), 405, "method-not-allowed")


def test_predict_is_an_object_for_each_instance(client):
    """The object has all members of `/score`, and columns are matched by name."""
    instances = [{"c": 0.5, "a": 1, "b": 2}, [1, 2, 30]]
    answer = client.post(
        "/v1/models/tiny:predict", json={"instances": instances, "signature_name": "serving_default"}
    ).json
    scores = scores_of(client)

    assert answer.keys() == {"predictions"}
    assert answer["predictions"] == [
        {name: scores[name][row] for name in ("score", "ratio", "p_value", "is_anomaly")} for row in (0, 1)
    ]


def test_predict_has_the_options_of_score(client):
    """Options are members next to the instances, on the path of a version, too."""
    body = {"instances": ROWS.tolist(), "explain": 1, "fdr": 0.2}
    predictions = client.post("/v1/models/tiny/versions/1:predict", json=body).json["predictions"]
    scores = client.post("/score", json=body).json

    assert [each["explanation"] for each in predictions] == scores["explanation"]
    assert [each["selected"] for each in predictions] == scores["selected"]
    error_map = client.post("/v1/models/tiny:predict", json=body | {"explain": "map"}).json["predictions"]
    assert len(error_map[0]["explanation"]) == 3


@pytest.mark.parametrize("explain", [None, 2, "map"])
def test_long_answers_are_written_in_slices(client, monkeypatch, explain):
    """The bytes are the same."""
    rows = np.random.default_rng(0).normal(size=(40, 3)).tolist()
    options = {} if explain is None else {"explain": explain}

    def ask():
        infer = client.post("/v2/models/tiny/infer", json=infer_body(rows))
        predict = client.post("/v1/models/tiny:predict", json={"instances": rows, **options})
        return infer.data, predict.data

    whole = ask()
    monkeypatch.setattr(answers, "SLICE_VALUES", 50)

    assert ask() == whole
    assert len(json.loads(whole[1])["predictions"]) == 40


def test_predict_of_a_label(settings, make_app, store):
    """A label that the store moves selects the version."""
    publish_model(store, "tiny")
    store.set_label("tiny", "canary", 1)
    client = make_app(settings).test_client()

    response = client.post("/v1/models/tiny/labels/canary:predict", json={"instances": ROWS.tolist()})

    assert response.headers["X-Model-Version"] == "1"
    assert client.get("/v1/models/tiny").json["model_version_status"] == [
        {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for version in ("2", "1")
    ]
    assert client.get("/v2/models/tiny").json["versions"] == ["1", "2"]
    assert client.get("/v1/models").json == {"models": ["flat", "images", "tiny"]}


def test_predict_of_a_series_is_an_object_for_each_step(settings, make_app, store):
    """Steps have the members of `/score`; the shapes of V2 allow windows only."""
    publish_model(store, "pulse", sample_shape=(4, 1), kind="sequence")
    client = make_app(settings).test_client()
    steps = [0.5, 0, 1, 0, 9]
    predictions = client.post("/v1/models/pulse:predict", json={"instances": steps}).json["predictions"]

    scores = client.post("/models/pulse/score", json={"instances": steps}).json
    assert [each["score"] for each in predictions] == scores["score"]
    problem = client.post("/v2/models/pulse/infer", json=infer_body(np.zeros((5, 1)))).json
    assert problem["detail"] == "/inputs/0/shape: must be [n, 4, 1], got [5, 1]"


def test_keys_are_asked_for(settings, make_app):
    """Every route of both protocols needs a key."""
    digest = hashlib.sha256(b"secret").digest()
    client = make_app(dataclasses.replace(settings, api_keys_sha256=(digest,))).test_client()

    for path in ("/v2", "/v2/health/ready", "/v2/models/tiny", "/v1/models"):
        assert_problem(client.get(path), 401, "unauthorized")
        assert client.get(path, headers={"X-API-Key": "secret"}).status_code == 200
    assert_problem(client.post("/v2/models/tiny/infer", json=infer_body()), 401, "unauthorized")


def test_requests_of_both_protocols_are_counted(client):
    """They are counted in the metrics of `/score` and in the statistics of the protocol."""
    client.post("/v2/models/tiny/infer", json=infer_body())
    client.post("/v1/models/tiny:predict", json={"instances": ROWS.tolist()})
    client.post("/v1/models/tiny:predict", json={"instances": []})
    metrics = read_metrics(client.get("/metrics").text)
    (statistics,) = client.get("/v2/models/tiny/stats").json["model_stats"]

    assert metrics["residual_rows_total", "tiny", "1"] == 4
    assert metrics["residual_anomalies_total", "tiny", "1"] == 2
    assert metrics["residual_requests_total", "200", "/v2/models/{name}/infer", "tiny", "1"] == 1
    assert (statistics["name"], statistics["version"]) == ("tiny", "1")
    assert (statistics["inference_count"], statistics["execution_count"]) == (4, 2)
    stats = statistics["inference_stats"]
    counts = {part: stats[part]["count"] for part in stats}
    assert counts == dict.fromkeys(stats, 2) | {"fail": 1, "cache_hit": 0, "cache_miss": 0}
    assert stats["success"]["ns"] > stats["compute_infer"]["ns"] > 0
    assert statistics["last_inference"] > 1.7e12
    assert client.get("/v2/models/tiny/versions/1/stats").json["model_stats"] == [statistics]
    everything = client.get("/v2/models/stats").json["model_stats"]
    assert [each["name"] for each in everything] == ["flat", "images", "tiny"]
    assert everything[0]["inference_count"] == 0
    assert_problem(client.get("/v2/models/none/stats"), 404, "no-such-model")
    assert_problem(client.get("/v2/models/tiny/versions/2/stats"), 404, "no-such-model")


def requests_of_both():
    """Path, body and headers: good, bad and strange ones."""
    good = json.dumps(infer_body(id="1")).encode()
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "samples",
                    "shape": [2, 3],
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": 24},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    binary, length = head + ROWS.astype("<f4").tobytes(), "Inference-Header-Content-Length"
    rows = json.dumps({"instances": ROWS.tolist()}).encode()
    infer, predict = "/v2/models/tiny/infer", "/v1/models/tiny:predict"
    for body, headers in (
        (good, {}),
        (gzip.compress(good), {"Content-Encoding": "gzip"}),
        (gzip.compress(good)[:-9], {"Content-Encoding": "gzip"}),
        (good, {"Content-Encoding": "br"}),
        (good, {"Content-Type": "text/csv"}),
        (good, {length: str(len(good))}),
        (good, {length: "7"}),
        (binary, {length: str(len(head))}),
        (binary, {length: f" {len(head)}"}),
        (binary, {length: "x"}),
        (binary[:-1], {length: str(len(head))}),
        (ROWS.astype("<f4").tobytes(), {length: "0"}),
        (b"\xff" * 24, {length: "0"}),
        (b"", {}),
        (b"{", {"X-Request-Id": "mine"}),
        (json.dumps(infer_body(np.zeros((51, 3)))).encode(), {}),
        (bytes(20_001), {}),
    ):
        yield infer, body, headers
        yield predict, body, headers
    for path in (
        predict,
        "/v1/models/tiny/versions/1:predict",
        "/v1/models/tiny/versions/2:predict",
        "/v1/models/tiny/labels/x:predict",
        "/v1/models/tiny:classify",
        "/v2/models/tiny/versions/01/infer",
        "/v2/models/tiny/infer/",
        "/v2/models/ti%6Ey/infer",
        "/v2/models/flat/infer?alpha=1",
        "/v2/repository/index",
        "/v2/repository/models/tiny/load",
        "/v2",
    ):
        yield path, rows, {}


def test_front_answers_as_flask_does(settings, make_app):
    """Status, headers and body of every request, but for the ids that are drawn."""
    client, front = make_app(settings).test_client(), create_front(settings)

    async def ask_front():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://a") as asking:
            return [
                await asking.post(path, content=body, headers=headers)
                for path, body, headers in requests_of_both()
            ]

    answers = asyncio.run(ask_front())
    front.serving.models.stop()

    for (path, body, headers), found in zip(requests_of_both(), answers, strict=True):
        wanted = client.post(path, data=body, headers=headers)
        theirs, ours = (each.headers["X-Request-Id"] for each in (wanted, found))
        text = wanted.data.replace(theirs.encode(), ours.encode())

        assert (found.status_code, found.content) == (wanted.status_code, text), (path, body[:40], headers)
        for name in {name.lower() for name, _ in wanted.headers} - {"x-request-id"}:
            assert found.headers[name] == wanted.headers[name], (path, name)


@pytest.mark.parametrize("path", ["/v2/models/tiny/infer", "/v1/models/tiny:predict"])
def test_option_in_the_query_is_refused(client, path):
    """Both protocols have options in the body; ignoring one in the query would apply another rule."""
    response = client.post(f"{path}?alpha=0.2", json={})

    assert "the option 'alpha' is unknown" in assert_problem(response, 422, "invalid-option")["detail"]

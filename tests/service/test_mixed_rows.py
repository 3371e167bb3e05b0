"""Rows with text and missing values over HTTP: one score in all media types, every fault with its place."""

import numpy as np
import pytest
import schemathesis

from detector import Detector, ModelStore
from service.settings import Settings
from tests.model_folder import MIXED, publish_model
from tests.service.responses import assert_problem, from_npy, to_npy

NPY = {"Content-Type": "application/x-npy"}
NUMBERS = [[1.5, 0, 0], [np.nan, 1, 2.5], [2, 2, 3]]
INSTANCES = {
    "arrays": [[1.5, "idle", 0], [None, "run", 2.5], [2, "stop", 3]],
    "objects": [
        {"c": 0, "a": 1.5, "b": "idle"},
        {"a": None, "b": "run", "c": 2.5},
        {"b": "stop", "a": 2, "c": 3},
    ],
    "both": [[1.5, "idle", 0], {"a": None, "b": "run", "c": 2.5}, [2, "stop", 3]],
}


@pytest.fixture
def store(tmp_path) -> ModelStore:
    """`mixed`: a measured, b idle or run, c 0, 2.5 or 7, values may be missing; `tiny` has numbers alone."""
    store = ModelStore(tmp_path / "models")
    publish_model(store, "mixed", **MIXED)
    publish_model(store, "tiny")
    return store


@pytest.fixture
def settings(store) -> Settings:
    """`mixed` is the default model."""
    return Settings.from_environ({"RESIDUAL_STORE": str(store.root), "RESIDUAL_DEFAULT_MODEL": "mixed"})


@pytest.mark.parametrize("form", INSTANCES)
def test_words_score_as_the_numbers_they_stand_for(client, store, form):
    """JSON arrays and objects, `.npy` and the detector itself."""
    expected = Detector.load(store.folder("mixed", 1)).score(np.array(NUMBERS)).score

    answer = client.post("/score", json={"instances": INSTANCES[form]}).json
    binary = client.post("/score", data=to_npy(np.array(NUMBERS)), headers=NPY).json

    assert answer["score"] == binary["score"] == expected.tolist()


def test_explanation_answers_in_words(client):
    """Actual and expected values are written as the client writes them."""
    answer = client.post("/score?explain=3", json={"instances": INSTANCES["objects"]}).json

    told = [{part["feature"]: part["actual"] for part in row} for row in answer["explanation"]]
    assert told == INSTANCES["objects"]
    expected = [{part["feature"]: part["expected"] for part in row} for row in answer["explanation"]]
    assert expected[1] == {"a": 0, "b": "run", "c": 0}


@pytest.mark.parametrize("path", ["/score", "/denoise"])
@pytest.mark.parametrize("form", INSTANCES)
def test_description_allows_words_and_gaps(app, path, form):
    """Requests and answers with text and missing values match the description."""
    operation = schemathesis.openapi.from_wsgi("/openapi.json", app)[path]["POST"]
    options = {"explain": 3} if path == "/score" else {}

    case = operation.Case(body={"instances": INSTANCES[form]} | options, media_type="application/json")

    assert case.call_and_validate().status_code == 200


def test_explanation_of_numbers_has_words_too(client):
    """A `.npy` holds NaN and positions of categories."""
    answer = client.post("/score?explain=3", data=to_npy(np.array(NUMBERS[:2])), headers=NPY).json

    told = [{part["feature"]: part["actual"] for part in row} for row in answer["explanation"]]
    assert told == INSTANCES["objects"][:2]


def test_denoise_answers_what_could_be_sent(client):
    """JSON has text, `.npy` the positions of categories; no value is missing."""
    body = {"instances": INSTANCES["arrays"][:2]}
    rows = client.post("/denoise", json=body).json["reconstruction"]
    numbers = from_npy(client.post("/denoise", json=body, headers={"Accept": "application/x-npy"}).data)

    assert rows == [[1.5, "idle", 0], [0, "run", 0]]
    assert client.post("/score", json={"instances": rows}).status_code == 200
    np.testing.assert_array_equal(numbers, [[1.5, 0, 0], [0, 1, 0]])


def test_decode_answers_words_and_encode_says_what_it_costs(client):
    """Categories and missing values pass through the latent."""
    answer = client.post("/encode", json={"instances": [[None, "run", 7]]})
    decoded = client.post("/decode", json={"instances": answer.json["latent"]}).json

    assert decoded["reconstruction"] == [[0, "run", 0]]
    assert float(answer.headers["X-Reconstruction-Error"]) == pytest.approx(np.sqrt(1 / 2), rel=1e-5)


@pytest.mark.parametrize(
    ("instances", "detail", "pointer"),
    [
        ([[1, "idle", 0], ["hot", "idle", 0]], "'a' must be a number, got 'hot' in row 1", "/instances/1/0"),
        (
            [{"a": 1, "b": 3, "c": 0}],
            "'b' must be a text, one of idle, run or another, got 3.0",
            "/instances/0/b",
        ),
        ([[1, "idle", [0]]], "must be a number, text, a boolean or null, got an array", "/instances/0/2"),
        ([{"a": {}, "b": "idle", "c": 0}], "a boolean or null, got an object", "/instances/0/a"),
        ([[1, "idle", 0], [1, "idle"]], "/instances/1 must have 3 elements, got 2", "/instances/1"),
        ([{"a": 1, "b": "idle"}], "it lacks 'c'", "/instances/0"),
    ],
)
def test_faults_are_named_with_their_place(client, instances, detail, pointer):
    """The problem has the column, its valid values, the given one, and a pointer into the body."""
    problem = assert_problem(client.post("/score", json={"instances": instances}), 422, "invalid-input")

    assert detail in problem["detail"]
    assert problem["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (None, "got null; missing values are for models fitted with --missing median"),
        ("idle", "got text; categories are for models fitted with --categorical"),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_model_of_numbers_names_the_option_that_takes_more(client, value, hint, named):
    """The error names the options of a fit that allow missing values and text."""
    instance = {"a": 1, "b": value, "c": 0} if named else [1, value, 0]

    problem = assert_problem(
        client.post("/models/tiny/score", json={"instances": [instance]}), 422, "invalid-input"
    )

    assert problem["detail"] == f"/instances/0/{'b' if named else 1}: must be a number, {hint}"


def test_a_model_of_numbers_refuses_nan_with_the_option(client):
    """The error is the same for a `.npy`."""
    body = to_npy(np.array([[1, np.nan, 0]]))

    problem = assert_problem(client.post("/models/tiny/score", data=body, headers=NPY), 422, "invalid-input")

    assert "b; missing values are for models fitted with --missing median" in problem["detail"]


def test_latents_are_told_of_no_option(client):
    """A gap in a latent is a mistake whatever the model was fitted with."""
    problem = assert_problem(client.post("/decode", json={"instances": [[1, None]]}), 422, "invalid-input")

    assert problem["detail"] == "/instances/0/1: must be a number, got null"

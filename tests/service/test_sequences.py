"""Windows and whole series over HTTP: forms of bodies, time stamps, answers by step, and refusals."""

import json

import numpy as np
import pytest

from detector import Detector, ModelStore
from tests.model_folder import publish_model
from tests.service.responses import assert_problem, from_npy, read_metrics, to_npy

WINDOW = 4


@pytest.fixture
def store(tmp_path) -> ModelStore:
    """`plant`: windows of 4 steps of the channels a and b; `pulse`: of one channel, a; both with stride 1."""
    store = ModelStore(tmp_path / "models")
    publish_model(store, "tiny")
    publish_model(store, "plant", kind="sequence", sample_shape=(WINDOW, 2))
    publish_model(store, "pulse", kind="sequence", sample_shape=(WINDOW, 1))
    return store


@pytest.fixture
def plant(store) -> Detector:
    """The library's own answers."""
    return Detector.load(store.root / "plant" / "1")


@pytest.fixture
def series() -> np.ndarray:
    """20 steps of two channels, one of them far off."""
    series = np.random.default_rng(0).normal(size=(20, 2)).round(3)
    series[9, 1] = 50
    return series


def named(steps: np.ndarray) -> list[dict[str, float]]:
    """Steps as objects, their channels in another order."""
    return [{"b": b, "a": a} for a, b in steps.tolist()]


# --- answers ------------------------------------------------------------------------------------------------


def test_score_of_a_series_has_one_element_for_each_step(client, plant, series):
    """The same as the library's, as arrays, as objects and as .npy."""
    own = plant.score(series)

    answer = client.post("/models/plant/score", json={"instances": series.tolist()}).json

    assert answer["score"] == own.score.tolist()
    assert answer["p_value"] == own.p_value.tolist()
    assert answer["is_anomaly"] == own.is_anomaly.tolist()
    assert [step for step, is_anomaly in enumerate(answer["is_anomaly"]) if is_anomaly] == [9, 10, 11]
    assert "timestamp" not in answer
    assert client.post("/models/plant/score", json={"instances": named(series)}).json == answer
    npy = client.post("/models/plant/score", data=to_npy(series), content_type="application/x-npy")
    assert npy.json == answer


def test_score_of_windows_has_one_element_for_each_window(client, plant, series):
    """Nested lists, objects within lists, or .npy of three dimensions."""
    windows = series.reshape(5, WINDOW, 2)
    score = plant.score(windows).score.tolist()

    for instances in (windows.tolist(), [named(window) for window in windows]):
        assert client.post("/models/plant/score", json={"instances": instances}).json["score"] == score
    npy = client.post("/models/plant/score", data=to_npy(windows), content_type="application/x-npy")
    assert npy.json["score"] == score


@pytest.mark.parametrize("kind", ["numbers", "steps", "objects"])
def test_series_of_one_channel_comes_in_three_forms(client, kind):
    """A list of numbers, of lists of one number, or of objects; /denoise answers numbers with numbers."""
    values = [float(value) for value in range(10)]
    instances = {
        "numbers": values,
        "steps": [[value] for value in values],
        "objects": [{"a": value} for value in values],
    }[kind]

    score = client.post("/models/pulse/score", json={"instances": instances}).json["score"]
    reconstruction = client.post("/models/pulse/denoise", json={"instances": instances}).json[
        "reconstruction"
    ]

    assert score == pytest.approx([(4 + 9) / 4] * 4 + [((s - 1) ** 2 + s**2) / 4 for s in range(4, 10)])
    assert np.shape(reconstruction) == ((10,) if kind == "numbers" else (10, 1))


def test_windows_of_one_channel_need_no_axis_for_it(client):
    """Lists of as many numbers as a window has steps are windows."""
    windows = [[1.0, 2, 3, 4], [0, 0, 0, 2]]

    answer = client.post("/models/pulse/score", json={"instances": windows}).json

    assert answer["score"] == [25 / 4, 1]
    deep = [[[value] for value in window] for window in windows]
    assert client.post("/models/pulse/score", json={"instances": deep}).json == answer


@pytest.mark.parametrize("verb", ["score", "denoise"])
def test_timestamps_come_back_with_the_steps(client, series, verb):
    """Text and numbers come back unchanged."""
    timestamps = ["2026-11-21 04:00:00", 1_763_697_600, 1.5, "", *range(16)]

    answer = client.post(
        f"/models/plant/{verb}", json={"instances": series.tolist(), "timestamps": timestamps}
    )

    assert answer.json["timestamp"] == timestamps
    assert json.dumps(timestamps).replace(" ", "") in answer.text.replace(" ", "")


def test_explanation_of_a_step_names_channels(client, plant, series):
    """`actual` is the input, `expected` the value of /denoise, and the share refers to the step's score."""
    answer = client.post("/models/plant/score?explain=2", json={"instances": series.tolist()}).json
    reconstruction = client.post("/models/plant/denoise", json={"instances": series.tolist()}).json

    first, second = answer["explanation"][9]
    assert (first["feature"], first["index"], first["actual"]) == ("b", [1], 50)
    assert first["expected"] == reconstruction["reconstruction"][9][1]
    assert 0.99 < first["contribution"] < first["contribution"] + second["contribution"] <= 1


def test_error_map_of_a_series_has_its_shape(client, series):
    """The map has one error for each step and channel."""
    answer = client.post("/models/plant/score?explain=map", json={"instances": series.tolist()}).json

    assert np.shape(answer["explanation"]) == series.shape


def test_denoise_and_encode_answer_a_series(client, plant, series):
    """A reconstruction for each step, a latent vector for each window."""
    body = {"data": to_npy(series), "content_type": "application/x-npy"}
    headers = {"Accept": "application/x-npy"}

    reconstruction = from_npy(client.post("/models/plant/denoise", headers=headers, **body).data)
    latent = from_npy(client.post("/models/plant/encode", headers=headers, **body).data)

    np.testing.assert_array_equal(reconstruction, plant.reconstruct(series))
    assert latent.shape == (17, 2)


def test_steps_of_a_series_are_counted_as_rows(client, series):
    """Rows and anomalies count steps."""
    client.post("/models/plant/score", json={"instances": series.tolist()})

    metrics = read_metrics(client.get("/metrics").text)

    assert metrics["residual_rows_total", "plant", "1"] == 20
    assert metrics["residual_anomalies_total", "plant", "1"] == 3


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instances", "detail", "pointer"),
    [
        ([[1, 2]] * 3, "a series must have at least the 4 steps of one window, got 3", None),
        ([], "samples must hold at least one sample, got shape (0, 2)", None),
        (
            [[1, 2, 3]] * 9,
            "samples must have shape (n, 4, 2) for windows, (n_steps, 2) for a series, got (9, 3)",
            None,
        ),
        ([1, 2, 3, 4], "/instances/0: must be an array or an object, got an integer", "/instances/0"),
        ([[1, 2], [3]], "/instances/1 must have 2 elements, got 1", "/instances/1"),
        ([[1, 2], [3, None]], "/instances/1/1: must be a number, got null", "/instances/1/1"),
        ([[[1, 2]] * 4, [[1, 2]] * 3], "/instances/1 must have 4 elements, got 3", "/instances/1"),
        (
            [[[1, 2]] * 4, [1, 2]],
            "/instances/1/0: must be an array or an object, got an integer",
            "/instances/1/0",
        ),
        (
            [{"a": 1, "b": 2}, {"a": 1}],
            "instance 1 must have exactly the model's features: it lacks 'b'",
            "/instances/1",
        ),
        (
            [[{"a": 1, "b": 2}, {"a": 1, "c": 2}]],
            "instance 0 step 1 must have exactly the model's features: it lacks 'b' and has the unknown 'c'",
            "/instances/0/1",
        ),
        ([[{"a": 1, "b": "x"}]], "/instances/0/0/b: must be a number, got text", "/instances/0/0/b"),
        (
            [[1, 2]] * 7 + [{"a": 1, "b": 1e39}],
            "samples must be finite float32 values, got 1e+39 in step 7, b",
            "/instances/7/b",
        ),
        (
            [[[1, 2]] * 3 + [{"a": 1e39, "b": 1}]],
            "samples must be finite float32 values, got 1e+39 in row 0, a[3]",
            "/instances/0/3/a",
        ),
    ],
)
def test_refusal_says_what_is_wrong_and_where(client, instances, detail, pointer):
    """Steps and windows have the place of the value."""
    problem = assert_problem(
        client.post("/models/plant/score", json={"instances": instances}), 422, "invalid-input"
    )

    assert problem["detail"] == detail
    assert problem.get("errors", [{}])[0].get("pointer") == pointer


@pytest.mark.parametrize(
    ("instances", "detail", "pointer"),
    [
        ([1, 2, 3], "a series must have at least the 4 steps of one window, got 3", None),
        ([1, 2, 3, 4, 1e39], "samples must be finite float32 values, got 1e+39 in step 4, a", "/instances/4"),
        (
            [[1, 2, 3, 1e39]],
            "samples must be finite float32 values, got 1e+39 in row 0, a[3]",
            "/instances/0/3",
        ),
        ([1, 2, "3"], "/instances/2: must be a number, got text", "/instances/2"),
        ([[1, 2, 3, 4], [1, 2, 3]], "/instances/1 must have 4 elements, got 3", "/instances/1"),
        ([[1], [2], [3, 4]], "/instances/2 must have 1 elements, got 2", "/instances/2"),
        (
            [[]],
            "samples must have shape (n, 4, 1) or (n, 4) for windows, (n_steps, 1) or (n_steps,) for a "
            "series, got (1, 0)",
            None,
        ),
    ],
)
def test_refusal_of_one_channel_points_into_the_body(client, instances, detail, pointer):
    """The pointer is right in each form of the body."""
    problem = assert_problem(
        client.post("/models/pulse/score", json={"instances": instances}), 422, "invalid-input"
    )

    assert problem["detail"] == detail
    assert problem.get("errors", [{}])[0].get("pointer") == pointer


@pytest.mark.parametrize("body", [b"[1, 2]", b'{"instances": 3}', b'{"instances": "[["}', b'{"a": 1}'])
def test_body_of_another_form_is_named_as_for_all_models(client, body):
    """Telling windows from a series does not hide other faults."""
    response = client.post("/models/plant/score", data=body, content_type="application/json")

    assert_problem(response, 422, "invalid-input")


def test_body_that_is_not_json_is_malformed(client):
    """Series get the same problem as other models."""
    response = client.post("/models/plant/score", data=b'{"instances": [[1', content_type="application/json")

    assert_problem(response, 400, "malformed-body")


@pytest.mark.parametrize(
    ("timestamps", "detail"),
    [
        (list(range(19)), "/timestamps must have one element for each of the 20 steps, got 19"),
        ([*range(19), None], "/timestamps/19: must be text or a number, got null"),
        ([*range(19), 2**70], "/timestamps/19: must be text or a number of at most 64 bits"),
        ("now", "/timestamps: must be an array, got text"),
    ],
)
def test_timestamps_that_do_not_fit_are_refused(client, series, timestamps, detail):
    """Each step needs one text or one number."""
    body = {"instances": series.tolist(), "timestamps": timestamps}

    problem = assert_problem(client.post("/models/plant/score", json=body), 422, "invalid-input")

    assert problem["detail"] == detail


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/models/plant/score", "/timestamps are for the steps of a series, got an array of shape (5, 4, 2)"),
        ("/models/plant/encode", "has the unknown member 'timestamps'"),
        ("/score", "has the unknown member 'timestamps'"),
    ],
)
def test_timestamps_are_for_answers_by_step_only(client, series, path, words):
    """Windows, latent vectors and vectors have none."""
    instances = [[1, 2, 3]] if path == "/score" else series.reshape(5, WINDOW, 2).tolist()

    problem = assert_problem(
        client.post(path, json={"instances": instances, "timestamps": [1] * 5}), 422, "invalid-input"
    )

    assert words in problem["detail"]


def test_row_limit_counts_steps(client):
    """50 rows may come in one body."""
    response = client.post("/models/plant/score", json={"instances": [[1, 2]] * 51})

    assert_problem(response, 413, "too-many-rows")
    assert client.post("/models/plant/score", json={"instances": [[1, 2]] * 50}).status_code == 200


def test_named_contributions_of_a_series_are_counted_by_channel(client, series, monkeypatch):
    """A step has two, a window eight."""
    monkeypatch.setattr("service.endpoints.base.MAX_CONTRIBUTIONS", 39)

    body = {"instances": series.tolist(), "explain": 9}
    problem = assert_problem(client.post("/models/plant/score", json=body), 422, "invalid-option")

    assert "asks for 40" in problem["detail"]

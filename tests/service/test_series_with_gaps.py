"""Missing values in a series: the steps that a window with one would score have no score, in every format."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from detector import Detector, ModelStore
from detector.reading import Reading
from tests.model_folder import publish_model
from tests.service.responses import assert_problem, from_npy, read_metrics, to_npy

WINDOW, N_STEPS, MISSING = 4, 20, 9
UNSCORED = list(range(MISSING, MISSING + WINDOW))  # merged by `last`, with stride 1
WHY = "the window holds a missing value"


@pytest.fixture
def store(tmp_path) -> ModelStore:
    """`plant` may have gaps, `filled` fills runs of one, `strict` refuses them; `pulse` has one channel."""
    store = ModelStore(tmp_path / "models")
    plant = {"kind": "sequence", "sample_shape": (WINDOW, 2)}
    publish_model(store, "tiny")
    publish_model(store, "plant", **plant, missing="gaps")
    publish_model(store, "filled", **plant, missing="interpolate", reading=Reading(max_gap=1))
    publish_model(store, "strict", **plant)
    publish_model(store, "pulse", kind="sequence", sample_shape=(WINDOW, 1), missing="gaps")
    return store


@pytest.fixture
def series() -> np.ndarray:
    """20 steps of two channels; the second lacks a value, and another is far off."""
    series = np.random.default_rng(0).normal(size=(N_STEPS, 2)).round(3)
    series[MISSING, 1] = np.nan
    series[16, 1] = 50
    return series


def whole_scores(store, series):
    """Score the series as a model without gaps does, with the missing value set to 0."""
    return Detector.load(store.root / "strict" / "1").score(np.nan_to_num(series))


def with_null(values):
    """Nested lists with None for NaN, as JSON has it."""
    return [[None if np.isnan(value) else value for value in row] for row in values.tolist()]


def test_a_step_without_a_score_is_not_normal(store, series):
    """Its numbers are NaN and its decisions true; every other step is as without the gap."""
    scores = Detector.load(store.root / "plant" / "1").score(series, fdr=0.2, explain=1)
    whole = whole_scores(store, series)

    assert np.flatnonzero(~scores.scored).tolist() == UNSCORED
    for name in ("score", "ratio", "p_value"):
        values = getattr(scores, name)
        assert np.isnan(values[UNSCORED]).all()
        assert (values[scores.scored] == getattr(whole, name)[scores.scored]).all()
    assert scores.is_anomaly[UNSCORED].all()
    assert scores.selected[UNSCORED].all()
    assert np.flatnonzero(scores.is_anomaly & scores.scored).tolist() == [16, 17, 18]
    assert [scores.explanation[step] for step in UNSCORED] == [[]] * WINDOW
    assert scores.explanation[16][0].feature == "b"


def test_lists_and_frames_hold_none(store, series):
    """As arrays hold NaN; texts are refused."""
    pd = pytest.importorskip("pandas")
    detector = Detector.load(store.root / "plant" / "1")
    scores = detector.score(series).score

    for samples in (with_null(series), pd.DataFrame(series, columns=["a", "b"])):
        np.testing.assert_array_equal(detector.score(samples).score, scores)
    with pytest.raises(Exception, match="'b' must be a number, got 'x' in row 1"):
        detector.score([[1, 2], [3, "x"], [4, 5], [6, 7]])


def test_short_runs_are_filled_when_the_fit_filled_them(store, series):
    """A run of one is a straight line, a run of two is a gap."""
    detector = Detector.load(store.root / "filled" / "1")
    line = series.copy()
    line[MISSING, 1] = (series[MISSING - 1, 1] + series[MISSING + 1, 1]) / 2
    wide = series.copy()
    wide[MISSING + 1, 1] = np.nan

    np.testing.assert_allclose(detector.score(series).score, whole_scores(store, line).score, rtol=1e-6)
    assert (~detector.score(wide).scored).sum() == WINDOW + 1


def test_only_scores_and_reconstructions_take_gaps(store, series):
    """Latents have no form for a window that is not given to the graph."""
    detector = Detector.load(store.root / "plant" / "1")

    assert np.isnan(detector.reconstruct(series)[UNSCORED]).all()
    with pytest.raises(Exception, match="got nan in step 9, b; only scores and reconstructions may have"):
        detector.encode(series)
    with pytest.raises(Exception, match="in step 9, b; missing values of a series are for models fitted"):
        Detector.load(store.root / "strict" / "1").score(series)


def test_json_has_null_and_a_reason(client, store, series):
    """Never `is_anomaly: false`; a body without gaps is answered as before."""
    body = {"instances": with_null(series), "fdr": 0.2, "explain": 1}
    answer = client.post("/models/plant/score", json=body).json
    whole = whole_scores(store, series)

    assert answer["unscored"] == {"count": WINDOW, "reason": WHY}
    for name in ("score", "ratio", "p_value", "is_anomaly", "selected"):
        assert [step for step, value in enumerate(answer[name]) if value is None] == UNSCORED
    assert answer["score"][0] == whole.score[0]
    assert answer["is_anomaly"][16] is True
    assert answer["explanation"][MISSING] == []
    plain = client.post("/models/plant/score", json={"instances": np.nan_to_num(series).tolist()}).json
    assert plain["score"] == whole.score.tolist()
    assert "unscored" not in plain
    denoised = client.post("/models/plant/denoise", json={"instances": with_null(series)}).json
    assert denoised["reconstruction"][MISSING] == [None, None]


def test_a_model_without_gaps_refuses_them(client, series):
    """As ever, with the place."""
    response = client.post("/models/strict/score", json={"instances": with_null(series)})

    assert "/instances/9/1" in assert_problem(response, 422, "invalid-input")["detail"]
    body = {"instances": with_null(series)}
    assert_problem(client.post("/models/plant/encode", json=body), 422, "invalid-input")


def test_tables_have_empty_cells_and_null(client, store, series):
    """CSV, Arrow and Parquet, in and out."""
    arrow, parquet = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
    text = "a,b\n" + "".join(f"{a},{'' if np.isnan(b) else b}\n" for a, b in series.tolist())
    table = pa.table({"a": series[:, 0], "b": pa.array(series[:, 1], from_pandas=True)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    kept = io.BytesIO()
    pyarrow.parquet.write_table(table, kept)
    bodies = {"text/csv": text.encode(), arrow: sink.getvalue().to_pybytes(), parquet: kept.getvalue()}

    for kind, body in bodies.items():
        response = client.post("/models/plant/score", data=body, content_type=kind, headers={"Accept": kind})
        if kind == "text/csv":
            lines = response.text.splitlines()
            assert [lines[1 + step] for step in UNSCORED] == [",,,"] * WINDOW
            assert lines[17].endswith(",true")
            continue
        answer = pa.ipc.open_stream(response.data).read_all() if kind == arrow else None
        answer = answer or pyarrow.parquet.read_table(io.BytesIO(response.data))
        assert [str(field.type) for field in answer.schema] == ["double"] * 3 + ["bool"]
        assert [answer[name].null_count for name in answer.column_names] == [WINDOW] * 4
        assert json.loads(answer.schema.metadata[b"unscored"]) == {"count": WINDOW, "reason": WHY}
    denoised = client.post(
        "/models/plant/denoise", data=text, content_type="text/csv", headers={"Accept": "text/csv"}
    )
    assert denoised.text.splitlines()[1 + MISSING] == ","


def test_arrays_have_nan(client, series):
    """In and out; one channel needs no axis."""
    headers = {"Accept": "application/x-npy"}
    for model, values in (("plant", series), ("pulse", series[:, 1])):
        body = to_npy(values)
        response = client.post(
            f"/models/{model}/score", data=body, content_type="application/x-npy", headers=headers
        )

        assert np.flatnonzero(np.isnan(from_npy(response.data))).tolist() == UNSCORED


def test_windows_and_lines_have_gaps_too(client, series):
    """A window with a missing value has no score."""
    windows = series.reshape(5, WINDOW, 2)
    instances = [with_null(window) for window in windows]
    answer = client.post("/models/plant/score", json={"instances": instances}).json

    assert [score is None for score in answer["score"]] == [False, False, True, False, False]
    assert answer["unscored"]["count"] == 1
    lines = "".join(f"{json.dumps(instance)}\n" for instance in instances)
    response = client.post("/models/plant/score", data=lines, content_type="application/x-ndjson")
    decisions = [json.loads(line)["is_anomaly"] for line in response.text.splitlines()]
    assert decisions == answer["is_anomaly"]
    assert decisions[2] is None


def test_other_protocols_have_a_form(client, series):
    """V1 has null for all values; V2 has no null for booleans, so that true stands for an unknown window."""
    windows = [with_null(window) for window in series.reshape(5, WINDOW, 2)]
    rows = client.post("/v1/models/plant:predict", json={"instances": windows}).json["predictions"]
    given = {"name": "samples", "datatype": "FP32", "shape": [5, WINDOW, 2], "data": windows}
    wanted = [{"name": "score"}, {"name": "is_anomaly"}]
    answer = client.post("/v2/models/plant/infer", json={"inputs": [given], "outputs": wanted}).json

    assert rows[2] == {"score": None, "ratio": None, "p_value": None, "is_anomaly": None}
    assert rows[1]["is_anomaly"] is False
    score, is_anomaly = (output["data"] for output in answer["outputs"])
    assert (score[2], is_anomaly[2]) == (None, True)
    assert answer["parameters"]["unscored"] == 1


def test_unscored_steps_are_counted_by_themselves(client, series):
    """They are neither scored rows nor anomalies."""
    before = read_metrics(client.get("/metrics").text)
    client.post("/models/plant/score", json={"instances": with_null(series)})
    after = read_metrics(client.get("/metrics").text)

    def gained(name):
        key = (name, "plant", "1")
        return after.get(key, 0) - before.get(key, 0)

    assert gained("residual_unscored_total") == WINDOW
    assert gained("residual_rows_total") == N_STEPS - WINDOW
    assert gained("residual_anomalies_total") == 3

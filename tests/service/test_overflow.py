"""A graph that overflows for one sample: it has no answer and is never normal; all others have theirs."""

import asyncio
import csv
import io
import json

import numpy as np
import onnx
import pyarrow as pa
import pytest

from detector import ModelStore
from residual_client.__main__ import main as residual
from service.bodies import ARROW, CSV, JSON, NDJSON, NPY, PNG
from service.settings import Settings
from tests.asgi_client import AsgiRequest, post_together
from tests.model_folder import CLASSIFIER, LATENT_INT8, linear_graphs, publish_model
from tests.service.responses import read_metrics, to_npy

GOOD, HUGE, BAD = [1.0, 2.0, 1.5], [1e30, 2.0, 1e30], [1.0, 2.0, 30.0]
REASON = "the model's answer is not finite"


def overflowing(shape: tuple[int, ...] = (3,), classifier: bool = True) -> dict[str, bytes]:
    """The hand-made graphs with latents that are 1e20 as large: those of 1e30 are infinite."""
    graphs = linear_graphs(shape, classifier=classifier)
    for name, graph in graphs.items():
        model = onnx.load_from_string(graph)
        for constant in model.graph.initializer:
            factor = {"keep": 1e20, "spread": 1e-20}.get(constant.name, 1)
            values = onnx.numpy_helper.to_array(constant) * np.float32(factor)
            if factor != 1:
                constant.CopyFrom(onnx.numpy_helper.from_array(values, constant.name))
        graphs[name] = model.SerializeToString()
    return graphs


@pytest.fixture
def store(tmp_path) -> ModelStore:
    """Rows with all verbs, and images."""
    store = ModelStore(tmp_path / "models")
    publish_model(store, graphs=overflowing(), classifier=CLASSIFIER, latent_int8=LATENT_INT8)
    publish_model(store, "images", graphs=overflowing((2, 2), classifier=False), sample_shape=(2, 2))
    return store


@pytest.fixture
def settings(store) -> Settings:
    """`tiny` is the default model."""
    return Settings.from_environ({"RESIDUAL_STORE": str(store.root), "RESIDUAL_DEFAULT_MODEL": "tiny"})


@pytest.fixture
def post(client):
    """Post rows as JSON and return the answer."""

    def post(path: str, accept: str = JSON, rows: list | None = None):
        document = {"instances": [GOOD, HUGE, BAD] if rows is None else rows}
        answer = client.post(path, json=document, headers={"Accept": accept})
        assert answer.status_code == 200, answer.text
        return answer

    return post


def test_scores_of_other_rows_are_answered(post, client):
    """Null for the row, in every form, and a count with the reason."""
    answer = post("/score").json

    assert answer["score"] == pytest.approx([0.75, None, 300.0])
    assert answer["is_anomaly"] == [False, None, True]
    assert (answer["p_value"][1], answer["ratio"][1]) == (None, None)
    assert answer["unscored"] == {"count": 1, "reason": REASON}
    np.testing.assert_allclose(np.load(io.BytesIO(post("/score", NPY).data)), [0.75, np.nan, 300])
    rows = list(csv.reader(io.StringIO(post("/score", CSV).text)))
    assert [row[0] for row in rows[1:]] == ["0.75", "", "300.0"]
    assert [row[3] for row in rows[1:]] == ["false", "", "true"]
    table = pa.ipc.open_stream(post("/score", ARROW).data).read_all()
    assert table["is_anomaly"].to_pylist() == [False, None, True]
    assert table["score"].null_count == 1
    lines = [json.loads(line) for line in post("/score", NDJSON).data.splitlines()]
    assert [line["is_anomaly"] for line in lines] == [False, None, True]


def test_options_leave_the_row_out(post):
    """It has no contributions, a map of null, and is not taken for a normal one by a selection."""
    named = post("/score?explain=2").json["explanation"]

    assert [len(each) for each in named] == [2, 0, 2]
    assert post("/score?explain=map").json["explanation"][1] == [None] * 3
    assert post("/score?fdr=0.05").json["selected"] == [False, None, True]
    assert post("/score?fdr=0.5", rows=[HUGE]).json["selected"] == [None]


def test_other_verbs_answer_other_rows(post, client):
    """Null or NaN; only 8-bit latents cannot say it."""
    wanted = [[1, 2, 0], [np.nan] * 3, [1, 2, 0]]
    np.testing.assert_allclose(np.load(io.BytesIO(post("/denoise", NPY).data)), wanted)
    assert post("/denoise").json["reconstruction"][1] == [None] * 3

    encoded = post("/encode")
    latent = encoded.json["latent"]
    assert latent[1] == [None, None]
    assert latent[0] == pytest.approx([1e20, 2e20])
    assert float(encoded.headers["X-Reconstruction-Error"]) > 0
    assert post("/encode?dtype=float16", NPY).status_code == 200
    refused = client.post("/encode?dtype=int8", json={"instances": [GOOD, HUGE]})
    assert (refused.status_code, refused.json["errors"][0]["row"]) == (422, 1)

    decoded = post("/decode", NPY, [[1e20, 2e20], [3.4e38, 3.4e38]])
    np.testing.assert_allclose(np.load(io.BytesIO(decoded.data))[0], [1, 2, 0])

    classes = post("/classify").json
    assert classes["label"] == ["high", None, "high"]
    assert classes["probability"][1] == [None, None]


def test_lines_are_answered_each(client):
    """The line of the row has null."""
    body = b"\n".join(json.dumps(row).encode() for row in (GOOD, HUGE, BAD))

    lines = [
        json.loads(line) for line in client.post("/score", data=body, content_type=NDJSON).data.splitlines()
    ]

    assert [line["is_anomaly"] for line in lines] == [False, None, True]


def test_other_protocols_answer_other_rows(client):
    """`predict` with null; `infer` with null in JSON, and a decision that is true."""
    predictions = client.post("/v1/models/tiny:predict", json={"instances": [GOOD, HUGE]}).json["predictions"]
    tensor = {"name": "samples", "datatype": "FP32", "shape": [2, 3], "data": [*GOOD, *HUGE]}
    infer = client.post("/v2/models/tiny/infer", json={"inputs": [tensor]}).json
    outputs = {output["name"]: output["data"] for output in infer["outputs"]}

    assert [prediction["is_anomaly"] for prediction in predictions] == [False, None]
    assert predictions[1]["score"] is None
    assert outputs["score"] == pytest.approx([0.75, None])
    assert outputs["is_anomaly"] == [False, True]
    assert outputs["reconstruction"][3:] == [None] * 3


def test_image_that_cannot_be_drawn_is_refused(client):
    """Its pixels would be black, or whatever the machine makes of NaN."""
    body = json.dumps({"instances": [[[1e30, 0], [0, 1e30]]]})

    answer = client.post("/models/images/denoise", data=body, content_type=JSON, headers={"Accept": PNG})

    assert (answer.status_code, answer.json["type"]) == (422, "invalid-input")
    assert answer.json["detail"].startswith(REASON)


def test_no_request_of_a_round_fails_because_of_another(front):
    """Requests with one head are joined to one array, and each gets its own rows."""
    bodies = [json.dumps({"instances": rows}).encode() for rows in ([GOOD], [HUGE], [BAD, GOOD])]

    async def ask() -> list:
        return await post_together(front, [AsgiRequest("/score", body) for body in bodies])

    answers = [answer.json() for answer in asyncio.run(ask())]
    series = read_metrics(front.serving.metrics.exposition().decode())

    assert [answer["is_anomaly"] for answer in answers] == [[False], [None], [True, False]]
    assert ["unscored" in answer for answer in answers] == [False, True, False]
    assert series["residual_unscored_total", "tiny", "1"] == 1
    assert series["residual_rows_total", "tiny", "1"] == 3


def test_arrays_of_any_size_are_answered(client):
    """Beyond one chunk of a graph, too."""
    samples = np.tile(np.float32(GOOD), (1000, 1))
    samples[777] = HUGE

    answer = client.post("/score", data=to_npy(samples), content_type=NPY).json

    assert answer["score"][777] is None
    assert answer["unscored"]["count"] == 1
    assert answer["score"].count(answer["score"][0]) == 999


def test_command_without_a_service_answers_the_same(store, tmp_path, capsys):
    """`residual score` with a model folder has an empty cell for the sample that overflows."""
    (tmp_path / "rows.csv").write_text("a,b,c\n" + "".join(f"{a},{b},{c}\n" for a, b, c in (GOOD, HUGE, BAD)))
    out = tmp_path / "scores.csv"

    assert (
        residual(
            ["score", str(tmp_path / "rows.csv"), "--model", str(store.root / "tiny"), "--out", str(out)]
        )
        == 0
    )

    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["score"] for row in rows][1] == ""
    assert [float(rows[0]["score"]), float(rows[2]["score"])] == [0.75, 300.0]
    assert [row["is_anomaly"] for row in rows] == ["false", "", "true"]
    assert "1 without a score" in capsys.readouterr().err

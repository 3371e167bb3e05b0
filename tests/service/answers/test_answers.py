"""One result in every media type, and the same samples in every media type of bodies."""

import csv
import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from detector import Detector, ModelStore
from detector.images import encode_heat_map, read_image
from service.answers import encode
from service.answers.replies import reply_to
from service.settings import Settings
from service.wsgi.app import EXTENSION, create_app
from tests.model_folder import CLASSIFIER, LATENT_INT8, MIXED, publish_model
from tests.service.responses import assert_problem, from_npy, to_npy

JSON, NPY, RAW = "application/json", "application/x-npy", "application/octet-stream"
CSV, NDJSON, PNG = "text/csv", "application/x-ndjson", "image/png"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
SAMPLES = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)


def to_csv(samples: np.ndarray) -> bytes:
    """Return samples as a CSV with all digits."""
    names = "abc" if samples.shape[1] == 3 else "01"
    rows = [",".join(map(repr, row)) for row in samples.astype(np.float64).tolist()]
    return "\n".join([",".join(names), *rows]).encode()


def to_table(samples: np.ndarray) -> pa.Table:
    """Return samples as a table with named columns, or numbered ones for latents."""
    names = "abc" if samples.shape[1] == 3 else "01"
    return pa.table(dict(zip(names, samples.T, strict=True)))


def to_arrow(samples: np.ndarray) -> bytes:
    """Return samples as an Arrow stream."""
    sink, table = pa.BufferOutputStream(), to_table(samples)
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def to_parquet(samples: np.ndarray) -> bytes:
    """Return samples as a Parquet file."""
    sink = io.BytesIO()
    pyarrow.parquet.write_table(to_table(samples), sink)
    return sink.getvalue()


def read_tables(*responses: TestResponse) -> pa.Table:
    """Return the table of an answer in Arrow, checked against the same answer in Parquet."""
    streamed, filed = (response.data for response in responses)
    table = pa.ipc.open_stream(streamed).read_all()
    assert table.equals(pyarrow.parquet.read_table(io.BytesIO(filed)), check_metadata=True)
    return table


def raw_array(response: TestResponse) -> np.ndarray:
    """Return the array of a raw answer, as its media type says."""
    parameters = response.mimetype_params
    shape = tuple(map(int, parameters["shape"].split("x")))
    return np.frombuffer(response.data, parameters["dtype"]).reshape(shape)


def read_csv(response: TestResponse) -> dict[str, list[str]]:
    """Return the columns of a CSV answer, by name, in order."""
    assert response.content_type == "text/csv; charset=utf-8; header=present"
    names, *rows = csv.reader(io.StringIO(response.text), strict=True)
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def read_ndjson(response: TestResponse) -> list[dict]:
    """Return the objects of an NDJSON answer."""
    assert response.data.endswith(b"\n")
    objects = [orjson.loads(line) for line in response.data.splitlines()]
    assert [document.pop("row") for document in objects] == list(range(len(objects)))
    return objects


BODIES: dict[str, Callable[[np.ndarray], bytes]] = {
    JSON: lambda samples: orjson.dumps({"instances": samples}, option=orjson.OPT_SERIALIZE_NUMPY),
    NPY: to_npy,
    RAW: lambda samples: samples.tobytes(),
    CSV: to_csv,
    ARROW: to_arrow,
    PARQUET: to_parquet,
}


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[FlaskClient]:
    """A client of one service, shared by all tests that change nothing."""
    store = ModelStore(tmp_path_factory.mktemp("answers"))
    publish_model(store, "tiny", latent_int8=LATENT_INT8, classifier=CLASSIFIER)
    publish_model(store, "images", sample_shape=(4, 5))
    settings = Settings.from_environ(
        {
            "RESIDUAL_STORE": str(store.root),
            "RESIDUAL_DEFAULT_MODEL": "tiny",
            "RESIDUAL_POLL_SECONDS": "3600",
        }
    )
    app = create_app(settings)
    yield app.test_client()
    app.extensions[EXTENSION].models.stop()


@pytest.fixture
def post(client) -> Callable[..., TestResponse]:
    """Post samples in one media type, and accept another."""

    def post(path: str, samples: np.ndarray, accept: str = JSON, form: str = NPY) -> TestResponse:
        body = BODIES[form](samples)
        response = client.post(path, data=body, content_type=form, headers={"Accept": accept})
        assert response.status_code == 200, response.text
        return response

    return post


@pytest.mark.parametrize("form", BODIES)
@pytest.mark.parametrize("verb", ["score?fdr=0.2", "denoise", "encode", "classify"])
def test_same_samples_get_the_same_answer_in_every_form_of_body(post, verb, form):
    """The answers are equal byte for byte."""
    assert post(f"/{verb}", SAMPLES, form=form).data == post(f"/{verb}", SAMPLES).data


@pytest.mark.parametrize("form", BODIES)
def test_same_latents_get_the_same_answer_in_every_form_of_body(client, form):
    """A CSV of latents numbers its columns, as the CSV of an answer does."""
    latent = SAMPLES[:, :2].copy()

    answer = client.post("/decode", data=BODIES[form](latent), content_type=form).json

    assert answer["reconstruction"] == [[*row, 0] for row in answer_floats(latent)]


def answer_floats(array: np.ndarray) -> list:
    """Return an array as JSON writes it."""
    return orjson.loads(orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY))


def test_every_form_of_a_score_says_the_same(post):
    """Scores are equal to the bit, and decisions are words."""
    path = "/score?fdr=0.2&explain=1"
    wanted = post(path, SAMPLES).json
    columns = ["score", "ratio", "p_value", "is_anomaly", "selected"]

    lines, table = read_ndjson(post(path, SAMPLES, NDJSON)), read_csv(post(path, SAMPLES, CSV))

    for name in (*columns, "explanation"):
        assert [line[name] for line in lines] == wanted[name]
    assert list(table) == columns
    assert list(map(float, table["score"])) == wanted["score"]
    assert [cell == "true" for cell in table["is_anomaly"]] == wanted["is_anomaly"]
    binary = read_tables(post(path, SAMPLES, ARROW), post(path, SAMPLES, PARQUET))
    assert binary.to_pydict() == {name: wanted[name] for name in columns}
    assert {name.decode(): orjson.loads(value) for name, value in binary.schema.metadata.items()} == {
        name: wanted[name] for name in ("model", "version", "alpha", "expected_rate", "threshold")
    }
    np.testing.assert_array_equal(raw_array(post(path, SAMPLES, RAW)), wanted["score"])
    np.testing.assert_array_equal(from_npy(post(path, SAMPLES, NPY).data), wanted["score"])


@pytest.mark.parametrize(
    ("verb", "output", "names"),
    [
        ("denoise", "reconstruction", ["a", "b", "c"]),
        ("encode", "latent", ["0", "1"]),
        ("encode?dtype=float16", "latent", ["0", "1"]),
        ("encode?dtype=int8", "latent", ["0", "1"]),
        ("classify", "probability", ["probability_low", "probability_high"]),
    ],
)
def test_every_form_of_an_array_says_the_same(post, verb, output, names):
    """Named columns, and the array to the bit."""
    array = from_npy(post(f"/{verb}", SAMPLES, NPY).data)
    raw = raw_array(post(f"/{verb}", SAMPLES, RAW))
    table = read_csv(post(f"/{verb}", SAMPLES, CSV))
    binary = read_tables(post(f"/{verb}", SAMPLES, ARROW), post(f"/{verb}", SAMPLES, PARQUET))
    assert binary.column_names == list(table)
    labels = table.pop("label", None)

    assert raw.dtype == array.dtype
    np.testing.assert_array_equal(raw, array)
    assert list(table) == names
    np.testing.assert_array_equal(np.array(list(table.values()), dtype=array.dtype).T, array)
    columns = [binary[name].to_numpy() for name in names]
    assert {column.dtype for column in columns} == {array.dtype}
    np.testing.assert_array_equal(np.column_stack(columns), array)
    lines = read_ndjson(post(f"/{verb}", SAMPLES, NDJSON))
    np.testing.assert_array_equal(np.array([line[output] for line in lines], dtype=array.dtype), array)
    if labels:
        assert binary["label"].to_pylist() == labels
        assert labels == [line["label"] for line in lines] == post(f"/{verb}", SAMPLES).json["label"]


def test_answers_to_series_have_a_line_for_each_step(make_store_client):
    """A line has the time stamp of its step; windows are not rows, so they come as JSON, NDJSON or arrays."""
    client = make_store_client(kind="sequence", sample_shape=(4, 1), feature_names=("x,y",))
    body = b'timestamp,"x,y"\n' + b"".join(b'"%d,""",%d\n' % (step, step) for step in range(6))

    def post(path: str, accept: str) -> TestResponse:
        return client.post(path, data=body, content_type=CSV, headers={"Accept": accept})

    scored, denoised = post("/score", CSV), post("/denoise", CSV)
    stamps = [f'{step},"' for step in range(6)]
    assert list(read_csv(scored)) == ["timestamp", "score", "ratio", "p_value", "is_anomaly"]
    assert read_csv(scored)["timestamp"] == read_csv(denoised)["timestamp"] == stamps
    assert list(read_csv(denoised)) == ["timestamp", "x,y"]
    assert [line["timestamp"] for line in read_ndjson(post("/denoise", NDJSON))] == stamps
    for path, table in (("/score", scored), ("/denoise", denoised)):
        binary = read_tables(post(path, ARROW), post(path, PARQUET))
        assert binary.column_names == list(read_csv(table))
        assert binary["timestamp"].to_pylist() == stamps
    windows = np.zeros((2, 4, 1), dtype=np.float32)
    answer = client.post("/denoise", data=to_npy(windows), content_type=NPY, headers={"Accept": CSV})
    assert "application/x-ndjson" in assert_problem(answer, 406, "not-acceptable")["detail"]


def test_answers_of_mixed_tables_have_words_and_gaps(make_store_client):
    """A CSV answer can hold all values of a CSV body."""
    client = make_store_client(**MIXED)
    body = "b,a,c\nrun,1.5,0\n,,7\n"

    answer = client.post("/denoise", data=body, content_type=CSV, headers={"Accept": CSV})
    tables = [
        client.post("/denoise", data=body, content_type=CSV, headers={"Accept": accept})
        for accept in (ARROW, PARQUET)
    ]
    wanted = client.post("/denoise", json={"instances": [[1.5, "run", 0], [None, None, 7]]}).json

    assert answer.text.splitlines() == ["a,b,c", "1.5,run,0", "0.0,idle,0"]
    assert wanted["reconstruction"] == [[1.5, "run", 0], [0.0, "idle", 0]]
    assert read_tables(*tables).to_pydict() == {"a": [1.5, 0.0], "b": ["run", "idle"], "c": [0.0, 0.0]}


@pytest.fixture
def make_store_client(tmp_path, settings, make_app) -> Callable[..., FlaskClient]:
    """Make a client of a service with another default model."""

    def make(**changes: object) -> FlaskClient:
        publish_model(ModelStore(settings.store), "other", **changes)
        return make_app(dataclasses.replace(settings, default_model="other")).test_client()

    return make


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [("text/*", CSV), ("application/*", JSON), ("application/octet-stream, */*;q=0.1", RAW), ("*/*", JSON)],
)
def test_wildcards_choose_the_first_of_their_kind(post, accept, chosen):
    """JSON unless another media type is preferred."""
    assert post("/score", SAMPLES, accept).mimetype == chosen


@pytest.mark.parametrize(
    "shape", [(3,), (40_000,), (50_000, 3), (3, 50_000), (2, 2, 40_000), (40_000, 1, 1), (0, 3), (65_536,)]
)
def test_long_answers_are_written_in_slices(store, shape):
    """The bytes are the same, in JSON and in CSV."""
    detector = Detector.load(store.folder("flat", 1))
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    cells = values.reshape(-1, 3)[: len(values)] if values.size % 3 == 0 else np.zeros((0, 3), np.float32)

    _, written = encode(JSON, reply_to("reconstruction", detector, values))
    _, table = encode(CSV, reply_to("reconstruction", detector, cells))

    assert orjson.loads(written)["reconstruction"] == answer_floats(values)
    lines = table.decode().splitlines()
    assert lines[0] == "a,b,c"
    assert [list(map(float, line.split(","))) for line in lines[1:]] == answer_floats(cells)


def test_long_explanations_are_written_in_slices(store):
    """The bytes equal the concatenated bytes of small answers."""
    detector = Detector.load(store.folder("tiny", 1))
    samples = np.random.default_rng(0).normal(size=(5000, 3))

    _, written = encode(JSON, reply_to("score", detector, detector.score(samples, explain=2)))

    assert orjson.loads(written)["explanation"][::1000] == [
        orjson.loads(encode(JSON, reply_to("score", detector, detector.score(row[None], explain=2)))[1])[
            "explanation"
        ][0]
        for row in samples[::1000]
    ]


@pytest.fixture
def digits(settings, make_app) -> FlaskClient:
    """A client of a service with the ready-made model."""
    store = Path(__file__).parents[3] / "models"
    return make_app(dataclasses.replace(settings, store=store, default_model="digits")).test_client()


@pytest.mark.parametrize("path", ["/score", "/score?explain=1", "/score?fdr=0.1"])
def test_score_of_one_image_is_drawn_as_its_error_map(digits, path):
    """All images share the scale of the calibration errors."""
    image = np.eye(8, dtype=np.float32)[None] * 16
    detector = Detector.load(Path(__file__).parents[3] / "models" / "digits" / "1")

    drawn = digits.post(path, data=to_npy(image), content_type=NPY, headers={"Accept": PNG})

    assert drawn.mimetype == PNG
    (error,) = detector.score(image, explain="map").explanation
    assert drawn.data == encode_heat_map(error, detector.usual_error)


def test_only_one_image_of_a_calibrated_model_is_drawn(digits, client):
    """Two samples make no image, and a scale needs quantiles of the errors."""
    two, one = np.zeros((2, 8, 8), dtype=np.float32), np.zeros((1, 4, 5), dtype=np.float32)
    headers = {"Accept": "image/*"}

    for answer in (
        digits.post("/score", data=to_npy(two), content_type=NPY, headers=headers),
        client.post("/models/images/score", data=to_npy(one), content_type=NPY, headers=headers),
        digits.post("/encode", data=to_npy(two[:1]), content_type=NPY, headers=headers),
    ):
        assert_problem(answer, 406, "not-acceptable")


def test_latent_of_an_image_is_decoded_to_an_image(digits):
    """An image answer is possible, as for /denoise."""
    latent = digits.post(
        "/encode",
        data=to_npy(np.zeros((1, 8, 8), dtype=np.float32)),
        content_type=NPY,
        headers={"Accept": NPY},
    )

    drawn = digits.post("/decode", data=latent.data, content_type=NPY, headers={"Accept": PNG})

    assert read_image(drawn.data).shape == (8, 8)

"""The same file gives the same samples in training, evaluation, the client, the service and data frames."""

import csv
import gzip
import io
import json

import numpy as np
import pandas
import pytest

from detector import Detector, InputError, ModelStore
from detector.reading import Reading
from residual_client.__main__ import main as residual
from service.settings import Settings
from service.wsgi.app import EXTENSION, create_app
from tests.model_folder import MIXED, expected_score, publish_model
from training import fit
from training.data.for_model import load_for

ALPHA = 0.05


def scores_of_command(model, path, tmp_path):
    """Score a file with `residual score`; return scores and decisions."""
    assert residual(["score", str(path), "--model", str(model), "--out", str(tmp_path / "scores.csv")]) == 0
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    return np.array([float(row["score"]) for row in rows]), [row["is_anomaly"] == "true" for row in rows]


@pytest.fixture
def serve():
    """Opens a store in a service and gives its client."""
    apps = []

    def start(store, model):
        settings = {"RESIDUAL_STORE": str(store.root), "RESIDUAL_DEFAULT_MODEL": model}
        apps.append(create_app(Settings.from_environ(settings)))
        return apps[-1].test_client()

    yield start
    for app in apps:
        app.extensions[EXTENSION].models.stop()


# --- birds, whose sex is sometimes not known ----------------------------------------------------------------


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """344 birds of three kinds; the sex of 11, two of them without measures, is NA."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("birds") / "birds.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["species", "bill_mm", "mass_g", "sex", "year"])
        for row in range(344):
            kind, is_male = row % 3, rng.uniform() < 0.5
            bill, mass = 38 + 5 * kind + 2 * is_male + rng.normal(), 3700 + 500 * kind + 400 * is_male
            measures = ["NA", "NA"] if row in (3, 271) else [f"{bill:.1f}", round(mass + 90 * rng.normal())]
            sex = "NA" if row % 31 == 3 or row == 271 else ("female", "male")[is_male]
            writer.writerow([("Adelie", "Chinstrap", "Gentoo")[kind], *measures, sex, 2007 + row // 120])
    return path


@pytest.fixture(scope="module")
def model(birds, tmp_path_factory):
    """A model of these birds."""
    store = tmp_path_factory.mktemp("birds_store") / "models"
    arguments = ["--data", str(birds), "--name", "birds", "--store", str(store), "--latent-dim", "0"]
    options = ["--missing", "median", "--categorical", "species,sex", "--ignore", "year"]
    assert fit.main([*arguments, *options]) == 0
    return store / "birds" / "1"


@pytest.mark.slow
def test_missing_categories_are_flagged_alike_in_every_route(birds, model, serve, tmp_path):
    """Not one more in a data frame than in training: NA was a category there, and missing here."""
    detector = Detector.load(model)
    assert detector.manifest.categories["sex"] == ("female", "male")
    assert detector.manifest.reading.ignored == ("year",)
    with birds.open() as file:
        rows = list(csv.DictReader(file))
    objects = [{name: row[name] for name in detector.manifest.feature_names} for row in rows]
    for row in objects:
        row |= {name: float(row[name]) for name in ("bill_mm", "mass_g") if row[name] != "NA"}
    client = serve(ModelStore(model.parents[1]), "birds")
    frame = pandas.read_csv(birds)

    expected = detector.score(frame)
    of_command = scores_of_command(model, birds, tmp_path)
    answers = {
        "evaluate": detector.score(load_for(detector, str(birds)).samples).score,
        "residual score": of_command[0],
        "CSV": client.post("/score", data=birds.read_bytes(), content_type="text/csv").json["score"],
        "JSON": client.post("/score", json={"instances": objects}).json["score"],
        "texts of a frame": detector.score(
            pandas.read_csv(birds, keep_default_na=False)[["species", "sex"]].join(
                frame[["bill_mm", "mass_g"]]
            )
        ).score,
    }

    for route, scores in answers.items():
        np.testing.assert_array_equal(scores, expected.score, route)
    assert of_command[1] == expected.is_anomaly.tolist()
    is_missing = np.array([row["sex"] == "NA" for row in rows])
    assert is_missing.sum() == 12
    assert expected.is_anomaly[~is_missing].mean() <= ALPHA
    assert expected.is_anomaly[is_missing].mean() < 0.5  # of the birds without measures at most


# --- files in the dialect of the fit ------------------------------------------------------------------------

CELLS = [["1.5", "2", "-3"], ["1234.25", "0", "0.5"], ["-1", "1000000", "7"]]
VALUES = np.array(CELLS, dtype=float)
HEADER = ["a", "b", "c"]


def written(rows, delimiter=",", header=HEADER):
    """Write a table as text."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows([header, *rows] if header else rows)
    return text.getvalue()


def german(cell):
    """Write a number with a decimal comma and points between thousands."""
    return f"{float(cell):,.2f}".replace(",", "_").replace(".", ",").replace("_", ".")


DIALECTS = {
    "semicolons": (
        {"delimiter": ";", "decimal": ",", "thousands": ".", "encoding": "utf-8"},
        written([[german(cell) for cell in row] for row in CELLS], ";").encode(),
    ),
    "utf-16": ({"delimiter": "\t", "encoding": "utf-16"}, written(CELLS, "\t").encode("utf-16")),
    "cp949": (
        {"delimiter": ",", "encoding": "cp949", "ignored": ("설명",)},
        written([[*row, "온도"] for row in CELLS], header=[*HEADER, "설명"]).encode("cp949"),
    ),
    "preamble": (
        {"delimiter": ",", "skip_rows": 2, "encoding": "utf-8"},
        b"Plant 7\nJune, all lines\n" + written(CELLS).encode(),
    ),
    "units": ({"delimiter": ",", "unit_rows": 1}, written([["m", "bar", "C"], *CELLS]).encode()),
    "thousands": (
        {"delimiter": ",", "thousands": ",", "encoding": "utf-8"},
        written([[f"{float(cell):,.2f}" for cell in row] for row in CELLS]).encode(),
    ),
    "names": ({"delimiter": ","}, written(CELLS, header=[" a", "b ", "\tc"]).encode()),
    "mark": ({"delimiter": ",", "encoding": "utf-8-sig"}, b"\xef\xbb\xbf" + written(CELLS).encode()),
    "bars": ({"delimiter": "|"}, written(CELLS, "|").encode()),
}


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("form", ["own", "plain"])
def test_a_file_in_the_dialect_of_the_fit_or_plain_gives_the_same_samples(dialect, form, serve, tmp_path):
    """A program posts plain CSV to a model that was fitted on a German spreadsheet."""
    fields, content = DIALECTS[dialect]
    store = ModelStore(tmp_path / "models")
    folder = publish_model(store, reading=Reading(**fields))
    path = tmp_path / "rows.csv"
    path.write_bytes(content if form == "own" else written(CELLS).encode())

    detector, client = Detector.load(folder), serve(store, "tiny")
    answers = {
        "evaluate": detector.score(load_for(detector, str(path)).samples).score,
        "residual score": scores_of_command(folder, path, tmp_path)[0],
        "CSV": client.post("/score", data=path.read_bytes(), content_type="text/csv").json["score"],
    }

    for route, scores in answers.items():
        np.testing.assert_allclose(scores, expected_score(VALUES), rtol=1e-6, err_msg=route)


def test_a_file_without_a_header_is_matched_by_position(serve, tmp_path):
    """Or by the names that the fit gave, where a file has them."""
    store = ModelStore(tmp_path / "models")
    names = ("x1", "x2", "x3")
    folder = publish_model(store, feature_names=names, reading=Reading(header=False, ignored=("x0",)))
    detector, client = Detector.load(folder), serve(store, "tiny")

    for header in (None, ["x0", *names]):
        path = tmp_path / "rows.csv"
        path.write_text(written([["7", *row] for row in CELLS], header=header))
        answers = (
            detector.score(load_for(detector, str(path)).samples).score,
            scores_of_command(folder, path, tmp_path)[0],
            client.post("/score", data=path.read_bytes(), content_type="text/csv").json["score"],
        )
        for scores in answers:
            np.testing.assert_allclose(scores, expected_score(VALUES), rtol=1e-6)


def test_compressed_tables_are_scored(tmp_path):
    """By training and client."""
    folder = publish_model(ModelStore(tmp_path / "models"))
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(written(CELLS).encode()))

    detector = Detector.load(folder)

    np.testing.assert_allclose(
        scores_of_command(folder, path, tmp_path)[0], expected_score(VALUES), rtol=1e-6
    )
    assert load_for(detector, str(path)).samples.tolist() == VALUES.tolist()


def test_columns_that_the_fit_ignored_may_be_there(serve, tmp_path):
    """In frames, CSV, and lines of JSON; others are refused."""
    store = ModelStore(tmp_path / "models")
    folder = publish_model(store, reading=Reading(ignored=("id", "label")))
    detector, client = Detector.load(folder), serve(store, "tiny")
    frame = pandas.DataFrame(VALUES, columns=HEADER).assign(id="x", label=1)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    frame.to_csv(tmp_path / "rows.csv", index=False)

    np.testing.assert_allclose(detector.score(frame).score, expected_score(VALUES), rtol=1e-6)
    for name in ("rows.jsonl", "rows.csv"):
        scores = scores_of_command(folder, tmp_path / name, tmp_path)[0]
        np.testing.assert_allclose(scores, expected_score(VALUES), rtol=1e-6)
    answer = client.post("/score", data=(tmp_path / "rows.csv").read_bytes(), content_type="text/csv")
    np.testing.assert_allclose(answer.json["score"], expected_score(VALUES), rtol=1e-6)
    with pytest.raises(InputError, match="has the unknown 'other'"):
        detector.score(frame.assign(other=1))


@pytest.mark.parametrize("token", ["NA", " n/a", "#N/A", "-"])
def test_texts_of_a_missing_cell_are_those_of_the_manifest(token, serve, tmp_path):
    """In numbers and in texts, in JSON, CSV and frames."""
    store = ModelStore(tmp_path / "models")
    reading = Reading(missing_values=(*Reading().missing_values, "-"))
    folder = publish_model(store, reading=reading, **MIXED)
    detector, client = Detector.load(folder), serve(store, "tiny")
    wanted = detector.score([[None, None, 7], [1, "run", 0]]).score

    rows = [[token, token, 7], [1, "run", 0]]
    body = written(rows)
    answers = (
        detector.score(rows).score,
        detector.score(pandas.DataFrame(rows, columns=HEADER)).score,
        client.post("/score", json={"instances": rows}).json["score"],
        client.post("/score", data=body, content_type="text/csv").json["score"],
    )
    for scores in answers:
        np.testing.assert_array_equal(scores, wanted)


def test_a_category_of_an_older_model_stays_one(tmp_path):
    """Before schema 4 only an empty text was missing in a column of texts."""
    known = {**MIXED, "categories": {"b": ("NA", "run"), "c": (0, 2.5, 7)}}
    store = ModelStore(tmp_path / "models")
    old, new = (
        Detector.load(publish_model(store, schema_version=schema, **known)).engine for schema in (3, 4)
    )

    for engine in (old, new):
        assert engine.check_samples([[1, "NA", 7]])[0, 1] == 0
    assert old.check_samples([[1, "n/a", 7]])[0, 1] == 2  # the category of unknown texts
    assert np.isnan(new.check_samples([[1, "n/a", 7]])[0, 1])
    assert np.isnan(old.check_samples([[1, "", 7]])[0, 1])


def test_rows_of_pixels_are_read_for_a_model_of_images(tmp_path):
    """The label that the fit left out may be there."""
    folder = publish_model(
        ModelStore(tmp_path / "models"),
        sample_shape=(2, 3),
        value_range=(0.0, 255.0),
        reading=Reading(ignored=("y",)),
    )
    images = np.arange(18).reshape(3, 6)
    names = [f"p{n}" for n in range(6)]
    (tmp_path / "a.csv").write_text(written(images.tolist(), header=names))
    (tmp_path / "b.csv").write_text(written([["x", *row] for row in images.tolist()], header=["y", *names]))

    for name in ("a.csv", "b.csv"):
        samples = load_for(Detector.load(folder), str(tmp_path / name)).samples
        np.testing.assert_array_equal(samples, images.reshape(3, 2, 3))

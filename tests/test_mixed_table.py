"""The whole way from a table with text and missing values to answers: one fit, every interface."""

import csv
import re

import numpy as np
import pyarrow.csv
import pytest

from detector import Detector, InputError, ModelStore
from service.settings import Settings
from service.wsgi.app import EXTENSION, create_app
from tests.service.responses import from_npy, to_npy
from training import evaluate, finetune, fit, latent, sweep

pytestmark = pytest.mark.slow

NAMES = ("rpm", "heat", "state", "line")
STATES = ("idle", "run", "boost")
SPEED = np.array([0, 10, 20])
NORMAL = {"rpm": 10.1, "heat": 5.0, "state": "run", "line": 1}
OPTIONS = ["--label-column", "fault", "--normal-label", "ok", "--missing", "median"]
OPTIONS += ["--categorical", "state,line"]


def rows_of(n_rows, seed):
    """The speed goes with the state, the heat is missing in one row of five, lines are 1 and 4."""
    rng = np.random.default_rng(seed)
    states = rng.integers(0, 3, n_rows)
    speeds, heats = SPEED[states] + 0.3 * rng.normal(size=n_rows), 5 + 0.3 * rng.normal(size=n_rows)
    for state, speed, heat, line in zip(states, speeds, heats, rng.choice([1, 4], n_rows), strict=True):
        yield [f"{speed:.4f}", "" if rng.uniform() < 0.2 else f"{heat:.4f}", STATES[state], line, "ok"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """500 normal rows, and 20 whose state does not go with their speed."""
    path = tmp_path_factory.mktemp("mixed") / "plant.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*NAMES, "fault"])
        writer.writerows(rows_of(500, seed=0))
        writer.writerows(["10.0", "5.0", "idle", 1, "wrong state"] for _ in range(20))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory, table):
    """`own`: other categories are their own; `strict`: they are refused."""
    store = ModelStore(tmp_path_factory.mktemp("mixed_store") / "models")
    for name, more in (("own", []), ("strict", ["--unknown-category", "refuse", "--latent-dim", "0"])):
        arguments = ["--data", str(table), "--name", name, "--store", str(store.root), "--epochs", "3"]
        assert fit.main([*arguments, *OPTIONS, *more]) == 0
    return store


@pytest.fixture
def detector(store):
    """`own` in this process."""
    return Detector.load(store.folder("own", 1))


@pytest.fixture(scope="module")
def client(store):
    """A client of both."""
    settings = {"RESIDUAL_STORE": str(store.root), "RESIDUAL_DEFAULT_MODEL": "own"}
    app = create_app(Settings.from_environ(settings))
    yield app.test_client()
    app.extensions[EXTENSION].models.stop()


def test_manifest_says_what_a_row_may_hold(detector):
    """Categories in the order of their numbers; the graph takes as many values as the row has."""
    manifest = detector.manifest

    assert (manifest.missing, manifest.unknown_category) == ("median", "own")
    assert manifest.categories == {"state": ("boost", "idle", "run"), "line": (1, 4)}
    assert manifest.sample_shape == (4,)


def test_report_and_card_say_what_a_row_may_hold(store):
    """Categories, the median, and where gaps are usual."""
    folder = store.folder("own", 1)

    card = (folder / "README.md").read_text()
    assert "| categories of `state` | boost, idle, run |" in card
    assert "| missing values | the median" in card
    note = r"shares of missing values in the training split: heat 0\.[12]\d*; a missing value of any other"
    for page in (card, (folder / "report.html").read_text()):
        assert re.search(note, page)


@pytest.mark.parametrize(
    ("changes", "blamed"),
    [
        ({}, ()),
        ({"heat": None}, ()),
        ({"line": 4}, ()),
        ({"state": "idle"}, ("state", "rpm")),  # the fault may lie in either
        ({"state": "stop"}, ("state",)),
        ({"line": 2}, ("line",)),
        ({"rpm": None}, ("rpm",)),
        ({"state": None}, ("state",)),
        ({"heat": 9}, ("heat",)),
    ],
)
def test_what_normal_rows_never_have_is_flagged_and_blamed(client, changes, blamed):
    """A word that does not fit, an unknown one, a gap where there are none; a usual gap is none of these."""
    answer = client.post("/score?explain=1", json={"instances": [NORMAL | changes]}).json

    assert answer["is_anomaly"] == [bool(blamed)]
    if blamed:
        (part,) = answer["explanation"][0]
        assert part["feature"] in blamed
        assert part["actual"] == (NORMAL | changes)[part["feature"]]


def test_every_way_in_gives_the_same_bits(client, detector, table):
    """JSON objects and arrays, `.npy`, an Arrow table, lists, and the rows one by one."""
    frame = pyarrow.csv.read_csv(table).drop_columns("fault").slice(0, 30)
    objects, rows = frame.to_pylist(), [list(row.values()) for row in frame.to_pylist()]
    expected = detector.score(frame).score

    answers = [
        client.post("/score", json={"instances": objects}).json["score"],
        client.post("/score", json={"instances": rows}).json["score"],
        from_npy(
            client.post(
                "/score",
                data=to_npy(detector.engine.check_samples(rows)),
                headers={"Content-Type": "application/x-npy", "Accept": "application/x-npy"},
            ).data
        ),
        detector.score(rows).score,
        [detector.score([row]).score[0] for row in rows],
    ]

    assert any(row["heat"] is None for row in objects)
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


def test_reconstruction_fills_gaps_and_corrects_words(client):
    """Values have the form of the request, and so has `expected` of an explanation."""
    body = {"instances": [NORMAL | {"heat": None, "state": "stop"}]}
    (row,) = client.post("/denoise", json=body).json["reconstruction"]
    (parts,) = client.post("/score?explain=4", json=body).json["explanation"]

    assert row[2:] == ["run", 1]
    np.testing.assert_allclose(row[:2], [10, 5], atol=1.5)
    assert {part["feature"]: part["expected"] for part in parts} == dict(zip(NAMES, row, strict=True))


def test_a_strict_model_names_the_option(client, store):
    """Another word is refused with the words that there are."""
    answer = client.post("/models/strict/score", json={"instances": [NORMAL | {"state": "stop"}]})

    assert answer.status_code == 422
    assert answer.json["detail"] == (
        "'state' must be one of boost, idle, run, got 'stop' in row 0; unknown categories are for models "
        "fitted with --unknown-category own"
    )
    with pytest.raises(InputError, match="'line' must be one of 1, 4, got 2"):
        Detector.load(store.folder("strict", 1)).score([[10, 5, "run", 2]])


def test_other_commands_read_the_table_as_the_model_does(store, table, tmp_path, capsys):
    """Evaluate, look into the latent space, name faults."""
    model, data = str(store.root / "own"), str(table)

    assert evaluate.main([f"{model}/1", data, "--label-column", "fault"]) == 0
    assert re.search(r"^label wrong state +20 +20 +1\.0000", capsys.readouterr().out, re.MULTILINE)
    arguments = ["--model", f"{model}/1", "--data", data, "--label-column", "fault"]
    assert latent.main([*arguments, "--out", str(tmp_path / "latent")]) == 0
    assert finetune.main([*arguments, "--epochs", "30"]) == 0
    classes = Detector.load(store.folder("own", 2)).classify([[10, None, "idle", 1]])
    assert classes.label.tolist() == ["wrong state"]


def test_other_networks_take_mixed_tables(table, tmp_path):
    """Trained ones, with no sample published, chosen by a sweep."""
    arguments = ["--data", str(table), "--store", str(tmp_path / "models"), *OPTIONS]

    assert fit.main([*arguments, "--preset", "dense-simple", "--epochs", "2", "--no-samples"]) == 0
    assert sweep.main([*arguments, "--presets", "dense", "--latent-dims", "2,3", "--epochs", "2"]) == 0
    for version in (1, 2):
        detector = Detector.load(tmp_path / "models" / "plant" / str(version))
        assert detector.score([NORMAL_ROW]).score[0] < detector.score([[99, 5, "stop", 1]]).score[0]


def test_categories_alone_are_a_table_of_what_is_usual(tmp_path):
    """Few distinct rows are remembered exactly, so only unseen combinations are flagged."""
    states, lines = np.random.default_rng(0).choice(3, 400, p=[0.6, 0.3, 0.1]), np.array([1, 4, 7])
    rows = "".join(f"{STATES[state]},{lines[state]},{n % 2}\n" for n, state in enumerate(states))
    (tmp_path / "plant.csv").write_text("state,line,shift\n" + rows)
    arguments = [
        "--data",
        str(tmp_path / "plant.csv"),
        "--store",
        str(tmp_path / "models"),
        "--latent-dim",
        "0",
    ]

    assert fit.main([*arguments, "--categorical", "state,line,shift"]) == 0

    detector = Detector.load(tmp_path / "models" / "plant" / "1")
    usual = [[STATES[state], lines[state], n % 2] for n, state in enumerate(states)]
    assert detector.score(usual).is_anomaly.mean() <= 0.05
    assert detector.score([["idle", 4, 0], ["boost", 1, 1], ["stop", 1, 0], ["run", 4, 2]]).is_anomaly.all()
    assert detector.score([["idle", 4, 0]]).ratio[0] > 100


NORMAL_ROW = list(NORMAL.values())

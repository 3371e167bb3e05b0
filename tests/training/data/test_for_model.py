"""Models are found by folder, name, label or version; data are read as the model takes them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector import Detector, ModelStore
from detector.reading import Reading
from tests.model_folder import linear_graphs, publish_model
from training import evaluate
from training.data.for_model import load_for
from training.errors import DataError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path):
    """Three versions of one model of rows with the features a, b, c."""
    store = ModelStore(tmp_path / "store")
    for _ in range(3):
        publish_model(store, data={"normal_label": "ok"})
    return store


@pytest.fixture
def rows(store):
    """The highest version."""
    return Detector.load(store.folder("tiny", 3))


def write_table(path, label="state"):
    """Write columns in another order than the model's, an unknown column, and labels."""
    path.write_text(f"time,c,a,b,{label}\n1,3,1,2,ok\n2,30,10,20,leak\n3,6,4,5,ok\n")
    return str(path)


def test_columns_are_found_by_name(rows, tmp_path):
    """Columns have the order of the model, and the normal label of the fit is normal here, too."""
    data = load_for(rows, write_table(tmp_path / "june.csv"), label_column="state")

    assert data.samples.tolist() == [[1, 2, 3], [10, 20, 30], [4, 5, 6]]
    assert data.is_anomaly.tolist() == [False, True, False]
    assert load_for(rows, write_table(tmp_path / "june.csv")).is_anomaly is None


def test_a_missing_column_is_named(rows, tmp_path):
    """A table of other columns is not scored by position."""
    (tmp_path / "other.csv").write_text("a,b,d\n1,2,3\n")

    with pytest.raises(DataError, match="has no column 'c'"):
        load_for(rows, str(tmp_path / "other.csv"))


@pytest.mark.parametrize(
    ("labels", "is_anomaly", "note"),
    [
        (["ok", "leak"], [False, True], "label ok is the normal one"),
        (["leak", "burst"], [True, True], "every sample is an anomaly"),
    ],
)
def test_labels_are_read_by_the_normal_one_of_the_model(rows, tmp_path, labels, is_anomaly, note):
    """A note states the assumption."""
    np.savez(tmp_path / "data.npz", X=np.zeros((2, 3)), y=labels)

    data = load_for(rows, str(tmp_path / "data.npz"))

    assert data.is_anomaly.tolist() == is_anomaly
    assert note in " ".join(data.notes)


def test_labels_0_and_1_are_not_guessed_at(rows, tmp_path):
    """If the normal label of the fit is `ok`, the user must say what 0 means."""
    np.savez(tmp_path / "data.npz", X=np.zeros((2, 3)), y=[0, 1])

    with pytest.raises(DataError, match="--normal-label"):
        load_for(rows, str(tmp_path / "data.npz"))

    assert load_for(rows, str(tmp_path / "data.npz"), normal_label="0").is_anomaly.tolist() == [False, True]


def test_only_the_test_split_is_kept(rows, tmp_path):
    """The model may have been fitted on the other part."""
    np.savez(tmp_path / "data.npz", x_train=np.zeros((5, 3)), x_test=np.ones((2, 3)))

    data = load_for(rows, str(tmp_path / "data.npz"))

    assert data.samples.tolist() == np.ones((2, 3)).tolist()
    assert "only its samples are used" in " ".join(data.notes)


def test_images_of_a_folder_are_mapped_onto_the_value_range(tmp_path):
    """The service maps them in the same way: 255 is white, here 16."""
    store = ModelStore(tmp_path / "store")
    graphs = linear_graphs((2, 2))
    detector = Detector.load(publish_model(store, graphs=graphs, sample_shape=(2, 2)))
    (tmp_path / "images").mkdir()
    Image.fromarray(np.array([[0, 255], [255, 0]], dtype=np.uint8)).save(tmp_path / "images" / "a.png")

    data = load_for(detector, str(tmp_path / "images"))

    assert data.samples.tolist() == [[[0, 16], [16, 0]]]


def test_images_of_a_folder_are_read_as_the_service_reads_them(tmp_path):
    """Any size if the model resizes, grey in colours, 16 bits in raw units; the split and masks are kept."""
    store = ModelStore(tmp_path / "store")
    reading = Reading(resize=(2, 3))
    detector = Detector.load(publish_model(store, "photos", sample_shape=(2, 3, 3), reading=reading))
    files = {
        "train/good/1.png": np.zeros((2, 3), np.uint8),
        "test/good/2.png": np.full((9, 9), 65535, np.uint16),
        "test/bad/3.png": np.full((4, 6, 3), 51, np.uint8),
        "masks/bad/3.png": np.full((4, 6), True),
    }
    for name, pixels in files.items():
        path = tmp_path / "parts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    data = load_for(detector, str(tmp_path / "parts"))

    tests = [tmp_path / "parts" / name for name in ("test/bad/3.png", "test/good/2.png")]
    np.testing.assert_array_equal(data.samples, detector.read_images(tests))
    np.testing.assert_allclose(data.samples[:, 0, 0, 0], [3.2, 16], rtol=1e-6)
    assert data.is_anomaly.tolist() == [True, False]
    assert list(data.masks) == [0]
    assert "good is the only label of the training split: it is the normal one" in data.notes


def test_values_beyond_the_range_are_read(tmp_path):
    """The service scores them, too, because drift is a reason to evaluate a model."""
    store = ModelStore(tmp_path / "store")
    detector = Detector.load(publish_model(store, graphs=linear_graphs((2, 2)), sample_shape=(2, 2)))
    np.save(tmp_path / "bright.npy", np.full((3, 2, 2), 20.0))

    assert load_for(detector, str(tmp_path / "bright.npy")).samples.max() == 20


def test_evaluate_prints_what_it_writes(store, tmp_path, capsys):
    """The printed table and the JSON have the same figures."""
    arguments = [f"{store.root}/tiny", write_table(tmp_path / "june.csv"), "--label-column", "state"]

    assert evaluate.main([*arguments, "--json", str(tmp_path / "figures.json")]) == 0

    printed = capsys.readouterr()
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["model"]["version"] == 3
    assert [group["name"] for group in figures["groups"]] == [
        "all",
        "normal",
        "anomalies",
        "label leak",
        "label ok",
    ]
    assert figures["evaluation"]["n_anomalies"] == 1
    scores = Detector.load(store.folder("tiny", 3)).score(np.array([[1, 2, 3], [10, 20, 30], [4, 5, 6]]))
    assert figures["groups"][0]["flagged"]["count"] == scores.is_anomaly.sum()
    assert figures["groups"][0]["score_quantiles"]["0.5"] == np.median(scores.score)
    assert f"{np.median(scores.score):.4g}" in printed.out
    assert "label ok is the normal one" in printed.err
    assert "of 1 anomalies 1 was found" in printed.out
    own = next(point for point in figures["operating_points"] if point["alpha"] == 0.05)
    assert own["threshold"] == figures["threshold"]["value"]
    assert (own["recall"], own["precision"], own["false_alarm_rate"]) == (1, 1 / 3, 1)
    assert f"0.05  {own['threshold']:>9.4g}  1.0000     0.3333        1.0000" in printed.out
    (warning,) = figures["warnings"]
    assert "2 of its 2 normal samples are flagged (1, interval 0.158 to 1)" in warning


def test_evaluate_warns_first_if_the_data_break_the_promise(store, tmp_path, capsys):
    """With --strict it also fails, after it printed the figures."""
    rows = "\n".join(f"{n},{n},99,ok" for n in range(40))
    (tmp_path / "july.csv").write_text(f"a,b,c,state\n{rows}\n")
    arguments = [f"{store.root}/tiny", str(tmp_path / "july.csv"), "--label-column", "state"]

    assert evaluate.main(arguments) == 0

    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("warning: the promise does not hold on july.csv: 40 of its 40 normal samples are")
    assert evaluate.main([*arguments, "--strict"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith(first)
    assert "error: july.csv breaks the promise" in printed.err


def test_evaluate_without_labels_says_the_share_flagged(store, tmp_path, capsys):
    """Without labels there is no rate of false alarms."""
    assert evaluate.main([f"{store.root}/tiny", write_table(tmp_path / "june.csv")]) == 0

    printed = capsys.readouterr().out
    assert "false_alarm_rate" not in printed
    assert printed.splitlines()[-1].startswith("all")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("nowhere.csv", "error: data must be a file"),
        ("wide.npy", "error: samples must have shape (n, 3), got (1, 4)"),
    ],
)
def test_evaluate_fails_with_one_sentence(store, tmp_path, capsys, data, words):
    """Missing data and data that do not fit are refused."""
    np.save(tmp_path / "wide.npy", np.zeros((2, 4)))

    assert evaluate.main([f"{store.root}/tiny", str(tmp_path / data)]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(words)


def test_evaluate_needs_no_tensorflow():
    """It scores through the published graph."""
    code = (
        "import sys; from training import evaluate; "
        "assert evaluate.main(['models/digits', 'digits']) == 0; "
        "assert not {'tensorflow', 'keras', 'flask'} & sys.modules.keys()"
    )

    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, timeout=120)


def test_a_folder_of_images_for_a_model_of_rows_is_rows_of_pixels(store, tmp_path):
    """The fit reads them in the same way: only models of images map pixels onto the value range."""
    (tmp_path / "images").mkdir()
    Image.fromarray(np.array([[0, 100, 255]], dtype=np.uint8)).save(tmp_path / "images" / "a.png")
    rows = Detector.load(publish_model(store, "pixels", feature_names=None))

    assert load_for(rows, str(tmp_path / "images")).samples.tolist() == [[0, 100, 255]]

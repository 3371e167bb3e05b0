"""`python -m training.fit` from data to a published folder, and what it says when it cannot."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from detector import Detector, ModelStore
from detector.calibration import promised_rank
from detector.files import describe_files
from training import fit, stages
from training.cli import options
from training.config import FitConfig
from training.data.load import load_dataset
from training.data.splits import Splits, split_dataset

pytestmark = pytest.mark.slow


@pytest.fixture
def rows_csv(tmp_path):
    """200 rows of a sensor pair that belongs together, some of them faulty, with a text column."""
    rng = np.random.default_rng(0)
    level = rng.normal(20, 2, size=260)
    flow = level * 0.5 + rng.normal(0, 0.1, size=260)
    flow[220:] += 3
    lines = [
        f"{a:.4f},{b:.4f},m{n % 3},{'ok' if n < 220 else 'leak'}"
        for n, (a, b) in enumerate(zip(level, flow, strict=True))
    ]
    path = tmp_path / "pump.csv"
    path.write_text("level,flow,machine,state\n" + "\n".join(lines) + "\n")
    return path


def test_published_folders_load_and_are_complete(rows_folder, images_folder):
    """Both kinds hold every file, hashed, and pass their self-test."""
    for folder in (rows_folder, images_folder):
        manifest = Detector.load(folder).manifest

        assert manifest.files == describe_files(folder)
        assert manifest.verbs == ("score", "denoise", "encode", "decode")
        assert manifest.training["configuration"]["seed"] == 0
        assert manifest.tools["onnxruntime"]


def test_threshold_is_the_promised_rank_of_the_calibration_scores(rows_folder):
    """The rule of the design, recomputed from the published file."""
    manifest = Detector.load(rows_folder).manifest
    scores = np.load(rows_folder / "calibration.npz")["score"]

    rank = promised_rank(scores.size, 0.05)

    assert manifest.threshold.rank == rank
    assert manifest.threshold.value == np.sort(scores)[-rank]
    assert manifest.data["splits"]["calibration"] == scores.size


def test_calibration_holds_quantiles_of_error_and_input(rows_folder):
    """For attribution and drift: one row for each level, ascending."""
    arrays = np.load(rows_folder / "calibration.npz")

    for name in ("error_quantiles", "input_quantiles"):
        assert arrays[name].shape == (arrays["levels"].size, 30)
        assert (np.diff(arrays[name], axis=0) >= 0).all()


def test_evaluation_is_that_of_the_published_model(rows_folder):
    """Scoring the anomalies again gives the recall that stands in the manifest."""
    detector = Detector.load(rows_folder)
    dataset = load_dataset("breast-cancer")
    flagged = detector.score(dataset.samples[dataset.is_anomaly]).is_anomaly

    assert detector.manifest.evaluation["recall"]["value"] == flagged.mean()


def test_digits_without_labels_report_false_alarms_only(images_folder):
    """All ten digits are normal: there is nothing to recall."""
    evaluation = Detector.load(images_folder).manifest.evaluation

    assert evaluation["n_anomalies"] == 0
    assert evaluation["roc_auc"] is None
    assert 0 <= evaluation["false_alarm_rate"]["value"] <= 1


def test_fit_reads_a_csv_and_prints_what_to_do_next(rows_csv, tmp_path, capsys):
    """The whole command on a user's table."""
    store = tmp_path / "store"
    arguments = ["--data", str(rows_csv), "--name", "pump", "--store", str(store), "--epochs", "60"]
    arguments += ["--columns", "level,flow", "--label-column", "state", "--normal-label", "ok"]

    assert fit.main(arguments) == 0

    printed = capsys.readouterr()
    lines = dict(line.split(": ", 1) for line in printed.out.splitlines())
    assert lines["published"] == str(store / "pump" / "1")
    assert "at most 0.05 of normal samples flagged, with 0.95 confidence" in lines["threshold"]
    assert float(lines["test roc_auc"].split()[0]) > 0.9
    assert lines["baselines, ROC AUC"].startswith("nearest neighbours 1.0000, PCA residual ")
    assert lines["baselines, ROC AUC"].endswith(f"; this model {lines['test roc_auc'].split()[0]}")
    *settings, gunicorn, _, configuration = lines["next"].split()
    assert settings == [f"RESIDUAL_STORE={store}", "RESIDUAL_DEFAULT_MODEL=pump"]
    assert Path(gunicorn).exists()  # not only a name: nobody said that the environment is on the path
    assert Path(configuration).exists()
    assert "epoch 1/60" in printed.err
    detector = Detector.load(store / "pump" / "1")
    assert detector.manifest.feature_names == ("level", "flow")
    assert detector.manifest.data["normal_label"] == "ok"
    assert detector.manifest.training["configuration"]["rows"] is None
    assert detector.score(np.array([[20.0, 13.5]])).is_anomaly.tolist() == [True]

    again = rows_csv.rename(rows_csv.with_name("july.csv"))
    assert fit.main(["--data", str(again), "--like", str(store / "pump"), "--epochs", "2"]) == 0

    first, second = (Detector.load(store / "pump" / version).manifest for version in "12")
    assert second.data["options"] == first.data["options"]
    assert second.data["fingerprint"] == first.data["fingerprint"]
    configurations = [manifest.training["configuration"] for manifest in (first, second)]
    assert configurations[1] == configurations[0] | {"epochs": 2}


def test_a_promise_that_does_not_hold_is_said_first(tmp_path, capsys):
    """Where the test samples have drifted: in the output, the manifest, the report and the card.

    With --strict nothing is published.
    """
    rows = np.random.default_rng(0).normal(size=(400, 3))
    np.savez(tmp_path / "drift.npz", x_train=rows[:350], x_test=rows[350:] + 3)
    arguments = ["--data", str(tmp_path / "drift.npz"), "--name", "drift", "--store", str(tmp_path)]

    assert fit.main([*arguments, "--latent-dim", "0"]) == 0

    warning, published, *_ = capsys.readouterr().out.splitlines()
    folder = tmp_path / "drift" / "1"
    assert published == f"published: {folder}"
    words = warning.removeprefix("warning: ")
    assert words.startswith("the promise does not hold on the test split: ")
    assert json.loads((folder / "manifest.json").read_bytes())["evaluation"]["warnings"] == [words]
    assert json.loads((folder / "report.json").read_bytes())["evaluation"]["warnings"] == [words]
    assert f"<b>Warning:</b> {words}." in (folder / "report.html").read_text()
    assert f"**Warning:** {words}." in (folder / "README.md").read_text()

    assert fit.main([*arguments, "--latent-dim", "0", "--strict"]) == 1

    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"error: {words}; --strict publishes no such model" in printed.err
    assert [path.name for path in folder.parent.glob("*/")] == ["1"]


def test_one_row_that_makes_the_threshold_is_named(tmp_path, capsys):
    """A normal row far from all others, which chance put into the calibration split."""
    rows = np.random.default_rng(0).normal(size=(300, 3))
    np.savetxt(tmp_path / "rows.csv", rows, delimiter=",", header="a,b,c", comments="")
    arguments = ["--name", "rows", "--store", str(tmp_path), "--latent-dim", "0"]
    assert fit.main(["--data", str(tmp_path / "rows.csv"), *arguments]) == 0
    assert "makes the threshold" not in capsys.readouterr().err
    dealt = split_dataset(load_dataset(str(tmp_path / "rows.csv")), FitConfig.from_preset("memory"))
    far = dealt.calibration[-1]
    rows[far] = 50
    np.savetxt(tmp_path / "far.csv", rows, delimiter=",", header="a,b,c", comments="")

    assert fit.main(["--data", str(tmp_path / "far.csv"), *arguments]) == 0

    (note,) = (line for line in capsys.readouterr().err.splitlines() if "makes the threshold" in line)
    assert f"row {far + 1} has the score" in note
    assert note.removeprefix("note: ") in (tmp_path / "rows" / "2" / "report.html").read_text()


def test_same_seed_same_model_and_the_next_version(tmp_path):
    """Two fits of one configuration publish versions 1 and 2 with the same weights and threshold."""
    arguments = [
        "--data",
        "digits",
        "--name",
        "twin",
        "--epochs",
        "2",
        "--rows",
        "600",
        "--store",
        str(tmp_path),
    ]

    for _ in range(2):
        assert fit.main(arguments) == 0

    first, second = (tmp_path / "twin" / version for version in ("1", "2"))
    for name in ("model.onnx", "encoder.onnx", "decoder.onnx"):
        assert _weights(first / name) == _weights(second / name)
    np.testing.assert_array_equal(
        np.load(first / "calibration.npz")["score"], np.load(second / "calibration.npz")["score"]
    )


def _weights(graph):
    """The weights of a graph to the last bit.

    Not the file: tf2onnx names constants by a running number and shares equal shapes in an order of its own.
    """
    constants = (onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(graph).graph.initializer)
    return {(values.shape, values.tobytes()) for values in constants if values.dtype == np.float32}


@pytest.mark.parametrize("loss", ["mae", "bce", "huber"])
def test_every_loss_trains(tmp_path, loss):
    """A few epochs of each loss bring the validation loss down."""
    arguments = ["--data", "digits", "--name", loss, "--loss", loss, "--epochs", "4", "--rows", "600"]

    assert fit.main([*arguments, "--preset", "dense", "--store", str(tmp_path)]) == 0

    figures = json.loads((tmp_path / loss / "1" / "report.json").read_bytes())["fit"]
    assert figures["validation_loss"][-1] < figures["validation_loss"][0]


def test_no_samples_publishes_no_row_of_the_data(tmp_path):
    """The golden samples are drawn, and the report shows no image of a sample."""
    from sklearn.datasets import load_digits

    arguments = ["--data", "digits", "--name", "secret", "--epochs", "1", "--rows", "600", "--no-samples"]

    assert fit.main([*arguments, "--store", str(tmp_path)]) == 0

    golden = np.load(tmp_path / "secret" / "1" / "golden.npz")["samples"]
    digits = load_digits().images.astype(np.float32)
    assert not any((digits == sample).all(axis=(1, 2)).any() for sample in golden)
    assert "Originals" not in (tmp_path / "secret" / "1" / "report.html").read_text()
    levels = np.load(tmp_path / "secret" / "1" / "calibration.npz")["levels"]
    assert 0 < levels.min() < levels.max() < 1  # least and largest are values of single samples


def draw_ring(rng, scratched):
    """A bright ring of varying place, size and width on a dark ground, 24x24; a scratch is a bright line."""
    rows, columns = np.mgrid[:24, :24]
    distance = np.hypot(rows - rng.normal(11.5, 0.6), columns - rng.normal(11.5, 0.6))
    image = 40 + 150 * np.exp(-np.square((distance - rng.normal(7.5, 0.5)) / rng.uniform(1.2, 2)))
    image += rng.normal(0, 6, size=image.shape)
    if scratched:
        angle, middle = rng.uniform(0, np.pi), rng.uniform(6, 18, size=2)
        for step in np.linspace(-6, 6, 40):
            row, column = np.rint(middle + step * np.array([np.sin(angle), np.cos(angle)])).astype(int)
            image[np.clip(row, 0, 23), np.clip(column, 0, 23)] = 240
    return image.clip(0, 255).astype(np.uint8)


def test_few_images_of_good_parts_make_a_useful_detector(tmp_path):
    """A hundred training images and default settings: scratched rings rank above whole ones."""
    rng = np.random.default_rng(0)
    is_scratched = np.arange(260) >= 220
    images = np.stack([draw_ring(rng, scratched) for scratched in is_scratched])
    np.savez(tmp_path / "rings.npz", X=images, y=is_scratched.astype(int))

    assert fit.main(["--data", str(tmp_path / "rings.npz"), "--store", str(tmp_path)]) == 0

    figures = json.loads((tmp_path / "rings" / "1" / "report.json").read_bytes())
    assert figures["evaluation"]["roc_auc"]["value"] > 0.95


@pytest.mark.parametrize(("n_parameters", "notes"), [(20_000_000, 0), (45_901_601, 1)])
def test_a_large_network_is_told(n_parameters, notes):
    """From 80 MB of weights on there is a sentence with the number and the shape."""
    network = SimpleNamespace(n_parameters=n_parameters, latent_shape=None)

    sentences = list(stages._network_notes(network, (420, 420), FitConfig.from_preset("conv", {})))

    assert len(sentences) == notes
    assert all("45901601 parameters for samples of shape (420, 420)" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("latent_size", "corruption", "n_notes"), [(120, "none", 1), (119, "none", 0), (120, "gaussian", 0)]
)
def test_a_latent_as_large_as_the_sample_is_noted(latent_size, corruption, n_notes):
    """What can be copied is no anomaly; noise on the inputs is a bottleneck, too."""
    config = FitConfig.from_preset("conv1d", {"corruption": corruption})

    network = SimpleNamespace(n_parameters=1, latent_shape=(latent_size,))

    assert len(list(stages._network_notes(network, (60, 2), config))) == n_notes


def test_max_minutes_stops_the_fit(tmp_path, capsys):
    """The time limit ends after the epoch in which it ran out."""
    arguments = ["--data", "digits", "--name", "short", "--epochs", "5000", "--patience", "5000"]

    assert fit.main([*arguments, "--max-minutes", "0.03", "--store", str(tmp_path)]) == 0

    assert json.loads((tmp_path / "short" / "1" / "report.json").read_bytes())["fit"]["epochs"] < 200


def test_dry_run_prints_the_parameters_and_publishes_nothing(tmp_path, capsys):
    """The number stands alone on its line."""
    assert fit.main(["--data", "digits", "--name", "x", "--dry-run", "--store", str(tmp_path / "no")]) == 0

    assert "parameters: " in capsys.readouterr().out.splitlines()[-1]
    assert not (tmp_path / "no").exists()


def test_a_store_that_cannot_be_written_is_one_sentence(tmp_path, capsys):
    """Before anything is fitted."""
    (tmp_path / "store").write_text("")

    assert fit.main(["--data", "digits", "--name", "x", "--store", str(tmp_path / "store")]) == 1

    sentence = f"error: {tmp_path / 'store' / 'x'} cannot be written: Not a directory\n"
    assert capsys.readouterr().err.endswith(sentence)


COLLAPSED = ["--data", "digits", "--name", "dead", "--preset", "dense-narrow", "--learning-rate", "10"]


def test_a_collapsed_network_is_not_published(tmp_path, capsys):
    """Steps too large kill every unit behind a rectifier: one sentence that says what to try."""
    assert fit.main([*COLLAPSED, "--rows", "500", "--store", str(tmp_path)]) == 1

    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].startswith("error: the network has collapsed: ")
    assert "try a smaller --learning-rate" in printed.err
    assert printed.out == ""
    assert ModelStore(tmp_path).names() == []


def test_samples_that_hardly_ever_differ_are_no_collapse(tmp_path):
    """An alarm that fired once in a thousand rows: validation rows are all the same."""
    rows = np.zeros((1000, 2))
    rows[0] = 1
    np.savez(tmp_path / "rare.npz", X=rows)
    config = FitConfig.from_preset("memory", {"latent_dim": 0}).for_samples((2,))
    dataset = load_dataset(str(tmp_path / "rare.npz"), kinds=["vector"])
    splits = stages.deal_splits(dataset, config)
    train = np.union1d(splits.train, [0])
    validation, calibration, test = (
        np.setdiff1d(split, [0]) for split in (splits.validation, splits.calibration, splits.test)
    )

    prepared = stages.prepare(dataset, config, Splits(train, validation, calibration, test, 0, 0))

    assert stages.train(stages.build(prepared), "rare").graphs


def test_a_collapsed_network_that_is_wanted_is_published_with_a_note(tmp_path, capsys):
    """The distance from one point is a detector, too, if not much of one; `--keep` removes older versions."""
    wanted = ["--rows", "500", "--no-collapse-check", "--store", str(tmp_path)]

    for version in (1, 2, 3):
        (tmp_path / "dead" / str(version)).mkdir(parents=True)
    ModelStore(tmp_path).set_label("dead", "stable", 2)

    assert fit.main([*COLLAPSED, *wanted, "--keep", "1"]) == 0

    printed = capsys.readouterr()
    assert "note: published all the same: the network has collapsed" in printed.err
    assert printed.out.splitlines()[-1] == "removed versions: 1, 3"
    assert ModelStore(tmp_path).versions("dead") == [2, 4]
    figures = json.loads((tmp_path / "dead" / "4" / "report.json").read_bytes())
    assert "published all the same" in " ".join(figures["notes"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "nowhere", "--name", "x"], "no such file"),
        (["--data", "digits", "--name", "X Y"], "a model name must match"),
        (["--data", "digits", "--name", "x", "--preset", "conv1d", "--loss", "ssim"], "ssim needs images"),
        (
            ["--data", "breast-cancer", "--name", "x", "--value-range", "0,5000"],
            "--value-range needs images, or --output-activation sigmoid or tanh",
        ),
        (["--data", "digits", "--name", "x", "--normal-label", "10"], "not among the labels"),
        (["--data", "digits", "--name", "x", "--alpha", "0.001"], "needs 2995 calibration samples"),
        (["--data", "digits", "--name", "x", "--alpha", "2"], "alpha must be between 0 and 1"),
    ],
)
def test_fit_answers_a_fault_with_one_sentence(tmp_path, capsys, arguments, sentence):
    """Exit 1, a sentence on stderr, no traceback, nothing left in the store."""
    assert fit.main([*arguments, "--store", str(tmp_path / "store")]) == 1

    printed = capsys.readouterr()
    assert sentence in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
    assert ModelStore(tmp_path / "store").names() == []


@pytest.mark.parametrize(
    "arguments", [[], ["--name", "x"], ["--data", "digits", "--name", "x", "--epoch", "3"]]
)
def test_fit_answers_bad_usage_with_status_2(arguments):
    """Abbreviated and missing flags are not guessed."""
    with pytest.raises(SystemExit) as caught:
        fit.main(arguments)

    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--widths", "64;32", "must be integers separated by commas, got '64;32'"),
        ("--value-range", "0", "must be LOW,HIGH, two numbers, got '0'"),
    ],
)
def test_flags_name_what_they_take(capsys, flag, value, sentence):
    """Not the name of the function that reads them."""
    with pytest.raises(SystemExit):
        fit.main(["--data", "digits", "--name", "x", flag, value])

    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("digits", "digits"),
        ("a/Pump 7.csv", "pump-7"),
        ("mnist.npz", "mnist"),
        ("x/_good parts_/", "good-parts"),
    ],
)
def test_name_is_made_of_the_data_where_none_is_given(data, name):
    """A file's, a folder's or a built-in name, as a model may be called."""
    assert options._name_after(data) == name


def test_data_that_give_no_name_ask_for_one(capsys):
    """Nothing of these letters may stand in a model's name."""
    assert fit.main(["--data", "数据.csv"]) == 1

    assert "name the model with --name" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_fit_leaves_no_half_model(tmp_path, number):
    """Ctrl-C and a container's stop end with status 130 and an empty store."""
    command = [sys.executable, "-m", "training.fit", "--data", "digits", "--name", "x", "--preset", "dense"]
    with subprocess.Popen(
        [*command, "--epochs", "100000", "--patience", "100000", "--store", str(tmp_path / "store")],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            for line in process.stderr:
                if line.startswith("epoch"):
                    break
            time.sleep(0.2)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 130
    assert err.splitlines()[-1] == "interrupted: nothing was published"
    assert out == ""
    assert list((tmp_path / "store").rglob("*")) == []


def test_fit_notes_what_weakens_its_figures(tmp_path, capsys):
    """Copies in the calibration split, and a test split without normal samples."""
    rng = np.random.default_rng(0)
    rows = np.tile(rng.normal(size=(150, 3)), (2, 1))
    np.savez(
        tmp_path / "data.npz", x_train=rows, y_train=np.zeros(300), x_test=rows[:5] + 9, y_test=np.ones(5)
    )
    arguments = ["--data", str(tmp_path / "data.npz"), "--name", "x", "--store", str(tmp_path)]

    assert fit.main([*arguments, "--epochs", "1"]) == 0

    printed = capsys.readouterr()
    assert "calibration samples are exact copies of samples that the network was fitted on" in printed.err
    assert "nothing measures the false-alarm rate" in printed.err
    assert "test samples: 0 normal, 5 anomalies" in printed.out

"""A classifier from a fitted encoder: published with the detector, mostly right, or refused."""

import json
import shutil

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from detector import Detector, ModelStore
from tests.model_folder import publish_model
from training import finetune
from training.classifiers import stages

NAMED = slice(0, 360, 6)  # sixty rows


@pytest.fixture(scope="module")
def classified(store, tmp_path_factory):
    """The store of the fitted models, with a version 2 of the rows that tells 60 labelled samples apart."""
    own = tmp_path_factory.mktemp("classified") / "models"
    shutil.copytree(store, own)
    data = load_breast_cancer()
    path = own.parent / "named.npz"
    names = data.target_names[data.target]
    np.savez(path, X=data.data[NAMED], y=names[NAMED])
    assert finetune.main(["--model", str(own / "rows"), "--data", str(path), "--epochs", "60"]) == 0
    return own


def test_new_version_is_the_same_detector_with_classes(classified):
    """Every file of the former version but card and self-test is there unchanged, and scores are the same."""
    former, folder = classified / "rows" / "1", classified / "rows" / "2"
    samples = load_breast_cancer().data[60:]

    detector, before = Detector.load(folder), Detector.load(former)

    changed = {
        name for name, entry in detector.manifest.files.items() if before.manifest.files.get(name) != entry
    }
    assert changed == {"classifier.onnx", "golden.npz", "README.md"}
    np.testing.assert_array_equal(detector.score(samples).score, before.score(samples).score)
    assert detector.manifest.threshold == before.manifest.threshold
    assert detector.manifest.version == 2
    assert "classify" in detector.manifest.verbs


def test_classifier_tells_new_samples_apart(classified):
    """Sixty labels are enough for nine in ten of the others, by the names that the data have."""
    data = load_breast_cancer()
    detector = Detector.load(classified / "rows" / "2")

    result = detector.classify(data.data[360:])

    assert result.classes == ("benign", "malignant")
    assert (result.label == data.target_names[data.target[360:]]).mean() > 0.9
    np.testing.assert_allclose(result.probability.sum(axis=1), 1, rtol=1e-5)


def test_manifest_says_how_the_classifier_was_made(classified):
    """It has the labels of each class, the base version, and figures on samples that were not fitted on."""
    folder = classified / "rows" / "2"

    classifier = Detector.load(folder).manifest.classifier

    assert sum(classifier.n_labelled.values()) == 60
    assert classifier.training["base_version"] == 1
    assert classifier.training["base_digest"] == Detector.load(folder.parent / "1").digest
    assert classifier.evaluation["method"] == "cross-validation"
    assert classifier.evaluation["n_samples"] == 60
    assert classifier.evaluation["accuracy"]["value"] > 0.8
    card = (folder / "README.md").read_text()
    assert card.count("## Classifier") == 1
    assert "| samples labelled `benign` |" in card


def test_row_has_one_probability_in_any_batch(classified):
    """The probabilities agree alone and in a batch, within float32."""
    samples = load_breast_cancer().data[:33]
    detector = Detector.load(classified / "rows" / "2")

    together = detector.classify(samples).probability

    alone = np.concatenate([detector.classify(row[np.newaxis]).probability for row in samples])
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-7)


def test_extreme_samples_get_finite_probabilities(classified):
    """The probabilities of the largest float32 values are finite."""
    largest = float(np.finfo(np.float32).max)

    result = Detector.load(classified / "rows" / "2").classify(np.array([[largest] * 30, [-largest] * 30]))

    assert np.isfinite(result.probability).all()


def test_same_seed_gives_the_same_classifier(classified, capsys):
    """A version with a classifier can be fine-tuned again, which replaces its classes."""
    data = classified.parent / "named.npz"
    arguments = ["--model", str(classified / "rows" / "2"), "--data", str(data), "--epochs", "60"]

    assert finetune.main(arguments) == 0

    assert f"published: {classified / 'rows' / '3'}" in capsys.readouterr().out
    second, third = (Detector.load(classified / "rows" / version) for version in "23")
    samples = load_breast_cancer().data[:50]
    np.testing.assert_array_equal(second.classify(samples).probability, third.classify(samples).probability)
    assert third.manifest.classifier.temperature == second.manifest.classifier.temperature
    assert (classified / "rows" / "3" / "README.md").read_text().count("## Classifier") == 1


def test_many_labels_are_split(store, tmp_path):
    """From 2,000 labels on the figures come from a test split that is not used in the fit."""
    shutil.copytree(store, tmp_path / "models")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 8, size=(2100, 8, 8)).astype(np.uint8)
    bright = np.arange(2100) % 2 == 1
    images[bright] += 8
    path = tmp_path / "two.npz"
    np.savez(path, X=images, y=np.where(bright, "bright", "dark"))

    arguments = ["--model", str(tmp_path / "models" / "images"), "--data", str(path), "--epochs", "1"]
    assert finetune.main(arguments) == 0

    classifier = Detector.load(tmp_path / "models" / "images" / "2").manifest.classifier
    assert classifier.evaluation["method"] == "test split"
    assert classifier.evaluation["n_samples"] == pytest.approx(0.15 * 2100, abs=3)
    assert classifier.evaluation["accuracy"]["value"] > 0.95


@pytest.mark.parametrize("brings_test", [False, True])
def test_a_class_of_two_is_fitted_on_however_labels_are_split(brings_test):
    """The three parts share no sample."""
    for rare_first in range(25):
        targets = np.full(2000, 3)
        targets[: rare_first + 3] = 0
        targets[-5:-3], targets[-2:] = 1, 4

        parts = stages._split(np.arange(2000), targets, seed=rare_first, brings_test=brings_test)

        assert sorted(np.concatenate(parts)) == list(range(2000))
        assert set(targets[parts[0]]) == {0, 1, 3, 4}
        assert [part.size / 2000 for part in parts[1:]] == pytest.approx(
            [0.15, 0 if brings_test else 0.15], abs=0.002
        )


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (["--epochs", "x"], "--epochs: must be a positive integer, got 'x'"),
        (["--learning-rate", "-1"], "--learning-rate: must be a positive number, got '-1'"),
        (["--seed", "-1"], "--seed: must be an integer of at least 0 and below 2**32, got '-1'"),
    ],
)
def test_flags_that_cannot_be_are_bad_usage(capsys, flag, words):
    """The error has the name of the flag."""
    with pytest.raises(SystemExit) as caught:
        finetune.main(["--model", "m", "--data", "d", *flag])

    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_a_model_without_weights_is_refused(tmp_path, capsys):
    """Nothing is published, and the error names a remedy."""
    store = ModelStore(tmp_path / "models")
    publish_model(store, "tiny")
    np.savez(tmp_path / "data.npz", X=np.random.default_rng(0).normal(size=(20, 3)), y=np.arange(20) % 2)

    status = finetune.main(["--model", str(store.root / "tiny"), "--data", str(tmp_path / "data.npz")])

    assert status == 1
    assert "model tiny version 1 has no weights.npz: fit it again" in capsys.readouterr().err
    assert store.versions("tiny") == [1]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (None, "data.npz has no labels: name their column with --label-column"),
        ([7] * 20, "data.npz has one class, '7': at least two are needed"),
        (
            ["a"] * 19 + ["b"],
            "every class needs at least 2 labelled samples to fit on, got 1 of 'b' in",
        ),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(tmp_path, capsys, labels, words):
    """The error comes before TensorFlow is imported."""
    store = ModelStore(tmp_path / "models")
    publish_model(store, "tiny")
    arrays = {"X": np.zeros((20, 3))} | ({} if labels is None else {"y": np.array(labels)})
    np.savez(tmp_path / "data.npz", **arrays)

    status = finetune.main(["--model", str(store.root / "tiny"), "--data", str(tmp_path / "data.npz")])

    assert status == 1
    assert words in capsys.readouterr().err


def test_command_line_prints_its_figures(classified, capsys):
    """The standard output has the figures of the manifest."""
    manifest = json.loads((classified / "rows" / "2" / "manifest.json").read_bytes())

    finetune._print_figures(manifest["classifier"]["evaluation"], 1.0)

    printed = capsys.readouterr().out
    assert "figures by cross-validation, 60 samples:" in printed
    assert f"accuracy: {manifest['classifier']['evaluation']['accuracy']['value']:.4f}" in printed

"""`Detector.classify`: labels and probabilities with a known answer, and the files that it requires."""

import dataclasses

import numpy as np
import pytest

from detector import Detector, ManifestError, ModelError, NoClassifier
from tests.detector.test_integrity import refusal, replace_arrays
from tests.model_folder import CLASSIFIER, expected_probability, linear_graphs, write_model_folder


def test_classify_names_the_likeliest_class(tmp_path):
    """Labels are texts, and probabilities have the order of the classes."""
    write_model_folder(tmp_path, classifier=CLASSIFIER)
    samples = np.array([[1, 3, 9], [3, 1, 9], [2, 2, 9]])

    result = Detector.load(tmp_path).classify(samples)

    assert result.label.tolist() == ["high", "low", "low"]
    assert result.classes == ("low", "high")
    assert result.probability.dtype == np.float32
    np.testing.assert_allclose(result.probability, expected_probability(samples), rtol=1e-5)


def test_classify_needs_a_classifier(detector):
    """The error names the model."""
    with pytest.raises(NoClassifier, match="model tiny version 1 has no classifier"):
        detector.classify(np.ones((1, 3)))


def test_classify_needs_no_latent(tmp_path):
    """A classifier is a graph of its own."""
    graphs = linear_graphs((3,), latent=False, classifier=True)
    write_model_folder(tmp_path, graphs, latent_shape=None, classifier=CLASSIFIER)

    detector = Detector.load(tmp_path)

    assert detector.manifest.verbs == ("score", "denoise", "classify")
    assert detector.classify([[2, 1, 0]]).label.tolist() == ["low"]


def test_self_test_covers_the_classifier(tmp_path):
    """Other probabilities than the exporter saw are refused, and so is a self-test without them."""
    write_model_folder(tmp_path, classifier=CLASSIFIER)
    replace_arrays(tmp_path, "golden.npz", probability=np.full((4, 2), 0.5))
    assert "classifier.onnx fails its self-test: probability differs" in refusal(tmp_path, ModelError)

    replace_arrays(tmp_path, "golden.npz", probability=None)
    assert "golden.npz must hold" in refusal(tmp_path, ManifestError)


def test_classifier_has_one_probability_for_each_class(tmp_path):
    """Manifest and graph must agree on their number."""
    write_model_folder(tmp_path, classifier=CLASSIFIER)
    three = dataclasses.replace(CLASSIFIER, classes=("a", "b", "c"), n_labelled={"a": 1, "b": 1, "c": 1})

    with pytest.raises(ModelError, match=r"classifier\.onnx: output probability must be float32"):
        write_and_load(tmp_path, three)


def write_and_load(folder, classifier):
    """Write a folder with another classifier in its manifest, and load it."""
    from detector.manifest import read_manifest, write_manifest

    write_manifest(folder, dataclasses.replace(read_manifest(folder)[0], classifier=classifier))
    return Detector.load(folder)

"""int8: the same decisions, rows that do not know each other, and a refusal where decisions change."""

import dataclasses
import json

import numpy as np
import onnx
import pytest

from detector import Detector
from detector.engine.graphs import RECONSTRUCTION
from detector.files import DECODER_FILE, ENCODER_FILE, MODEL_FILE
from detector.manifest import Threshold
from training import fit
from training.data.load import load_dataset
from training.errors import TrainingError
from training.networks.weights import load_network
from training.publishing import quantize
from training.publishing.calibrate import Calibration
from training.publishing.quantize import compare_decisions

pytestmark = pytest.mark.slow

FIT = ["--data", "digits", "--preset", "dense", "--epochs", "3", "--quantize", "int8"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A store with a quantised model, and the lines that its fit printed."""
    store = tmp_path_factory.mktemp("quantized")
    arguments = [*FIT, "--name", "digits", "--widths", "256", "--store", str(store)]
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        assert fit.main(arguments) == 0
    return store / "digits" / "1", lines


@pytest.fixture
def folder(fitted):
    """The published folder."""
    return fitted[0]


def test_agreement_and_speed_are_stated(fitted):
    """The figures are on stdout, in manifest, report and card."""
    folder, lines = fitted
    manifest = Detector.load(folder).manifest

    figures = manifest.training["quantization"]

    n_samples = manifest.threshold.n_calibration
    assert figures["scheme"] == "int8"
    assert figures["layers"] == 2
    assert figures["decisions"] == n_samples
    assert figures["agreement"] == 1 - figures["differing"] / n_samples >= quantize.LEAST_AGREEMENT
    assert 0 < figures["score_difference"] < 0.1
    assert [each["rows"] for each in figures["speed_up"]] == [1, 32, 256]
    line = next(line for line in lines if line.startswith("int8: "))
    assert f"{figures['agreement']:.4f} of {n_samples} decisions" in line
    assert json.loads((folder / "report.json").read_bytes())["quantization"] == json.loads(
        json.dumps(dict(figures))
    )
    for page in ("README.md", "report.html"):
        assert "2 wide layers compute in 8-bit integers" in (folder / page).read_text()


def test_rows_score_the_same_alone_and_in_any_batch(folder):
    """Inputs are scaled by constants, not by their batch, so the scores are equal to the bit."""
    detector = Detector.load(folder)
    samples = load_dataset("digits").samples[:300].astype(np.float32)
    samples[7] *= 1e6  # a neighbour far out
    scores = detector.score(samples).score

    for size in (1, 7, 64):
        parts = [detector.score(samples[start : start + size]).score for start in range(0, 300, size)]
        np.testing.assert_array_equal(np.concatenate(parts), scores)


def test_decoding_the_latent_is_the_reconstruction(folder):
    """All three graphs compute in integers, by the same constants."""
    detector = Detector.load(folder)
    samples = load_dataset("digits").samples[:64].astype(np.float32)

    decoded = detector.decode(detector.encode(samples))

    assert np.abs(decoded - detector.engine.run(samples, [RECONSTRUCTION])[RECONSTRUCTION]).max() <= 1e-5 * 16
    for name, layers in ((MODEL_FILE, 2), (ENCODER_FILE, 1), (DECODER_FILE, 1)):
        nodes = onnx.load(folder / name).graph.node
        assert sum(node.op_type == "MatMulInteger" for node in nodes) == layers
        assert {node.domain for node in nodes} == {""}


@pytest.mark.parametrize("value", [1e30, -1e30, 3e38])
def test_far_samples_have_finite_scores(folder, value):
    """Inputs beyond the training range are clipped, but the residual is computed from the sample."""
    result = Detector.load(folder).score(np.full((2, 8, 8), value, dtype=np.float32))

    assert np.isfinite(result.score).all()
    assert result.is_anomaly.all()


def test_training_goes_on_from_a_model_in_integers(folder):
    """Its weights are kept as they were fitted."""
    loaded = load_network(folder, Detector.load(folder))

    assert loaded.config.quantize == "int8"


def test_networks_without_a_wide_layer_are_refused_before_the_fit(tmp_path, capsys):
    """There is nothing to gain."""
    assert fit.main([*FIT, "--name", "small", "--store", str(tmp_path)]) == 1

    error = capsys.readouterr().err
    assert "quantize int8 needs a layer of at least 16384 weights, the largest here has 4096" in error
    assert "epoch" not in error


def test_too_many_other_decisions_publish_nothing(tmp_path, capsys, monkeypatch):
    """The sentence says how many; here every layer has one step for its inputs."""
    monkeypatch.setattr(quantize, "INPUT_STEPS", 1)
    monkeypatch.setattr(quantize, "WEIGHT_STEPS", 1)

    assert fit.main([*FIT, "--name", "coarse", "--widths", "256", "--store", str(tmp_path)]) == 1

    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: in int8 ")
    assert error.endswith(" agree, 0.995 have to; fit without --quantize")
    assert not (tmp_path / "coarse" / "1").exists()


def _calibration(scores, threshold):
    rule = Threshold(threshold, 0.05, "none", None, 1, len(scores), 1 / (len(scores) + 1))
    return Calibration(rule, np.array(scores, dtype=np.float64), None, {})


def test_decisions_are_compared_each_by_its_own_threshold():
    """A swap at the threshold is allowed however few the samples; scores that move with it change nothing."""
    float_scores, swapped = _calibration([1, 2, 3, 4], 2.5), _calibration([2, 5, 4, 7], 4.5)
    shifted = _calibration([2, 4, 6, 8], 5.0)

    assert compare_decisions(float_scores, shifted)["differing"] == 0
    assert compare_decisions(float_scores, swapped)["differing"] == 2
    assert compare_decisions(float_scores, swapped)["agreement"] == 0.5
    turned = dataclasses.replace(shifted, sample_scores=np.array([8.0, 6.0, 4.0, 2.0]))
    with pytest.raises(TrainingError, match=r"in int8 4 of 4 .* otherwise: 0\.0000 agree, 0\.995 have to"):
        compare_decisions(float_scores, turned)

"""`weights.npz`: the published network comes back, and nothing else does."""

import dataclasses

import numpy as np
import pytest

from detector import Detector
from detector.manifest import verbs_of
from training.errors import ConfigError, ExportError
from training.networks.weights import load_network


@pytest.mark.parametrize("name", ["rows_folder", "images_folder"])
def test_loaded_network_encodes_and_decodes_as_the_published_one(request, name):
    """Weights, scaling and configuration lead to the same function."""
    folder = request.getfixturevalue(name)
    detector = Detector.load(folder)
    with np.load(folder / "golden.npz") as golden:
        samples = golden["samples"]

    loaded = load_network(folder, detector)

    latent = loaded.autoencoder.encoder(loaded.scaling.apply(samples), training=False).numpy()
    decoded = loaded.autoencoder.decoder(latent, training=False).numpy()
    np.testing.assert_allclose(latent, detector.encode(samples), rtol=1e-4, atol=1e-5)
    raw = decoded * loaded.scaling.scale + loaded.scaling.offset
    expected = detector.decode(latent)
    np.testing.assert_allclose(raw, expected, atol=1e-4 * np.abs(expected).max())


def test_weights_are_plain_float32(rows_folder):
    """Arrays are numbered in the order of Keras, without pickles."""
    with np.load(rows_folder / "weights.npz", allow_pickle=False) as weights:
        assert {array.dtype for array in weights.values()} == {np.dtype("float32")}
        assert "encoder_0" in weights
        assert "decoder_0" in weights


def test_load_names_what_is_missing(detector, rows_folder):
    """A model of another tool has no weights, one of another release another configuration."""
    with pytest.raises(ConfigError, match=r"model tiny version 1 has no weights\.npz"):
        load_network(rows_folder, detector)
    detector.manifest = dataclasses.replace(
        detector.manifest, latent_shape=None, verbs=verbs_of(latent=False)
    )
    with pytest.raises(ConfigError, match=r"has no latent and so no encoder .* without --latent-dim 0"):
        load_network(rows_folder, detector)
    published = Detector.load(rows_folder)
    published.manifest = dataclasses.replace(published.manifest, training={"configuration": {"depth": 3}})
    with pytest.raises(ConfigError, match="configuration of model rows version 1 is one of another release"):
        load_network(rows_folder, published)


def test_load_refuses_weights_that_do_not_fit(rows_folder, tmp_path):
    """Missing weights, and weights that differ from those of the exported encoder, are refused."""
    detector = Detector.load(rows_folder)
    with np.load(rows_folder / "weights.npz") as stored:
        weights = dict(stored)
    with np.load(rows_folder / "golden.npz") as stored:
        np.savez(tmp_path / "golden.npz", **stored)
    np.savez(tmp_path / "weights.npz", **{name: weights[name] for name in weights if name != "encoder_0"})
    with pytest.raises(ConfigError, match=r"weights\.npz does not fit the encoder"):
        load_network(tmp_path, detector)

    np.savez(tmp_path / "weights.npz", **weights | {"encoder_0": weights["encoder_0"] * 1.01})
    with pytest.raises(ExportError, match=r"differs from the published encoder by"):
        load_network(tmp_path, detector)


def test_folder_tells_what_compression_costs(images_folder):
    """64 pixels to 8 components: the ratio by dtype, and an error that 8 bits hardly change."""
    detector = Detector.load(images_folder)

    costs = detector.manifest.evaluation["compression"]

    assert {dtype: cost["ratio"] for dtype, cost in costs.items()} == {"float32": 2, "float16": 4, "int8": 8}
    assert costs["int8"]["error"] == pytest.approx(costs["float32"]["error"], rel=0.02)
    assert detector.encode(np.zeros((1, 8, 8)), dtype="int8").dtype == np.int8
    for page in ("README.md", "report.html", "report.json"):
        assert "int8" in (images_folder / page).read_text()

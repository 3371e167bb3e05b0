"""A long fit whose result could not be published ends early; others continue as without the check."""

import functools

import numpy as np
import pytest

from training.config import FitConfig
from training.data.load import load_dataset
from training.errors import ExportError
from training.publishing.early import EarlyCheck, check_export
from training.publishing.graphs import export_graphs
from training.stages import build, prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared():
    """A sparse network for digits: penalties on its activations, which an export removes."""
    dataset = load_dataset("digits", kinds=["vector"])
    options = {"kind": "vector", "epochs": 1, "batch_size": 64}
    config = FitConfig.from_preset("dense-sparse", options).for_samples(dataset.sample_shape)
    return prepare(dataset, config)


@pytest.fixture
def built(prepared):
    """The network before its fit."""
    return build(prepared)


def fit(built, check=None):
    """Fit the network; return its weights."""
    from training.networks.fitting import fit_network

    split = (
        built.scaling.apply(built.dataset.samples[rows])
        for rows in (built.splits.train, built.splits.validation)
    )
    fit_network(built.autoencoder, *split, built.config, [] if check is None else [check])
    return built.autoencoder.encoder.get_weights()


def export_of(built):
    """Convert as the fit does."""
    return functools.partial(export_graphs, scaling=built.scaling)


def test_a_checked_fit_ends_with_the_same_weights(prepared, built, monkeypatch):
    """Whether a fit is long depends on the machine; its result does not."""
    monkeypatch.setattr("training.publishing.early.LONG_SECONDS", 0)
    exports = []

    def export(autoencoder):
        exports.append(autoencoder)
        return export_of(built)(autoencoder)

    checked = fit(built, EarlyCheck(built, export))
    unchecked = fit(build(prepared))

    assert exports == [built.autoencoder]
    for own, other in zip(checked, unchecked, strict=True):
        np.testing.assert_array_equal(own, other)


def test_a_network_that_differs_from_its_graphs_ends_the_fit(built, monkeypatch):
    """The sentence says so, and when."""
    monkeypatch.setattr("training.publishing.early.LONG_SECONDS", 0)

    def export(autoencoder):
        graphs = export_of(built)(autoencoder)
        autoencoder.decoder.set_weights([1.5 * weights for weights in autoencoder.decoder.get_weights()])
        return graphs

    with pytest.raises(
        ExportError, match=r"^the fit was ended early.*: model\.onnx differs from the network"
    ):
        fit(built, EarlyCheck(built, export))


def test_a_short_fit_is_not_checked(built, monkeypatch):
    """It may be as long as it likes if `--max-minutes` ends it."""
    monkeypatch.setattr("training.publishing.early.LONG_SECONDS", 0)

    fit(built, EarlyCheck(built, lambda autoencoder: pytest.fail("exported"), max_seconds=0.0))


def test_a_memory_is_checked_with_a_few_samples():
    """The memory is built at the end of a fit, so one of few samples stands in."""
    dataset = load_dataset("digits", kinds=["image"])
    config = FitConfig.from_preset("memory-image", {"kind": "image", "latent_dim": 0})
    built = build(prepare(dataset, config.for_samples(dataset.sample_shape)))
    exported = []

    def export(autoencoder):
        exported.append(autoencoder)
        return export_of(built)(autoencoder)

    check_export(built, export)

    assert exported[0].memory is not None
    assert built.autoencoder.memory is None

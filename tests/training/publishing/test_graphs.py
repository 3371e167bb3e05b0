"""The exported graphs are the network: same numbers, same bits alone and in any batch, always finite."""

import dataclasses
import math

import numpy as np
import onnx
import pytest
from scipy.ndimage import gaussian_filter

from detector.engine.graphs import open_sessions
from detector.files import DECODER_FILE, ENCODER_FILE, MODEL_FILE
from training.config import FitConfig
from training.data.scaling import Scaling
from training.errors import ExportError
from training.networks.architectures import Autoencoder, build_autoencoder
from training.networks.fitting import seed_everything
from training.publishing import graphs
from training.publishing.graphs import check_decisions, check_parity, export_graphs
from training.publishing.manifests import describe_score

CASES = {
    "dense-30": ("dense", {}, (30,)),
    "dense-wide": ("dense", {"widths": (256, 256), "latent_dim": 17}, (101,)),
    "dense-image": ("dense", {"kind": "image"}, (9, 7)),
    "conv-8x8": ("conv", {}, (8, 8)),
    "conv-28x28": ("conv", {}, (28, 28)),
    "conv-odd": ("conv", {"widths": (8, 12, 16)}, (21, 13)),
    "conv-rgb": ("conv", {}, (16, 20, 3)),
    "conv-one-channel": ("conv", {"widths": (8,)}, (5, 5, 1)),
    "conv-normalised": ("conv-rgb", {"widths": (8, 12), "strides": (1, 2), "dropout": 0.25}, (13, 9, 3)),
    "conv-map": ("conv-map", {}, (13, 11)),
    "conv-pool": ("conv-pool", {}, (28, 28)),
    "conv-pool-odd": ("conv-pool", {}, (11, 19, 3)),
    "conv-denoise": ("conv-denoise", {}, (9, 12)),
    "conv-restore": ("restore", {}, (28, 28)),
    "conv-restore-odd": ("restore", {"widths": (4, 6, 8)}, (11, 19, 3)),
    "conv-restore-normalised": ("restore", {"widths": (4, 6), "batch_norm": True}, (13, 9)),
    "rowwise": ("rowwise", {}, (9, 12)),
    "rowwise-rgb": ("rowwise", {}, (7, 5, 3)),
    "two-head": ("two-head", {}, (9, 12)),
    "dense-sparse": ("dense-sparse", {}, (11,)),
    "variational": ("variational", {}, (11,)),
    "dense-window": ("dense", {"kind": "sequence"}, (13, 3)),
    "rowwise-window": ("rowwise", {"kind": "sequence"}, (13, 3)),
    "conv1d": ("conv1d", {}, (21, 3)),
    "lstm": ("lstm", {}, (13, 3)),
    "lstm-deep": ("lstm", {"widths": (6,)}, (5, 1)),
    "lstm-plain": ("lstm-plain", {"widths": (9, 7)}, (13, 3)),
}


@dataclasses.dataclass
class Exported:
    """An untrained network and its export."""

    shape: tuple[int, ...]
    network: Autoencoder
    scaling: Scaling
    graphs: dict
    draft: object
    smoothing: float

    def samples(self, n, seed=1):
        """Return random samples round the scaling's offset."""
        drawn = np.random.default_rng(seed).normal(size=(n, *self.shape))
        return (self.scaling.offset + self.scaling.scale * drawn).astype(np.float32)

    def smooth(self, residual):
        """Return a residual as the score smooths it."""
        if self.smoothing == 0:
            return residual
        sigmas = (0, self.smoothing, self.smoothing, 0)[: residual.ndim]
        return gaussian_filter(residual, sigmas, mode="constant", radius=math.ceil(3 * self.smoothing))


def test_penalty_on_the_latent_is_not_exported():
    """A sparse autoencoder converts, and answers as if its L1 penalty had never been."""
    exported = _export("dense-sparse", {"kind": "vector"}, (9,))

    assert exported.graphs.keys() == {"model.onnx", "encoder.onnx", "decoder.onnx"}


@pytest.fixture(scope="module", params=CASES)
def exported(request):
    """Every architecture, with shapes that do not divide evenly among them."""
    return _export(*CASES[request.param])


def _export(preset, overrides, shape):
    seed_everything(0)
    config = FitConfig.from_preset(preset, overrides).for_samples(shape)
    network = build_autoencoder(config, shape)
    if config.kind == "image":
        scaling = Scaling(np.float32(0), np.float32(255))
    else:
        rng = np.random.default_rng(0)
        scaling = Scaling(
            rng.normal(size=shape).astype(np.float32), rng.uniform(0.1, 9, size=shape).astype(np.float32)
        )
    graphs = export_graphs(network, scaling, config.residual_smoothing)
    return Exported(
        shape,
        network,
        scaling,
        graphs,
        _Draft(shape, network.encoder.output_shape[1:]),
        config.residual_smoothing,
    )


def test_a_score_of_the_newest_steps_is_their_error_alone():
    """Old steps have none, so that contributions still are shares of the score; the rest stays as it was."""
    config = FitConfig.from_preset("dense", {"kind": "sequence", "scored_steps": 2}).for_samples((8, 3))
    network = build_autoencoder(config, (8, 3))
    scaling = Scaling(np.zeros((8, 3), np.float32), np.ones((8, 3), np.float32))
    samples = np.random.default_rng(0).normal(size=(5, 8, 3)).astype(np.float32)

    whole, newest = (
        {name: values.numpy() for name, values in graphs["model.onnx"].function(samples).items()}
        for graphs in (export_graphs(network, scaling), export_graphs(network, scaling, scored_steps=2))
    )

    assert newest["score"] == pytest.approx(whole["feature_error"][:, -2:].mean(axis=(1, 2)), rel=1e-5)
    assert newest["score"] == pytest.approx(newest["feature_error"].mean(axis=(1, 2)), rel=1e-5)
    assert not newest["feature_error"][:, :-2].any()
    assert (newest["reconstruction"] == whole["reconstruction"]).all()
    assert describe_score(config).startswith("mean over the features of the newest 2 steps of the squared")
    with pytest.raises(ExportError, match="at most the window, 8, got 9"):
        export_graphs(network, scaling, scored_steps=9)


@dataclasses.dataclass
class _Draft:
    """The part of a manifest that sessions need."""

    sample_shape: tuple[int, ...]
    latent_shape: tuple[int, ...]
    classifier: None = None


@pytest.fixture
def sessions(exported):
    """The graphs as they are served."""
    return open_sessions({name: graph.onnx for name, graph in exported.graphs.items()}, exported.draft)


def test_network_gives_back_the_shape_of_its_samples(exported):
    """Odd sizes survive halving and doubling."""
    assert exported.network.decoder.output_shape == (None, *exported.shape)


def test_graphs_agree_with_the_network(exported):
    """They agree for real batch sizes and extreme values."""
    differences = check_parity(exported.graphs, exported.draft, exported.samples(64), exported.scaling, 0.05)

    assert set(differences) == {
        f"{MODEL_FILE}:{name}" for name in ("score", "reconstruction", "feature_error", "latent")
    } | {
        f"{ENCODER_FILE}:latent",
        f"{DECODER_FILE}:reconstruction",
        f"{MODEL_FILE}:score (extreme inputs)",
    }
    assert max(differences.values()) <= graphs.PARITY_TOLERANCE


def test_score_is_the_mean_squared_error_of_scaled_values(exported, sessions):
    """NumPy and SciPy give the same score for the graph's reconstruction."""
    samples = exported.samples(32)
    outputs = sessions[MODEL_FILE].run(samples, ["score", "reconstruction", "feature_error"])

    scaled = (samples - exported.scaling.offset) / exported.scaling.scale
    expected = (outputs["reconstruction"] - exported.scaling.offset) / exported.scaling.scale
    heads = [expected]
    if exported.network.heads is not None:
        heads = [head.numpy() for head in exported.network.reconstructions(exported.network.encoder(scaled))]
        np.testing.assert_allclose(np.mean(heads, axis=0), expected, atol=1e-5)
    axes = tuple(range(1, samples.ndim))
    errors = [np.square(exported.smooth(scaled - head)).mean(axis=axes) for head in heads]
    np.testing.assert_allclose(outputs["score"], np.sum(errors, axis=0), rtol=1e-4)
    np.testing.assert_allclose(outputs["feature_error"].mean(axis=axes), outputs["score"], rtol=1e-5)


def test_reconstruction_is_decode_of_encode(exported, sessions):
    """The three graphs are one network."""
    samples = exported.samples(16)
    outputs = sessions[MODEL_FILE].run(samples, ["reconstruction", "latent"])
    latent = sessions[ENCODER_FILE].run(samples, ["latent"])["latent"]
    decoded = sessions[DECODER_FILE].run(latent, ["reconstruction"])["reconstruction"]

    np.testing.assert_allclose(latent, outputs["latent"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(decoded, outputs["reconstruction"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("batch", [2, 3, 7, 64, 255, 256, 300])
def test_a_row_has_the_same_bits_alone_and_in_any_batch(exported, sessions, batch):
    """Other rows in a batch do not change a score, to the last bit."""
    samples = exported.samples(batch)
    together = sessions[MODEL_FILE].run(samples, ["score"])["score"]
    rows = np.unique(np.linspace(0, batch - 1, 24).astype(int))
    alone = [sessions[MODEL_FILE].run(samples[row : row + 1], ["score"])["score"][0] for row in rows]

    np.testing.assert_array_equal(together[rows], np.array(alone, dtype=np.float32))


@pytest.mark.parametrize("value", [3.4028235e38, -3.4028235e38, 1e30, -1e20, 1e-38, 0.0])
def test_every_finite_input_has_a_finite_answer(exported, sessions, value):
    """Score, reconstruction and latent, however far the sample."""
    samples = np.full((2, *exported.shape), value, dtype=np.float32)

    for name, values in sessions[MODEL_FILE].run(samples, ["score", "reconstruction", "latent"]).items():
        assert np.isfinite(values).all(), name


def test_tensors_have_one_free_batch_dimension(exported):
    """Inputs and outputs have the same name for it."""
    model = onnx.load_from_string(exported.graphs[MODEL_FILE].onnx)

    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx.ml"}


def test_parity_holds_for_large_images():
    """Sums over 100,000 equal, extreme errors are no reason to refuse a graph that is right."""
    exported = _export("conv", {"widths": (4, 8), "latent_dim": 4}, (320, 320))

    differences = check_parity(exported.graphs, exported.draft, exported.samples(2), exported.scaling, 0.05)

    assert differences[f"{MODEL_FILE}:score (extreme inputs)"] < 1e-5


def test_parity_refuses_a_graph_that_differs():
    """A decoder with one other weight does not pass for its network."""
    exported = _export("dense", {"latent_dim": 4}, (6,))
    other = _export("dense", {"latent_dim": 4, "activation": "tanh"}, (6,))
    graphs = {**exported.graphs}
    graphs[DECODER_FILE] = dataclasses.replace(
        exported.graphs[DECODER_FILE], onnx=other.graphs[DECODER_FILE].onnx
    )

    with pytest.raises(ExportError, match=r"decoder\.onnx differs from the network: reconstruction by"):
        check_parity(graphs, exported.draft, exported.samples(64), exported.scaling, 0.05)


def test_parity_is_strict_about_scores_and_less_so_about_feature_errors():
    """Errors that differ by a little and have the same mean change no decision; other scores do."""
    exported = _export("dense", {"latent_dim": 4}, (6,))
    alternating = np.array([1, -1, 1, -1, 1, -1], dtype=np.float32)

    def check(change):
        graph = exported.graphs[MODEL_FILE]

        def function(samples):
            answers = graph.function(samples)
            return {**answers, "feature_error": answers["feature_error"] + change}

        graphs = {**exported.graphs, MODEL_FILE: dataclasses.replace(graph, function=function)}
        return check_parity(graphs, exported.draft, exported.samples(64), exported.scaling, 1.0)

    assert check(5e-4 * alternating)[f"{MODEL_FILE}:feature_error"] > graphs.PARITY_TOLERANCE
    with pytest.raises(ExportError, match=r"feature_error by .* at most 0\.001 is allowed"):
        check(0.1 * alternating)
    with pytest.raises(ExportError, match=r"score by .* at most 0\.0001 is allowed"):
        check(5e-4 * np.float32(6))


def test_parity_refuses_a_graph_with_other_tensors():
    """A file under the name of another graph is refused."""
    exported = _export("dense", {"latent_dim": 4}, (6,))
    graphs = {**exported.graphs, ENCODER_FILE: exported.graphs[MODEL_FILE]}

    with pytest.raises(ExportError, match=r"encoder\.onnx must have the outputs"):
        check_parity(graphs, exported.draft, exported.samples(64), exported.scaling, 0.05)


def test_decisions_may_differ_at_the_threshold_only():
    """A score that is the threshold may fall on either side; a clear one may not."""
    exported = _export("dense", {"latent_dim": 4}, (6,))
    samples = exported.samples(40)
    sessions = open_sessions({name: graph.onnx for name, graph in exported.graphs.items()}, exported.draft)
    scores = sessions[MODEL_FILE].run(samples, ["score"])["score"].astype(np.float64)

    counts = check_decisions(exported.graphs, samples, scores, float(np.median(scores)))

    assert counts["decisions"] == 40
    with pytest.raises(ExportError, match="40 decisions differ"):
        check_decisions(exported.graphs, samples, -scores, float(scores.min() / 2))


def test_parameters_are_those_of_the_layers():
    """30-64-32-8 and back, weights and biases counted by hand."""
    network = build_autoencoder(FitConfig.from_preset("dense", {"latent_dim": 8}), (30,))
    encoder = 30 * 64 + 64 + 64 * 32 + 32 + 32 * 8 + 8
    decoder = 8 * 32 + 32 + 32 * 64 + 64 + 64 * 30 + 30

    assert network.encoder.count_params() == encoder
    assert network.decoder.count_params() == decoder
    assert network.n_parameters == encoder + decoder

"""Every preset matches its row in the table of references, and every option has its effect."""

import keras
import numpy as np
import pytest

from training.config import ARCHITECTURES, FitConfig
from training.errors import ConfigError
from training.networks.architectures import build_autoencoder
from training.networks.fitting import seed_everything
from training.presets import PRESETS

# preset: sample shape, parameters of encoder and decoder, latent shape
REFERENCES = {
    "dense-simple": ((784,), 28_260, 29_008, (36,)),
    "dense-deep": ((784,), 244_452, 245_200, (36,)),
    "dense-reduce": ((784,), 226_660, 227_344, (100,)),
    "dense-narrow": ((784,), 52_584, 53_360, (8,)),
    "dense-lopsided": ((784,), 52_584, 7_056, (8,)),
    "dense-sparse": ((784,), 25_120, 25_872, (32,)),
    "dense-stacked": ((784,), 110_816, 111_568, (32,)),
    "rowwise": ((28, 28), 4_200, 4_220, (28, 8)),
    "conv-latent": ((28, 28), 98_946, 102_017, (2,)),
    "conv-map": ((28, 28), 196_456, 331, (14, 14, 1)),
    "conv-pool": ((28, 28), 1_904, 2_481, (4, 4, 8)),
    "conv-denoise": ((28, 28), 100, 1_001, (28, 28, 10)),
    "lstm": ((28, 28), 2_368, 1_088 + 252, (28, 8)),
    "two-head": ((28, 28), 116, 168, (28, 4)),
    "conv-rgb": ((32, 32, 3), 135_114, 176_067, (10,)),
    "conv-rgb-wide": ((32, 32, 3), 2_191_808, 2_232_259, (512,)),
    "conv-rgb-deep": ((32, 32, 3), 3_289_024, 3_329_475, (512,)),
    "conv-rgb-denoise": ((32, 32, 3), 135_114, 176_067, (10,)),
}


def build(preset, shape, **overrides):
    """Build the network of a preset for samples of a shape."""
    seed_everything(0)
    return build_autoencoder(FitConfig.from_preset(preset, overrides).for_samples(shape), shape)


@pytest.mark.parametrize("preset", REFERENCES)
def test_reference_preset_has_its_number_of_parameters(preset):
    """Encoder and decoder have exactly the published number of parameters, with the named latent size."""
    shape, n_encoder, n_decoder, latent_shape = REFERENCES[preset]

    network = build(preset, shape)

    assert (network.encoder.count_params(), network.decoder.count_params()) == (n_encoder, n_decoder)
    assert network.n_parameters == n_encoder + n_decoder
    assert network.encoder.output_shape[1:] == latent_shape
    assert network.decoder.output_shape[1:] == shape


@pytest.mark.parametrize(
    "preset", [name for name in REFERENCES if name.startswith("dense") and name != "dense-reduce"]
)
def test_dense_presets_take_images_as_they_are(preset):
    """The same network, whether pixels come as a row or as an image."""
    _, n_encoder, n_decoder, _ = REFERENCES[preset]

    assert build(preset, (28, 28), kind="image").n_parameters == n_encoder + n_decoder


@pytest.mark.parametrize("shape", [(28, 28), (11, 13), (21, 32, 3)])
@pytest.mark.parametrize(
    "preset",
    [name for name, preset in PRESETS.items() if "image" in preset.kinds and name != "conv-rgb-deep"],
)
def test_every_image_preset_takes_images_of_any_size(preset, shape):
    """The decoder's output has the size of the image, odd sizes included."""
    network = build(preset, shape, kind="image")

    samples = np.random.default_rng(0).uniform(size=(2, *shape)).astype(np.float32)
    assert network.decoder(network.encoder(samples)).shape == (2, *shape)


@pytest.mark.parametrize(
    ("preset", "shape", "sentence"),
    [
        (
            "conv-map",
            (9, 30),
            "architecture conv-map with 1 widths needs images of at least 10 x 10 pixels",
        ),
        ("conv-pool", (7, 7), "architecture conv-pool with 3 widths needs images of at least 8 x 8 pixels"),
    ],
)
def test_images_too_small_for_a_network_are_refused(preset, shape, sentence):
    """The error names the size, before anything is fitted."""
    with pytest.raises(ConfigError, match=sentence):
        build(preset, shape)


@pytest.mark.parametrize("preset", ["dense", "conv1d", "lstm-plain", "lstm", "rowwise", "variational"])
@pytest.mark.parametrize("shape", [(28, 1), (13, 5)])
def test_every_sequence_preset_takes_windows_of_any_size(preset, shape):
    """Odd lengths and single channels work, too."""
    network = build(preset, shape, kind="sequence")

    windows = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    assert network.decoder(network.encoder(windows)).shape == (2, *shape)


def test_restoring_network_has_the_same_weights_for_any_size():
    """Convolutions alone: layers counted by hand, a latent of a quarter of each side."""
    small, large = build("restore", (28, 28)), build("restore", (35, 90))

    pair = {n: 2 * (9 * n * n + n) for n in (16, 32, 64)}
    encoder = (9 * 16 + 16) + (9 * 16 * 32 + 32 + pair[32]) + (9 * 32 * 64 + 64 + pair[64])
    decoder = pair[64] + (16 * 64 * 32 + 32 + pair[32]) + (16 * 32 * 16 + 16 + pair[16]) + (9 * 16 + 1)
    for network in (small, large):
        assert (network.encoder.count_params(), network.decoder.count_params()) == (encoder, decoder)
    assert small.encoder.output_shape[1:] == (7, 7, 64)
    assert large.encoder.output_shape[1:] == (9, 23, 64)


def test_batch_normalisation_and_dropout_are_options_of_convolutions():
    """Four values for each filter of every layer but the last; dropout has none."""
    plain, normalised = build("conv-latent", (28, 28)), build("conv-latent", (28, 28), batch_norm=True)
    dropped = build("conv-latent", (28, 28), dropout=0.25)

    assert normalised.n_parameters - plain.n_parameters == 4 * (32 + 64 + 64 + 64 + 64 + 64 + 32)
    assert dropped.n_parameters == plain.n_parameters
    for half in (dropped.encoder, dropped.decoder):
        assert any(isinstance(layer, keras.layers.Dropout) for layer in half.layers)


def test_sparse_latent_adds_its_activations_to_the_loss():
    """The L1 norm of a batch's latents, for one sample, times the weight."""
    network = build("dense-sparse", (784,))
    samples = np.random.default_rng(0).uniform(size=(5, 784)).astype(np.float32)

    latent = network.fit_encoder(samples).numpy()

    np.testing.assert_array_equal(latent, network.encoder(samples))
    assert float(network.fit_encoder.losses[0]) == pytest.approx(1e-4 * np.abs(latent).sum() / 5, rel=1e-5)


def test_variational_autoencoder_exports_its_mean_and_fits_a_draw():
    """The exported encoder is deterministic, the fitted one is not; the divergence enters the loss."""
    network = build("variational", (6,))
    samples = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)

    mean = network.encoder(samples).numpy()
    drawn = network.fit_encoder(samples, training=True).numpy()

    np.testing.assert_array_equal(network.encoder(samples, training=True), mean)
    np.testing.assert_array_equal(network.fit_encoder(samples, training=False), mean)
    assert np.abs(drawn - mean).max() > 0.1
    # Log variances start at 0, so only the means contribute to the divergence.
    expected = 0.001 * (0.5 * np.square(mean).sum(axis=1)).mean()
    assert float(network.fit_encoder.losses[0]) == pytest.approx(expected, rel=1e-4)


def test_heads_are_averaged_by_the_decoder():
    """The reconstruction of two heads is their mean."""
    network = build("two-head", (28, 28))
    latent = np.random.default_rng(0).normal(size=(3, 28, 4)).astype(np.float32)

    first, second = network.reconstructions(latent)

    np.testing.assert_allclose(network.decoder(latent), (first + second) / 2, atol=1e-6)


def test_every_architecture_has_a_preset():
    """Each architecture can be selected by name."""
    assert {FitConfig.from_preset(preset).architecture for preset in PRESETS} == set(ARCHITECTURES)

"""A fit that diverges keeps the best weights, or is refused."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from training.config import LOSSES, OPTIMIZERS, FitConfig
from training.errors import TrainingError
from training.networks.architectures import build_autoencoder
from training.networks.corruption import corrupted_copy
from training.networks.fitting import compiled_network, fit_autoencoder, seed_everything, signal_to_noise
from training.stages import _denoising_note

SAMPLES = np.random.default_rng(0).normal(size=(256, 6)).astype(np.float32)


def fit(callbacks=(), **overrides):
    """Fit a small network to random rows; return the network and its history."""
    seed_everything(0)
    config = (
        FitConfig.from_preset("dense", {"epochs": 6, **overrides}).for_samples((6,)).for_training((6,), 100)
    )
    autoencoder = build_autoencoder(config, (6,))
    return autoencoder, fit_autoencoder(autoencoder, SAMPLES, SAMPLES[:64], config, list(callbacks))


def test_a_fit_that_diverges_keeps_the_best_weights_before(capsys):
    """Every recorded loss and every output of the network is finite."""

    class Derail(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                self.model.optimizer.learning_rate = 1e30

    autoencoder, history = fit([Derail()])

    assert len(history.train_loss) == len(history.validation_loss) == 3
    assert np.isfinite([history.train_loss, history.validation_loss]).all()
    reconstruction = autoencoder.decoder(autoencoder.encoder(SAMPLES[:64])).numpy()
    assert np.square(reconstruction - SAMPLES[:64]).mean() == pytest.approx(
        history.validation_loss[history.best_epoch - 1], rel=1e-5
    )
    assert capsys.readouterr().out == ""


def test_a_fit_that_diverges_at_once_names_the_way_out(capsys):
    """The standard output stays empty, because it is for results."""
    with pytest.raises(TrainingError, match="try a smaller --learning-rate"):
        fit(learning_rate=1e30)

    assert capsys.readouterr().out == ""


RATES = {"adam": 0.003, "adamw": 0.003, "adadelta": 1.0, "sgd": 0.1}


@pytest.mark.parametrize(
    ("loss", "optimizer"),
    [*((loss, "adam") for loss in LOSSES), *(("mse", optimizer) for optimizer in OPTIMIZERS[1:])],
)
def test_every_loss_and_every_optimizer_learns_digits(loss, optimizer):
    """The loss is an eighth better than after the first epoch, at a rate that suits the optimizer."""
    digits = load_digits().images[:300].astype(np.float32) / 16
    given = {"loss": loss, "optimizer": optimizer, "learning_rate": RATES[optimizer], "epochs": 10}
    seed_everything(0)
    config = FitConfig.from_preset("dense", {**given, "kind": "image", "corruption": "none"})
    config = config.for_samples((8, 8)).for_training((8, 8), len(digits))

    history = fit_autoencoder(build_autoencoder(config, (8, 8)), digits, digits, config, [])

    assert min(history.validation_loss) < 7 / 8 * history.validation_loss[0]


def test_two_heads_are_fitted_to_two_losses():
    """Their sum is the loss, and both reconstructions get better."""
    seed_everything(0)
    config = FitConfig.from_preset("two-head", {"epochs": 30, "learning_rate": 0.01})
    config = config.for_samples((5, 6)).for_training((5, 6), 100)
    images = np.random.default_rng(0).uniform(size=(100, 1, 6)).astype(np.float32).repeat(5, axis=1)
    autoencoder = build_autoencoder(config, (5, 6))

    def errors():
        heads = autoencoder.reconstructions(autoencoder.encoder(images))
        return [float(np.square(head - images).mean()) for head in heads]

    before = errors()
    history = fit_autoencoder(autoencoder, images, images, config, [])

    assert all(after < earlier for after, earlier in zip(errors(), before, strict=True))
    bce, mse = (
        float(loss(images, head))
        for loss, head in zip(
            (keras.losses.BinaryCrossentropy(), keras.losses.MeanSquaredError()),
            autoencoder.reconstructions(autoencoder.encoder(images)),
            strict=True,
        )
    )
    assert min(history.validation_loss) == pytest.approx(bce + mse, rel=1e-4)


def test_a_denoising_network_is_judged_by_what_it_denoises():
    """The validation loss is computed on corrupted inputs, or on clean ones if the configuration says so."""
    digits = load_digits().images[:64].astype(np.float32) / 16

    def fit_digits(**overrides):
        given = {"widths": (4, 6), "epochs": 1, "learning_rate": 1e-9, "corruption_level": 0.8}
        seed_everything(0)
        config = FitConfig.from_preset("restore", {**given, **overrides}).for_training((8, 8), 64)
        autoencoder = build_autoencoder(config, (8, 8))
        history = fit_autoencoder(autoencoder, digits, digits, config, [])
        return config, history.validation_loss[0], autoencoder

    def loss(autoencoder, samples):
        restored = autoencoder.decoder(autoencoder.encoder(samples))
        return float(np.mean(keras.losses.BinaryCrossentropy()(digits, restored)))

    config, restoring, autoencoder = fit_digits()
    assert restoring == pytest.approx(loss(autoencoder, corrupted_copy(digits, config)), rel=1e-4)
    _, rebuilding, autoencoder = fit_digits(corrupt_validation=False)
    assert rebuilding == pytest.approx(loss(autoencoder, digits), rel=1e-4)
    assert abs(restoring - rebuilding) > 1e-3


def test_the_learning_rate_rises_over_the_warmup():
    """The rate rises linearly to its value and then stays."""
    config = FitConfig.from_preset("dense", {"learning_rate": 0.1, "warmup_steps": 4}).for_samples((6,))
    network = compiled_network(build_autoencoder(config, (6,)), config.for_training((6,), 256), (6,))
    rates = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    network.fit(SAMPLES, SAMPLES, batch_size=32, epochs=1, verbose=0, callbacks=[Record()])

    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1, 0.1])


def test_signal_to_noise_is_measured_before_and_after():
    """Noise of a tenth of the range is 20 dB before, and an untrained network makes it worse."""
    flat = np.full((300, 8, 8), 0.3, dtype=np.float32)
    seed_everything(0)
    given = {"widths": (4, 6), "corruption_level": 0.1}
    config = FitConfig.from_preset("restore", given).for_training((8, 8), 300)
    autoencoder = build_autoencoder(config, (8, 8))

    before, after = signal_to_noise(autoencoder, flat, config)

    restored = autoencoder.decoder(autoencoder.encoder(corrupted_copy(flat, config))).numpy()
    assert before == pytest.approx(20, abs=0.1)
    assert after == pytest.approx(-10 * np.log10(np.square(restored - flat).mean()), abs=1e-3)
    assert after < 15


def test_denoising_that_harms_is_said_so():
    """The note has advice."""
    assert _denoising_note(10.0, 23.456) == (
        "corrupted validation samples are denoised from 10.00 to 23.46 dB"
    )
    assert "worse than leaving them alone: bring more samples" in _denoising_note(25.4, 21.9)

"""A fit that diverges keeps what was good, or says so."""

import keras
import numpy as np
import pytest

from training.architectures import build_autoencoder
from training.config import FitConfig
from training.errors import TrainingError
from training.fitting import fit_autoencoder, seed_everything

SAMPLES = np.random.default_rng(0).normal(size=(256, 6)).astype(np.float32)


def fit(callbacks=(), **overrides):
    """A small network fitted to random rows: itself, and how it went."""
    seed_everything(0)
    config = (
        FitConfig.from_preset("dense", {"epochs": 6, **overrides}).for_samples((6,)).for_training((6,), 100)
    )
    autoencoder = build_autoencoder(config, (6,))
    return autoencoder, fit_autoencoder(autoencoder, SAMPLES, SAMPLES[:64], config, list(callbacks))


def test_a_fit_that_diverges_keeps_the_best_weights_before(capsys):
    """Every recorded loss is finite, and so is what the network answers."""

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
    """Nothing on stdout: that is for results."""
    with pytest.raises(TrainingError, match="try a smaller --learning-rate"):
        fit(learning_rate=1e30)

    assert capsys.readouterr().out == ""

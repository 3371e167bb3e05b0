"""Fits an autoencoder: corrupted samples in, clean samples out, the best weights kept."""

import dataclasses
import time

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from training.architectures import Autoencoder
from training.config import FitConfig
from training.corruption import corrupt
from training.errors import TrainingError

_LOSSES = {
    "mse": keras.losses.MeanSquaredError,
    "mae": keras.losses.MeanAbsoluteError,
    "bce": keras.losses.BinaryCrossentropy,
    "huber": keras.losses.Huber,
}


@dataclasses.dataclass(frozen=True)
class History:
    """How a fit went.

    Attributes
    ----------
    train_loss, validation_loss : tuple of float
        One for each epoch, finite; the first over corrupted inputs, the second over clean ones.
    best_epoch : int
        From 1; its weights were kept.
    seconds : float
        Wall-clock time.
    """

    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    best_epoch: int
    seconds: float


def seed_everything(seed: int) -> None:
    """Make Keras, TensorFlow and NumPy repeat themselves on this machine."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def fit_autoencoder(
    autoencoder: Autoencoder,
    train: np.ndarray,
    validation: np.ndarray,
    config: FitConfig,
    callbacks: list[keras.callbacks.Callback],
) -> History:
    """Fit in place; a fit that diverges ends, and the best weights before are kept.

    Parameters
    ----------
    autoencoder : Autoencoder
    train, validation : ndarray of shape (n_samples, *sample_shape), float32
        Scaled.
    config : FitConfig
    callbacks : list of keras.callbacks.Callback
        To show progress.

    Raises
    ------
    TrainingError
        If not even the first epoch had finite losses.
    """
    samples = layers.Input(train.shape[1:])
    latent = autoencoder.encoder(corrupt(samples, config))
    network = keras.Model(samples, autoencoder.decoder(latent))
    network.compile(keras.optimizers.Adam(config.learning_rate), _LOSSES[config.loss]())
    stopping = [keras.callbacks.EarlyStopping(patience=config.patience, restore_best_weights=True)]
    if config.max_minutes is not None:
        stopping.append(_TimeLimit(config.max_minutes * 60))
    start = time.monotonic()
    losses = network.fit(
        train,
        train,
        validation_data=(validation, validation),
        batch_size=config.batch_size,
        epochs=config.epochs,
        verbose=0,
        callbacks=[*stopping, _StopAtInfinity(), *callbacks],
    ).history
    train_loss, validation_loss = np.array(losses["loss"]), np.array(losses["val_loss"])
    finite = np.isfinite(train_loss) & np.isfinite(validation_loss)
    if not finite[0]:
        raise TrainingError("the loss is infinite after one epoch: try a smaller --learning-rate")
    return History(
        train_loss=tuple(train_loss[finite].tolist()),
        validation_loss=tuple(validation_loss[finite].tolist()),
        best_epoch=int(np.argmin(validation_loss[finite])) + 1,
        seconds=time.monotonic() - start,
    )


class _StopAtInfinity(keras.callbacks.Callback):
    """Ends a fit after the first epoch with a loss that is not finite: what follows is not better."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Look at both losses."""
        if not np.isfinite(list((logs or {}).values())).all():
            self.model.stop_training = True


class _TimeLimit(keras.callbacks.Callback):
    """Ends a fit after the epoch in which the time ran out."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end = time.monotonic() + seconds

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the clock."""
        if time.monotonic() > self._end:
            self.model.stop_training = True

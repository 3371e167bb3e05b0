"""Fit an autoencoder from corrupted to clean samples, and keep the best weights."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from training.config import FitConfig
from training.data.dataset import spread
from training.errors import TrainingError
from training.memories.images_keras import remember_images
from training.memories.rows_keras import remember
from training.memories.windows_keras import remember_windows
from training.networks.architectures import Autoencoder
from training.networks.corruption import CHUNK, corrupt, corrupted_copy

_OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "adamw": keras.optimizers.AdamW,
    "adadelta": keras.optimizers.Adadelta,
    "sgd": functools.partial(keras.optimizers.SGD, momentum=0.9, nesterov=True),
}
_MEMORIES = {"memory": remember, "memory-image": remember_images, "memory-window": remember_windows}
MOST_BESIDE_MEMORY = 20_000  # samples for the autoencoder; more only take longer
SSIM_WINDOW = 11  # pixels of the Gaussian window, fewer for smaller images


@dataclasses.dataclass(frozen=True)
class History:
    """How a fit went.

    Attributes
    ----------
    train_loss, validation_loss : tuple of float
        One for each epoch, finite; the first over corrupted inputs, the second over clean ones or, with
        `corrupt_validation`, over inputs corrupted once.
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
    """Make the results of Keras, TensorFlow and NumPy repeatable on this machine."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def fit_network(
    autoencoder: Autoencoder,
    train: np.ndarray,
    validation: np.ndarray,
    config: FitConfig,
    callbacks: list[keras.callbacks.Callback],
) -> tuple[Autoencoder, History | None]:
    """Fit encoder and decoder in place, and fit a memory to both splits.

    Parameters
    ----------
    autoencoder : Autoencoder
        As built.
    train, validation, config, callbacks
        As for `fit_autoencoder`.

    Returns
    -------
    tuple of Autoencoder and History
        The autoencoder with its memory; the history is None if there is no encoder to fit.

    Raises
    ------
    TrainingError
        As `fit_autoencoder`.
    """
    history = None
    if autoencoder.encoder is not None:
        chosen = train[spread(len(train), MOST_BESIDE_MEMORY)] if config.has_memory else train
        history = fit_autoencoder(autoencoder, chosen, validation, config, callbacks)
    if config.has_memory:
        memory = build_memory(np.concatenate([train, validation]), config)
        autoencoder = dataclasses.replace(autoencoder, memory=memory)
    return autoencoder, history


def build_memory(samples: np.ndarray, config: FitConfig) -> keras.Model:
    """Build the memory autoencoder of scaled normal samples; nothing in it is left to fit."""
    return _MEMORIES[config.architecture](samples, config)


def fit_autoencoder(
    autoencoder: Autoencoder,
    train: np.ndarray,
    validation: np.ndarray,
    config: FitConfig,
    callbacks: list[keras.callbacks.Callback],
) -> History:
    """Fit in place; a fit that diverges ends, keeping the best weights before that.

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
        If the losses of the first epoch are not finite.
    """
    network = compiled_network(autoencoder, config, train.shape[1:])
    seconds = math.inf if config.max_minutes is None else config.max_minutes * 60
    stopping = keras.callbacks.EarlyStopping(patience=config.patience, restore_best_weights=True)
    start = time.monotonic()
    validation_inputs = corrupted_copy(validation, config) if config.corrupt_validation else validation
    losses = network.fit(
        train,
        targets(network, train),
        validation_data=(validation_inputs, targets(network, validation)),
        batch_size=config.batch_size,
        epochs=config.epochs,
        verbose=0,
        callbacks=[stopping, _Stop(seconds), *callbacks],
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


def signal_to_noise(
    autoencoder: Autoencoder, validation: np.ndarray, config: FitConfig
) -> tuple[float, float]:
    """Measure how well a fitted network undoes its corruption.

    Parameters
    ----------
    autoencoder : Autoencoder
    validation : ndarray of shape (n_samples, *sample_shape), float32
        Scaled and clean.
    config : FitConfig

    Returns
    -------
    tuple of float
        Signal-to-noise ratio before and after, dB, from the mean squared error over all samples; the signal
        is the value range or, without one, the standard deviation of a feature.
    """
    corrupted = corrupted_copy(validation, config)
    low, high = config.scaled_range or (0.0, 1.0)
    errors = [np.square(given - validation).mean() for given in (corrupted, rebuild(autoencoder, corrupted))]
    before, after = (float(10 * np.log10((high - low) ** 2 / error)) for error in errors)
    return before, after


def rebuild(autoencoder: Autoencoder, samples: np.ndarray) -> np.ndarray:
    """Reconstructions, shape and units of the scaled samples."""
    chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
    return np.concatenate([autoencoder.rebuild(chunk).numpy() for chunk in chunks])


def compiled_network(
    autoencoder: Autoencoder, config: FitConfig, sample_shape: tuple[int, ...]
) -> keras.Model:
    """The network that is fitted: corruption, encoder and decoder, with the configuration's losses.

    Its one target is the clean sample, for each head if there are several.
    """
    samples = layers.Input(sample_shape)
    encoder = autoencoder.fit_encoder or autoencoder.encoder
    latent = encoder(corrupt(samples, config))
    outputs = (autoencoder.heads or autoencoder.decoder)(latent)
    network = keras.Model(samples, outputs)
    losses = [_loss(name, config) for name in config.losses]
    rate = _Warmup(config.learning_rate, config.warmup_steps) if config.warmup_steps else config.learning_rate
    optimizer = _OPTIMIZERS[config.optimizer](rate)
    network.compile(optimizer, losses if autoencoder.heads else losses[0])
    # Variables that are created while a step is traced make TensorFlow trace that step twice.
    optimizer.build(network.trainable_variables)
    return network


def targets(network: keras.Model, samples: np.ndarray) -> np.ndarray | list[np.ndarray]:
    """Targets of the fit: the clean samples, once for each head."""
    n_heads = len(network.outputs)
    return [samples] * n_heads if n_heads > 1 else samples


def _loss(name: str, config: FitConfig) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    if name == "ssim":
        low, high = config.scaled_range
        return functools.partial(_structural_dissimilarity, span=high - low)
    return {
        "mse": keras.losses.MeanSquaredError,
        "mae": keras.losses.MeanAbsoluteError,
        "bce": keras.losses.BinaryCrossentropy,
        "huber": keras.losses.Huber,
    }[name]()


def _structural_dissimilarity(samples: tf.Tensor, decoded: tf.Tensor, span: float) -> tf.Tensor:
    """1 - SSIM of each image, in [0, 2].

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli (2004). Image quality assessment: from error visibility to structural
    similarity. IEEE Transactions on Image Processing 13(4), 600-612.
    """
    height, width, channels = (*samples.shape[1:], 1)[:3]
    images = [tf.reshape(batch, (-1, height, width, channels)) for batch in (samples, decoded)]
    return 1 - tf.image.ssim(*images, max_val=span, filter_size=min(SSIM_WINDOW, height, width))


class _Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises in a line to its value over the first steps."""

    def __init__(self, rate: float, steps: int) -> None:
        self._rate, self._steps = rate, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate of a step, the first being 0."""
        return self._rate * tf.minimum(1.0, (tf.cast(step, tf.float32) + 1) / self._steps)


class _Stop(keras.callbacks.Callback):
    """Ends a fit after the epoch in which the time ran out, or a loss became infinite."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._end = time.monotonic() + seconds

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the clock and at both losses."""
        if time.monotonic() > self._end or not np.isfinite(list((logs or {}).values())).all():
            self.model.stop_training = True

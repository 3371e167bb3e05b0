"""A classifier on a fitted encoder: network, fit and logits, in scaled units."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import layers

# Chosen on MNIST, digits and ECG5000 with 10 to 200 labels, by validation: see docs/decisions/0008.
HIDDEN = 64
NOISE = 0.3  # standard deviation in scaled units; without it few samples are memorised
BATCH_SIZE = 32
LEAST_STEPS, LEAST_EPOCHS = 200, 30
PREDICT_ROWS = 500


@dataclasses.dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is fitted.

    Attributes
    ----------
    learning_rate : float
        Learning rate of Adam, positive.
    epochs : int or None
        Passes over the labelled samples; None for at least `LEAST_STEPS` steps and `LEAST_EPOCHS` epochs.
    seed : int
        Seed of head, batches and noise.
    """

    learning_rate: float = 0.001
    epochs: int | None = None
    seed: int = 0

    def epochs_for(self, n_samples: int) -> int:
        """Passes over so many samples."""
        steps_of_epoch = math.ceil(n_samples / BATCH_SIZE)
        return self.epochs or max(LEAST_EPOCHS, math.ceil(LEAST_STEPS / steps_of_epoch))


class ClassifierNetwork:
    """An encoder and a head on its latent and, if the last layer is dense, on the layer before it.

    A small latent has lost much of the information that tells classes apart, and the layer before it has not.
    Both are standardised by the labelled samples, so that the head sees values of one size for any encoder.

    Parameters
    ----------
    encoder : keras.Model
        (batch, *sample_shape) -> (batch, *latent_shape); fitted further in place.
    n_classes : int
        At least 2.
    """

    def __init__(self, encoder: keras.Model, n_classes: int) -> None:
        self.encoder = encoder
        self._features = keras.Model(encoder.input, _features(encoder))
        size = self._features.output_shape[-1]
        features = layers.Input((size,))
        hidden = layers.Dense(HIDDEN, activation="relu")(features)
        self._head = keras.Model(features, layers.Dense(n_classes)(hidden))
        self._mean, self._spread = tf.Variable(tf.zeros(size)), tf.Variable(tf.ones(size))
        self._trained = [*self._features.trainable_variables, *self._head.trainable_variables]
        self._optimizer = keras.optimizers.Adam()
        self._optimizer.build(self._trained)
        self._fresh = [variable.numpy() for variable in self._optimizer.variables]
        self._step = tf.function(self._descend, reduce_retracing=True)
        self._predict = tf.function(self.logits_of, reduce_retracing=True)

    def fit(
        self,
        samples: np.ndarray,
        targets: np.ndarray,
        encoder_weights: Sequence[np.ndarray],
        config: ClassifierConfig,
    ) -> None:
        """Fit from these encoder weights, discarding any earlier fit.

        Parameters
        ----------
        samples : ndarray of shape (n_samples, *sample_shape), float32
            Scaled.
        targets : ndarray of shape (n_samples,), int
            Classes from 0.
        encoder_weights : sequence of ndarray
            In Keras' order.
        config : ClassifierConfig
        """
        keras.utils.set_random_seed(config.seed)
        self.encoder.set_weights(list(encoder_weights))
        self._head.set_weights(keras.models.clone_model(self._head).get_weights())
        for variable, value in zip(self._optimizer.variables, self._fresh, strict=True):
            variable.assign(value)
        self._optimizer.learning_rate.assign(config.learning_rate)
        self._standardise(samples)
        targets = targets.astype(np.int64)
        rng = np.random.default_rng(config.seed)
        for _ in range(config.epochs_for(len(samples))):
            order = rng.permutation(len(samples))
            for start in range(0, len(samples), BATCH_SIZE):
                rows = order[start : start + BATCH_SIZE]
                self._step(tf.constant(samples[rows]), tf.constant(targets[rows]))

    def logits(self, samples: np.ndarray) -> np.ndarray:
        """One value for each class, shape (n_samples, n_classes), float64."""
        return _in_chunks(self._predict, samples)

    def logits_of(self, samples: tf.Tensor) -> tf.Tensor:
        """The same as a function of tensors."""
        features = (self._features(samples, training=False) - self._mean) / self._spread
        return self._head(features, training=False)

    def exported(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """`logits_of` with the standardisation as NumPy constants, as an export needs them."""
        mean, spread = self._mean.numpy(), self._spread.numpy()

        def logits(samples: tf.Tensor) -> tf.Tensor:
            features = self._features(samples, training=False)
            return self._head((features - mean) / spread, training=False)

        return logits

    def _standardise(self, samples: np.ndarray) -> None:
        """Standardise features by their means, and by the average of own and mean variance."""
        features = _in_chunks(lambda chunk: self._features(chunk, training=False), samples)
        variance = features.var(axis=0)
        spread = np.sqrt(0.5 * variance + 0.5 * variance.mean() + 1e-12)
        self._mean.assign(features.mean(axis=0).astype(np.float32))
        self._spread.assign(spread.astype(np.float32))

    def _descend(self, samples: tf.Tensor, targets: tf.Tensor) -> None:
        """Take one step of the optimizer on a batch."""
        noisy = samples + tf.random.normal(tf.shape(samples), stddev=NOISE)
        with tf.GradientTape() as tape:
            # Layers as in serving: batches are too small for batch normalisation.
            features = (self._features(noisy, training=False) - self._mean) / self._spread
            logits = self._head(features, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits))
        self._optimizer.apply(tape.gradient(loss, self._trained), self._trained)


def _in_chunks(function: Callable[[tf.Tensor], tf.Tensor], samples: np.ndarray) -> np.ndarray:
    """Results for `PREDICT_ROWS` samples at a time, concatenated, float64."""
    starts = range(0, len(samples), PREDICT_ROWS)
    parts = [function(tf.constant(samples[start : start + PREDICT_ROWS])).numpy() for start in starts]
    return np.concatenate(parts).astype(np.float64)


def _features(encoder: keras.Model) -> keras.KerasTensor:
    last = encoder.layers[-1]
    latent = layers.Flatten()(encoder.output)
    if not isinstance(last, layers.Dense):
        return latent
    return layers.Concatenate()([layers.Flatten()(last.input), latent])

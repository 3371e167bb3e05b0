"""A configuration and a sample shape -> Keras encoder and decoder, in scaled units."""

import dataclasses
import math

import keras
from keras import layers

from training.config import FitConfig


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """Two models that fit together; both work on scaled values.

    Attributes
    ----------
    encoder : keras.Model
        (batch, *sample_shape) -> (batch, latent_dim).
    decoder : keras.Model
        (batch, latent_dim) -> (batch, *sample_shape).
    """

    encoder: keras.Model
    decoder: keras.Model

    @property
    def n_parameters(self) -> int:
        """Weights of both."""
        return self.encoder.count_params() + self.decoder.count_params()


def build_autoencoder(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """Build the network of a configuration, its weights drawn from Keras' global seed."""
    output_activation = "sigmoid" if config.kind == "image" else "linear"
    return _BUILDERS[config.architecture](config, sample_shape, output_activation)


def _dense(config: FitConfig, sample_shape: tuple[int, ...], output_activation: str) -> Autoencoder:
    """Dense layers of the given widths down to the latent, and their mirror."""
    samples = layers.Input(sample_shape)
    hidden = layers.Flatten()(samples)
    for width in config.widths:
        hidden = layers.Dense(width, activation=config.activation)(hidden)
    encoder = keras.Model(samples, layers.Dense(config.latent_dim)(hidden), name="encoder")

    latent = layers.Input((config.latent_dim,))
    hidden = latent
    for width in reversed(config.widths):
        hidden = layers.Dense(width, activation=config.activation)(hidden)
    hidden = layers.Dense(math.prod(sample_shape), activation=output_activation)(hidden)
    decoder = keras.Model(latent, layers.Reshape(sample_shape)(hidden), name="decoder")
    return Autoencoder(encoder, decoder)


def _conv(config: FitConfig, sample_shape: tuple[int, ...], output_activation: str) -> Autoencoder:
    """3x3 convolutions of stride 2 down to a dense latent, and their transposed mirror.

    Input shape: (batch, height, width) or (batch, height, width, channels); output shape the same.
    """
    height, width, channels = (*sample_shape, 1)[:3]
    samples = layers.Input(sample_shape)
    hidden = layers.Reshape((height, width, channels))(samples)
    sizes = []
    for filters in config.widths:
        sizes.append(hidden.shape[1:3])
        hidden = layers.Conv2D(filters, 3, strides=2, padding="same", activation=config.activation)(hidden)
    map_shape = hidden.shape[1:]
    hidden = layers.Dense(config.latent_dim)(layers.Flatten()(hidden))
    encoder = keras.Model(samples, hidden, name="encoder")

    latent = layers.Input((config.latent_dim,))
    hidden = layers.Dense(math.prod(map_shape), activation=config.activation)(latent)
    hidden = layers.Reshape(map_shape)(hidden)
    activations = [config.activation] * (len(sizes) - 1) + [output_activation]
    outputs = [*config.widths[-2::-1], channels]
    for filters, activation, size in zip(outputs, activations, reversed(sizes), strict=True):
        hidden = layers.Conv2DTranspose(filters, 3, strides=2, padding="same", activation=activation)(hidden)
        hidden = _crop(hidden, size)
    decoder = keras.Model(latent, layers.Reshape(sample_shape)(hidden), name="decoder")
    return Autoencoder(encoder, decoder)


def _crop(maps: keras.KerasTensor, size: tuple[int, int]) -> keras.KerasTensor:
    """Doubling an odd size that was halved gives one row or column too many: cut it off."""
    excess = tuple((0, got - wanted) for got, wanted in zip(maps.shape[1:3], size, strict=True))
    return maps if excess == ((0, 0), (0, 0)) else layers.Cropping2D(excess)(maps)


_BUILDERS = {"dense": _dense, "conv": _conv}

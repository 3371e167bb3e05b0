"""Build the Keras encoder and decoder of a configuration, in scaled units; `_BUILDERS` lists the families."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import layers, ops

from training.config import FitConfig
from training.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """The Keras models of one autoencoder; all of them work on scaled values.

    Attributes
    ----------
    encoder : keras.Model, or None
        (batch, *sample_shape) -> (batch, *latent_shape). None if there is only a memory.
    decoder : keras.Model, or None
        (batch, *latent_shape) -> (batch, *sample_shape).
    fit_encoder : keras.Model, or None
        Replaces the encoder while fitting: it draws the latent from its distribution, or adds the penalty on
        the latent to the loss. None if the encoder itself is fitted.
    heads : keras.Model, or None
        (batch, *latent_shape) -> one reconstruction for each loss; `decoder` returns their mean. None if
        there is one reconstruction.
    memory : keras.Model, or None
        (batch, *sample_shape) -> reconstruction and feature error, both (batch, *sample_shape), instead of
        the outputs of encoder and decoder. None for other architectures.
    """

    encoder: keras.Model | None
    decoder: keras.Model | None
    fit_encoder: keras.Model | None = None
    heads: keras.Model | None = None
    memory: keras.Model | None = None

    @property
    def n_parameters(self) -> int:
        """Number of exported weights, trained or not."""
        return sum(model.count_params() for model in (self.encoder, self.decoder, self.memory) if model)

    @property
    def latent_shape(self) -> tuple[int, ...] | None:
        """Shape of one latent vector; None without a bottleneck."""
        return None if self.encoder is None else self.encoder.output_shape[1:]

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return (self.memory or self.encoder).input_shape[1:]

    def rebuild(self, scaled: np.ndarray | keras.KerasTensor) -> keras.KerasTensor:
        """Reconstruct scaled samples."""
        if self.memory is not None:
            return self.memory(scaled, training=False)[0]
        return self.decoder(self.encoder(scaled, training=False), training=False)

    def reconstructions(self, latent: keras.KerasTensor) -> list[keras.KerasTensor]:
        """Reconstructions to compare with the sample: one, or one of each head."""
        if self.heads is None:
            return [self.decoder(latent, training=False)]
        return self.heads(latent, training=False)


def build_autoencoder(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """Build the network of a configuration, its weights drawn from Keras' global seed.

    Raises
    ------
    ConfigError
        If the samples are too small for it.
    """
    if config.latent_dim == 0:  # a memory scores the samples, and nothing encodes them
        return Autoencoder(None, None)
    return _BUILDERS[config.architecture](config, sample_shape)


# --- rows, or rows of rows ----------------------------------------------------------------------------------


def _dense(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """Dense layers of the given widths down to the latent, and back."""
    return _dense_over((math.prod(sample_shape),), config, sample_shape)


def _rows(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """The same dense layers for every row of an image or step of a window; latent (rows, latent_dim)."""
    return _dense_over(_grid(sample_shape), config, sample_shape)


def _two_head(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """Two networks of `_rows`, one for each loss, their latents concatenated."""
    grid = _grid(sample_shape)
    members = [_dense_over(grid, config, sample_shape, f"head_{head}_") for head in range(2)]
    samples = layers.Input(sample_shape)
    latents = layers.Concatenate()([member.encoder(samples) for member in members])
    encoder = keras.Model(samples, latents, name="encoder")

    latent = layers.Input(encoder.output_shape[1:])
    parts = ops.split(latent, len(members), axis=-1)
    reconstructions = [member.decoder(part) for member, part in zip(members, parts, strict=True)]
    heads = keras.Model(latent, reconstructions)
    decoder = keras.Model(latent, layers.Average()(reconstructions), name="decoder")
    return Autoencoder(encoder, decoder, heads=heads)


def _dense_over(
    grid: tuple[int, ...], config: FitConfig, sample_shape: tuple[int, ...], prefix: str = ""
) -> Autoencoder:
    """Dense layers over the last axis of samples in the shape of `grid`; `prefix` tells heads apart."""
    samples = layers.Input(sample_shape)
    hidden = (layers.Flatten() if len(grid) == 1 else layers.Reshape(grid))(samples)
    for width in config.widths:
        hidden = _dropout(layers.Dense(width, activation=config.activation)(hidden), config)
    encoder, fit_encoder = _encoders(samples, hidden, config, prefix)

    latent = layers.Input(encoder.output_shape[1:])
    hidden = latent
    for width in _decoder_widths(config):
        hidden = _dropout(layers.Dense(width, activation=config.activation)(hidden), config)
    hidden = layers.Dense(grid[-1], activation=config.settled_output)(hidden)
    decoder = keras.Model(latent, layers.Reshape(sample_shape)(hidden), name=f"{prefix}decoder")
    return Autoencoder(encoder, decoder, fit_encoder)


def _grid(sample_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Rows of an image, its channels side by side; steps of a window."""
    return (sample_shape[0], math.prod(sample_shape[1:]))


def _decoder_widths(config: FitConfig) -> Sequence[int]:
    return config.widths[::-1] if config.decoder_widths is None else config.decoder_widths


# --- images -----------------------------------------------------------------------------------------------


def _conv(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """3x3 convolutions down to a dense latent, and transposed ones back."""
    return _strided(config, sample_shape, (*sample_shape, 1)[:3], layers.Conv2D, layers.Conv2DTranspose, 3)


def _conv1d(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """The same over the steps of a window, with kernels of 5 steps."""
    return _strided(config, sample_shape, _grid(sample_shape), layers.Conv1D, layers.Conv1DTranspose, 5)


def _strided(
    config: FitConfig,
    sample_shape: tuple[int, ...],
    map_shape: tuple[int, ...],
    convolution: type[layers.Layer],
    transposed: type[layers.Layer],
    kernel: int,
) -> Autoencoder:
    """Convolutions over the first axes of `map_shape`, the last one being channels.

    The last transposed convolution makes the image, in place of mirroring the first; with `extra_output`
    all are mirrored and one more makes it.
    """
    strides = config.strides or (2,) * len(config.widths)
    samples = layers.Input(sample_shape)
    hidden = layers.Reshape(map_shape)(samples)
    sizes = []
    for filters, stride in zip(config.widths, strides, strict=True):
        sizes.append(hidden.shape[1:-1])
        hidden = _convolved(convolution(filters, kernel, strides=stride, padding="same"), hidden, config)
    inner_shape = hidden.shape[1:]
    encoder, fit_encoder = _encoders(samples, layers.Flatten()(hidden), config)

    latent = layers.Input(encoder.output_shape[1:])
    hidden = layers.Dense(math.prod(inner_shape), activation=config.activation)(latent)
    hidden = layers.Reshape(inner_shape)(hidden)
    mirror = config.widths[::-1] if config.extra_output else config.widths[-2::-1]
    for filters, stride, size in zip(mirror, strides[::-1], sizes[::-1], strict=False):
        layer = transposed(filters, kernel, strides=stride, padding="same")
        hidden = _crop(_convolved(layer, hidden, config), size)
    last_stride = 1 if config.extra_output else strides[0]
    layer = transposed(
        map_shape[-1], kernel, strides=last_stride, padding="same", activation=config.settled_output
    )
    hidden = _crop(layer(hidden), sizes[0])
    decoder = keras.Model(latent, layers.Reshape(sample_shape)(hidden), name="decoder")
    return Autoencoder(encoder, decoder, fit_encoder)


def _conv_map(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """5x5 convolution of stride 2, 5x5 maximum and a dense layer to an image of half the side; and back."""
    height, width, channels = _at_least(10, config, sample_shape)
    filters = _one_width(config)
    half = (math.ceil(height / 2), math.ceil(width / 2), 1)
    samples = layers.Input(sample_shape)
    hidden = layers.Reshape((height, width, channels))(samples)
    hidden = _convolved(layers.Conv2D(filters, 5, strides=2, padding="same"), hidden, config)
    hidden = layers.Flatten()(layers.MaxPooling2D(5, strides=1)(hidden))
    hidden = layers.Dense(math.prod(half), activation=config.latent_activation)(hidden)
    encoder = keras.Model(samples, layers.Reshape(half)(hidden), name="encoder")

    latent = layers.Input(half)
    hidden = _convolved(layers.Conv2DTranspose(filters, 4, strides=2, padding="same"), latent, config)
    return Autoencoder(encoder, _image(latent, hidden, 4, config, sample_shape))


def _conv_pool(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """3x3 convolutions, each pooled to half the side; back by up-sampling. The latent is the last map."""
    height, width, channels = _at_least(2 ** len(config.widths), config, sample_shape)
    samples = layers.Input(sample_shape)
    hidden = layers.Reshape((height, width, channels))(samples)
    for filters in config.widths:
        hidden = _convolved(layers.Conv2D(filters, 3, padding="same"), hidden, config)
        hidden = layers.MaxPooling2D(2, padding="same")(hidden)
    encoder = keras.Model(samples, hidden, name="encoder")

    latent = layers.Input(encoder.output_shape[1:])
    hidden = latent
    # Doubling sizes that were halved and rounded up overshoots; a valid convolution takes 4 pixels off.
    excess = [
        inner * 2 ** len(config.widths) - size
        for inner, size in zip(latent.shape[1:3], (height, width), strict=True)
    ]
    for position, filters in enumerate(config.widths[::-1], start=1):
        is_last = position == len(config.widths)
        padding = "valid" if is_last and min(excess) >= 4 else "same"
        hidden = _convolved(layers.Conv2D(filters, 3, padding=padding), hidden, config)
        hidden = layers.UpSampling2D(2)(hidden)
    return Autoencoder(encoder, _image(latent, hidden, 3, config, sample_shape))


def _conv_denoise(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """A 3x3 convolution and a 2x2 maximum of stride 1; back by another. The latent has the image's size."""
    filters = _one_width(config)
    samples = layers.Input(sample_shape)
    hidden = layers.Reshape((*sample_shape, 1)[:3])(samples)
    hidden = _convolved(layers.Conv2D(filters, 3, padding="same"), hidden, config)
    hidden = layers.MaxPooling2D(2, strides=1, padding="same")(hidden)
    encoder = keras.Model(samples, hidden, name="encoder")

    latent = layers.Input(encoder.output_shape[1:])
    hidden = _convolved(layers.Conv2DTranspose(filters, 3, padding="same"), latent, config)
    return Autoencoder(encoder, _image(latent, hidden, 3, config, sample_shape))


def _conv_restore(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """Feature maps of full, half, a quarter of ... the side, one width for each; back by doubling.

    The latent is the last map. Pairs of convolutions whose sum with their input goes on make each map but
    the first, so that many layers learn within few epochs; no connection passes by the latent.
    """
    outermost, *inner = config.widths
    samples = layers.Input(sample_shape)
    hidden = layers.Reshape((*sample_shape, 1)[:3])(samples)
    hidden = _convolved(layers.Conv2D(outermost, 3, padding="same"), hidden, config)
    sizes = []
    for filters in inner:
        sizes.append(hidden.shape[1:3])
        hidden = _convolved(layers.Conv2D(filters, 3, strides=2, padding="same"), hidden, config)
        hidden = _residual(hidden, config)
    encoder = keras.Model(samples, hidden, name="encoder")

    latent = layers.Input(encoder.output_shape[1:])
    hidden = _residual(latent, config)
    for filters, size in zip(config.widths[-2::-1], sizes[::-1], strict=True):
        hidden = _convolved(layers.Conv2DTranspose(filters, 4, strides=2, padding="same"), hidden, config)
        hidden = _residual(_crop(hidden, size), config)
    return Autoencoder(encoder, _image(latent, hidden, 3, config, sample_shape))


def _residual(hidden: keras.KerasTensor, config: FitConfig) -> keras.KerasTensor:
    """Two 3x3 convolutions that add to their input.

    References
    ----------
    He, Zhang, Ren, Sun (2016). Deep residual learning for image recognition. CVPR.
    """
    filters = hidden.shape[-1]
    change = _convolved(layers.Conv2D(filters, 3, padding="same"), hidden, config)
    change = layers.Conv2D(filters, 3, padding="same")(change)
    return layers.Activation(config.activation)(layers.Add()([hidden, change]))


def _image(
    latent: keras.KerasTensor,
    hidden: keras.KerasTensor,
    kernel: int,
    config: FitConfig,
    sample_shape: tuple[int, ...],
) -> keras.Model:
    """A decoder whose last convolution turns feature maps into the image."""
    height, width, channels = (*sample_shape, 1)[:3]
    hidden = layers.Conv2D(channels, kernel, padding="same", activation=config.settled_output)(hidden)
    hidden = _crop(hidden, (height, width))
    return keras.Model(latent, layers.Reshape(sample_shape)(hidden), name="decoder")


def _convolved(layer: layers.Layer, hidden: keras.KerasTensor, config: FitConfig) -> keras.KerasTensor:
    """A convolution, its normalisation, its activation and its dropout."""
    hidden = layer(hidden)
    if config.batch_norm:
        hidden = layers.BatchNormalization()(hidden)
    return _dropout(layers.Activation(config.activation)(hidden), config)


def _crop(maps: keras.KerasTensor, size: tuple[int, ...]) -> keras.KerasTensor:
    """Cut off the row or column that doubling a halved odd size adds."""
    excess = tuple((0, got - wanted) for got, wanted in zip(maps.shape[1:-1], size, strict=True))
    if not any(after for _, after in excess):
        return maps
    return layers.Cropping1D(excess[0])(maps) if len(excess) == 1 else layers.Cropping2D(excess)(maps)


def _at_least(side: int, config: FitConfig, sample_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of an image that is large enough."""
    if min(sample_shape[:2]) < side:
        raise ConfigError(
            f"architecture {config.architecture} with {len(config.widths)} widths needs images of at least "
            f"{side} x {side} pixels, got shape {sample_shape}"
        )
    return (*sample_shape, 1)[:3]


def _one_width(config: FitConfig) -> int:
    if len(config.widths) != 1:
        raise ConfigError(f"architecture {config.architecture} takes one width, got {config.widths}")
    return config.widths[0]


# --- sequences ----------------------------------------------------------------------------------------------


def _lstm(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """LSTM layers over the steps to one latent vector; it is repeated for each step and unrolled."""
    n_steps, n_channels = _grid(sample_shape)
    samples = layers.Input(sample_shape)
    hidden = layers.Reshape((n_steps, n_channels))(samples)
    for position, width in enumerate(config.widths, start=1):
        hidden = _lstm_layer(hidden, width, config, sequences=position < len(config.widths))
    encoder, fit_encoder = _encoders(samples, hidden, config)

    latent = layers.Input(encoder.output_shape[1:])
    hidden = layers.RepeatVector(n_steps)(latent)
    for width in _decoder_widths(config):
        hidden = _lstm_layer(hidden, width, config, sequences=True)
    hidden = layers.Dense(n_channels, activation=config.settled_output)(hidden)
    decoder = keras.Model(latent, layers.Reshape(sample_shape)(hidden), name="decoder")
    return Autoencoder(encoder, decoder, fit_encoder)


def _bilstm(config: FitConfig, sample_shape: tuple[int, ...]) -> Autoencoder:
    """LSTM layers that read the steps both ways, the sum of both; latent (steps, latent_dim)."""
    n_steps, n_channels = _grid(sample_shape)
    samples = layers.Input(sample_shape)
    hidden = layers.Reshape((n_steps, n_channels))(samples)
    for width in (*config.widths, config.latent_dim):
        hidden = _both_ways(hidden, width, config)
    encoder = keras.Model(samples, hidden, name="encoder")

    latent = layers.Input(encoder.output_shape[1:])
    hidden = latent
    for width in (config.latent_dim, *_decoder_widths(config)):
        hidden = _both_ways(hidden, width, config)
    hidden = layers.Dense(n_channels, activation=config.settled_output)(hidden)
    decoder = keras.Model(latent, layers.Reshape(sample_shape)(hidden), name="decoder")
    return Autoencoder(encoder, decoder)


def _lstm_layer(
    hidden: keras.KerasTensor, width: int, config: FitConfig, *, sequences: bool
) -> keras.KerasTensor:
    layer = layers.LSTM(width, activation=config.activation, return_sequences=sequences)
    return _dropout(layer(hidden), config)


def _both_ways(hidden: keras.KerasTensor, width: int, config: FitConfig) -> keras.KerasTensor:
    layer = layers.LSTM(width, activation=config.activation, return_sequences=True)
    return _dropout(layers.Bidirectional(layer, merge_mode="sum")(hidden), config)


# --- the latent ---------------------------------------------------------------------------------------------


def _encoders(
    samples: keras.KerasTensor, hidden: keras.KerasTensor, config: FitConfig, prefix: str = ""
) -> tuple[keras.Model, keras.Model | None]:
    """The encoder that is exported, and the one that is fitted where that is another."""
    latent = layers.Dense(config.latent_dim, activation=config.latent_activation)(hidden)
    encoder = keras.Model(samples, latent, name=f"{prefix}encoder")
    if config.kl_weight == 0 and config.latent_l1 == 0:
        return encoder, None
    if config.kl_weight > 0:
        log_variance = layers.Dense(config.latent_dim, kernel_initializer="zeros")(hidden)
        latent = _GaussianLatent(config.kl_weight, config.seed)([latent, log_variance])
    if config.latent_l1 > 0:
        latent = layers.ActivityRegularization(l1=config.latent_l1)(latent)
    return encoder, keras.Model(samples, latent, name=f"{prefix}fit_encoder")


class _GaussianLatent(layers.Layer):
    """Draws the latent from N(mean, exp(log_variance)) while fitting and adds its divergence to the loss.

    References
    ----------
    Kingma, Welling (2014). Auto-encoding variational Bayes. ICLR. Appendix B gives the divergence from the
    standard Gaussian.
    """

    def __init__(self, weight: float, seed: int) -> None:
        super().__init__()
        self._weight = weight
        self._seeds = keras.random.SeedGenerator(seed)

    def call(self, inputs: list[keras.KerasTensor], training: bool = False) -> keras.KerasTensor:
        """Mean and log variance, both (batch, latent_dim), to the latent."""
        mean, log_variance = inputs
        divergence = 0.5 * (ops.exp(log_variance) + ops.square(mean) - 1 - log_variance)
        self.add_loss(self._weight * ops.mean(ops.sum(divergence, axis=-1)))
        if not training:
            return mean
        noise = keras.random.normal(ops.shape(mean), seed=self._seeds)
        return mean + ops.exp(0.5 * log_variance) * noise


def _dropout(hidden: keras.KerasTensor, config: FitConfig) -> keras.KerasTensor:
    return layers.Dropout(config.dropout, seed=config.seed)(hidden) if config.dropout > 0 else hidden


_BUILDERS: dict[str, Callable[[FitConfig, tuple[int, ...]], Autoencoder]] = {
    "dense": _dense,
    "memory": _dense,
    "memory-image": _conv,
    "memory-window": _dense,
    "rows": _rows,
    "two-head": _two_head,
    "conv": _conv,
    "conv-map": _conv_map,
    "conv-pool": _conv_pool,
    "conv-denoise": _conv_denoise,
    "conv-restore": _conv_restore,
    "conv1d": _conv1d,
    "lstm": _lstm,
    "bilstm": _bilstm,
}


def forget_penalties(model: keras.Model) -> None:
    """Remove the penalties on activations from a fitted network: tf2onnx fails on their nodes."""
    for layer in model.layers:
        layer.activity_regularizer = None

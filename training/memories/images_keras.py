"""The Keras network of a memory of images: attention, and the blurred residual."""

import math

import keras
import numpy as np
from keras import layers, ops

from training.config import FitConfig
from training.memories.images import (
    ImageMemory,
    fit_image_memory,
    residual_matrices,
    search_matrices,
    standardise,
)
from training.memories.layers import LEAST_ERROR, Fixed, least_rows_of
from training.memories.patches import MOST_TIMES_USUAL, Details, fit_details
from training.memories.prototypes import LEAST_WEIGHT


def remember_images(samples: np.ndarray, config: FitConfig) -> keras.Model:
    """Build the memory autoencoder of normal images: scaled, shape (n_samples, *sample_shape), float32."""
    memory = fit_image_memory(
        samples,
        config.prototypes,
        config.neighbours,
        config.seed,
        least_rows_of(config),
        config.residual_smoothing,
    )
    details = None
    if config.detail_weight > 0:
        details = fit_details(standardise(samples, memory.brightness, memory.contrast), config.seed)
    return image_network(memory, config.scaled_range, details, config.detail_weight)


def image_network(
    memory: ImageMemory,
    value_range: tuple[float, float] | None,
    details: Details | None = None,
    detail_weight: float = 1.0,
) -> keras.Model:
    """Build the memory autoencoder; nothing in it is left to fit.

    Input shape
        (batch, *sample_shape), scaled.

    Output shape
        Reconstruction and feature error, both (batch, *sample_shape): the first in scaled units, within
        `value_range` where there is one; the second is the square of the blurred residual, with `details` its
        mean with the errors of patches, which count so many times. Its mean over the features is 1 for a
        usual training image.
    """
    sample_shape = memory.images.shape[1:]
    samples = layers.Input(sample_shape)
    values = layers.Reshape((math.prod(sample_shape),))(samples)
    standard, brightness, contrast = _Standardised(memory)(values)
    keys = _Blurred(sample_shape, *search_matrices(sample_shape))(standard)
    recalled = _Recalled(memory)(keys)
    residual = layers.Subtract()([standard, recalled])
    residual = _Blurred(sample_shape, *residual_matrices(sample_shape, memory.residual_blur))(residual)
    error = ops.square(residual) / np.float32(memory.unit) + LEAST_ERROR
    if details is not None:  # `patches.details_map`, the error of a pixel for all its channels
        thin = _Blurred(sample_shape, details.rows, details.columns)(standard)
        pixels = _Blurred(details.map_shape, details.up_rows, details.up_columns)(_TimesUsual(details)(thin))
        unusual = layers.Flatten()(ops.repeat(pixels[:, :, None], math.prod(sample_shape[2:]), axis=2))
        error = (error + detail_weight * unusual) / (1 + detail_weight)
    reconstruction = recalled * contrast + brightness
    if value_range is not None:
        reconstruction = ops.clip(reconstruction, *value_range)
    outputs = [layers.Reshape(sample_shape)(flat) for flat in (reconstruction, error)]
    return keras.Model(samples, outputs, name="memory")


def _mean(values: keras.KerasTensor, n_rows: int) -> keras.KerasTensor:
    """Mean of each image, (batch, n_values) -> (batch, 1), by way of the means of its rows.

    In products: their rounding does not depend on an image's place in the batch. One product over all values
    of a large image would round them many times as much.
    """
    n_columns = values.shape[1] // n_rows
    rows = ops.reshape(values, (-1, n_rows, n_columns))
    means = ops.matmul(rows, np.full((n_columns, 1), 1 / n_columns, dtype=np.float32))[:, :, 0]
    return ops.matmul(means, np.full((n_rows, 1), 1 / n_rows, dtype=np.float32))


class _Standardised(layers.Layer):
    """(batch, n_values) -> the same with brightness and contrast taken out; and these, (batch, 1) each."""

    def __init__(self, memory: ImageMemory) -> None:
        super().__init__(trainable=False)
        self._n_rows = memory.images.shape[1]
        self._brightness, self._contrast = memory.brightness, memory.contrast

    def call(self, values: keras.KerasTensor) -> tuple[keras.KerasTensor, ...]:
        """What lies beyond the ranges stays in the values."""
        mean = _mean(values, self._n_rows)
        # A float32 mean of many values is off by more than a small contrast allows, and far out its rounding
        # would pass for contrast: the mean of what it leaves belongs to it.
        centred = values - mean
        missed = _mean(centred, self._n_rows)
        centred, mean = centred - missed, mean + missed
        deviation = ops.sqrt(_mean(ops.square(centred), self._n_rows))
        brightness = ops.clip(mean, *self._brightness)
        contrast = ops.clip(deviation, *self._contrast)
        # Not `values - brightness`, which would bring the rounding of the sum of both back.
        return (centred + (mean - brightness)) / contrast, brightness, contrast


class _Blurred(Fixed):
    """`training.memories.images.blurred`: (batch, n_values) -> (batch, n_rows * n_columns * channels)."""

    def __init__(self, sample_shape: tuple[int, ...], rows: np.ndarray, columns: np.ndarray) -> None:
        super().__init__(rows=np.ascontiguousarray(rows.T), columns=np.ascontiguousarray(columns.T))
        self._map_shape = (*sample_shape, 1)[:3]

    def call(self, values: keras.KerasTensor) -> keras.KerasTensor:
        """Along the columns, then along the rows."""
        maps = ops.reshape(values, (-1, *self._map_shape))  # (batch, height, width, channels)
        maps = ops.transpose(maps, (0, 1, 3, 2))  # (batch, height, channels, width)
        maps = ops.matmul(maps, self.columns)
        maps = ops.transpose(maps, (0, 3, 2, 1))  # (batch, width, channels, height)
        maps = ops.matmul(maps, self.rows)
        maps = ops.transpose(maps, (0, 3, 1, 2))  # (batch, height, width, channels)
        return ops.reshape(maps, (-1, math.prod(maps.shape[1:])))


class _Recalled(Fixed):
    """`training.memories.images.attention` over the images: (batch, n_keys) -> (batch, n_values)."""

    def __init__(self, memory: ImageMemory) -> None:
        halves = np.square(memory.keys.astype(np.float64)).sum(axis=1) / 2
        super().__init__(
            keys=np.ascontiguousarray(memory.keys.T),
            halves=halves.astype(np.float32),
            centre=memory.centre,
            images=memory.images.reshape(len(memory.images), -1),
        )
        self._neighbours = memory.neighbours
        self._sharpness = np.float32(1 / memory.width**2)
        self._sum_prototypes = np.ones((len(memory.images), 1), dtype=np.float32)

    def call(self, keys: keras.KerasTensor) -> keras.KerasTensor:
        """The weighted mean of the nearest images, in images' own order: most weights are 0."""
        closeness = ops.matmul(keys - self.centre, self.keys) - self.halves  # (batch, n_prototypes)
        nearest, _ = ops.top_k(closeness, self._neighbours)
        weights = ops.exp((closeness - nearest[:, :1]) * self._sharpness)
        floor = ops.exp((nearest[:, -1:] - nearest[:, :1]) * self._sharpness)
        weights = ops.relu(weights - floor) + LEAST_WEIGHT * weights
        weights = weights / ops.matmul(weights, self._sum_prototypes)
        return ops.matmul(weights, self.images)


class _TimesUsual(Fixed):
    """Errors of whitened patches in units of their places and images.

    (batch, n_values) of images that are thinned out -> (batch, n_places).
    """

    def __init__(self, details: Details) -> None:
        super().__init__(filters=details.filters, bias=details.bias, usual=details.usual)
        self._thin_shape = (len(details.rows), len(details.columns), details.filters.shape[2])
        self._least_error, self._unit = np.float32(details.least_error), np.float32(details.unit)
        # A sum as a product, as everywhere.
        self._sum_filters = np.ones((details.filters.shape[-1], 1), dtype=np.float32)
        self._n_rows = details.map_shape[0]

    def call(self, values: keras.KerasTensor) -> keras.KerasTensor:
        """Whiten, square, divide by the geometric mean of the image, and square again."""
        thin = ops.reshape(values, (-1, *self._thin_shape))
        white = ops.conv(thin, self.filters, padding="valid") + self.bias
        errors = ops.matmul(ops.square(white), self._sum_filters) + self._least_error
        logs = ops.log(ops.reshape(errors, (-1, self.usual.shape[0]))) - self.usual
        times = ops.exp(logs - _mean(logs, self._n_rows))
        return ops.square(ops.minimum(times, np.float32(MOST_TIMES_USUAL))) / self._unit

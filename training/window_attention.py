"""Keras: attention over remembered windows or steps, and the whitened residual that it leaves."""

import keras
import numpy as np
from keras import layers, ops

from training.attention import LEAST_ERROR, Attention, Fixed, least_rows_of
from training.config import FitConfig
from training.window_memory import WindowMemory, fit_window_memory


def remember_windows(samples: np.ndarray, config: FitConfig) -> keras.Model:
    """The memory autoencoder of normal windows: scaled, in order, shape (n_windows, window, n_channels)."""
    memory = fit_window_memory(
        samples,
        config.prototypes,
        config.neighbours,
        config.seed,
        least_rows_of(config),
        config.by_step,
        config.drift_discount,
    )
    return window_network(memory, samples.shape[1:])


def window_network(memory: WindowMemory, sample_shape: tuple[int, int]) -> keras.Model:
    """The memory autoencoder, with nothing left to fit.

    Input shape
        (batch, window, n_channels), scaled.

    Output shape
        Reconstruction and feature error, both (batch, window, n_channels): the first in scaled units; the
        second is the square of the whitened residual. Its mean is 1 for a usual training window.
    """
    samples = layers.Input(sample_shape)
    points = _Points(memory)(samples)  # (batch * window / span, span * n_channels)
    residual = Attention(memory)(points)
    reconstruction = _Rebuilt(memory, sample_shape)(layers.Subtract()([points, residual]))
    error = _Whitened(memory, sample_shape)(residual)
    return keras.Model(samples, [reconstruction, error], name="memory")


class _Points(Fixed):
    """Weighted windows, or their steps, as rows."""

    def __init__(self, memory: WindowMemory) -> None:
        super().__init__(channel_weights=memory.channel_weights)
        self._size = memory.prototypes.shape[1]

    def call(self, samples: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, window, n_channels) -> (batch * window / span, span * n_channels)."""
        return ops.reshape(samples * self.channel_weights, (-1, self._size))


class _Rebuilt(Fixed):
    """The way back: rows to windows, in scaled units."""

    def __init__(self, memory: WindowMemory, sample_shape: tuple[int, int]) -> None:
        super().__init__(channel_weights=memory.channel_weights)
        self._sample_shape = sample_shape

    def call(self, points: keras.KerasTensor) -> keras.KerasTensor:
        """(batch * window / span, span * n_channels) -> (batch, window, n_channels)."""
        return ops.reshape(points, (-1, *self._sample_shape)) / self.channel_weights


class _Whitened(Fixed):
    """Squares of the residual, whitened along the axes of time and channels, by step and channel."""

    def __init__(self, memory: WindowMemory, sample_shape: tuple[int, int]) -> None:
        super().__init__(
            time_basis=memory.time_basis,
            time_axes=np.ascontiguousarray(memory.time_basis.T),
            channel_basis=memory.channel_basis,
            channel_axes=np.ascontiguousarray(memory.channel_basis.T),
            gains=memory.gains,
        )
        self._sample_shape = sample_shape

    def call(self, residual: keras.KerasTensor) -> keras.KerasTensor:
        """(batch * window / span, span * n_channels) -> (batch, window, n_channels)."""
        if self.gains.shape[0] == 1:  # a step has no axis of time, and so many small products would be slow
            whitened = ops.matmul(ops.matmul(residual, self.channel_basis) * self.gains, self.channel_axes)
        else:
            steps = ops.reshape(residual, (-1, *self.gains.shape))
            along_axes = ops.matmul(ops.matmul(self.time_axes, steps), self.channel_basis) * self.gains
            whitened = ops.matmul(ops.matmul(self.time_basis, along_axes), self.channel_axes)
        return ops.reshape(ops.square(whitened) + LEAST_ERROR, (-1, *self._sample_shape))

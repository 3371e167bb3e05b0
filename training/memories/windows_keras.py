"""The Keras network of a memory of windows or steps: attention, and the whitened residual."""

import keras
import numpy as np
from keras import layers, ops

from training.config import FitConfig
from training.memories.layers import LEAST_ERROR, Attention, Fixed, least_rows_of
from training.memories.windows import WindowMemory, fit_window_memory


def remember_windows(samples: np.ndarray, config: FitConfig) -> keras.Model:
    """Build the memory autoencoder of normal windows: scaled, in order, (n_windows, window, n_channels)."""
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
    """Build the memory autoencoder; nothing in it is left to fit.

    Input shape
        (batch, window, n_channels), scaled.

    Output shape
        Reconstruction and feature error, both (batch, window, n_channels): the first in scaled units; the
        second is the square of the whitened residual. Its mean is 1 for a usual training window.
    """
    samples = layers.Input(sample_shape)
    points = _Points(memory)(samples)  # (batch * window / span, span * n_channels)
    residual = Attention(memory)(points)
    reconstruction = layers.Subtract()([samples, _Correction(memory, sample_shape)(residual)])
    error = _Squares(memory, sample_shape)(residual)
    return keras.Model(samples, [reconstruction, error], name="memory")


class _Points(Fixed):
    """Weighted windows, whitened over time, or weighted steps, as rows."""

    def __init__(self, memory: WindowMemory) -> None:
        super().__init__(channel_weights=memory.channel_weights, time_whitening=memory.time_whitening)
        self._size = memory.prototypes.shape[1]

    def call(self, samples: keras.KerasTensor) -> keras.KerasTensor:
        """(batch, window, n_channels) -> (batch * window / span, span * n_channels)."""
        weighted = samples * self.channel_weights
        if self.time_whitening.shape[0] > 1:
            weighted = ops.matmul(self.time_whitening, weighted)
        return ops.reshape(weighted, (-1, self._size))


class _Correction(Fixed):
    """Correction that is subtracted from a window to rebuild it, in scaled units."""

    def __init__(self, memory: WindowMemory, sample_shape: tuple[int, int]) -> None:
        super().__init__(channel_weights=memory.channel_weights, correction=memory.correction)
        self._sample_shape = sample_shape

    def call(self, residual: keras.KerasTensor) -> keras.KerasTensor:
        """(batch * window / span, span * n_channels) -> (batch, window, n_channels)."""
        windows = ops.reshape(residual, (-1, *self._sample_shape))
        if self.correction.shape[0] > 1:
            windows = ops.matmul(self.correction, windows)
        return windows / self.channel_weights


class _Squares(Fixed):
    """Squares of the residual, whitened over the channels, by step and channel."""

    def __init__(self, memory: WindowMemory, sample_shape: tuple[int, int]) -> None:
        super().__init__(residual_whitening=memory.residual_whitening)
        self._sample_shape = sample_shape

    def call(self, residual: keras.KerasTensor) -> keras.KerasTensor:
        """(batch * window / span, span * n_channels) -> (batch, window, n_channels)."""
        steps = ops.reshape(residual, (-1, self._sample_shape[1]))
        squares = ops.square(ops.matmul(steps, self.residual_whitening)) + LEAST_ERROR
        return ops.reshape(squares, (-1, *self._sample_shape))

"""The Keras network of a memory of rows: attention over prototypes, and the whitened residual."""

import math

import keras
import numpy as np
from keras import layers, ops

from training.config import FitConfig
from training.memories.layers import LEAST_ERROR, Attention, Fixed, least_rows_of
from training.memories.rows import Features, Memory, fit_memory


def remember(samples: np.ndarray, config: FitConfig) -> keras.Model:
    """Build the memory autoencoder of normal samples: scaled, shape (n_samples, *sample_shape), float32."""
    flat = samples.reshape(len(samples), -1)
    memory = fit_memory(flat, config.prototypes, config.neighbours, config.seed, least_rows_of(config))
    return memory_network(memory, samples.shape[1:])


def memory_network(memory: Memory, sample_shape: tuple[int, ...]) -> keras.Model:
    """Build the memory autoencoder; nothing in it is left to fit.

    Input shape
        (batch, *sample_shape), scaled.

    Output shape
        Reconstruction in scaled units and feature error, both (batch, *sample_shape). The error is the square
        of the whitened residual, summed over both for a column that enters twice; its mean over the features
        is 1 for a typical training sample.
    """
    n_columns = math.prod(sample_shape)
    samples = layers.Input(sample_shape)
    points = _Columns(memory.features)(layers.Reshape((n_columns,))(samples))
    residual = Attention(memory)(points)
    reconstruction = _Scaled(memory.features)(layers.Subtract()([points, residual]))
    error = _SquaredShares(memory)(residual)
    outputs = [layers.Reshape(sample_shape)(values) for values in (reconstruction, error)]
    return keras.Model(samples, outputs, name="memory")


class _Columns(Fixed):
    """`Features.apply`: (batch, n_columns) -> (batch, size)."""

    def __init__(self, features: Features) -> None:
        super().__init__(
            column_weights=features.weights,
            knots=features.knots,
            anchors=features.anchors.ravel(),
            levels=features.levels.ravel(),
            slopes=features.slopes.ravel(),
        )
        self._heavy = features.heavy
        self._first_piece = np.arange(features.heavy.size, dtype=np.int32) * features.anchors.shape[1]

    def call(self, samples: keras.KerasTensor) -> keras.KerasTensor:
        """Append the copies of the heavy columns."""
        columns = samples * self.column_weights
        if not self._heavy.size:
            return columns
        values = ops.take(samples, self._heavy, axis=1)  # (batch, n_heavy)
        above = ops.cast(values[:, :, None] > self.knots, "float32")  # (batch, n_heavy, N_KNOTS)
        piece = ops.cast(ops.sum(above, axis=2), "int32") + self._first_piece
        beyond = values - ops.take(self.anchors, piece)
        copies = ops.take(self.levels, piece) + ops.take(self.slopes, piece) * beyond
        return ops.concatenate([columns, copies], axis=1)


class _Scaled(Fixed):
    """(batch, size) -> (batch, n_columns): the columns as they are, in scaled units."""

    def __init__(self, features: Features) -> None:
        super().__init__(column_weights=features.weights)

    def call(self, points: keras.KerasTensor) -> keras.KerasTensor:
        """Drop the copies and undo the weights."""
        return points[:, : self.column_weights.shape[0]] / self.column_weights


class _SquaredShares(Fixed):
    """Squares of the whitened residual, a copy added to its column: (batch, size) -> (batch, n_columns)."""

    def __init__(self, memory: Memory) -> None:
        features = memory.features
        owners = np.zeros((features.heavy.size, features.weights.size), dtype=np.float32)
        owners[np.arange(features.heavy.size), features.heavy] = 1
        super().__init__(whitening=memory.whitening, owners=owners)

    def call(self, residual: keras.KerasTensor) -> keras.KerasTensor:
        """Whiten, square, and add each copy to its column."""
        n_heavy, n_columns = self.owners.shape
        squares = ops.square(ops.matmul(residual, self.whitening)) + LEAST_ERROR
        if not n_heavy:
            return squares
        return squares[:, :n_columns] + ops.matmul(squares[:, n_columns:], self.owners)

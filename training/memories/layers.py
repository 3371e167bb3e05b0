"""Keras layers that the memories share."""

import keras
import numpy as np
from keras import layers, ops

from training.config import FitConfig
from training.memories.prototypes import LEAST_WEIGHT, tie_breaks
from training.memories.rows import Memory

LEAST_ERROR = 1e-4  # of a feature; otherwise the error of a copy of a prototype would be rounding
ROWS_OF_PRIVATE_PROTOTYPES = 3  # with --no-samples no prototype is a sample


def least_rows_of(config: FitConfig) -> int:
    """Fewest samples that a prototype is the mean of."""
    return 1 if config.samples else ROWS_OF_PRIVATE_PROTOTYPES


class Fixed(layers.Layer):
    """A layer with given weights."""

    def __init__(self, **arrays: np.ndarray) -> None:
        super().__init__(trainable=False)
        self._arrays = arrays

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make a weight of each array, as the attribute of its name."""
        for name, array in self._arrays.items():
            weight = self.add_weight(shape=array.shape, name=name, trainable=False)
            weight.assign(array)
            setattr(self, name, weight)


class Attention(Fixed):
    """Residuals of points after `training.memories.prototypes.recall`: (batch, size) -> (batch, size)."""

    def __init__(self, memory: Memory) -> None:
        handicaps = tie_breaks(len(memory.prototypes), memory.width)
        halves = (np.square(memory.prototypes.astype(np.float64)).sum(axis=1) + handicaps) / 2
        super().__init__(
            prototypes=memory.prototypes,
            keys=np.ascontiguousarray(memory.prototypes.T),
            halves=halves.astype(np.float32),
            handicaps=handicaps,
        )
        self._neighbours = memory.neighbours
        self._sharpness = np.float32(0.5 / memory.width**2)
        # Sums as products: their rounding does not depend on a row's place in the batch.
        self._sum_values = np.ones((memory.prototypes.shape[1], 1))
        self._sum_neighbours = np.ones((memory.neighbours, 1), dtype=np.float32)

    def call(self, points: keras.KerasTensor) -> keras.KerasTensor:
        """Subtract the weighted mean of the nearest prototypes."""
        closeness = ops.matmul(points, self.keys) - self.halves  # (batch, n_prototypes)
        _, nearest = ops.top_k(closeness, self._neighbours, sorted=False)
        # From differences: near a prototype they are far smaller than the points and their rounding.
        beyond = points[:, None, :] - ops.take(self.prototypes, nearest, axis=0)  # (batch, neighbours, size)
        # In double precision: if all are almost equally far, the weights depend on small differences.
        squares = ops.matmul(ops.square(ops.cast(beyond, "float64")), self._sum_values)[:, :, 0]
        squares = squares + ops.cast(ops.take(self.handicaps, nearest), "float64")
        farther = ops.cast(squares - ops.min(squares, axis=1, keepdims=True), "float32")
        weights = ops.exp(-self._sharpness * farther)
        weights = weights - ops.min(weights, axis=1, keepdims=True) + LEAST_WEIGHT
        weights = weights / ops.matmul(weights, self._sum_neighbours)
        return ops.matmul(weights[:, None, :], beyond)[:, 0]

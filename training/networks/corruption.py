"""Corrupt training inputs, anew for every sample and step; the network learns to undo it."""

import dataclasses
import functools
import math
from collections.abc import Callable

import keras
import numpy as np
from keras import layers, ops

from training.config import FitConfig

CHUNK = 256  # samples that are corrupted at a time
BLUR_RADII = 3  # a kernel ends at three standard deviations


def corrupt(samples: keras.KerasTensor, config: FitConfig) -> keras.KerasTensor:
    """Corrupt scaled samples while fitting, by draws that follow the seed; pass them unchanged otherwise.

    Parameters
    ----------
    samples : tensor of shape (batch, *sample_shape)
    config : FitConfig
        Has `corruption` and `corruption_level`, which must be settled.
    """
    if config.corruption == "none" or config.corruption_level == 0:
        return samples
    if config.corruption == "gaussian":
        return layers.GaussianNoise(config.corruption_level, seed=config.seed)(samples)
    return _Corruption(config)(samples)


def corrupted_copy(samples: np.ndarray, config: FitConfig) -> np.ndarray:
    """Corrupt samples once, by other draws than the fit.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, *sample_shape), float32
        Scaled.
    config : FitConfig
        As for `corrupt`; the same seed draws the same.

    Returns
    -------
    ndarray of shape (n_samples, *sample_shape), float32
    """
    clean = layers.Input(samples.shape[1:])
    other_draws = dataclasses.replace(config, seed=(config.seed + 1) % 2**32)
    model = keras.Model(clean, corrupt(clean, other_draws))
    chunks = [samples[start : start + CHUNK] for start in range(0, len(samples), CHUNK)]
    return np.concatenate([model(chunk, training=True).numpy() for chunk in chunks])


class _Corruption(layers.Layer):
    """One way to corrupt, active only while fitting."""

    def __init__(self, config: FitConfig) -> None:
        super().__init__()
        self._corrupt = _WAYS[config.corruption]
        self._level = config.corruption_level
        self._range = config.scaled_range
        self._seeds = keras.random.SeedGenerator(config.seed)

    def call(self, samples: keras.KerasTensor, training: bool = False) -> keras.KerasTensor:
        """(batch, *sample_shape) -> the same shape."""
        if not training:
            return samples
        return self._corrupt(samples, self._level, self._range, self._seeds)


# --- the ways: samples, level, range of scaled values, seeds -> corrupted samples ---------------------------

Range = tuple[float, float] | None
Seeds = keras.random.SeedGenerator


def _clipped_noise(
    samples: keras.KerasTensor, level: float, limits: Range, seeds: Seeds
) -> keras.KerasTensor:
    """Gaussian noise of standard deviation `level`, clipped to the range."""
    noise = keras.random.normal(ops.shape(samples), stddev=level, seed=seeds)
    return ops.clip(samples + noise, *limits)


def _salt_and_pepper(
    samples: keras.KerasTensor, level: float, limits: Range, seeds: Seeds
) -> keras.KerasTensor:
    """A share of `level` of the values set to the lowest or the highest, either as often."""
    low, high = limits
    drawn = keras.random.uniform(ops.shape(samples), seed=seeds)
    salted = ops.where(drawn < level / 2, low, samples)
    return ops.where(drawn > 1 - level / 2, high, salted)


def _masking(samples: keras.KerasTensor, level: float, limits: Range, seeds: Seeds) -> keras.KerasTensor:
    """A share of `level` of the values set to the lowest of their range, or to their mean where standardised.

    References
    ----------
    Vincent, Larochelle, Bengio, Manzagol (2008). Extracting and composing robust features with denoising
    autoencoders. ICML.
    """
    drawn = keras.random.uniform(ops.shape(samples), seed=seeds)
    return ops.where(drawn < level, limits[0] if limits else 0.0, samples)


def _averaged(
    matrix_of: Callable[[int, float], np.ndarray], samples: keras.KerasTensor, level: float, *_: object
) -> keras.KerasTensor:
    """Multiply images by `matrix_of(size, level)`, along rows and columns."""
    height, width, channels = (*samples.shape[1:], 1)[:3]
    images = ops.reshape(samples, (-1, height, width, channels))
    rows, columns = matrix_of(height, level), matrix_of(width, level)
    return ops.reshape(ops.einsum("ij,bjkc,kl->bilc", rows, images, columns.T), ops.shape(samples))


def _tiles(size: int, side: float) -> np.ndarray:
    """Make a matrix, (size, size), float32, that replaces each value by the mean of its tile."""
    tile = np.arange(size) // int(side)
    same = (tile[:, np.newaxis] == tile).astype(np.float32)
    return same / same.sum(axis=1, keepdims=True)


def _gaussian(size: int, sigma: float) -> np.ndarray:
    """Make a matrix, (size, size), float32, that smooths by a Gaussian, mirrored at both ends."""
    radius = math.ceil(BLUR_RADII * sigma)
    steps = np.arange(-radius, radius + 1)
    profile = np.exp(-0.5 * np.square(steps / sigma))
    profile /= profile.sum()
    matrix = np.zeros((size, size), dtype=np.float32)
    for row in range(size):
        position = (row + steps) % (2 * size)
        np.add.at(matrix[row], np.where(position < size, position, 2 * size - 1 - position), profile)
    return matrix


_WAYS: dict[str, Callable[..., keras.KerasTensor]] = {
    "gaussian-clipped": _clipped_noise,
    "salt-and-pepper": _salt_and_pepper,
    "masking": _masking,
    "mosaic": functools.partial(_averaged, _tiles),
    "blur": functools.partial(_averaged, _gaussian),
}

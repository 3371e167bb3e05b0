"""Corruption of training inputs, fresh for every sample and step: what the network learns to undo."""

import keras
from keras import layers

from training.config import FitConfig


def corrupt(samples: keras.KerasTensor, config: FitConfig) -> keras.KerasTensor:
    """Scaled samples with Gaussian noise while fitting, unchanged otherwise; the noise follows the seed."""
    if config.corruption_noise == 0:
        return samples
    return layers.GaussianNoise(config.corruption_noise, seed=config.seed)(samples)

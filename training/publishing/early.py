"""Check early in a long fit that its result can be published, so that a refusal does not come at its end."""

import dataclasses
import math
import time
from collections.abc import Callable
from types import SimpleNamespace

import keras
import numpy as np
import tensorflow as tf

from detector.engine.graphs import SCORE
from detector.files import MODEL_FILE
from training.errors import ExportError
from training.networks.architectures import Autoencoder
from training.networks.fitting import build_memory
from training.publishing.graphs import Graph, check_parity
from training.publishing.manifests import Built

Export = Callable[[Autoencoder], dict[str, Graph]]
LONG_SECONDS = 90.0  # expected; the check takes a few seconds
TIMED_BATCHES = 4  # after the first, in which TensorFlow traces the network
N_SAMPLES = 128  # of which a memory is built
N_COMPARED = 8


class EarlyCheck(keras.callbacks.Callback):
    """Compares network and graphs after a few batches, if the rest of the fit may take long.

    Only reads weights and draws nothing at random, so that the fit continues as without it.

    Parameters
    ----------
    built : Built
        Its network is the one that is fitted.
    export : callable
        Converts an autoencoder to graphs.
    max_seconds : float
        The fit ends after this time; infinite if it does not.

    Raises
    ------
    ExportError
        From within the fit, if the network cannot be exported or differs from its graphs.
    """

    def __init__(self, built: Built, export: Export, max_seconds: float = math.inf) -> None:
        super().__init__()
        self._built, self._export, self._max_seconds = built, export, max_seconds
        self._n_batches, self._start = 0, 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Time a few batches, then check if the fit is long."""
        self._n_batches += 1
        if self._n_batches == 1:
            self._start = time.monotonic()
        if self._n_batches == 1 + TIMED_BATCHES:
            seconds = (time.monotonic() - self._start) / TIMED_BATCHES
            expected = seconds * self.params["steps"] * self.params["epochs"]
            if min(expected, self._max_seconds) > LONG_SECONDS:
                check_export(self._built, self._export)


def check_export(built: Built, export: Export) -> None:
    """Export a network that is hardly fitted, and compare it with its graphs on a few samples.

    A memory is built from a few training samples. Arguments and errors are those of `EarlyCheck`.
    """
    autoencoder, scaling = built.autoencoder, built.scaling
    samples = built.dataset.samples[built.splits.train[:N_SAMPLES]].astype(np.float32)
    if built.config.has_memory:
        memory = build_memory(scaling.apply(samples), built.config)
        autoencoder = dataclasses.replace(autoencoder, memory=memory)
    layers = [] if autoencoder.encoder is None else autoencoder.encoder.layers
    penalties = [layer.activity_regularizer for layer in layers]  # the export removes them
    try:
        graphs, few = export(autoencoder), samples[:N_COMPARED]
        scores = graphs[MODEL_FILE].function(tf.constant(few))[SCORE].numpy()
        shapes = SimpleNamespace(
            sample_shape=samples.shape[1:], latent_shape=autoencoder.latent_shape, classifier=None
        )
        check_parity(graphs, shapes, few, scaling, float(scores.max()))
    except ExportError as error:
        raise ExportError(f"the fit was ended early, its result could not be published: {error}") from error
    finally:
        for layer, penalty in zip(layers, penalties, strict=True):
            layer.activity_regularizer = penalty

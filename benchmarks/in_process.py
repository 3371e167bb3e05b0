"""Fits by the house's own training code in this process: TensorFlow starts once for hundreds of fits.

The stages are those of `python -m training.fit`: scale, fit, export to ONNX; then `Detector` scores through
the exported graph. What is left out is the threshold, so that no rows are taken away for it, and the report.
"""

import contextlib
import dataclasses
import io
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from detector.engine.graphs import SCORE, open_sessions
from detector.files import MODEL_FILE
from detector.inference import Detector
from training.config import FitConfig
from training.data.dataset import Dataset
from training.data.splits import Splits
from training.quiet import import_tensorflow
from training.stages import Trained, prepare, train


@dataclasses.dataclass(frozen=True)
class Fit:
    """A model that was fitted and exported here."""

    trained: Trained
    detector: Detector
    seconds: float

    def score(self, samples: np.ndarray) -> np.ndarray:
        """Scores of raw samples, float64, as `Detector.score` has them.

        Raises
        ------
        DetectorError
            If samples do not fit the model, or a score is not finite.
        """
        checked = self.detector.engine.check_samples(samples)
        return self.detector.engine.finite(self.detector.engine.run(checked, (SCORE,))[SCORE]).astype(
            np.float64
        )

    def keras_scores(self, samples: np.ndarray) -> np.ndarray:
        """The same by the network that was exported, float64."""
        import tensorflow as tf

        function = self.trained.graphs[MODEL_FILE].function
        chunks = [samples[start : start + 256].astype(np.float32) for start in range(0, len(samples), 256)]
        return np.concatenate([function(tf.constant(chunk))[SCORE].numpy() for chunk in chunks]).astype(float)


def settle(dataset: Dataset, preset: str, overrides: Mapping[str, Any]) -> FitConfig:
    """The configuration that the command line would make of a preset and some options."""
    config = FitConfig.from_preset(preset, {"kind": dataset.kind, **overrides})
    return config.for_samples(dataset.sample_shape)


def fit_all(dataset: Dataset, preset: str, seed: int) -> Fit:
    """A preset with its defaults, on samples that are all normal and all to fit on; raises as `fit`.

    A memory is made of all of them; the bottleneck beside it, which no score depends on, is left out. A
    network that is trained by gradients keeps a tenth of them to know when to stop. One that `training.fit`
    would refuse for having learned nothing is measured all the same.
    """
    config = settle(dataset, preset, {"seed": seed, "collapse_check": False})
    n_samples = len(dataset.samples)
    order = np.random.default_rng(seed).permutation(n_samples)
    n_validation = max(1, round(config.validation_fraction * n_samples))
    if config.has_memory:
        config, n_validation = dataclasses.replace(config, latent_dim=0), 0
    validation, rest = np.sort(order[:n_validation]), np.sort(order[n_validation:])
    nothing = np.empty(0, dtype=np.int64)
    return fit(dataset, Splits(rest, validation, nothing, nothing, 0, 0), config)


def fit(dataset: Dataset, splits: Splits, config: FitConfig) -> Fit:
    """Fit on the training split, export, and open the graphs as they would be served.

    Raises
    ------
    TrainingError
        If the data cannot be fitted, or the network not exported.
    DetectorError
        If a graph does not load.
    """
    _start_keras()
    start = time.perf_counter()
    prepared = prepare(dataset, config, splits)
    with contextlib.redirect_stderr(io.StringIO()):  # progress of hundreds of fits
        trained = train(prepared, "quality")
    seconds = time.perf_counter() - start
    return Fit(trained, _open(trained), seconds)


def _open(trained: Trained) -> Detector:
    from training.publishing.folder import draft_manifest

    draft = draft_manifest(trained.fitted)
    sessions = open_sessions({name: graph.onnx for name, graph in trained.graphs.items()}, draft)
    return Detector(draft, "", np.empty(0), sessions)


def _start_keras() -> None:
    """Import TensorFlow, and let go of the networks of earlier fits: Keras keeps them all."""
    import_tensorflow()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # one graph for each fit is many, it says
    import keras

    keras.backend.clear_session()

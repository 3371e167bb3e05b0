"""Fits by our own training code in this process, so that TensorFlow starts once for hundreds of fits.

The stages are the same as in `python -m training.fit`: scale, fit, export to ONNX; then `Detector` scores
through the exported graph. There is no threshold, so no samples are kept back for it, and no report.
"""

import contextlib
import dataclasses
import io
import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from detector.engine.engine import Engine
from detector.engine.graphs import SCORE
from detector.files import MODEL_FILE
from training.config import FitConfig
from training.data.dataset import Dataset
from training.data.splits import Splits
from training.publishing.manifests import Fitted, draft_manifest
from training.quiet import import_tensorflow
from training.stages import build, prepare, train


@dataclasses.dataclass(frozen=True)
class Fit:
    """A model fitted and exported in this process."""

    fitted: Fitted
    engine: Engine
    seconds: float

    def score(self, samples: np.ndarray) -> np.ndarray:
        """Score raw samples as `Detector.score` does; float64.

        Raises
        ------
        DetectorError
            If samples do not fit the model, or a score is not finite.
        """
        checked = self.engine.check_samples(samples)
        return self.engine.finite(self.engine.run(checked, (SCORE,))[SCORE]).astype(np.float64)

    def keras_scores(self, samples: np.ndarray) -> np.ndarray:
        """Score samples by the network that was exported; float64."""
        import tensorflow as tf

        function = self.fitted.graphs[MODEL_FILE].function
        chunks = [samples[start : start + 256].astype(np.float32) for start in range(0, len(samples), 256)]
        return np.concatenate([function(tf.constant(chunk))[SCORE].numpy() for chunk in chunks]).astype(float)


def settle(dataset: Dataset, preset: str, overrides: Mapping[str, Any]) -> FitConfig:
    """Return the configuration that `training.fit` makes of a preset and some options."""
    config = FitConfig.from_preset(preset, {"kind": dataset.kind, **overrides})
    return config.for_samples(dataset.sample_shape)


def normal_dataset(samples: np.ndarray, kind: str, value_range: tuple[float, float] | None = None) -> Dataset:
    """Return samples, all of them normal, as `training` reads them from a file; vectors as float32."""
    return Dataset(
        samples=samples.astype(np.float32),
        is_anomaly=np.zeros(len(samples), dtype=bool),
        labels=None,
        held_out=np.zeros(len(samples), dtype=bool),
        kind=kind,
        value_range=value_range,
        feature_names=None if kind == "image" else tuple(f"x{column}" for column in range(samples.shape[-1])),
        source="benchmark",
    )


def fit_all(dataset: Dataset, preset: str, order: np.ndarray, options: Mapping[str, Any]) -> Fit:
    """Fit a preset on all samples of a data set; raises as `fit`.

    Parameters
    ----------
    dataset : Dataset
        All of its samples are normal.
    preset : str
    order : ndarray of shape (n_samples,), int
        Row numbers. A network trained by gradients uses the first tenth of them to know when to stop; a
        memory uses all to be fitted on, and no latent, because no score depends on it.
    options : mapping
        Overrides of the preset.
    """
    config = settle(dataset, preset, options)
    n_validation = max(1, round(config.validation_fraction * len(order)))
    if config.has_memory:
        config, n_validation = dataclasses.replace(config, latent_dim=0), 0
    return fit(dataset, splits_of(order[n_validation:], order[:n_validation]), config)


def splits_of(train: np.ndarray, validation: np.ndarray) -> Splits:
    """Return splits without samples to calibrate and to test."""
    nothing = np.empty(0, dtype=np.int64)
    return Splits(np.sort(train), np.sort(validation), nothing, nothing, 0, 0)


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
    with contextlib.redirect_stderr(io.StringIO()):  # hides the progress of hundreds of fits
        fitted = train(build(prepared), "quality")
    seconds = time.perf_counter() - start
    return Fit(fitted, draft_manifest(fitted).open(fitted.files), seconds)


def _start_keras() -> None:
    """Import TensorFlow and discard the networks of earlier fits: Keras keeps them."""
    import_tensorflow()
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns about one graph for each fit
    import keras

    keras.backend.clear_session()

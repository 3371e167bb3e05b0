"""Calibration through the code that serves: the exported graphs, opened by its engine, score the split."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from detector.calibration import marginal_rank, promised_rank, threshold_of_rank
from detector.engine.graphs import FEATURE_ERROR, LATENT, SCORE
from detector.manifest import Threshold
from detector.schema import CONDITIONAL_PROMISE, NO_PROMISE
from training.config import FitConfig
from training.errors import TrainingError
from training.networks.collapse import check_spread
from training.publishing.manifests import Draft

QUANTILE_LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The threshold, and the scores and quantiles behind it.

    Attributes
    ----------
    threshold : Threshold
    sample_scores : ndarray of shape (n_calibration,), float64
        In the order of the calibration split.
    latent : ndarray of shape (n_calibration, *latent_shape), float32, or None
        In the same order; None without a bottleneck.
    arrays : dict of str to ndarray
        The content of `calibration.npz`: `score` ascending, and for each level in `levels` the quantiles of
        every feature's error and input.
    """

    threshold: Threshold
    sample_scores: np.ndarray
    latent: np.ndarray | None
    arrays: dict[str, np.ndarray]


def calibrate(
    draft: Draft, files: Mapping[str, bytes], samples: np.ndarray, config: FitConfig
) -> Calibration:
    """Score the calibration split and take the threshold from it.

    Parameters
    ----------
    draft : Draft
    files : mapping of file name to bytes
        The ONNX files as they will be published.
    samples : ndarray of shape (n_calibration, *sample_shape), raw units
        Normal, and never seen by the network.
    config : FitConfig
        `alpha` and `promise`.

    Raises
    ------
    TrainingError
        If all scores are the same, or the threshold would be 0 because the network reproduces nearly every
        sample exactly.
    """
    engine = draft.open(files)
    checked = engine.check_samples(samples)
    outputs = engine.run(checked, [SCORE, FEATURE_ERROR, *([LATENT] if draft.latent_shape else [])])
    sample_scores = engine.finite(outputs[SCORE]).astype(np.float64)
    if config.collapse_check and not config.has_memory:  # a memory rebuilds copies of its samples exactly
        check_spread(checked, sample_scores)
    scores = np.sort(sample_scores)
    if config.promise:
        rank, promise = promised_rank(scores.size, config.alpha), CONDITIONAL_PROMISE
    else:
        rank, promise = max(1, marginal_rank(scores.size, config.alpha)), NO_PROMISE
    threshold = threshold_of_rank(scores, rank, config.alpha, promise)
    if threshold.value <= 0:
        raise TrainingError(
            "the threshold would be 0: the network reproduces the calibration samples exactly, so its error "
            "tells nothing; try a smaller --latent-dim"
        )
    # The outermost quantiles would be values of single samples.
    levels = np.array(QUANTILE_LEVELS if config.samples else QUANTILE_LEVELS[1:-1])
    arrays = {
        "score": scores,
        "levels": levels,
        "error_quantiles": np.quantile(outputs[FEATURE_ERROR], levels, axis=0).astype(np.float32),
        "input_quantiles": _input_quantiles(checked, levels).astype(np.float32),
    }
    return Calibration(threshold, sample_scores, outputs.get(LATENT), arrays)


def _input_quantiles(checked: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Quantiles of each feature over its present values; NaN if all values are missing."""
    if not np.isnan(checked).any():
        return np.quantile(checked, levels, axis=0)
    absent = np.isnan(checked).all(axis=0)
    quantiles = np.nanquantile(np.where(absent, 0, checked), levels, axis=0)
    return np.where(absent, np.nan, quantiles)

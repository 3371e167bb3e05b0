"""The test split through the graphs as they will be served: outputs for the report, and figures."""

from typing import Any

import numpy as np

from detector.engine.graphs import FEATURE_ERROR, LATENT, RECONSTRUCTION, SCORE
from detector.inference import Detector
from detector.latents import DTYPES
from training.figures.baselines import compare_baselines
from training.figures.metrics import evaluate, evaluate_steps
from training.figures.stepwise import run_steps
from training.networks.corruption import corrupted_copy
from training.pages.report import TestRun
from training.publishing.manifests import Fitted

N_DENOISED = 7  # images that the report shows corrupted and denoised


def run_test(detector: Detector, fitted: Fitted) -> TestRun:
    """Run the test split, and for a preset that denoises images a few corrupted ones too."""
    dataset, rows = fitted.dataset, fitted.splits.test
    samples = dataset.samples[rows]
    latent = [LATENT] if detector.manifest.latent_shape else []
    names = (SCORE, RECONSTRUCTION, FEATURE_ERROR, *latent)
    outputs = detector.engine.run(detector.engine.check_samples(samples), names)
    labels = None if dataset.labels is None else dataset.labels[rows]
    steps = run_steps(detector, dataset.cut.series, dataset.cut.test_parts) if dataset.cut else None
    normal = samples[~dataset.is_anomaly[rows]][:N_DENOISED]
    denoises = fitted.config.corrupt_validation and dataset.kind == "image" and len(normal)
    denoised = _denoise(detector, fitted, normal) if denoises else None
    return TestRun(samples, dataset.is_anomaly[rows], labels, outputs, steps, denoised)


def _denoise(
    detector: Detector, fitted: Fitted, samples: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, the same corrupted as in the fit, and the reconstruction of the corrupted ones; raw units."""
    scaling = fitted.scaling
    corrupted = corrupted_copy(scaling.apply(samples), fitted.config) * scaling.scale + scaling.offset
    return samples, corrupted, detector.reconstruct(corrupted)


def evaluate_test(detector: Detector, fitted: Fitted, test: TestRun) -> dict[str, Any]:
    """Compute the figures of the test split, as the manifest records them."""
    scores = detector.engine.judge(test.samples, test.outputs)
    return evaluate(scores, test.is_anomaly, fitted.config.seed) | {
        "baselines": _compare_baselines(fitted, test, scores.score),
        "compression": _compression(detector, test.samples[~test.is_anomaly]),
        "steps": evaluate_steps(*test.steps.judged()) if test.steps else None,
    }


def _compare_baselines(fitted: Fitted, test: TestRun, score: np.ndarray) -> dict[str, Any] | None:
    rows = np.concatenate([fitted.splits.train, fitted.splits.validation])
    train, samples = map(fitted.scaling.apply, (fitted.dataset.samples[rows], test.samples))
    return compare_baselines(train, samples, test.is_anomaly, score, fitted.config.seed)


def _compression(detector: Detector, samples: np.ndarray) -> dict[str, dict[str, float]] | None:
    """Bytes saved and error added by latents of each dtype; None without a latent or normal test samples."""
    if not len(samples) or detector.manifest.latent_shape is None:
        return None
    compressed = {dtype: detector.compress(samples, dtype=dtype) for dtype in DTYPES}
    return {dtype: {"ratio": result.ratio, "error": result.error} for dtype, result in compressed.items()}

"""The test split through the graphs as they will be served: outputs for the report, and figures."""

from typing import Any

import numpy as np

from detector.engine.explanations import explain_scores
from detector.engine.graphs import FEATURE_ERROR, LATENT, RECONSTRUCTION, SCORE
from detector.inference import Detector
from detector.latents import DTYPES
from training.figures.baselines import compare_baselines
from training.figures.metrics import evaluate, evaluate_steps, feature_errors, operating_points
from training.figures.pixels import evaluate_pixels
from training.figures.stepwise import run_steps
from training.networks.corruption import corrupted_copy
from training.pages.report import TestRun, choose_shown
from training.publishing.manifests import Fitted

N_DENOISED = 6  # images that the report shows corrupted and denoised
N_CONTRIBUTIONS = 6  # features that the report shows of a row


def run_test(detector: Detector, fitted: Fitted) -> TestRun:
    """Run the test split, and for a preset that denoises images a few corrupted ones too."""
    dataset, rows = fitted.dataset, fitted.splits.test
    samples = dataset.samples[rows]
    latent = [LATENT] if detector.manifest.latent_shape else []
    names = (SCORE, RECONSTRUCTION, FEATURE_ERROR, *latent)
    outputs = detector.engine.run(detector.engine.check_samples(samples), names)
    labels = None if dataset.labels is None else dataset.labels[rows]
    steps = run_steps(detector, dataset.cut.series, dataset.cut.test_parts) if dataset.cut else None
    shown, explanation = choose_shown(outputs[SCORE], dataset.is_anomaly[rows]), ()
    if dataset.kind == "vector":
        parts = {name: outputs[name][shown] for name in (RECONSTRUCTION, FEATURE_ERROR)}
        explanation = explain_scores(samples[shown], parts, N_CONTRIBUTIONS, detector.manifest)
    normal = samples[~dataset.is_anomaly[rows]][:N_DENOISED]
    denoised = None
    if fitted.config.corrupt_validation and dataset.kind == "image" and len(normal):
        scaled = corrupted_copy(fitted.scaling.apply(normal), fitted.config)
        corrupted = scaled * fitted.scaling.scale + fitted.scaling.offset
        denoised = (normal, corrupted, detector.reconstruct(corrupted))
    return TestRun(samples, dataset.is_anomaly[rows], labels, outputs, shown, explanation, steps, denoised)


def evaluate_test(detector: Detector, fitted: Fitted, test: TestRun) -> dict[str, Any]:
    """Compute the figures of the test split, as the manifest records them."""
    scores, seed = detector.engine.judge(test.samples, test.outputs), fitted.config.seed
    rows = np.concatenate([fitted.splits.train, fitted.splits.validation])
    train, samples = map(fitted.scaling.apply, (fitted.dataset.samples[rows], test.samples))
    return evaluate(scores, test.is_anomaly, seed) | {
        "baselines": compare_baselines(train, samples, test.is_anomaly, scores.score, seed),
        "operating_points": operating_points(
            detector.calibration_scores, detector.manifest.threshold.promise, scores.score, test.is_anomaly
        ),
        "compression": _compression(detector, test.samples[~test.is_anomaly]),
        "steps": evaluate_steps(*test.steps.judged()) if test.steps else None,
        "pixels": _evaluate_pixels(fitted, test),
    }


def _evaluate_pixels(fitted: Fitted, test: TestRun) -> dict[str, Any] | None:
    """Compute the figures of pixels if the images have masks."""
    masks = fitted.dataset.masks_of(fitted.splits.test)
    if not masks or fitted.dataset.kind != "image":
        return None
    return evaluate_pixels(test.outputs[FEATURE_ERROR], test.is_anomaly, masks)


def _compression(detector: Detector, normal: np.ndarray) -> dict[str, Any] | None:
    """Compute for each dtype of the latents the ratio of bytes and the error that it costs normal samples.

    `error` is the root mean square over all values, `feature_errors` are those by feature or channel; None
    for images, whose pixels have one unit.
    """
    if not len(normal) or detector.manifest.latent_shape is None:
        return None
    costs = {}
    for dtype in DTYPES:
        compressed = detector.compress(normal, dtype=dtype)
        costs[dtype] = {"ratio": compressed.ratio, "error": compressed.error, "feature_errors": None}
        if detector.manifest.kind != "image":
            decoded = detector.decode(compressed.latent, dtype=dtype)
            squares = detector.engine.squares(detector.engine.check_samples(normal), decoded)
            costs[dtype]["feature_errors"] = feature_errors(squares, detector.manifest)
    return costs

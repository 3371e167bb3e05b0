"""Writes a model folder in three steps: calibrate the graphs, evaluate them, write every file."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np

from detector.engine.graphs import INPUT, open_sessions
from detector.files import CALIBRATION_FILE, GOLDEN_FILE, WEIGHTS_FILE
from detector.inference import Detector
from detector.latents import fit_int8
from detector.manifest import Manifest
from training.data.columns import network_shape
from training.errors import TrainingError
from training.figures.findings import baseline_notes, found_words, promise_warnings, threshold_notes
from training.figures.stepwise import flagged_stretches
from training.networks.weights import weight_arrays
from training.pages.report import TestRun, write_report
from training.publishing.calibrate import Calibration, calibrate
from training.publishing.evaluation import evaluate_test, run_test
from training.publishing.graphs import FEATURE_TOLERANCE, PARITY_TOLERANCE, check_decisions, check_parity
from training.publishing.manifests import Draft, Fitted, draft_manifest, seal
from training.publishing.quantize import quantize

N_GOLDEN = 8
SECONDS_OF_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """The graphs to publish, with their calibration.

    Attributes
    ----------
    files : dict of str to bytes
        ONNX files by name.
    calibration : Calibration
        By these files.
    parity : dict
        Differences between the float graphs and the network.
    quantization : dict or None
        Figures of `quantize`; None for float graphs.
    """

    files: dict[str, bytes]
    calibration: Calibration
    parity: dict[str, Any]
    quantization: dict[str, Any] | None


def write_folder(folder: Path, fitted: Fitted) -> Manifest:
    """Write every file of a model folder.

    Parameters
    ----------
    folder : Path
        Staged, empty.
    fitted : Fitted

    Returns
    -------
    Manifest
        As written; `ModelStore.publish` sets the version.

    Raises
    ------
    TrainingError
        If the graphs differ from the network, int8 changes decisions, the calibration scores are useless, or
        there is a warning under `strict`.
    DetectorError
        If the finished folder does not load as it would be served.
    """
    draft = draft_manifest(fitted)
    calibrated = calibrate_graphs(fitted, draft)
    calibration, quantization = calibrated.calibration, calibrated.quantization
    manifest = draft.finish(
        threshold=calibration.threshold,
        latent_int8=None if calibration.latent is None else fit_int8(calibration.latent),
        training=draft.training
        | {"parity": calibrated.parity}
        | ({} if quantization is None else {"quantization": quantization}),
        evaluation={},
        files={},
    )
    sessions = open_sessions(calibrated.files, manifest)
    detector = Detector(manifest, "", calibration.arrays["score"], sessions)
    test = run_test(detector, fitted)
    evaluation = evaluate_test(detector, fitted, test)
    evaluation |= _findings(fitted, calibration, evaluation)
    if fitted.config.strict and evaluation["warnings"]:
        raise TrainingError(f"{evaluation['warnings'][0]}; --strict publishes no such model")
    manifest = dataclasses.replace(manifest, evaluation=evaluation)
    return _write(folder, fitted, calibrated, detector, test, manifest)


def calibrate_graphs(fitted: Fitted, draft: Draft) -> Calibrated:
    """Calibrate the graphs and check them against the network; quantise and calibrate again if wanted.

    Errors are as for `write_folder`.
    """
    files, config, graphs = fitted.files, fitted.config, fitted.graphs
    samples = fitted.dataset.samples[fitted.splits.calibration]
    calibration = calibrate(draft, files, samples, config)
    threshold = calibration.threshold.value
    parity = check_parity(graphs, draft, samples, fitted.scaling, threshold)
    parity |= check_decisions(graphs, samples, calibration.sample_scores, threshold)
    if config.quantize == "none":
        return Calibrated(files, calibration, parity, None)
    splits = (fitted.dataset.samples[fitted.splits.train], samples)
    files, calibration, figures = quantize(files, calibration, draft, fitted.autoencoder, splits, config)
    return Calibrated(files, calibration, parity, figures)


def _findings(fitted: Fitted, calibration: Calibration, evaluation: dict[str, Any]) -> dict[str, Any]:
    """Warnings and notes on the threshold and the figures of the test split."""
    dataset, threshold, scores = fitted.dataset, calibration.threshold, calibration.sample_scores
    n_values = math.prod(network_shape(dataset))
    deciding = fitted.splits.calibration[int(np.argmax(scores == threshold.value))]
    return {
        "warnings": promise_warnings(threshold, evaluation),
        "notes": [
            *threshold_notes(threshold, np.sort(scores), dataset.place(deciding)),
            *baseline_notes(evaluation["baselines"], dataset.kind, fitted.config.preset, n_values),
        ],
    }


def _write(
    folder: Path,
    fitted: Fitted,
    calibrated: Calibrated,
    detector: Detector,
    test: TestRun,
    manifest: Manifest,
) -> Manifest:
    """Write graphs, report, calibration, weights and golden samples, and seal the folder."""
    scores = calibrated.calibration.arrays["score"]
    figures = _figures(manifest, fitted, calibrated, test)
    pages = write_report(figures, fitted.history, scores, test, fitted.dataset)
    for name, content in (calibrated.files | pages).items():
        (folder / name).write_bytes(content)
    np.savez(folder / CALIBRATION_FILE, **calibrated.calibration.arrays)
    if fitted.autoencoder.encoder is not None:
        np.savez(folder / WEIGHTS_FILE, **weight_arrays(fitted.autoencoder, fitted.scaling))
    golden = detector.engine.check_samples(_golden_samples(fitted))
    np.savez(folder / GOLDEN_FILE, **{INPUT: golden}, **detector.engine.golden_answers(golden))
    return seal(folder, manifest)


def _golden_samples(fitted: Fitted) -> np.ndarray:
    """A few calibration samples; with `--no-samples` values drawn from the training split's range instead."""
    dataset, scaling = fitted.dataset, fitted.scaling
    if fitted.config.samples:
        return dataset.samples[fitted.splits.calibration[:N_GOLDEN]]
    rng = np.random.default_rng(fitted.config.seed)
    shape = (N_GOLDEN, *dataset.sample_shape)
    drawn = rng.uniform(size=shape) if dataset.value_range is not None else rng.normal(size=shape)
    return scaling.at(drawn)


def _figures(manifest: Manifest, fitted: Fitted, calibrated: Calibrated, test: TestRun) -> dict[str, Any]:
    """The content of `report.json`."""
    history, notes = fitted.history, (*fitted.earlier_notes, *fitted.notes)
    return {
        "name": manifest.name,
        "kind": manifest.kind,
        "created_at": manifest.created_at,
        "score": manifest.score,
        "threshold": dataclasses.asdict(manifest.threshold),
        "evaluation": dict(manifest.evaluation),
        "alarms": _alarms(manifest),
        "data": dict(manifest.data),
        "columns": [dataclasses.asdict(column) for column in fitted.dataset.columns],
        "missing": manifest.missing,
        "categories": manifest.categories or {},
        "unknown_category": manifest.unknown_category,
        "found": found_words(manifest.evaluation, manifest.kind),
        "notes": [*manifest.evaluation["notes"], *notes],
        "configuration": fitted.config.described(),
        "fit": {"parameters": fitted.autoencoder.n_parameters}
        | ({} if history is None else {"epochs": len(history.train_loss)} | dataclasses.asdict(history)),
        "flagged": flagged_stretches(test.steps, fitted.dataset.cut.series) if test.steps else None,
        "sweep": fitted.sweep,
        "parity": calibrated.parity,
        "parity_tolerance": PARITY_TOLERANCE,
        "feature_tolerance": FEATURE_TOLERANCE,
        "tools": dict(manifest.tools),
        "quantization": calibrated.quantization,
    }


def _alarms(manifest: Manifest) -> dict[str, Any]:
    """How false alarms are counted: of a day where the data have times, else of 1,000 samples."""
    series = manifest.data["series"]
    if series is None or series["usual_step"] is None or "T" not in series["first_time"]:
        return {"n_samples": 1000, "unit": "in 1,000 samples"}
    return {"n_samples": SECONDS_OF_DAY / series["usual_step"], "unit": "a day"}

"""Writes a model folder: graphs, golden samples, calibration, report and manifest, verified at the end."""

import dataclasses
import platform
from collections.abc import Mapping
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import numpy as np

from detector.engine.graphs import FEATURE_ERROR, INPUT, LATENT, RECONSTRUCTION, SCORE, open_sessions
from detector.files import CALIBRATION_FILE, GOLDEN_FILE, WEIGHTS_FILE, describe_files
from detector.inference import Detector
from detector.latents import DTYPES, fit_int8
from detector.manifest import Manifest, Threshold, verbs_of, write_manifest
from detector.schema import FROM_LATENT, FROM_MEMORY
from training.config import FitConfig
from training.data.dataset import Dataset
from training.data.scaling import Scaling
from training.data.splits import Splits
from training.figures.baselines import baseline_notes, compare_baselines
from training.figures.metrics import evaluate, evaluate_steps, promise_warnings
from training.figures.stepwise import flagged_stretches, run_steps
from training.networks.architectures import Autoencoder
from training.networks.corruption import corrupted_copy
from training.networks.fitting import History
from training.networks.weights import weight_arrays
from training.pages.report import TestRun, write_report
from training.publishing.calibrate import calibrate
from training.publishing.graphs import (
    FEATURE_TOLERANCE,
    PARITY_TOLERANCE,
    Graph,
    check_decisions,
    check_parity,
    describe_score,
)
from training.publishing.quantize import SELF_TEST_TOLERANCE as INT8_TOLERANCE
from training.publishing.quantize import quantize

N_GOLDEN = 8
N_RESTORED = 7  # images shown in the report of a network that restores
SELF_TEST_TOLERANCES = {"none": 1e-4, "int8": INT8_TOLERANCE}  # relative: another CPU rounds differently
_TOOLS = ("keras", "numpy", "onnx", "onnxruntime", "tensorflow", "tf2onnx")


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A fitted autoencoder with all that led to it; `sweep` has the trials that it was chosen from.

    There is no history where no network was fitted, which a memory alone does not need.
    """

    name: str
    created_at: str
    dataset: Dataset
    splits: Splits
    scaling: Scaling
    config: FitConfig
    autoencoder: Autoencoder
    history: History | None
    sweep: dict[str, Any] | None = None


def write_folder(folder: Path, fitted: Fitted, graphs: Mapping[str, Graph], notes: list[str]) -> Manifest:
    """Write every file of a model folder but its final version number.

    Parameters
    ----------
    folder : Path
        Staged, empty.
    fitted : Fitted
    graphs : mapping of file name to Graph
    notes : list of str
        What the reader of the report should know, a sentence each.

    Returns
    -------
    Manifest
        As written; `ModelStore.publish` sets the version.

    Raises
    ------
    TrainingError
        If the graphs differ from the network, in int8 by their decisions, or the calibration tells nothing.
    DetectorError
        If the finished folder does not load as it would be served.
    """
    dataset, splits = fitted.dataset, fitted.splits
    files = {name: graph.onnx for name, graph in graphs.items()}
    draft = draft_manifest(fitted)
    calibration_samples = dataset.samples[splits.calibration]
    calibration = calibrate(files, draft, calibration_samples, fitted.config)
    threshold = calibration.threshold.value
    parity = check_parity(graphs, draft, calibration_samples, fitted.scaling, threshold)
    parity |= check_decisions(graphs, calibration_samples, calibration.sample_scores, threshold)
    quantization = None
    if fitted.config.quantize != "none":
        samples = (dataset.samples[splits.train], calibration_samples)
        quantized = quantize(files, calibration, draft, fitted.autoencoder, samples, fitted.config)
        files, calibration, quantization = quantized.files, quantized.calibration, quantized.figures
    manifest = dataclasses.replace(
        draft,
        threshold=calibration.threshold,
        latent_int8=None if calibration.latent is None else fit_int8(calibration.latent),
    )
    detector = Detector(manifest, "", calibration.arrays["score"], open_sessions(files, manifest))

    test = _run_test(detector, fitted)
    evaluation = _evaluate(detector, fitted, test)
    manifest = dataclasses.replace(manifest, evaluation=evaluation)
    figures = _figures(manifest, fitted, parity, [*notes, *baseline_notes(evaluation["baselines"])])
    figures["quantization"] = quantization
    if test.run is not None:
        figures["flagged"] = flagged_stretches(test.run, dataset.cut.series)
    files |= write_report(figures, fitted.history, calibration.arrays["score"], test, dataset, fitted.scaling)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    np.savez(folder / CALIBRATION_FILE, **calibration.arrays)
    if fitted.autoencoder.encoder is not None:
        np.savez(folder / WEIGHTS_FILE, **weight_arrays(fitted.autoencoder, fitted.scaling))
    golden = detector.engine.check_samples(_golden_samples(fitted))
    np.savez(folder / GOLDEN_FILE, **{INPUT: golden}, **detector.engine.golden_answers(golden))

    manifest = dataclasses.replace(
        manifest,
        training={**dict(manifest.training), "parity": parity}
        | ({} if quantization is None else {"quantization": quantization}),
        files=describe_files(folder),
    )
    write_manifest(folder, manifest)
    Detector.load(folder)  # as the service will
    return manifest


def _evaluate(detector: Detector, fitted: Fitted, test: TestRun) -> dict[str, Any]:
    """All figures of the test split."""
    scores = detector.engine.judge(test.samples, test.outputs)
    return evaluate(scores, test.is_anomaly, fitted.config.seed) | {
        "baselines": _compare_baselines(fitted, test, scores.score),
        "compression": _compression(detector, test.samples[~test.is_anomaly]),
        "steps": evaluate_steps(*test.run.judged()) if test.run else None,
    }


def draft_manifest(fitted: Fitted) -> Manifest:
    """The manifest as far as it is known before calibration; its threshold stands for none yet."""
    dataset, config, autoencoder = fitted.dataset, fitted.config, fitted.autoencoder
    is_sequence = dataset.kind == "sequence"
    return Manifest(
        name=fitted.name,
        version=1,
        kind=dataset.kind,
        created_at=fitted.created_at,
        verbs=verbs_of(latent=autoencoder.encoder is not None),
        sample_shape=dataset.sample_shape,
        dtype="float32",
        value_range=dataset.value_range if dataset.kind == "image" else None,
        feature_names=dataset.feature_names,
        units=None,
        window=config.window,
        stride=(config.stride or 1) if is_sequence else None,
        merge=config.merge if is_sequence else None,
        latent_shape=autoencoder.latent_shape,
        missing=dataset.missing,
        categories=dataset.categories,
        unknown_category=dataset.unknown_category,
        reconstruction=FROM_MEMORY if config.has_memory else FROM_LATENT,
        score=describe_score(config),
        architecture={"name": config.architecture, "parameters": autoencoder.n_parameters}
        | {
            f"{part}_parameters": getattr(autoencoder, part).count_params()
            for part in ("encoder", "decoder", "memory")
            if getattr(autoencoder, part) is not None
        },
        training={"configuration": dataclasses.asdict(config)} | _describe_history(fitted.history),
        data=_describe_data(fitted),
        threshold=_NO_THRESHOLD,
        evaluation={},
        self_test_tolerance=SELF_TEST_TOLERANCES[config.quantize],
        tools=_tool_versions(),
        files={},
    )


def _describe_data(fitted: Fitted) -> dict[str, Any]:
    """Where the samples came from, and how they were dealt out."""
    dataset = fitted.dataset
    return {
        "source": dataset.source,
        "provenance": dataset.provenance,
        "fingerprint": dataset.fingerprint(),
        "n_samples": len(dataset.samples),
        "sample_shape": dataset.sample_shape,
        "splits": fitted.splits.sizes(),
        "n_trimmed": fitted.splits.n_trimmed,
        "normal_label": dataset.normal_label,
        "n_calibration_duplicates": fitted.splits.n_calibration_duplicates,
        "n_duplicates": fitted.splits.n_duplicates,
        "series": _describe_series(dataset),
    }


def _describe_history(history: History | None) -> dict[str, Any]:
    """How the network was fitted; nothing where none was."""
    if history is None:
        return {}
    return {
        "epochs": len(history.train_loss),
        "best_epoch": history.best_epoch,
        "validation_loss": history.validation_loss[history.best_epoch - 1],
        "seconds": round(history.seconds, 1),
    }


def _describe_series(dataset: Dataset) -> dict[str, Any] | None:
    """What the windows were cut from; None for other samples."""
    if dataset.cut is None:
        return None
    return dataset.timeline.describe() | {"training_stride": dataset.cut.training_stride}


_NO_THRESHOLD = Threshold(float("nan"), float("nan"), "none", None, 0, 0, float("nan"))


def _run_test(detector: Detector, fitted: Fitted) -> TestRun:
    """The test split through the exported graph."""
    dataset, rows = fitted.dataset, fitted.splits.test
    samples = dataset.samples[rows]
    latent = [LATENT] if detector.manifest.latent_shape else []
    names = (SCORE, RECONSTRUCTION, FEATURE_ERROR, *latent)
    outputs = detector.engine.run(detector.engine.check_samples(samples), names)
    labels = None if dataset.labels is None else dataset.labels[rows]
    run = run_steps(detector, dataset.cut.series, dataset.cut.test_parts) if dataset.cut else None
    normal = samples[~dataset.is_anomaly[rows]][:N_RESTORED]
    restores = fitted.config.corrupt_validation and dataset.kind == "image"
    restored = _restore(detector, fitted, normal) if restores and len(normal) else None
    return TestRun(samples, dataset.is_anomaly[rows], labels, outputs, run, restored)


def _restore(
    detector: Detector, fitted: Fitted, samples: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, the same corrupted as they were for the fit, and what the model makes of these; raw units."""
    scaling = fitted.scaling
    corrupted = corrupted_copy(scaling.apply(samples), fitted.config) * scaling.scale + scaling.offset
    return samples, corrupted, detector.reconstruct(corrupted)


def _compare_baselines(fitted: Fitted, test: TestRun, score: np.ndarray) -> dict[str, Any] | None:
    rows = np.concatenate([fitted.splits.train, fitted.splits.validation])
    fitted_on, samples = (
        fitted.scaling.apply(split) for split in (fitted.dataset.samples[rows], test.samples)
    )
    return compare_baselines(fitted_on, samples, test.is_anomaly, score, fitted.config.seed)


def _compression(detector: Detector, samples: np.ndarray) -> dict[str, dict[str, float]] | None:
    """What latents of each dtype save and cost, on the normal test samples; None without one of the two."""
    if not len(samples) or detector.manifest.latent_shape is None:
        return None
    compressed = {dtype: detector.compress(samples, dtype=dtype) for dtype in DTYPES}
    return {dtype: {"ratio": result.ratio, "error": result.error} for dtype, result in compressed.items()}


def _golden_samples(fitted: Fitted) -> np.ndarray:
    """A few calibration samples; with `--no-samples` values drawn from the training split's range instead."""
    dataset, scaling = fitted.dataset, fitted.scaling
    if fitted.config.samples:
        return dataset.samples[fitted.splits.calibration[:N_GOLDEN]]
    rng = np.random.default_rng(fitted.config.seed)
    shape = (N_GOLDEN, *dataset.sample_shape)
    drawn = rng.uniform(size=shape) if dataset.value_range is not None else rng.normal(size=shape)
    return scaling.at(drawn)


def _figures(manifest: Manifest, fitted: Fitted, parity: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """The content of `report.json`."""
    history = fitted.history
    return {
        "name": manifest.name,
        "kind": manifest.kind,
        "created_at": manifest.created_at,
        "score": manifest.score,
        "threshold": dataclasses.asdict(manifest.threshold),
        "evaluation": dict(manifest.evaluation),
        "data": dict(manifest.data),
        "missing": manifest.missing,
        "categories": manifest.categories or {},
        "unknown_category": manifest.unknown_category,
        "warnings": promise_warnings(manifest.threshold, manifest.evaluation),
        "notes": notes,
        "configuration": dataclasses.asdict(fitted.config),
        "fit": {"parameters": fitted.autoencoder.n_parameters}
        | ({} if history is None else {"epochs": len(history.train_loss)} | dataclasses.asdict(history)),
        "flagged": None,
        "sweep": fitted.sweep,
        "parity": parity,
        "parity_tolerance": PARITY_TOLERANCE,
        "feature_tolerance": FEATURE_TOLERANCE,
        "tools": dict(manifest.tools),
    }


def _tool_versions() -> dict[str, str]:
    """Versions of everything that has a say in the numbers, whatever their distributions are called."""
    distributions = packages_distributions()
    return {"python": platform.python_version()} | {name: version(distributions[name][0]) for name in _TOOLS}

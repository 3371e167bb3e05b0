"""The graphs of a model folder: names and shapes of their tensors, and how far two answers differ."""

from collections.abc import Mapping

import numpy as np

from detector import files
from detector.engine.session import Session
from detector.errors import ManifestError, ModelError
from detector.manifest import Manifest

INPUT = "samples"
LATENT = "latent"
RECONSTRUCTION = "reconstruction"
SCORE = "score"
FEATURE_ERROR = "feature_error"
DECODED = "decoded"  # the decoded latent, where that is not the reconstruction
PROBABILITY = "probability"


def model_outputs(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Return name and shape, without the batch, of every output of `model.onnx`."""
    shape = manifest.sample_shape
    latent = {} if manifest.latent_shape is None else {LATENT: manifest.latent_shape}
    return {SCORE: (), RECONSTRUCTION: shape, FEATURE_ERROR: shape, **latent}


def open_sessions(contents: Mapping[str, bytes], manifest: Manifest, threads: int = 1) -> dict[str, Session]:
    """Open the graphs of a model folder, given by file name, each to run `threads` chunks at a time.

    Raise `ModelError` if a graph does not load, or has other tensors than the manifest implies.
    """
    shape, latent = manifest.sample_shape, manifest.latent_shape
    graphs: dict[str, tuple[str, tuple[int, ...], dict[str, tuple[int, ...]]]] = {
        files.MODEL_FILE: (INPUT, shape, model_outputs(manifest))
    }
    if latent is not None:
        graphs[files.ENCODER_FILE] = (INPUT, shape, {LATENT: latent})
        graphs[files.DECODER_FILE] = (LATENT, latent, {RECONSTRUCTION: shape})
    if manifest.classifier is not None:
        graphs[files.CLASSIFIER_FILE] = (INPUT, shape, {PROBABILITY: (len(manifest.classifier.classes),)})
    return {
        name: Session(contents[name], name, input_name, input_shape, tensors, threads)
        for name, (input_name, input_shape, tensors) in graphs.items()
    }


def relative_difference(answer: np.ndarray, expected: np.ndarray, unit: float | np.ndarray) -> float:
    """Return the largest difference between two answers, relative to the sample's largest value plus `unit`.

    Parameters
    ----------
    answer, expected : ndarray of shape (n_samples, ...), float32
    unit : float or ndarray of the shape of one sample
        A size that matters, in the answer's unit: differences far below it are rounding errors, even where a
        sample's own values are tiny, such as the error of a nearly perfect reconstruction.

    Returns
    -------
    float
        NaN if a value is not finite; 0 if all values are 0, such as the latents of a dead layer.
    """
    axes = tuple(range(1, expected.ndim))
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = np.abs(answer.astype(np.float64) - expected)
        scale = np.abs(expected.astype(np.float64)).max(axis=axes, keepdims=True) + unit
        return float(np.where(difference == 0, 0, difference / scale).max())


def check_answer(graph: str, name: str, answer: np.ndarray, expected: np.ndarray, manifest: Manifest) -> None:
    """Check that one output for the golden samples is within the tolerance of the recorded one.

    Raise `ManifestError` if the recorded values have another shape or are not floats, and `ModelError` if the
    difference is larger.
    """
    if expected.shape != answer.shape or expected.dtype.kind != "f":
        raise ManifestError(
            f"{files.GOLDEN_FILE}: {name} must hold floats of shape {answer.shape}, "
            f"got {expected.dtype} of shape {expected.shape}"
        )
    unit = manifest.threshold.value if name in (SCORE, FEATURE_ERROR) else np.abs(expected).max()
    difference = relative_difference(answer, expected, unit)
    if not difference <= manifest.self_test_tolerance:  # NaN fails too
        raise ModelError(
            f"{graph} fails its self-test: {name} differs from {files.GOLDEN_FILE} by "
            f"{difference:.3g} relative, at most {manifest.self_test_tolerance:g} is allowed"
        )

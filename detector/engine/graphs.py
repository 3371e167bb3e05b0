"""The graphs of a model folder: names and shapes of their tensors, and whether two answers agree."""

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
DECODED = "decoded"  # the latent's decoding, where the reconstruction is another
PROBABILITY = "probability"


def model_outputs(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Name and shape, the batch left out, of every output of `model.onnx`."""
    shape = manifest.sample_shape
    latent = {} if manifest.latent_shape is None else {LATENT: manifest.latent_shape}
    return {SCORE: (), RECONSTRUCTION: shape, FEATURE_ERROR: shape, **latent}


def open_sessions(contents: Mapping[str, bytes], manifest: Manifest, threads: int = 1) -> dict[str, Session]:
    """The graphs of a model folder, each held against the tensors that the manifest implies.

    Raises
    ------
    ModelError
        If a graph does not load, or has other tensors.
    """
    shape, latent = manifest.sample_shape, manifest.latent_shape
    graphs = {files.MODEL_FILE: (INPUT, shape, model_outputs(manifest))}
    if latent is not None:
        graphs[files.ENCODER_FILE] = (INPUT, shape, {LATENT: latent})
        graphs[files.DECODER_FILE] = (LATENT, latent, {RECONSTRUCTION: shape})
    if manifest.classifier is not None:
        probabilities = {PROBABILITY: (len(manifest.classifier.classes),)}
        graphs[files.CLASSIFIER_FILE] = (INPUT, shape, probabilities)
    return {
        name: Session(contents[name], name, input_name, input_shape, tensors, threads)
        for name, (input_name, input_shape, tensors) in graphs.items()
    }


def relative_difference(answer: np.ndarray, expected: np.ndarray, unit: float | np.ndarray) -> float:
    """Largest difference between two answers, relative to the sample's largest value plus `unit`.

    Parameters
    ----------
    answer, expected : ndarray of shape (n_samples, ...), float32
    unit : float or ndarray of the shape of one sample
        A size that matters, in the answer's unit: differences far below it are rounding, also where a
        sample's own values are tiny, say the error of a nearly perfect reconstruction.

    Returns
    -------
    float
        NaN where a value is not finite; 0 where all values are 0, as are the latents of a dead layer.
    """
    axes = tuple(range(1, expected.ndim))
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = np.abs(answer.astype(np.float64) - expected)
        scale = np.abs(expected.astype(np.float64)).max(axis=axes, keepdims=True) + unit
        return float(np.where(difference == 0, 0, difference / scale).max())


def check_answer(graph: str, name: str, answer: np.ndarray, expected: np.ndarray, manifest: Manifest) -> None:
    """One output for the golden samples: of the recorded form, and within the tolerance of it.

    Raises
    ------
    ManifestError
        If the recorded values have another form.
    ModelError
        If the graph answers otherwise.
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

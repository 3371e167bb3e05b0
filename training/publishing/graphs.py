"""Export scaling, autoencoder and score from Keras to one ONNX graph, and check their parity."""

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx

from detector.engine.graphs import (
    FEATURE_ERROR,
    INPUT,
    LATENT,
    RECONSTRUCTION,
    SCORE,
    open_sessions,
    relative_difference,
)
from detector.errors import ModelError
from detector.files import DECODER_FILE, ENCODER_FILE, MODEL_FILE
from detector.manifest import Manifest
from training.data.scaling import Scaling
from training.errors import ExportError
from training.networks.architectures import Autoencoder, forget_penalties
from training.publishing.graph_scaling import FLOAT32_MAX, pool, scale, unscale
from training.publishing.stuck import UNIT, LongestRuns

OPSET = 18  # the highest that tf2onnx knows
PARITY_TOLERANCE = 1e-4  # see detector.engine.graphs.relative_difference
# Tolerance of feature errors, used for maps and explanations; decisions depend on their mean, the score.
FEATURE_TOLERANCE = 1e-3
CHUNK_ROWS = 256
PARITY_BATCHES = (1, 2, 7, 64)
# Residuals are clipped here, so that sums of their squares over any number of features stay finite.
RESIDUAL_LIMIT = 1e12
SMOOTHING_RADII = 3  # standard deviations at which the kernel ends


@dataclasses.dataclass(frozen=True)
class Graph:
    """One function to export.

    Attributes
    ----------
    function : tf.function
        One float32 tensor with a free batch dimension -> dict of named tensors.
    onnx : bytes
        The same as an ONNX file.
    """

    function: Callable[[tf.Tensor], Mapping[str, tf.Tensor]]
    onnx: bytes


def export_graphs(
    autoencoder: Autoencoder,
    scaling: Scaling,
    residual_smoothing: float = 0.0,
    scored_steps: int | None = None,
    runs: LongestRuns | None = None,
    fitted: np.ndarray | None = None,
) -> dict[str, Graph]:
    """Build and convert `model.onnx` and, where there is a latent, `encoder.onnx` and `decoder.onnx`.

    Parameters
    ----------
    autoencoder : Autoencoder
    scaling : Scaling
    residual_smoothing : float
        Standard deviation, in pixels, of the Gaussian that smooths an image's residual; 0 is none.
    scored_steps : int, optional
        Number of newest steps of a window whose error counts; all if not given.
    runs : LongestRuns, optional
        Runs of equal values that are normal; a longer one up to the newest step adds to the error there.
    fitted : ndarray of shape (n_samples, *sample_shape), optional
        Scaled samples of the fit, whose scores are the unit of that error; needed with `runs`.

    Raises
    ------
    ExportError
        If a graph uses more than the standard operators, or does not pass ONNX' own checker.
    """
    network_shape, latent_shape = autoencoder.sample_shape, autoencoder.latent_shape
    sample_shape = network_shape if scaling.layout is None else scaling.fill.shape
    if latent_shape is not None:
        forget_penalties(autoencoder.encoder)
    n_features = math.prod(sample_shape)
    weights = np.full(n_features, 1 / n_features, dtype=np.float32)
    counts = None if scored_steps is None else _newest_steps(sample_shape, scored_steps)

    def rebuild(scaled: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        latent = {} if latent_shape is None else {LATENT: autoencoder.encoder(scaled, training=False)}
        decoded, error = _rebuild(autoencoder, scaled, latent.get(LATENT), residual_smoothing)
        error = pool(error, scaling)
        return latent, decoded, error if counts is None else error * counts

    stuck_unit = 0.0
    if runs is not None and runs.is_judged.any():
        batches = (fitted[start : start + CHUNK_ROWS] for start in range(0, len(fitted), CHUNK_ROWS))
        largest = max(float(np.mean(rebuild(batch)[2], axis=(1, 2)).max()) for batch in batches)
        stuck_unit = UNIT * n_features * (largest or 1.0)

    def model(samples: tf.Tensor) -> dict[str, tf.Tensor]:
        latent, decoded, error = rebuild(scale(samples, scaling))
        if stuck_unit:
            error += stuck_unit * _steps_too_long(samples, runs.limits)
        # A product, not a mean: its rounding does not depend on a row's place in the batch.
        score = tf.linalg.matvec(tf.reshape(error, (-1, n_features)), weights)
        return {SCORE: score, RECONSTRUCTION: unscale(decoded, scaling), FEATURE_ERROR: error, **latent}

    def encode(samples: tf.Tensor) -> dict[str, tf.Tensor]:
        return {LATENT: autoencoder.encoder(scale(samples, scaling), training=False)}

    def decode(latent: tf.Tensor) -> dict[str, tf.Tensor]:
        return {RECONSTRUCTION: unscale(autoencoder.decoder(latent, training=False), scaling)}

    graphs = {MODEL_FILE: convert(model, INPUT, sample_shape)}
    if latent_shape is None:
        return graphs
    return graphs | {
        ENCODER_FILE: convert(encode, INPUT, sample_shape),
        DECODER_FILE: convert(decode, LATENT, latent_shape),
    }


def _rebuild(
    autoencoder: Autoencoder, scaled: tf.Tensor, latent: tf.Tensor | None, residual_smoothing: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Reconstruction and feature error, in the shape of `scaled`; errors of several heads are summed."""
    if autoencoder.memory is not None:
        return autoencoder.memory(scaled, training=False)
    error = tf.zeros_like(scaled)
    for head in autoencoder.reconstructions(latent):
        residual = tf.clip_by_value(scaled - head, -RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        error += tf.square(_smooth(residual, autoencoder.sample_shape, residual_smoothing))
    return autoencoder.decoder(latent, training=False), error


def _steps_too_long(samples: tf.Tensor, limits: np.ndarray) -> tf.Tensor:
    """By how many steps the run of equal values that ends a window is too long.

    Shape of the samples, (n, window, n_channels), and 0 but at the newest step: where no run is too long,
    adding it keeps every bit.
    """
    window = samples.shape[1]
    places = np.arange(1, window, dtype=np.float32)[:, np.newaxis]
    changes = tf.cast(tf.not_equal(samples[:, 1:], samples[:, :-1]), tf.float32) * places
    lengths = window - tf.reduce_max(changes, axis=1)  # since the last change: (n, n_channels)
    excess = tf.maximum(lengths - limits, 0.0)
    return tf.pad(excess[:, tf.newaxis], [[0, 0], [window - 1, 0], [0, 0]])


def check_parity(
    graphs: Mapping[str, Graph], manifest: Manifest, samples: np.ndarray, scaling: Scaling, threshold: float
) -> dict[str, float]:
    """Hold every exported graph against the network that it came from.

    Parameters
    ----------
    graphs : mapping of file name to Graph
    manifest : Manifest
        Names the tensors and their shapes.
    samples : ndarray of shape (n_samples, *sample_shape), float32, raw units
        Real samples; extreme ones are added.
    scaling : Scaling
    threshold : float
        Scores and errors are held against it, reconstructions against the scaling's unit.

    Returns
    -------
    dict of str to float
        The largest relative difference of each output, by `file:output`.

    Raises
    ------
    ExportError
        If a graph does not load, answers a value that is not finite, or differs by more than
        `PARITY_TOLERANCE`, in feature errors `FEATURE_TOLERANCE`.
    """
    try:
        sessions = open_sessions({name: graph.onnx for name, graph in graphs.items()}, manifest)
    except ModelError as error:
        raise ExportError(str(error)) from error
    real = samples[: max(PARITY_BATCHES)].astype(np.float32)
    units = {SCORE: threshold, FEATURE_ERROR: threshold, RECONSTRUCTION: scaling.unit}
    if ENCODER_FILE in graphs:
        latent = graphs[ENCODER_FILE].function(tf.constant(real))[LATENT].numpy()
        units[LATENT] = np.abs(latent).max()
    differences: dict[str, float] = {}

    def compare(name: str, batch: np.ndarray, outputs: Sequence[str], label: str) -> None:
        expected = {key: value.numpy() for key, value in graphs[name].function(tf.constant(batch)).items()}
        if SCORE in expected:
            # Over 100,000 equal errors TensorFlow's own float32 sum is off by up to 1e-4.
            errors = expected[FEATURE_ERROR].reshape(len(batch), -1)
            expected[SCORE] = errors.mean(axis=1, dtype=np.float64)
        for output, answer in sessions[name].run(batch, outputs).items():
            difference = relative_difference(answer, expected[output], units[output])
            key = f"{name}:{output}{label}"
            differences[key] = max(differences.get(key, 0.0), difference)
            tolerance = FEATURE_TOLERANCE if output == FEATURE_ERROR else PARITY_TOLERANCE
            if not difference <= tolerance:  # NaN fails too
                raise ExportError(
                    f"{name} differs from the network: {output} by {difference:.3g} relative{label}, at most "
                    f"{tolerance:g} is allowed"
                )

    for size in PARITY_BATCHES:
        compare(MODEL_FILE, real[:size], tuple(units), "")
        if ENCODER_FILE in graphs:
            compare(ENCODER_FILE, real[:size], (LATENT,), "")
            compare(DECODER_FILE, latent[:size], (RECONSTRUCTION,), "")
    # Far out the layers cancel numbers a million times the result: only the score has to agree there.
    compare(MODEL_FILE, extreme_samples(manifest.sample_shape, scaling), (SCORE,), " (extreme inputs)")
    return differences


def check_decisions(
    graphs: Mapping[str, Graph], samples: np.ndarray, scores: np.ndarray, threshold: float
) -> dict[str, int]:
    """Compare the decisions of ONNX Runtime and network; they may differ only for scores at the threshold.

    Parameters
    ----------
    graphs : mapping of file name to Graph
    samples : ndarray of shape (n_samples, *sample_shape), raw units
    scores : ndarray of shape (n_samples,), float64
        Scores of ONNX Runtime, in the same order.
    threshold : float

    Returns
    -------
    dict of str to int
        `decisions`, and `decisions_differing` out of them.

    Raises
    ------
    ExportError
        If a decision differs for a score farther from the threshold than `PARITY_TOLERANCE`.
    """
    function = graphs[MODEL_FILE].function
    chunks = [samples[start : start + 256].astype(np.float32) for start in range(0, len(samples), 256)]
    expected = np.concatenate([function(tf.constant(chunk))[SCORE].numpy() for chunk in chunks])
    differs = (expected > threshold) != (scores > threshold)
    clear = np.abs(scores / threshold - 1) > PARITY_TOLERANCE
    if (differs & clear).any():
        raise ExportError(f"{int((differs & clear).sum())} decisions differ between network and graph")
    return {"decisions": differs.size, "decisions_differing": int(differs.sum())}


def _newest_steps(sample_shape: tuple[int, ...], n_steps: int) -> np.ndarray:
    """Return factors of the errors of a window, shape (window, 1): 0 for old steps, 1 on average."""
    window = sample_shape[0]
    if n_steps > window:
        raise ExportError(f"scored_steps must be at most the window, {window}, got {n_steps}")
    counts = np.zeros((window, 1), dtype=np.float32)
    counts[-n_steps:] = window / n_steps
    return counts


def _smooth(residual: tf.Tensor, sample_shape: tuple[int, ...], sigma: float) -> tf.Tensor:
    """Average neighbours: an edge that is rebuilt half a pixel off cancels, a missing stroke does not."""
    if sigma == 0:
        return residual
    height, width, channels = (*sample_shape, 1)[:3]
    radius = math.ceil(SMOOTHING_RADII * sigma)
    profile = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma))
    profile /= profile.sum()
    kernel = np.outer(profile, profile)[:, :, np.newaxis, np.newaxis]
    kernel = np.repeat(kernel, channels, axis=2).astype(np.float32)  # (height, width, channels, 1)
    pixels = tf.reshape(residual, (-1, height, width, channels))
    smooth = tf.nn.depthwise_conv2d(pixels, kernel, strides=(1, 1, 1, 1), padding="SAME")
    return tf.reshape(smooth, (-1, *sample_shape))


def convert(
    function: Callable[[tf.Tensor], dict[str, tf.Tensor]], input_name: str, shape: tuple[int, ...]
) -> Graph:
    """Trace and convert a function; tf2onnx is used only here."""
    traced = tf.function(
        function, input_signature=[tf.TensorSpec((None, *shape), tf.float32, name=input_name)]
    )
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    # Any value makes a failing optimisation an error; otherwise tf2onnx copies the graph before each one.
    os.environ["TF2ONNX_CATCH_ERRORS"] = "FALSE"
    model, _ = tf2onnx.convert.from_function(traced, input_signature=traced.input_signature, opset=OPSET)
    shapes = {input_name: shape} | {
        name: output.shape[1:] for name, output in traced.get_concrete_function().structured_outputs.items()
    }
    # tf2onnx names each batch dimension differently, and loses sizes after a matrix product.
    for value in (*model.graph.input, *model.graph.output):
        batch, *dimensions = value.type.tensor_type.shape.dim
        batch.dim_param = "batch"
        for dimension, size in zip(dimensions, shapes[value.name], strict=True):
            dimension.dim_value = size
    foreign = {node.op_type for node in model.graph.node if node.domain not in ("", "ai.onnx")}
    if foreign:
        raise ExportError(f"the graph needs operators beyond the ONNX standard: {sorted(foreign)}")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the converted graph is not valid ONNX: {error}") from error
    return Graph(traced, model.SerializeToString())


def extreme_samples(sample_shape: tuple[int, ...], scaling: Scaling) -> np.ndarray:
    """Far and farthest finite inputs, which must have finite scores."""
    zeros = np.zeros(sample_shape, dtype=np.float64) + scaling.centre
    steps = (10.0, -10.0, 1e4, -1e4, 1e30, -1e30)
    unit = scaling.unit.astype(np.float64)
    far = [np.clip(zeros + step * unit, -FLOAT32_MAX, FLOAT32_MAX) for step in steps]
    farthest = [np.full(sample_shape, value) for value in (FLOAT32_MAX, -FLOAT32_MAX)]
    may_miss = scaling.layout is not None and scaling.layout.may_miss
    missing = [np.full(sample_shape, np.nan)] * may_miss
    return np.stack([zeros, *far, *farthest, *missing]).astype(np.float32)

"""int8 for dense networks: matrix products of wide layers in integers, everything else in float.

Each row must score the same alone and in any batch, so a layer's inputs are scaled by constants, taken from
the training split: ONNX Runtime's dynamic quantisation scales them by the largest value of the whole batch.
The operators are standard ones. `MatMulInteger` between a `QuantizeLinear` and a `Mul` stays one in every
engine, where a `MatMul` between `DequantizeLinear` and the `Add` of a bias becomes a float `Gemm` in ONNX
Runtime 1.31, at a fifteenth of the speed.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import onnx
from onnx import numpy_helper

from detector.engine.graphs import INPUT, SCORE, model_outputs, open_sessions, relative_difference
from detector.engine.session import Session
from detector.files import MODEL_FILE
from training.config import FitConfig
from training.data.dataset import spread
from training.errors import ConfigError, ExportError, TrainingError
from training.networks.architectures import Autoencoder
from training.publishing.calibrate import Calibration, calibrate
from training.publishing.manifests import Draft

# The size of a layer of 128 x 128: there 32 rows take two thirds of the time in integers, a single row a
# quarter more; smaller layers are slower in integers.
LEAST_WEIGHTS = 2**14
# Seven bits: processors without VNNI add two products in 16 bits, which eight would overflow.
WEIGHT_STEPS = 63
INPUT_STEPS = 255
MOST_SAMPLES = 4096  # that the ranges of a layer's inputs are taken from
# Each of the two detectors keeps its promise by a threshold of its own, so this is about being the same one:
# at an alpha of 0.05 one alarm in ten may be another.
LEAST_AGREEMENT = 0.995
# Two samples that change places at the threshold differ both, and that says nothing where samples are few.
ONE_SWAP = 2
TIMED_ROWS = (1, 32, 256)
TIMED_SECONDS, TIMED_ROUNDS = 0.1, 3


def wide_kernels(autoencoder: Autoencoder) -> list[np.ndarray]:
    """Weights of the layers that are faster in integers, each of shape (n_inputs, n_units).

    Raises
    ------
    ConfigError
        If there are none.
    """
    kernels = [
        layer.kernel.numpy()
        for model in (autoencoder.encoder, autoencoder.decoder)
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense)
    ]
    wide = [kernel for kernel in kernels if kernel.size >= LEAST_WEIGHTS]
    if not wide:
        raise ConfigError(
            f"quantize int8 needs a layer of at least {LEAST_WEIGHTS} weights, the largest here has "
            f"{max(kernel.size for kernel in kernels)}: smaller ones are no faster in integers"
        )
    return wide


def quantize(
    files: Mapping[str, bytes],
    calibration: Calibration,
    draft: Draft,
    autoencoder: Autoencoder,
    splits: tuple[np.ndarray, np.ndarray],
    config: FitConfig,
) -> tuple[dict[str, bytes], Calibration, dict[str, Any]]:
    """Convert the graphs to integers, calibrate them, and compare their decisions with the float graphs.

    Parameters
    ----------
    files : mapping of str to bytes
        The float graphs.
    calibration : Calibration
        By these.
    draft : Draft
    autoencoder : Autoencoder
    splits : tuple of ndarray
        Samples for training and for calibration, raw units.
    config : FitConfig

    Returns
    -------
    tuple of dict of str to bytes, Calibration and dict
        The graphs in integers by file name, their calibration, and figures for the manifest: `scheme`; how
        many `layers` compute in integers; the figures of `compare_decisions`; and `speed_up`, the result of
        `measure_speed_up` on this machine.

    Raises
    ------
    TrainingError
        If fewer than `LEAST_AGREEMENT` of the decisions agree, or the calibration tells nothing.
    """
    train, samples = splits
    kernels = wide_kernels(autoencoder)
    integers = quantize_graphs(files, kernels, draft, train)
    recalibrated = calibrate(draft, integers, samples, config)
    figures = {"scheme": "int8", "layers": len(kernels)}
    figures |= compare_decisions(calibration, recalibrated)
    figures["speed_up"] = measure_speed_up(files, integers, draft, samples[:1])
    return integers, recalibrated, figures


def quantize_graphs(
    files: Mapping[str, bytes], kernels: Sequence[np.ndarray], draft: Draft, train: np.ndarray
) -> dict[str, bytes]:
    """Convert the products with these kernels to integers, with the same constants in every graph.

    So decoding the output of the encoder still gives the model's reconstruction.

    Raises
    ------
    ExportError
        If `model.onnx` does not have a product with each of them.
    """
    chosen = train[spread(len(train), MOST_SAMPLES)].astype(np.float32)
    ranges = _input_ranges(files[MODEL_FILE], kernels, draft, chosen)
    return {name: _in_integers(content, ranges) for name, content in files.items()}


def _input_ranges(
    content: bytes, kernels: Sequence[np.ndarray], draft: Draft, samples: np.ndarray
) -> dict[bytes, tuple[float, float]]:
    """Least and largest input of each layer, 0 within them; by the layer's kernel, as bytes."""
    model = onnx.load_from_string(content)
    wanted = {kernel.tobytes() for kernel in kernels}
    inputs = {node.input[0]: kernel for node, kernel in _products(model.graph) if kernel.tobytes() in wanted}
    if {kernel.tobytes() for kernel in inputs.values()} != wanted:
        raise ExportError(f"{MODEL_FILE} has {len(inputs)} of {len(kernels)} layers as products with weights")
    for name, kernel in inputs.items():
        shape = ("batch", len(kernel))
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    shapes = model_outputs(draft) | {name: (len(kernel),) for name, kernel in inputs.items()}
    session = Session(model.SerializeToString(), MODEL_FILE, INPUT, draft.sample_shape, shapes)
    values = session.run(samples, tuple(inputs))
    return {
        kernel.tobytes(): (min(0.0, float(values[name].min())), max(0.0, float(values[name].max())))
        for name, kernel in inputs.items()
    }


def _products(graph: onnx.GraphProto) -> list[tuple[onnx.NodeProto, np.ndarray]]:
    """Products with a constant matrix, and that matrix."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    return [
        (node, numpy_helper.to_array(constants[node.input[1]]))
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in constants
    ]


def _in_integers(content: bytes, ranges: Mapping[bytes, tuple[float, float]]) -> bytes:
    model = onnx.load_from_string(content)
    graph = model.graph
    kernels = {node.output[0]: kernel for node, kernel in _products(graph) if kernel.tobytes() in ranges}
    nodes: list[onnx.NodeProto] = []
    constants = list(graph.initializer)
    for node in graph.node:
        kernel = kernels.get(node.output[0])
        if kernel is None:
            nodes.append(node)
        else:
            product, own = _integer_product(node, kernel, *ranges[kernel.tobytes()])
            nodes += product
            constants += [numpy_helper.from_array(value, name) for name, value in own.items()]
    used = {name for node in nodes for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constant for constant in constants if constant.name in used)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _integer_product(
    node: onnx.NodeProto, kernel: np.ndarray, low: float, high: float
) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Nodes and constants that replace a product; uint8 inputs have one scale, weights one for each unit."""
    samples, product = node.input[0], node.output[0]
    input_scale = np.float32((high - low) / INPUT_STEPS or 1)
    unit_scales = np.abs(kernel).max(axis=0) / np.float32(WEIGHT_STEPS)
    unit_scales[unit_scales == 0] = 1
    names = {
        part: f"{product}/{part}" for part in ("step", "zero", "weights", "scales", "inputs", "sum", "cast")
    }
    constants = {
        names["step"]: input_scale,
        names["zero"]: np.uint8(np.rint(-low / input_scale)),
        names["weights"]: np.rint(kernel / unit_scales).astype(np.int8),
        names["scales"]: input_scale * unit_scales,
    }
    make_node = onnx.helper.make_node
    nodes = [
        make_node("QuantizeLinear", [samples, names["step"], names["zero"]], [names["inputs"]]),
        make_node("MatMulInteger", [names["inputs"], names["weights"], names["zero"]], [names["sum"]]),
        make_node("Cast", [names["sum"]], [names["cast"]], to=onnx.TensorProto.FLOAT),
        make_node("Mul", [names["cast"], names["scales"]], [product]),
    ]
    return nodes, {name: np.asarray(value) for name, value in constants.items()}


def compare_decisions(reference: Calibration, quantized: Calibration) -> dict[str, Any]:
    """Decisions on the calibration split, each calibration's by its own threshold.

    Returns
    -------
    dict
        The number of `decisions`, how many of them are `differing`, the share that agrees, `agreement`, and
        the largest `score_difference`, relative to score plus threshold.

    Raises
    ------
    TrainingError
        If too many differ.
    """
    flags = [each.sample_scores > each.threshold.value for each in (reference, quantized)]
    differing, n_samples = int((flags[0] != flags[1]).sum()), flags[0].size
    agreement = 1 - differing / n_samples
    if agreement < LEAST_AGREEMENT and differing > ONE_SWAP:
        raise TrainingError(
            f"in int8 {differing} of {n_samples} calibration samples are decided otherwise: {agreement:.4f} "
            f"agree, {LEAST_AGREEMENT:g} have to; fit without --quantize"
        )
    scores = (quantized.sample_scores, reference.sample_scores)
    return {
        "decisions": n_samples,
        "differing": differing,
        "agreement": agreement,
        "score_difference": relative_difference(*scores, reference.threshold.value),
    }


def measure_speed_up(
    files: Mapping[str, bytes], integers: Mapping[str, bytes], draft: Draft, sample: np.ndarray
) -> list[dict[str, float]]:
    """For so many `rows` the float graph's time over the int8 one's: medians of runs in turn, one thread."""
    sessions = [open_sessions(graphs, draft)[MODEL_FILE] for graphs in (files, integers)]
    speed_up = []
    for n_rows in TIMED_ROWS:
        batch = np.repeat(sample.astype(np.float32), n_rows, axis=0)
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(TIMED_ROUNDS):
            for session, timed in zip(sessions, seconds, strict=True):
                end = time.perf_counter() + TIMED_SECONDS
                while (start := time.perf_counter()) < end:
                    session.run(batch, (SCORE,))
                    timed.append(time.perf_counter() - start)
        slow, fast = map(np.median, seconds)
        speed_up.append({"rows": n_rows, "times": round(float(slow / fast), 2)})
    return speed_up

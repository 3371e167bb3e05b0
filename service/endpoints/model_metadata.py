"""What a model takes and returns, in the forms of V2, of Triton and of TensorFlow Serving.

References
----------
`inference_rest.md` of the Open Inference Protocol; Triton's model configuration extension, and its
`model_config.proto`; "Model Metadata API" in the RESTful API of TensorFlow Serving.
"""

from collections.abc import Sequence
from typing import Any

from detector import Manifest
from detector.engine.graphs import FEATURE_ERROR, INPUT, LATENT, RECONSTRUCTION, SCORE
from detector.triton import config_tensor

PLATFORM = "onnx_onnxv1"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics", "parameters")
SIGNATURE = "serving_default"
RATIO, P_VALUE, IS_ANOMALY = "ratio", "p_value", "is_anomaly"


def output_tensors(manifest: Manifest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return datatype and shape without the batch axis of every output of a model, by name."""
    shape = manifest.sample_shape
    outputs: dict[str, tuple[str, tuple[int, ...]]] = {
        SCORE: ("FP32", ()),
        RATIO: ("FP64", ()),
        P_VALUE: ("FP64", ()),
        IS_ANOMALY: ("BOOL", ()),
        RECONSTRUCTION: ("FP32", shape),
        FEATURE_ERROR: ("FP32", shape),
    }
    if manifest.latent_shape is not None:
        outputs[LATENT] = ("FP32", manifest.latent_shape)
    return outputs


def describe_model(manifest: Manifest, versions: Sequence[int]) -> dict[str, Any]:
    """Return the metadata of a model: the versions that serve, and the tensors with -1 for the batch axis."""
    outputs = output_tensors(manifest)
    return {
        "name": manifest.name,
        "versions": [str(version) for version in versions],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, *manifest.sample_shape]}],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, *shape]}
            for name, (datatype, shape) in outputs.items()
        ],
    }


def configure_model(manifest: Manifest, versions: Sequence[int], max_rows: int) -> dict[str, Any]:
    """Return the configuration of a model in the JSON form of Triton's `ModelConfig`.

    It describes this service, while `detector.triton.model_config` describes how Triton serves the graph.

    Parameters
    ----------
    manifest : Manifest
    versions : sequence of int
        The versions that serve.
    max_rows : int
        The most samples of a request.
    """
    return {
        "name": manifest.name,
        "platform": PLATFORM,
        "version_policy": {"specific": {"versions": [str(version) for version in versions]}},
        "max_batch_size": max_rows,
        "input": [config_tensor(INPUT, manifest.sample_shape)],
        "output": [
            config_tensor(name, shape, datatype)
            for name, (datatype, shape) in output_tensors(manifest).items()
        ],
        "dynamic_batching": {},  # requests that arrive together run together, and none waits for others
    }


_TENSORFLOW_TYPES = {"FP32": "DT_FLOAT", "FP64": "DT_DOUBLE", "BOOL": "DT_BOOL"}


def describe_signature(manifest: Manifest) -> dict[str, Any]:
    """Return the metadata of one version as TensorFlow Serving does, with `predict` as the only signature."""
    shapes = output_tensors(manifest)
    signature = {
        "inputs": {INPUT: _tensor_info(INPUT, "FP32", manifest.sample_shape)},
        "outputs": {name: _tensor_info(name, *shapes[name]) for name in (SCORE, RATIO, P_VALUE, IS_ANOMALY)},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": manifest.name, "signature_name": "", "version": str(manifest.version)},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}},
    }


def _tensor_info(name: str, datatype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in (-1, *shape)]
    return {
        "dtype": _TENSORFLOW_TYPES[datatype],
        "tensor_shape": {"dim": dimensions, "unknown_rank": False},
        "name": f"{name}:0",
    }

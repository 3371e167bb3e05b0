"""Write `<name>/config.pbtxt`, with which Triton serves the newest version of a model from the same store."""

import math
from typing import Any

from detector.engine.graphs import INPUT, model_outputs
from detector.engine.session import CHUNK_ROWS, CHUNK_VALUES
from detector.manifest import Manifest

CONFIG_FILE = "config.pbtxt"
_HEADING = "# Written when a version is published; the tensors are those of the newest one.\n"


def model_config(manifest: Manifest) -> dict[str, Any]:
    """Make the configuration of a model in the JSON form of Triton's `ModelConfig`.

    Triton serves the highest version and knows no labels. It runs a batch in one piece, so a batch may have
    as many rows as a chunk of the service. Requests that are ready at the same time share a batch; none waits
    for others.
    """
    outputs = model_outputs(manifest)
    n_values = max(math.prod(shape) for shape in (manifest.sample_shape, *outputs.values()))
    return {
        "name": manifest.name,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": max(1, min(CHUNK_ROWS, CHUNK_VALUES // n_values)),
        "input": [config_tensor(INPUT, manifest.sample_shape)],
        "output": [config_tensor(name, shape) for name, shape in outputs.items()],
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "dynamic_batching": {},
        # One thread, as in the service: then a row has the same bits alone and in any batch.
        "parameters": {
            "intra_op_thread_count": {"string_value": "1"},
            "inter_op_thread_count": {"string_value": "1"},
        },
    }


def config_tensor(name: str, shape: tuple[int, ...], datatype: str = "FP32") -> dict[str, Any]:
    """Describe one tensor without the batch; Triton wants a dimension even for a single value."""
    tensor: dict[str, Any] = {"name": name, "data_type": f"TYPE_{datatype}", "dims": list(shape) or [1]}
    return tensor if shape else tensor | {"reshape": {"shape": []}}


def config_text(manifest: Manifest) -> str:
    """Write the same as protocol buffer text, for `config.pbtxt`."""
    return _HEADING + "".join(_field(name, value) for name, value in model_config(manifest).items())


_ENUMS = ("data_type", "kind")


def _field(name: str, value: Any, indent: str = "") -> str:
    """Write one field: a list of messages repeats the field, a map is a list of its entries."""
    if name == "parameters":
        entries = [{"key": key, "value": entry} for key, entry in value.items()]
        return "".join(_field("parameters ", entry, indent) for entry in entries)
    if isinstance(value, dict):
        inner = "".join(_field(key, member, indent + "  ") for key, member in value.items())
        return f"{indent}{name.strip()} {{\n{inner}{indent}}}\n"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "".join(_field(name, item, indent) for item in value)
    if isinstance(value, list):
        return f"{indent}{name}: [{', '.join(map(str, value))}]\n"
    text = f'"{value}"' if isinstance(value, str) and name not in _ENUMS else str(value)
    return f"{indent}{name}: {text}\n"

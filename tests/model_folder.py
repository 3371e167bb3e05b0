"""Model folders with known answers, built from a hand-made linear graph: no Keras, milliseconds each.

The encoder keeps the first `n_latent` values of a flattened sample, the decoder returns them and 0 for the
other values. So the reconstruction error is the mean square of the other values.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detector import manifest as contract
from detector.calibration import threshold_at
from detector.engine.session import Session
from detector.files import describe_files
from detector.manifest import Classifier, LatentInt8, Manifest, write_manifest
from detector.store import ModelStore
from detector.tables import category_values

# `classifier.onnx` says the softmax of the first two values of a sample.
# Two components of the hand-made latent: halves round 0, and quarters round 1.
CLASSIFIER = Classifier(("low", "high"), 1.0, {"low": 3, "high": 4}, {}, {"accuracy": 1.0})
LATENT_INT8 = LatentInt8(offset=(0.0, 1.0), scale=(0.5, 0.25))
# Any value may be missing; `b` is a category by text, and `c` a category by number.
MIXED = {
    "missing": "median",
    "categories": {"b": ("idle", "run"), "c": (0, 2.5, 7)},
    "unknown_category": "own",
}


def expected_score(samples: np.ndarray, n_latent: int = 2) -> np.ndarray:
    """Return the hand-made model's score, computed without it: float64, shape (n_samples,)."""
    flat = np.asarray(samples, dtype=np.float64).reshape(len(samples), -1)
    return np.square(flat[:, n_latent:]).sum(axis=1) / flat.shape[1]


def expected_probability(samples: np.ndarray) -> np.ndarray:
    """Return the hand-made classifier's answer, computed without it: float64, shape (n_samples, 2)."""
    raised = np.exp(np.asarray(samples, dtype=np.float64).reshape(len(samples), -1)[:, :2])
    return raised / raised.sum(axis=1, keepdims=True)


def linear_graphs(
    sample_shape: tuple[int, ...],
    n_latent: int = 2,
    latent: bool = True,
    classifier: bool = False,
    missing: bool = False,
) -> dict[str, bytes]:
    """`model.onnx`, with a latent `encoder.onnx` and `decoder.onnx`, and `classifier.onnx`, as bytes.

    With `missing` a NaN counts as 0.
    """
    n_values = int(np.prod(sample_shape))
    keep = np.eye(n_values, n_latent, dtype=np.float32)
    constants = {
        "keep": keep,
        "spread": np.ascontiguousarray(keep.T),
        "weights": np.full(n_values, 1 / n_values, dtype=np.float32),
        "flat_shape": np.array([-1, n_values], dtype=np.int64),
        "sample_shape": np.array([-1, *sample_shape], dtype=np.int64),
        "zero": np.zeros(1, dtype=np.float32),
    }
    encode = [
        helper.make_node("Reshape", ["filled" if missing else "samples", "flat_shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "keep"], ["latent"]),
    ]
    if missing:
        encode[:0] = [
            helper.make_node("IsNaN", ["samples"], ["absent"]),
            helper.make_node("Where", ["absent", "zero", "samples"], ["filled"]),
        ]
    decode = [
        helper.make_node("MatMul", ["latent", "spread"], ["flat_reconstruction"]),
        helper.make_node("Reshape", ["flat_reconstruction", "sample_shape"], ["reconstruction"]),
    ]
    score = [
        helper.make_node("Sub", ["flat", "flat_reconstruction"], ["residual"]),
        helper.make_node("Mul", ["residual", "residual"], ["flat_error"]),
        helper.make_node("MatMul", ["flat_error", "weights"], ["score"]),
        helper.make_node("Reshape", ["flat_error", "sample_shape"], ["feature_error"]),
    ]
    outputs = {"score": (), "reconstruction": sample_shape, "feature_error": sample_shape}
    if latent:
        outputs["latent"] = (n_latent,)
    graphs = {"model.onnx": _graph([*encode, *decode, *score], constants, {"samples": sample_shape}, outputs)}
    if latent:
        graphs["encoder.onnx"] = _graph(encode, constants, {"samples": sample_shape}, {"latent": (n_latent,)})
        graphs["decoder.onnx"] = _graph(
            decode, constants, {"latent": (n_latent,)}, {"reconstruction": sample_shape}
        )
    if classifier:
        name = helper.make_node("Softmax", ["latent"], ["probability"], axis=-1)
        inputs, outputs = {"samples": sample_shape}, {"probability": (n_latent,)}
        graphs["classifier.onnx"] = _graph([*encode, name], constants, inputs, outputs)
    return graphs


def write_model_folder(folder: Path, graphs: dict[str, bytes] | None = None, **changes: object) -> Manifest:
    """Write a whole, valid model folder for the hand-made model; `changes` replace manifest fields."""
    shape = tuple(changes.get("sample_shape", (3,)))
    kind = changes.get("kind", "vector" if len(shape) == 1 else "image")
    sequence = kind == "sequence"
    latent = changes.get("latent_shape", (2,)) is not None
    classifier = changes.get("classifier") is not None
    missing = changes.get("missing") == "median"
    graphs = graphs or linear_graphs(shape, latent=latent, classifier=classifier, missing=missing)
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for name, graph in graphs.items():
        (folder / name).write_bytes(graph)
    scores = np.sort(expected_score(rng.normal(size=(199, *shape))))
    np.savez(folder / "calibration.npz", score=scores)
    samples = rng.normal(size=(4, *shape)).astype(np.float32)
    if missing:
        samples[0, 0] = np.nan
    for name, known in (changes.get("categories") or {}).items():
        samples[:, "abcdefgh".index(name)] = category_values(known)[0]
    outputs = {"score": (), "reconstruction": shape, "feature_error": shape}
    if latent:
        outputs["latent"] = (2,)
    golden = Session(graphs["model.onnx"], "model.onnx", "samples", shape, outputs).run(
        samples, list(outputs)
    )
    if classifier:
        session = Session(graphs["classifier.onnx"], "", "samples", shape, {"probability": (2,)})
        golden |= session.run(samples, ["probability"])
    np.savez(folder / "golden.npz", samples=samples, **golden)
    (folder / "report.html").write_text("<!doctype html><title>report</title><p>hand-made</p>")
    (folder / "report.json").write_text("{}\n")
    (folder / "README.md").write_text("# hand-made\n")
    manifest = Manifest(
        name="tiny",
        version=1,
        kind=kind,
        created_at="2026-01-01T00:00:00Z",
        verbs=contract.verbs_of(latent=latent, classifier=classifier),
        sample_shape=shape,
        dtype="float32",
        value_range=(0.0, 16.0) if kind == "image" else None,
        feature_names=tuple("abcdefgh"[: shape[-1]]) if kind != "image" else None,
        units=None,
        window=shape[0] if sequence else None,
        stride=1 if sequence else None,
        merge="last" if sequence else None,
        latent_shape=(2,) if latent else None,
        score="mean squared error",
        architecture={"name": "linear"},
        training={},
        data={},
        threshold=threshold_at(scores, 0.05),
        evaluation={},
        self_test_tolerance=1e-4,
        tools={},
        files=describe_files(folder),
    )
    manifest = dataclasses.replace(manifest, **changes)
    write_manifest(folder, manifest)
    return manifest


def publish_model(store: ModelStore, name: str = "tiny", **changes: object) -> Path:
    """Publish the hand-made model as the next version of `name`."""
    with store.stage(name) as staged:
        manifest = write_model_folder(staged, name=name, **changes)
        return store.publish(staged, manifest)[0]


def rewrite_manifest(folder: Path, **changes: object) -> None:
    """Change fields of a folder's manifest, digest included, without any check."""
    document = json.loads((folder / "manifest.json").read_bytes()) | changes
    content = json.dumps(document).encode()
    (folder / "manifest.json").write_bytes(content)
    (folder / "manifest.sha256").write_text(hashlib.sha256(content).hexdigest() + "\n")


def replace_graph(folder: Path, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change `model.onnx` of a published folder, with hashes that fit and golden answers that stay."""
    model = onnx.load(folder / "model.onnx")
    change(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "model.onnx")
    files = describe_files(folder)
    rewrite_manifest(folder, files={name: dataclasses.asdict(entry) for name, entry in files.items()})


def loop_for_ever(model: onnx.ModelProto) -> None:
    """Pass the samples through a loop that never ends."""
    graph = model.graph
    shape = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_in"], ["go_out"]), helper.make_node("Neg", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, shape),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, shape),
        ],
    )
    for node in graph.node:
        node.input[:] = ["looped" if name == "samples" else name for name in node.input]
    graph.initializer.append(numpy_helper.from_array(np.array(True), "go"))
    graph.node.insert(0, helper.make_node("Loop", ["", "go", "samples"], ["looped"], body=body))


def need_much_memory(model: onnx.ModelProto) -> None:
    """Add 32 GiB of zeros to the samples."""
    graph = model.graph
    for node in graph.node:
        node.input[:] = ["same" if name == "samples" else name for name in node.input]
    graph.initializer.append(numpy_helper.from_array(np.array([2**20, 2**13], dtype=np.int64), "much"))
    graph.node.insert(0, helper.make_node("ConstantOfShape", ["much"], ["zeros"]))
    graph.node.insert(1, helper.make_node("ReduceSum", ["zeros"], ["zero"], keepdims=0))
    graph.node.insert(2, helper.make_node("Add", ["samples", "zero"], ["same"]))


def _graph(
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    inputs: dict[str, tuple[int, ...]],
    outputs: dict[str, tuple[int, ...]],
) -> bytes:
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "linear",
        [_tensor(name, shape) for name, shape in inputs.items()],
        [_tensor(name, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _tensor(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", *shape))

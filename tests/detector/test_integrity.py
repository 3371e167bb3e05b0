"""A damaged or inconsistent model folder is refused at load, with a sentence that names the file."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from detector import Detector, DetectorError, IntegrityError, ManifestError, ModelError
from detector.engine.graphs import relative_difference
from detector.files import describe_files, required_files
from tests.model_folder import linear_graphs, rewrite_manifest, write_model_folder

LISTED_FILES = required_files(latent=True)
FILES = (*LISTED_FILES, "manifest.json", "manifest.sha256")


def replace_file(folder: Path, name: str, content: bytes) -> None:
    """Put other bytes into a folder and list them in its manifest, as a forger would."""
    (folder / name).write_bytes(content)
    files = {name: dataclasses.asdict(entry) for name, entry in describe_files(folder).items()}
    rewrite_manifest(folder, files=files)


def replace_arrays(folder: Path, name: str, **changes: np.ndarray | None) -> None:
    """Change arrays of an `.npz` file, None removes one, and list the file anew."""
    with np.load(folder / name) as stored:
        arrays = dict(stored) | changes
    np.savez(folder / name, **{key: value for key, value in arrays.items() if value is not None})
    replace_file(folder, name, (folder / name).read_bytes())


def edit_graph(folder: Path, name: str, edit: Callable[[onnx.ModelProto], None]) -> None:
    """Change a graph and list it anew."""
    model = onnx.load_from_string((folder / name).read_bytes())
    edit(model)
    replace_file(folder, name, model.SerializeToString())


def refusal(folder: Path, kind: type[DetectorError]) -> str:
    """Return the sentence with which a folder is refused."""
    with pytest.raises(kind) as caught:
        Detector.load(folder)
    return str(caught.value)


def test_whole_folder_loads(model_dir):
    """The folder that the tests below damage is fine before."""
    detector = Detector.load(model_dir)

    assert detector.digest == (model_dir / "manifest.sha256").read_text().strip()
    assert {path.name for path in model_dir.iterdir()} == set(FILES)


def test_folder_without_a_latent_loads(tmp_path):
    """It needs neither encoder nor decoder."""
    write_model_folder(tmp_path, latent_shape=None)

    assert Detector.load(tmp_path).manifest.verbs == ("score", "denoise")
    assert not (tmp_path / "encoder.onnx").exists()


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_refused_by_name(model_dir, name):
    """One bit is flipped at fifty places of every file, including the manifest and its digest."""
    path = model_dir / name
    whole = path.read_bytes()
    rng = np.random.default_rng(FILES.index(name))
    for bit in rng.integers(0, 8 * len(whole), size=50):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)

        assert name in refusal(model_dir, IntegrityError)

    path.write_bytes(whole)
    Detector.load(model_dir)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("length", [0, 1, 0.5, -1], ids=["emptied", "one-byte", "half", "last-byte-gone"])
def test_truncated_file_is_refused_by_name(model_dir, name, length):
    """The error names the file, whatever part of it is left."""
    whole = (model_dir / name).read_bytes()
    kept = int(length * len(whole)) if isinstance(length, float) else length
    (model_dir / name).write_bytes(whole[:kept])

    assert name in refusal(model_dir, IntegrityError)


@pytest.mark.parametrize("name", FILES)
def test_longer_file_is_refused_by_name(model_dir, name):
    """One byte more is another file, and a listed one is not even read."""
    size = (model_dir / name).stat().st_size
    with (model_dir / name).open("ab") as file:
        file.write(b"\n")

    sentence = refusal(model_dir, IntegrityError)

    assert name in sentence
    assert name not in LISTED_FILES or sentence == f"{name} must have {size} bytes, got {size + 1}"


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_refused_by_name(model_dir, name):
    """Every file is required, the report and the card too."""
    (model_dir / name).unlink()

    assert refusal(model_dir, IntegrityError).startswith(
        f"{name} cannot be read in {model_dir}: No such file"
    )


@pytest.mark.parametrize("name", FILES)
def test_folder_in_a_files_place_is_refused_by_name(model_dir, name):
    """A directory has a size and no bytes."""
    (model_dir / name).unlink()
    (model_dir / name).mkdir()

    assert name in refusal(model_dir, IntegrityError)


@pytest.mark.parametrize("name", LISTED_FILES)
def test_file_that_no_manifest_lists_is_refused_by_name(model_dir, name):
    """A manifest that leaves a file out leaves it unprotected."""
    files = {
        key: dataclasses.asdict(entry) for key, entry in describe_files(model_dir).items() if key != name
    }
    rewrite_manifest(model_dir, files=files)

    assert name in refusal(model_dir, ManifestError)


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx"])
def test_file_of_another_model_is_refused_by_name(model_dir, tmp_path, name):
    """The file is whole, but belongs to another folder."""
    write_model_folder(tmp_path / "other", sample_shape=(4,))
    shutil.copy(tmp_path / "other" / name, model_dir / name)

    assert name in refusal(model_dir, IntegrityError)


def test_missing_folder_is_refused(tmp_path):
    """A path that leads nowhere is a sentence, not a FileNotFoundError."""
    assert "No such file" in refusal(tmp_path / "nowhere", IntegrityError)


def test_load_never_opens_a_file_that_is_not_listed(model_dir):
    """Other files in the folder, unreadable ones too, change nothing."""
    (model_dir / "notes.txt").write_text("mine")
    (model_dir / "model.onnx.data").symlink_to("/nonexistent")

    Detector.load(model_dir)


# --- folders whose hashes are right, and whose contents are not ---------------------------------------------


@pytest.mark.parametrize("sample_shape", [[4], [2], [300]])
def test_manifest_with_another_sample_shape_is_refused(model_dir, sample_shape):
    """The graph's own shape contradicts it."""
    rewrite_manifest(model_dir, sample_shape=sample_shape, feature_names=None)

    sentence = refusal(model_dir, ModelError)

    assert sentence.startswith("model.onnx: input samples must be float32 of shape ")
    assert f"('batch', {sample_shape[0]})" in sentence


def test_manifest_with_another_latent_shape_is_refused(model_dir):
    """The error is the same for the bottleneck."""
    rewrite_manifest(model_dir, latent_shape=[1])

    assert "model.onnx: output latent must be float32 of shape" in refusal(model_dir, ModelError)


def test_manifest_that_hides_a_latent_is_refused(model_dir):
    """A graph has exactly the outputs that the manifest implies."""
    rewrite_manifest(model_dir, latent_shape=None, verbs=["score", "denoise"])

    assert "model.onnx must have the outputs" in refusal(model_dir, ModelError)


def swap_encoder(folder: Path) -> None:
    """An encoder of the right shape that keeps other values."""

    def negate(model: onnx.ModelProto) -> None:
        (weights,) = (item for item in model.graph.initializer if item.name == "keep")
        weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), "keep"))

    edit_graph(folder, "encoder.onnx", negate)


def swap_decoder(folder: Path) -> None:
    def double(model: onnx.ModelProto) -> None:
        (weights,) = (item for item in model.graph.initializer if item.name == "spread")
        weights.CopyFrom(onnx.numpy_helper.from_array(2 * onnx.numpy_helper.to_array(weights), "spread"))

    edit_graph(folder, "decoder.onnx", double)


def swap_model(folder: Path) -> None:
    def weigh(model: onnx.ModelProto) -> None:
        (weights,) = (item for item in model.graph.initializer if item.name == "weights")
        weights.CopyFrom(onnx.numpy_helper.from_array(np.ones(3, dtype=np.float32), "weights"))

    edit_graph(folder, "model.onnx", weigh)


@pytest.mark.parametrize(
    ("swap", "words"),
    [
        (swap_model, "model.onnx fails its self-test: score differs from golden.npz"),
        (swap_encoder, "encoder.onnx fails its self-test: latent differs from golden.npz"),
        (swap_decoder, "decoder.onnx fails its self-test: reconstruction differs from golden.npz"),
    ],
)
def test_graph_that_answers_otherwise_fails_the_self_test(model_dir, swap, words):
    """The right tensors are not enough: the golden samples must get the answers they had at export."""
    swap(model_dir)

    assert refusal(model_dir, ModelError).startswith(words)


@pytest.mark.parametrize("name", ["score", "reconstruction", "feature_error", "latent"])
@pytest.mark.parametrize(("factor", "fits"), [(1 + 1e-5, True), (1 + 1e-3, False), (np.nan, False)])
def test_golden_answers_bind_within_the_tolerance(model_dir, name, factor, fits):
    """Another processor's rounding passes, a thousandth does not, and NaN never does."""
    with np.load(model_dir / "golden.npz") as golden:
        changed = (golden[name] * factor).astype(np.float32)
    replace_arrays(model_dir, "golden.npz", **{name: changed})

    if fits:
        Detector.load(model_dir)
    else:
        assert f"self-test: {name} differs from golden.npz" in refusal(model_dir, ModelError)


def test_answers_that_are_all_zero_agree():
    """The latents of a dead layer; anything else than zero differs from them without bound."""
    zeros = np.zeros((2, 3), dtype=np.float32)

    assert relative_difference(zeros, zeros, 0.0) == 0
    assert relative_difference(zeros + np.float32(1e-30), zeros, 0.0) == np.inf


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"score": None}, "golden.npz must hold ['feature_error', 'latent', 'reconstruction', 'samples'"),
        ({"secret": np.zeros(1)}, "golden.npz must hold"),
        (
            {"samples": np.zeros((4, 2), np.float32)},
            "golden.npz does not fit the manifest: samples must have",
        ),
        (
            {"samples": np.full((4, 3), np.nan, np.float32)},
            "golden.npz does not fit the manifest: samples must",
        ),
        (
            {"samples": np.zeros((0, 3), np.float32)},
            "golden.npz does not fit the manifest: samples must hold",
        ),
        ({"score": np.zeros((4, 1), np.float32)}, "golden.npz: score must hold floats of shape (4,)"),
        ({"score": np.array(["a"] * 4)}, "golden.npz: score must hold floats of shape (4,)"),
    ],
)
def test_golden_samples_that_do_not_fit_are_refused(model_dir, changes, words):
    """The self-test itself must make sense."""
    replace_arrays(model_dir, "golden.npz", **changes)

    assert refusal(model_dir, ManifestError).startswith(words)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (None, "calibration.npz must hold score, float64 of shape (199,)"),
        (np.ones(198), "calibration.npz must hold score, float64 of shape (199,)"),
        (np.ones((199, 1)), "calibration.npz must hold score, float64 of shape (199,)"),
        (np.ones(199, dtype=np.float32), "calibration.npz must hold score, float64 of shape (199,)"),
        (np.linspace(2, 1, 199), "calibration.npz: score must be finite, ascending and at least 0"),
        (np.linspace(-1, 1, 199), "calibration.npz: score must be finite, ascending and at least 0"),
        (np.full(199, np.nan), "calibration.npz: score must be finite, ascending and at least 0"),
        (np.full(199, np.inf), "calibration.npz: score must be finite, ascending and at least 0"),
        (np.linspace(1, 2, 199), "manifest.json: threshold.value must be score 5 of calibration.npz"),
    ],
)
def test_calibration_scores_that_do_not_fit_are_refused(model_dir, scores, words):
    """P-values need scores that are sorted and of the stated number."""
    replace_arrays(model_dir, "calibration.npz", score=scores)

    assert refusal(model_dir, ManifestError).startswith(words)


def test_calibration_may_hold_more_arrays(model_dir):
    """Quantiles of the features may be stored with the scores; no decision depends on them."""
    replace_arrays(model_dir, "calibration.npz", error_quantiles=np.zeros((3, 5)))

    Detector.load(model_dir)


@pytest.mark.parametrize(
    ("arrays", "usual"),
    [
        ({"levels": [0.5, 0.99, 1], "error_quantiles": [[9, 9, 9], [1, 3, 2], [9, 9, 9]]}, 3),
        ({"levels": [0.5], "error_quantiles": [[9, 9, 9]]}, None),
        ({"levels": [0.99], "error_quantiles": [[0, 0, 0]]}, None),
        ({"levels": [0.99], "error_quantiles": [[1, 3, np.inf]]}, None),
        ({"levels": [0.99], "error_quantiles": [[1, 3]]}, None),
        ({"error_quantiles": [[1, 3, 2]]}, None),
        ({}, None),
    ],
)
def test_usual_error_is_what_calibration_samples_stay_below(model_dir, arrays, usual):
    """It is the value of the worst feature, or None if it is unknown."""
    replace_arrays(model_dir, "calibration.npz", **{name: np.array(of) for name, of in arrays.items()})

    assert Detector.load(model_dir).usual_error == usual


def test_promise_that_the_rank_cannot_keep_is_refused(model_dir):
    """A threshold of rank 9 among 199 scores is no promise of 5 %: the folder claims too much."""
    with np.load(model_dir / "calibration.npz") as arrays:
        scores = arrays["score"]
    rule = dataclasses.asdict(Detector.load(model_dir).manifest.threshold)
    rule |= {"rank": 9, "expected_rate": 9 / 200, "value": float(scores[-9])}
    rewrite_manifest(model_dir, threshold=rule)

    assert "threshold.rank 9 cannot promise alpha 0.05 with 199" in refusal(model_dir, ManifestError)


def test_threshold_that_is_not_the_ranked_score_is_refused(model_dir):
    """A threshold moved by hand keeps no promise."""
    threshold = dataclasses.asdict(Detector.load(model_dir).manifest.threshold)
    rewrite_manifest(model_dir, threshold=threshold | {"value": threshold["value"] * 1.01})

    assert "threshold.value must be score 5 of calibration.npz" in refusal(model_dir, ManifestError)


@pytest.mark.parametrize("name", ["calibration.npz", "golden.npz"])
def test_arrays_with_pickled_objects_are_refused_by_name(model_dir, name):
    """Unpickling runs code, so it never happens."""
    np.savez(model_dir / name, score=np.array([{"a": 1}], dtype=object))
    replace_file(model_dir, name, (model_dir / name).read_bytes())

    assert refusal(model_dir, IntegrityError).startswith(f"{name} is not an .npz file without pickles")


@pytest.mark.parametrize("name", ["calibration.npz", "golden.npz"])
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"cos\nsystem\n."]
)
def test_bytes_that_are_no_arrays_are_refused_by_name(model_dir, name, content):
    """Every exception of NumPy and zipfile becomes one sentence."""
    replace_file(model_dir, name, content)

    assert refusal(model_dir, IntegrityError).startswith(f"{name} is not an .npz file without pickles")


@pytest.mark.parametrize("name", ["model.onnx", "encoder.onnx", "decoder.onnx"])
@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"not a graph", b"\xff" * 64], ids=range(4))
def test_bytes_that_are_no_graph_are_refused_by_name(model_dir, name, content):
    """Every exception of ONNX Runtime becomes one sentence."""
    replace_file(model_dir, name, content)

    assert refusal(model_dir, ModelError).startswith(f"{name} is not a graph that ONNX Runtime loads")


def add_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("flat", TensorProto.FLOAT, ("batch", 3)))


def remove_output(model: onnx.ModelProto) -> None:
    del model.graph.output[0]


def add_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, ("batch",)))


def fix_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def cast_score(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Cast", ["score"], ["score_64"], to=TensorProto.DOUBLE))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("score_64", TensorProto.DOUBLE, ("batch",)))


def drop_rows(model: onnx.ModelProto) -> None:
    """Return a score for one of the four golden samples only, which shape inference cannot detect."""
    insert_before_score(
        model,
        helper.make_node("Constant", [], ["limit"], value_float=0.5),
        helper.make_node("Greater", ["score_of_each", "limit"], ["high"]),
        helper.make_node("Compress", ["score_of_each", "high"], ["score"], axis=0),
    )


def read_beyond_the_batch(model: onnx.ModelProto) -> None:
    """Loads, and then cannot run with fewer than 100 samples."""
    insert_before_score(
        model,
        helper.make_node("Constant", [], ["row"], value_ints=[99]),
        helper.make_node("Gather", ["score_of_each", "row"], ["other"]),
        helper.make_node("Add", ["score_of_each", "other"], ["score"]),
    )


def insert_before_score(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    for node in model.graph.node:
        if node.output[0] == "score":
            node.output[0] = "score_of_each"
    model.graph.node.extend(nodes)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            add_output,
            "model.onnx must have the outputs ['feature_error', 'latent', 'reconstruction', 'score']",
        ),
        (remove_output, "model.onnx must have the outputs"),
        (add_input, "model.onnx must have the inputs ['samples'], got ['extra', 'samples']"),
        (fix_batch, "model.onnx: input samples must be float32 of shape ('batch', 3), got"),
        (cast_score, "model.onnx must have the outputs"),
        (drop_rows, "model.onnx: output score must have shape (4,), got (1,)"),
        (read_beyond_the_batch, "model.onnx cannot be run: "),
    ],
)
def test_graph_with_other_tensors_is_refused(model_dir, edit, words):
    """Declared and actual names, types and shapes must equal those of the manifest."""
    edit_graph(model_dir, "model.onnx", edit)

    assert refusal(model_dir, ModelError).startswith(words)


def test_graph_with_a_double_input_is_refused(model_dir):
    """Every tensor is float32."""
    info = helper.make_tensor_value_info("samples", TensorProto.DOUBLE, ("batch", 3))
    cast = helper.make_node("Cast", ["samples"], ["narrow"], to=TensorProto.FLOAT)

    def widen(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = "narrow"
        model.graph.node.insert(0, cast)
        model.graph.input[0].CopyFrom(info)

    edit_graph(model_dir, "encoder.onnx", widen)

    assert "encoder.onnx: input samples must be float32" in refusal(model_dir, ModelError)


def test_graph_with_external_weights_is_refused(model_dir):
    """Weights outside the graph would be outside its hash."""

    def move_weights(model: onnx.ModelProto) -> None:
        (weights,) = (item for item in model.graph.initializer if item.name == "weights")
        content = onnx.numpy_helper.to_array(weights).tobytes()
        (model_dir / "weights.bin").write_bytes(content)
        weights.ClearField("raw_data")
        weights.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("length", str(len(content)))):
            weights.external_data.add(key=key, value=value)

    edit_graph(model_dir, "model.onnx", move_weights)

    assert refusal(model_dir, ModelError).startswith("model.onnx is not a graph that ONNX Runtime loads")


def test_one_folders_damage_leaves_others_alone(tmp_path):
    """Another version of the same model still loads and answers."""
    for version in ("1", "2"):
        write_model_folder(tmp_path / version)
    (tmp_path / "1" / "model.onnx").write_bytes(linear_graphs((3,))["decoder.onnx"])

    assert "model.onnx" in refusal(tmp_path / "1", IntegrityError)
    assert Detector.load(tmp_path / "2").score(np.array([[0.0, 0.0, 3.0]])).score.tolist() == [3.0]

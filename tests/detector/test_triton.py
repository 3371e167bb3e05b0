"""`config.pbtxt`, read by a reader of its own and held against the graph."""

import dataclasses
import re
import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from detector.__main__ import main
from detector.manifest import read_manifest
from detector.triton import model_config
from tests.model_folder import publish_model

WORDS = re.compile(r'#[^\n]*|"[^"]*"|[\w.-]+|[{}\[\]:,]')
READY_MADE = Path(__file__).parents[2] / "models" / "digits"


def read_pbtxt(text):
    """Return the fields of a message in the text form of protocol buffers, every one a list of its values."""
    words = [word for word in WORDS.findall(text) if not word.startswith("#")]

    def message():
        fields = {}
        while words and words[0] != "}":
            name = words.pop(0)
            if words[0] == ":":
                words.pop(0)
            fields.setdefault(name, []).extend(values())
        return fields

    def values():
        first = words.pop(0)
        if first == "{":
            inner = [message()]
            assert words.pop(0) == "}"
            return inner
        if first != "[":
            return [first.strip('"') if first.startswith('"') else first]
        found = []
        while (word := words.pop(0)) != "]":
            if word != ",":
                found.append(word)
        return found

    fields = message()
    assert not words
    return fields


def tensors(fields):
    """Return names and shapes of the tensors, the batch left out, as the graph has them."""
    return {
        tensor["name"][0]: tuple(
            int(size) for size in (tensor["reshape"][0]["shape"] if "reshape" in tensor else tensor["dims"])
        )
        for tensor in fields
    }


def check_against_graph(folder):
    """Check that the names and shapes in `config.pbtxt` equal those of the newest graph in ONNX Runtime."""
    config = read_pbtxt((folder / "config.pbtxt").read_text())
    newest = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    graph = ort.InferenceSession(folder / str(newest) / "model.onnx", providers=["CPUExecutionProvider"])

    assert config["name"] == [folder.name]
    assert tensors(config["input"]) == {tensor.name: tuple(tensor.shape[1:]) for tensor in graph.get_inputs()}
    assert tensors(config["output"]) == {
        tensor.name: tuple(tensor.shape[1:]) for tensor in graph.get_outputs()
    }
    assert {tensor["data_type"][0] for tensor in config["input"] + config["output"]} == {"TYPE_FP32"}
    assert all(tensor["dims"] for tensor in config["input"] + config["output"])
    rows = int(config["max_batch_size"][0])
    (given,) = graph.get_inputs()
    assert len(graph.run(["score"], {given.name: np.zeros((rows, *given.shape[1:]), np.float32)})[0]) == rows
    return config


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"latent_shape": None},
        {"sample_shape": (4, 5)},
        {"sample_shape": (6, 2), "kind": "sequence"},
        {"sample_shape": (3, 4, 3)},
    ],
)
def test_config_is_that_of_the_graph(store, changes):
    """Names, types and shapes; a score, which has no dimension but the batch, is reshaped."""
    folder = publish_model(store, **changes)

    config = check_against_graph(folder.parent)

    assert config["output"][0]["name"] == ["score"]
    assert config["output"][0]["dims"] == ["1"]
    assert (folder.parent / "config.pbtxt").stat().st_mode & 0o777 == 0o644


def test_config_of_the_ready_made_model():
    """The committed file is unchanged."""
    check_against_graph(READY_MADE)


def test_config_is_that_of_the_newest_version(store):
    """Triton loads the newest version."""
    publish_model(store)
    folder = publish_model(store, sample_shape=(4,))

    config = check_against_graph(folder.parent)

    assert config["version_policy"] == [{"latest": [{"num_versions": ["1"]}]}]
    assert tensors(config["input"]) == {"samples": (4,)}


def test_batch_of_large_samples_is_bounded(store):
    """A tensor has 4 MiB at most, unless a single sample is larger."""
    manifest, _ = read_manifest(publish_model(store))

    assert model_config(dataclasses.replace(manifest, sample_shape=(1024, 1024)))["max_batch_size"] == 1
    assert model_config(dataclasses.replace(manifest, sample_shape=(300, 300)))["max_batch_size"] == 11


def test_publishers_at_once_leave_the_config_of_the_newest(store):
    """The last writer has read the store last."""
    publishers = [
        threading.Thread(target=publish_model, args=(store,), kwargs={"sample_shape": (size,)})
        for size in range(3, 9)
    ]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join()

    check_against_graph(store.root / "tiny")


def test_command_writes_the_config_of_an_older_store(store, capsys):
    """The command prints the path of the file."""
    folder = publish_model(store).parent
    (folder / "config.pbtxt").unlink()

    assert main(["triton", "tiny", "--store", str(store.root)]) == 0

    assert capsys.readouterr().out == f"{folder / 'config.pbtxt'}\n"
    check_against_graph(folder)
    assert main(["triton", "none", "--store", str(store.root)]) == 1

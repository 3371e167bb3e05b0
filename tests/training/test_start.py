"""TensorFlow, which takes seconds to import, is imported only where a network is built."""

import subprocess
import sys

import numpy as np
import pytest

from tests.model_folder import publish_model

HEAVY = {"tensorflow", "keras", "tf2onnx"}
PLOTTING_AND_STATISTICS = {"matplotlib", "sklearn", "scipy"}


def run(command, *arguments):
    """Run a command in a fresh interpreter; return status, stderr and loaded modules."""
    code = (
        f"import sys; from training import {command}\n"
        f"try: status = {command}.main({list(arguments)!r})\n"
        "except SystemExit as end: status = end.code\n"
        "print('loaded:', *{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
        "sys.exit(status)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    *error, loaded = finished.stderr.splitlines()
    return finished.returncode, "\n".join(error), set(loaded.split()[1:])


@pytest.mark.parametrize("command", ["fit", "sweep", "finetune", "evaluate", "latent"])
def test_help_needs_no_tensorflow(command):
    """Commands that draw nothing do not load SciPy, scikit-learn and Matplotlib either."""
    status, _, loaded = run(command, "--help")

    assert status == 0
    assert not loaded & (HEAVY if command == "latent" else HEAVY | PLOTTING_AND_STATISTICS)


@pytest.fixture
def data(tmp_path):
    """Data that cannot be fitted, each for a reason of its own."""
    (tmp_path / "text.csv").write_text("a,b\n1,y\n3,x\n")
    (tmp_path / "few.csv").write_text("a,b\n" + "1,2\n3,4\n" * 10)
    (tmp_path / "constant.csv").write_text("a,b\n" + "1,2\n" * 300)
    np.save(tmp_path / "wide.npy", np.zeros((300, 4097)))
    return tmp_path


@pytest.mark.parametrize(
    ("command", "file", "flags", "words"),
    [
        ("fit", "text.csv", [], "columns must hold numbers"),
        ("fit", "text.csv", ["--dry-run"], "columns must hold numbers"),
        ("fit", "none.csv", ["--dry-run"], "no such file"),
        ("fit", "few.csv", [], "the promise of alpha 0.05 needs 59"),
        ("fit", "constant.csv", [], "every column is constant"),
        ("fit", "few.csv", ["--kind", "sequence"], "steps are too few"),
        ("fit", "wide.npy", [], "architecture memory takes samples of at most 4096 values, got 4097"),
        ("sweep", "text.csv", [], "columns must hold numbers"),
        ("sweep", "few.csv", [], "the promise of alpha 0.05 needs 59"),
    ],
)
def test_faults_of_the_data_show_before_tensorflow(data, command, file, flags, words):
    """They are read and split without it."""
    store = ["--store", str(data / "store"), "--name", "x"]
    status, error, loaded = run(command, "--data", str(data / file), *flags, *store)

    assert status == 1
    assert words in error
    assert not loaded & HEAVY


def test_labels_that_cannot_be_learned_show_before_tensorflow(tmp_path):
    """Fine-tuning checks them, too, before it builds its network."""
    from detector import ModelStore

    publish_model(ModelStore(tmp_path / "models"), "tiny")
    np.savez(tmp_path / "data.npz", X=np.zeros((20, 3)))
    model = ["--model", str(tmp_path / "models" / "tiny")]
    status, error, loaded = run("finetune", *model, "--data", str(tmp_path / "data.npz"))

    assert status == 1
    assert "has no labels" in error
    assert not loaded & HEAVY


def test_memories_are_fitted_without_tensorflow():
    """Prototypes, widths and whitenings are NumPy; only the network made of them is Keras."""
    modules = ", ".join(f"training.memories.{name}" for name in ("rows", "windows", "images", "patches"))
    code = f"import sys, {modules}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not set(finished.stdout.split()) & HEAVY

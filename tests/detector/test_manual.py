"""docs/model-folder.md explains every file and field, and its examples run unchanged."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detector import Manifest, ModelStore
from detector.files import FileEntry, required_files
from detector.manifest import Classifier, LatentInt8, Threshold
from tests.model_folder import publish_model

REPOSITORY = Path(__file__).parents[2]
MANUAL = (REPOSITORY / "docs" / "model-folder.md").read_text()


def examples(language: str) -> list[str]:
    """Return the manual's code blocks in one language."""
    return re.findall(rf"```{language}\n(.*?)```", MANUAL, re.DOTALL)


@pytest.fixture
def workplace(tmp_path) -> Path:
    """A folder with a store `models` that holds `digits`, version 1, an image model."""
    publish_model(ModelStore(tmp_path / "models"), name="digits", sample_shape=(8, 8))
    return tmp_path


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with warnings as errors and the packages of this repository."""
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONWARNINGS": "error",
        "ORT_DISABLE_TELEMETRY": "1",
    }
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("dataclass", [Manifest, Threshold, FileEntry, LatentInt8, Classifier])
def test_manual_names_every_field(dataclass):
    """The page explains every field of the manifest."""
    missing = [field.name for field in dataclasses.fields(dataclass) if f"`{field.name}`" not in MANUAL]

    assert missing == []


@pytest.mark.parametrize("name", [*required_files(latent=True), "manifest.json", "manifest.sha256"])
def test_manual_names_every_file(name):
    """The page explains every file of a folder."""
    assert f"| `{name}`" in MANUAL or f", `{name}` |" in MANUAL


@pytest.mark.parametrize("example", examples("python")[:2], ids=["detector", "onnxruntime"])
def test_python_example_runs(workplace, example):
    """The examples use the package and plain ONNX Runtime: two samples of zeros are no anomalies."""
    finished = run([sys.executable, "-c", example], workplace)

    assert finished.stderr == ""
    assert finished.stdout.strip().endswith("[False False]")


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("sha256sum")), reason="needs jq and sha256sum")
@pytest.mark.parametrize("damaged", [None, "manifest.json", "decoder.onnx"])
def test_shell_example_verifies_a_folder(workplace, damaged):
    """`sha256sum` comes to the same verdict as the detector, without Python."""
    (example,) = [block for block in examples("sh") if "sha256sum" in block]
    if damaged:
        with (workplace / "models" / "digits" / "1" / damaged).open("ab") as file:
            file.write(b"\n")

    finished = run(["sh", "-e", "-c", example], workplace)

    assert (finished.returncode == 0) == (damaged is None)
    assert ("FAILED" in finished.stdout) == (damaged is not None)
    assert f"{damaged or 'model.onnx'}: {'FAILED' if damaged else 'OK'}" in finished.stdout

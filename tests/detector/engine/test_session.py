"""Importing the package has no side effects on a process, and a session refuses graphs that do not fit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from detector import ModelError
from detector.engine.session import Session
from tests.model_folder import linear_graphs

REPOSITORY = Path(__file__).parents[3]
OUTPUTS = {"score": (), "reconstruction": (3,), "feature_error": (3,), "latent": (2,)}


def in_fresh_interpreter(code: str, home: Path) -> str:
    """Return output of a program that starts with an empty home and one BLAS thread."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env=kept | {"HOME": str(home), "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return finished.stdout.strip()


def test_import_opts_out_of_telemetry(tmp_path):
    """ONNX Runtime reads this variable once, when it is imported."""
    code = "import os, detector; print(os.environ['ORT_DISABLE_TELEMETRY'])"

    assert in_fresh_interpreter(code, tmp_path) == "1"


def test_import_leaves_nothing_in_the_home(tmp_path):
    """The import creates no device id, no event database and no other file."""
    in_fresh_interpreter("import detector, time; time.sleep(0.5)", tmp_path)

    assert list(tmp_path.rglob("*")) == []


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_import_starts_no_thread(tmp_path):
    """The import starts no telemetry and no thread pool, so a server may fork afterwards."""
    code = "import os, time, detector; time.sleep(0.5); print(len(os.listdir('/proc/self/task')))"

    assert in_fresh_interpreter(code, tmp_path) == "1"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_session_starts_no_thread_unless_asked_to(tmp_path):
    """One intra-op thread is the caller's own."""
    code = (
        "import os, numpy as np\n"
        "from detector.engine.session import Session\n"
        "from tests.model_folder import linear_graphs\n"
        "graph = linear_graphs((3,))['encoder.onnx']\n"
        "session = Session(graph, 'encoder.onnx', 'samples', (3,), {'latent': (2,)})\n"
        "session.run(np.zeros((1000, 3), np.float32), ['latent'])\n"
        "print(len(os.listdir('/proc/self/task')))"
    )

    assert in_fresh_interpreter(code, tmp_path) == "1"


def test_session_names_file_and_tensors_that_differ():
    """The error names the file, the expected tensor and the actual one."""
    graph = linear_graphs((3,))["encoder.onnx"]

    with pytest.raises(ModelError) as caught:
        Session(graph, "encoder.onnx", "samples", (3,), OUTPUTS)

    assert str(caught.value) == (
        "encoder.onnx must have the outputs ['feature_error', 'latent', 'reconstruction', 'score'], "
        "got ['latent']"
    )


def test_session_refuses_another_input_name():
    """Names are part of the contract: other programs feed the graph by name."""
    with pytest.raises(ModelError, match=r"encoder\.onnx must have the inputs \['x'\], got \['samples'\]"):
        Session(linear_graphs((3,))["encoder.onnx"], "encoder.onnx", "x", (3,), {"latent": (2,)})


def test_session_does_not_keep_the_file():
    """ONNX Runtime has its weights; the bytes that they came from are not held a second time."""
    graph = bytes(bytearray(linear_graphs((3,))["model.onnx"]))
    before = sys.getrefcount(graph)

    session = Session(graph, "model.onnx", "samples", (3,), OUTPUTS)

    assert sys.getrefcount(graph) == before, session

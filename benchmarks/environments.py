"""Environments of contenders that cannot share ours: made once below `.make/`, with fixed versions.

A contender of the quality benchmark is a script in `benchmarks/contenders/` that reads arrays and writes
scores. A contender of the serving benchmark is a server with a lock `requirements/bench-NAME.txt`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.errors import BenchmarkError

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".make" / "contenders"
SCRIPTS = ROOT / "benchmarks" / "contenders"
# Triton's Python backend is linked against the library of Debian's own interpreter.
BASE_PYTHON = {"triton": "/usr/bin/python3.11"}
READY = ".requirements"  # written last, with the requirements that were installed


def run_contender(
    name: str, train: np.ndarray, test: np.ndarray, seed: int
) -> tuple[np.ndarray, float, float]:
    """Fit and score in a process of its own; return test scores, seconds to fit and seconds to score.

    Raises
    ------
    BenchmarkError
        If the environment cannot be made, or the script fails.
    """
    python = environment(name)
    with tempfile.TemporaryDirectory() as folder:
        rows, scores = Path(folder) / "rows.npz", Path(folder) / "scores.npz"
        np.savez(rows, train=train, test=test)
        command = [str(python), str(SCRIPTS / f"{name}.py"), str(rows), str(seed), str(scores)]
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode:
            raise BenchmarkError(f"{name} failed: {_last_line(finished.stderr)}")
        with np.load(scores) as arrays:
            return arrays["scores"], float(arrays["fit_seconds"]), float(arrays["score_seconds"])


def is_made(name: str) -> bool:
    """Tell whether a contender has an environment for its present requirements."""
    ready = ENVIRONMENTS / name / READY
    return ready.exists() and ready.read_text() == _requirements(name).read_text()


def environment(name: str) -> Path:
    """Return the Python of a contender's environment; make the environment if it is missing.

    Raises
    ------
    BenchmarkError
        If it cannot be made.
    """
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not is_made(name):
        print(f"making the environment of {name} in {folder}", file=sys.stderr)
        for command in _commands(name, folder, python):
            _run(name, command)
        (folder / READY).write_text(_requirements(name).read_text())
    return python


def _commands(name: str, folder: Path, python: Path) -> list[list[str]]:
    """Return the commands that make it: by uv if there is a lock, as in the Makefile, otherwise by pip."""
    requirements = str(_requirements(name))
    if _lock(name).exists():
        uv, base = [sys.executable, "-m", "uv"], BASE_PYTHON.get(name, sys.executable)
        return [
            [*uv, "venv", "--quiet", "--clear", "--python", base, str(folder)],
            [*uv, "pip", "sync", "--quiet", "--python", str(python), "--require-hashes", requirements],
        ]
    return [
        [sys.executable, "-m", "venv", "--clear", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--requirement", requirements],
    ]


def _requirements(name: str) -> Path:
    return _lock(name) if _lock(name).exists() else SCRIPTS / f"{name}.txt"


def _lock(name: str) -> Path:
    return ROOT / "requirements" / f"bench-{name}.txt"


def _run(name: str, command: list[str]) -> None:
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode:
        raise BenchmarkError(
            f"the environment of {name} cannot be made: {_last_line(finished.stderr or finished.stdout)}"
        )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"

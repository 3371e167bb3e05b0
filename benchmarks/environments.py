"""Environments of contenders that cannot share ours: made once, with fixed versions, below `.make/`.

A contender of quality is a script in `benchmarks/contenders/` that runs there, reads arrays and writes
scores; one of speed is a server, and has a lock `requirements/bench-NAME.txt`.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.errors import QualityError

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".make" / "contenders"
SCRIPTS = ROOT / "benchmarks" / "contenders"
# Triton's Python backend is linked against the library of Debian's own interpreter.
BASE_PYTHON = {"triton": "/usr/bin/python3.11"}
READY = ".requirements"  # written last, with what was installed


def run_contender(
    name: str, train: np.ndarray, test: np.ndarray, seed: int
) -> tuple[np.ndarray, float, float]:
    """Scores of the test rows, seconds to fit and seconds to score, from a process of its own.

    Raises
    ------
    QualityError
        If the environment cannot be made, or the script fails.
    """
    python = environment(name)
    with tempfile.TemporaryDirectory() as folder:
        rows, scores = Path(folder) / "rows.npz", Path(folder) / "scores.npz"
        np.savez(rows, train=train, test=test)
        command = [str(python), str(SCRIPTS / f"{name}.py"), str(rows), str(seed), str(scores)]
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode:
            raise QualityError(f"{name} failed: {_last_line(finished.stderr)}")
        with np.load(scores) as arrays:
            return arrays["scores"], float(arrays["fit_seconds"]), float(arrays["score_seconds"])


def is_made(name: str) -> bool:
    """Whether a contender's environment is there, for its list of requirements as it is now."""
    ready = ENVIRONMENTS / name / READY
    return ready.exists() and ready.read_text() == _requirements(name).read_text()


def environment(name: str) -> Path:
    """The Python of a contender's environment, made where there is none.

    Raises
    ------
    QualityError
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
    """By uv where there is a lock, as in the Makefile; else by pip, with what a user told it."""
    requirements = str(_requirements(name))
    if _lock(name).exists():
        uv = [sys.executable, "-m", "uv"]
        return [
            [
                *uv,
                "venv",
                "--quiet",
                "--clear",
                "--python",
                BASE_PYTHON.get(name, sys.executable),
                str(folder),
            ],
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
        raise QualityError(
            f"the environment of {name} cannot be made: {_last_line(finished.stderr or finished.stdout)}"
        )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"

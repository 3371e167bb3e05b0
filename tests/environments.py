"""Programs that nobody here wrote: environments with their packages, made once for each lock."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECONDS = 300


def make_environment(name: str) -> Path:
    """Return the folder of an environment with the packages of `requirements/NAME.txt`.

    Skip the test if it cannot be made, for example without a registry.
    """
    lock, folder = ROOT / "requirements" / f"{name}.txt", ROOT / ".make" / name
    python, made_of = folder / "bin" / "python", folder / ".lock"
    if made_of.exists() and made_of.read_text() == lock.read_text():
        return folder
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip(f"uv, which makes the environment {name}, is not installed")
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(python), str(lock)],
    ):
        try:
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            pytest.skip(f"the environment {name} was not made within {SECONDS} seconds")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"the environment {name} cannot be made: {error.stderr.strip()[-300:]}")
    made_of.write_text(lock.read_text())
    return folder

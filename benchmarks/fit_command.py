"""Fits by `python -m training.fit` in a process of its own, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError


def fit(data: Path | str, store: Path, name: str, *options: object) -> dict[str, Any]:
    """Fit and publish version 1 of a model; its progress goes to stderr.

    Parameters
    ----------
    data : Path or str
        File or built-in name.
    store : Path
        Model store; it must not have the model yet.
    name : str
        Name of the model.
    options
        Further arguments of the command.

    Returns
    -------
    dict
        The content of `report.json`.

    Raises
    ------
    BenchmarkError
        If the command fails; its message has gone to stderr.
    """
    arguments = ["--data", data, "--store", store, "--name", name, *options]
    command = [sys.executable, "-m", "training.fit", *map(str, arguments)]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise BenchmarkError(f"the model {name} cannot be fitted to {data}: the message is above")
    return json.loads((store / name / "1" / "report.json").read_bytes())

"""The version of this release, which only `pyproject.toml` states."""

import tomllib
from importlib import metadata
from pathlib import Path


def read_version() -> str:
    """Return the version of the installed distribution, else that in `pyproject.toml` beside the packages.

    A checkout need not be installed, and the images are not.
    """
    try:
        return metadata.version("residual")
    except metadata.PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        return tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]


VERSION = read_version()

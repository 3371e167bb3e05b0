"""The version of this release; `pyproject.toml` is its only source."""

import tomllib
from importlib import metadata
from pathlib import Path


def read_version() -> str:
    """Return the version of the installed distribution, else of the `pyproject.toml` next to the packages.

    The images and some checkouts are not installed.
    """
    try:
        return metadata.version("residual")
    except metadata.PackageNotFoundError:
        project = Path(__file__).parents[1] / "pyproject.toml"
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])


VERSION = read_version()

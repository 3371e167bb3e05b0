"""The version that the service tells its clients."""

import tomllib
from importlib import metadata
from pathlib import Path

from service.version import read_version


def test_version_of_a_checkout_that_is_not_installed_is_that_of_its_project(monkeypatch):
    """The images copy the packages and install nothing."""

    def not_installed(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_installed)

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert read_version() == project["version"]

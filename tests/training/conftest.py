"""Real fits, small and made once: seconds each."""

from pathlib import Path

import pytest

from training import fit


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A store with two models that were fitted through the command line: rows and images."""
    store = tmp_path_factory.mktemp("fitted") / "models"
    rows = ["--data", "breast-cancer", "--name", "rows", "--epochs", "8"]
    images = ["--data", "digits", "--name", "images", "--preset", "conv", "--epochs", "3"]
    for arguments in (rows, images):
        assert fit.main([*arguments, "--store", str(store)]) == 0
    return store


@pytest.fixture
def rows_folder(store) -> Path:
    """The published model of rows."""
    return store / "rows" / "1"


@pytest.fixture
def images_folder(store) -> Path:
    """The published model of images."""
    return store / "images" / "1"

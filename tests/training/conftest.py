"""Real fits, small and made once: seconds each."""

from pathlib import Path

import pytest

from training import fit


@pytest.fixture(scope="session")
def store(make_once):
    """A store with two models that were fitted through the command line, rows and images; only read."""

    def fit_both(folder: Path) -> None:
        rows = ["--data", "breast-cancer", "--name", "rows", "--epochs", "8"]
        images = ["--data", "digits", "--name", "images", "--preset", "conv", "--epochs", "3"]
        for arguments in (rows, images):
            assert fit.main([*arguments, "--store", str(folder / "models")]) == 0

    return make_once("fitted", fit_both) / "models"


@pytest.fixture
def rows_folder(store) -> Path:
    """The published model of rows."""
    return store / "rows" / "1"


@pytest.fixture
def images_folder(store) -> Path:
    """The published model of images."""
    return store / "images" / "1"

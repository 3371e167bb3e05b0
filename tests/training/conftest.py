"""Real fits, small and made once: seconds each."""

from pathlib import Path

import pytest

from training import fit


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A store with two models that were fitted through the command line: rows and pictures."""
    store = tmp_path_factory.mktemp("fitted") / "models"
    rows = ["--data", "breast-cancer", "--name", "rows", "--epochs", "8"]
    pictures = ["--data", "digits", "--name", "pictures", "--preset", "conv", "--epochs", "3"]
    for arguments in (rows, pictures):
        assert fit.main([*arguments, "--store", str(store)]) == 0
    return store


@pytest.fixture
def rows_folder(store) -> Path:
    """The published model of rows."""
    return store / "rows" / "1"


@pytest.fixture
def pictures_folder(store) -> Path:
    """The published model of pictures."""
    return store / "pictures" / "1"

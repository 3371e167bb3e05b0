"""What all tests share: one repeatable Hypothesis profile, and small real model folders."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from detector import Detector, ModelStore
from tests.gunicorn_server import GTHREAD
from tests.model_folder import write_model_folder

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A whole, valid version folder of the hand-made vector model; the test may damage it."""
    folder = tmp_path / "tiny" / "1"
    write_model_folder(folder)
    return folder


@pytest.fixture
def detector(model_dir: Path) -> Detector:
    """The hand-made vector model, loaded."""
    return Detector.load(model_dir)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """An empty store, not on disk yet."""
    return ModelStore(tmp_path / "store")


@pytest.fixture(scope="module", params=[(), GTHREAD], ids=["front", "gthread"])
def arguments(request: pytest.FixtureRequest) -> Sequence[str]:
    """Of `GunicornServer`: the service as it is run, and the Flask application alone under gthread."""
    return request.param

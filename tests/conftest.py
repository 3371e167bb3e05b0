"""Shared by all tests: a repeatable Hypothesis profile, small real model folders, the order of the files."""

import fcntl
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from detector import Detector, ModelStore
from tests.gunicorn_server import GTHREAD
from tests.model_folder import write_model_folder

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Use one worker more than there are cores: tests of servers mostly wait."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the workers of pytest-xdist begin with the files that take longest.

    A worker takes a whole file at a time, so that the fixtures of a module are made once. A long file at the
    end would keep one core busy alone. Without workers the order stays as it is.
    """
    if hasattr(config, "workerinput"):
        cost = Counter()
        for item in items:
            cost[item.path] += 10 if item.get_closest_marker("slow") else 1
        items.sort(key=lambda item: -cost[item.path])


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """Make a folder once for all workers: `make_once(name, fill)` calls `fill(folder)` and returns `folder`.

    Tests only read such a folder; a test that changes one copies it first.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each worker has a folder of its own in that of the run

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, filled = root / name, root / f"{name}.filled"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not filled.exists():
                folder.mkdir()
                fill(folder)
                filled.touch()
        return folder

    return make


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

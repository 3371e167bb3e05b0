"""Imports go one way, `training -> detector <- service`, and service and client stay small."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
TRAINING_ONLY = {"tensorflow", "keras", "onnx", "tf2onnx", "sklearn", "h5py", "pandas", "matplotlib", "scipy"}
SERVICE_ONLY = {"flask", "werkzeug", "gunicorn", "prometheus_client"}

# Within detector a module imports only modules of a lower level.
LEVELS = {
    "errors": 0,
    "manifest": 1,
    "windows": 2,
    "latents": 2,
    "tables": 2,
    "calibration": 2,
    "session": 2,
    "images": 2,
    "results": 2,
    "graphs": 3,
    "checks": 3,
    "batches": 4,
    "triton": 4,
    "inference": 5,
    "store": 5,
    "__init__": 6,
    "__main__": 7,
}


def loaded_by(statement: str) -> set[str]:
    """Top-level names in `sys.modules` of a fresh interpreter after one statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    return set(finished.stdout.split())


def modules_of(package: str) -> list[Path]:
    """Every module of a package, sub-packages included."""
    modules = sorted((REPOSITORY / package).rglob("*.py"))
    assert modules, package
    return modules


def imports_of(module: Path) -> Iterator[str]:
    """Dotted names that a module imports anywhere in its text, functions included."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def packages_imported_by(package: str) -> set[str]:
    """Top-level names that the modules of a package import."""
    return {name.partition(".")[0] for module in modules_of(package) for name in imports_of(module)}


def test_detector_needs_only_numpy_and_onnxruntime():
    """Neither Keras nor Flask nor, without pictures, Pillow."""
    loaded = loaded_by("import detector, detector.__main__")

    assert {"numpy", "onnxruntime"} <= loaded
    assert not loaded & (TRAINING_ONLY | SERVICE_ONLY | {"PIL", "training", "service"})


def test_detector_loads_pillow_for_pictures_only():
    """The one module that decodes them."""
    assert "PIL" in loaded_by("import detector.images")


def test_service_loads_nothing_of_training():
    """The image of the service has no TensorFlow, and a worker starts in a second."""
    loaded = loaded_by("import service.wsgi.app")

    assert {"flask", "detector", "onnxruntime"} <= loaded
    assert not loaded & (TRAINING_ONLY | {"training"})


def test_worker_class_leaves_the_metrics_unloaded():
    """Gunicorn's master loads it before it has made the folder that prometheus_client looks for."""
    assert "prometheus_client" not in loaded_by(
        "import service.asgi.worker, service.settings, service.watching.logs"
    )


def test_training_loads_nothing_of_the_service():
    """A model is fitted where no web server is installed."""
    loaded = loaded_by("import training.fit")

    assert "detector" in loaded
    assert not loaded & (SERVICE_ONLY | {"service"})


def test_client_loads_nothing_but_numpy_and_httpx():
    """Who only asks a service needs no ONNX Runtime, and waits for none."""
    loaded = loaded_by("import residual_client, residual_client.__main__")

    assert {"numpy", "httpx"} <= loaded
    assert not loaded & (
        TRAINING_ONLY | SERVICE_ONLY | {"PIL", "detector", "onnxruntime", "pyarrow", "training", "service"}
    )


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("detector", {"training", "service", "residual_client", *TRAINING_ONLY, *SERVICE_ONLY}),
        ("training", {"service", "residual_client", *SERVICE_ONLY}),
        ("service", {"training", "residual_client", *TRAINING_ONLY}),
        ("residual_client", {"training", "service", *SERVICE_ONLY, *TRAINING_ONLY} - {"pandas"}),
    ],
)
def test_package_imports_nothing_across_the_boundary(package, forbidden):
    """Not at the top of a module, and not within a function either."""
    assert not packages_imported_by(package) & forbidden


@pytest.mark.parametrize("module", modules_of("detector"), ids=lambda module: module.stem)
def test_detector_module_imports_only_lower_levels(module):
    """In the order errors <- manifest <- {store, ...} <- {graphs, checks} <- batches <- inference."""
    names = {name.split(".")[1] for name in imports_of(module) if name.startswith("detector.")}
    levels = {name: LEVELS.get(name, LEVELS["__init__"]) for name in names}  # else a public name

    assert module.stem in LEVELS, "a new module of detector needs its level in this test"
    assert [name for name, level in levels.items() if level >= LEVELS[module.stem]] == []

"""Imports go one way, `training -> detector <- service`, and service and client stay small."""

import ast
import collections
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
TRAINING_ONLY = {"tensorflow", "keras", "onnx", "tf2onnx", "sklearn", "h5py", "pandas", "matplotlib", "scipy"}
SERVICE_ONLY = {"flask", "werkzeug", "gunicorn", "prometheus_client"}

# The rooms of each package from the ground up: a room imports rooms of the levels below it only. A room is a
# sub-package, or a module at the top of a package. A new room needs its place here.
LEVELS = {
    "detector": [
        {"columns", "errors", "schema", "results"},
        {"windows", "files", "images", "reading", "sources"},
        {"delimited", "manifest"},
        {"latents", "tables", "calibration"},
        {"engine"},
        {"inference", "triton"},
        {"store"},
        {"__init__", "__main__"},
    ],
    "training": [
        {"__init__", "errors", "flags", "presets", "quiet"},
        {"config"},
        {"data", "memories"},
        {"figures", "networks"},
        {"cli", "pages"},
        {"publishing"},
        {"classifiers", "stages"},
        {"evaluate", "finetune", "fit", "latent", "sweep"},
    ],
    "service": [
        {"__init__", "http", "version"},
        {"bodies", "models", "settings"},
        {"answers", "watching"},
        {"scoring"},
        {"endpoints"},
        {"serving"},
        {"wsgi"},
        {"asgi", "app"},
    ],
    "residual_client": [
        {"errors", "frames"},
        {"wire", "writing"},
        {"retries", "samples"},
        {"calls"},
        {"chunks", "client", "local"},
        {"__init__", "__main__"},
    ],
    "benchmarks": [
        {"contenders", "errors", "in_process", "peers", "rows"},
        {"commands", "environments", "fit_command", "measures"},
        {"charts"},
        {"servers"},
        {"restoration"},
        {"protocols"},
        {
            "cost",
            "finetune",
            "footprint",
            "gallery",
            "one_class",
            "quality",
            "reading",
            "seeds",
            "sequences",
            "serving",
        },
    ],
}
MOST_MODULES = 17  # in one folder, `__init__.py` not counted


def modules_after(statement: str) -> set[str]:
    """Return the names in `sys.modules` of a fresh interpreter after one statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=True
    )
    return set(finished.stdout.splitlines())


def loaded_by(statement: str) -> set[str]:
    """Return the top-level names of the modules that a statement loads."""
    return {name.partition(".")[0] for name in modules_after(statement)}


def modules_of(package: str) -> list[Path]:
    """Return every module of a package, sub-packages included."""
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
    """Return the top-level names that the modules of a package import."""
    return {name.partition(".")[0] for module in modules_of(package) for name in imports_of(module)}


def test_detector_needs_only_numpy_and_onnxruntime():
    """Importing it loads neither Keras nor Flask, and Pillow only for images."""
    loaded = loaded_by("import detector, detector.__main__")

    assert {"numpy", "onnxruntime"} <= loaded
    assert not loaded & (TRAINING_ONLY | SERVICE_ONLY | {"PIL", "training", "service"})


def test_detector_loads_pillow_for_images_only():
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


def test_detector_loads_onnx_runtime_on_first_use_only():
    """Its pure modules are shared by programs that run no graph."""
    pure = "import detector, detector.calibration, detector.latents, detector.results, detector.tables"

    assert "onnxruntime" not in loaded_by(pure)
    assert "onnxruntime" in loaded_by("from detector import Detector")
    assert "onnxruntime" in loaded_by("from detector import ModelStore")


def test_client_loads_numpy_httpx_and_the_pure_modules_of_detector():
    """A program that only asks a service needs no ONNX Runtime, and does not wait for it."""
    modules = modules_after("import residual_client, residual_client.__main__")
    loaded = {name.partition(".")[0] for name in modules}

    assert {"numpy", "httpx"} <= loaded
    assert not loaded & (
        TRAINING_ONLY | SERVICE_ONLY | {"PIL", "onnxruntime", "pyarrow", "training", "service"}
    )
    assert {name.partition(".")[2] for name in modules if name.startswith("detector.")} == {
        *("calibration", "columns", "errors", "files", "manifest", "reading", "results", "schema"),
        *("delimited", "delimited.cells", "delimited.encodings", "delimited.layout"),
        *("sources", "sources.array_names", "sources.image_files", "tables", "windows"),
    }


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
    """Imports within functions count, too."""
    assert not packages_imported_by(package) & forbidden


def module_name(path: Path) -> str:
    """Return the dotted name of a file; a package has the name of its folder."""
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """Return the sub-package, or the module at the top of a package, that contains a module."""
    rest = module.partition(".")[2]
    return rest.partition(".")[0] if rest else "__init__"


def import_graph() -> dict[str, set[str]]:
    """Return the modules of ours that each module imports, over all packages."""
    paths = {module_name(path): path for package in LEVELS for path in modules_of(package)}
    graph = {}
    for module, path in paths.items():
        found = (name if name in paths else name.rpartition(".")[0] for name in imports_of(path))
        graph[module] = {name for name in found if name in paths and name != module}
    return graph


def circles_of(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return modules that import each other, directly or by way of others."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return [error.args[1]]
    return []


def arrows_up(graph: dict[str, set[str]]) -> list[str]:
    """Return imports that do not lead from a room to one of a lower level."""
    level = {
        (package, room): height
        for package, levels in LEVELS.items()
        for height, rooms in enumerate(levels)
        for room in rooms
    }
    found = []
    for module, imported in graph.items():
        package, room = module.partition(".")[0], room_of(module)
        for other in imported:
            other_package, other_room = other.partition(".")[0], room_of(other)
            if other_package != package or other_room == room:
                continue
            if level[package, other_room] >= level[package, room]:
                found.append(f"{module} -> {other}")
    return found


def test_every_room_has_a_level():
    """A new module or sub-package is given its place in LEVELS, once."""
    for package, levels in LEVELS.items():
        rooms = {room_of(module_name(path)) for path in modules_of(package)}
        listed = [room for level in levels for room in level]

        assert sorted(listed) == sorted(rooms), package


def test_no_module_imports_in_a_circle():
    """The check covers all packages and the benchmarks, and imports within functions."""
    graph = import_graph()

    assert len(graph) > 200
    assert circles_of(graph) == []


def test_a_circle_is_found():
    """The check fails if modules import in a circle."""
    assert circles_of({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_imports_lead_to_lower_levels_only():
    """No room imports a room above it, so it needs to know nothing about it."""
    assert arrows_up(import_graph()) == []


def test_an_arrow_up_is_found():
    """The check fails if an import leads upwards."""
    assert arrows_up({"detector.errors": {"detector.store"}}) == ["detector.errors -> detector.store"]


@pytest.mark.parametrize("package", [*LEVELS, "tests"])
def test_no_folder_is_a_drawer(package):
    """A folder with more modules than anyone overlooks is cut into sub-packages."""
    folders = collections.Counter(
        path.parent for path in (REPOSITORY / package).rglob("*.py") if path.stem != "__init__"
    )

    assert {folder: count for folder, count in folders.items() if count > MOST_MODULES} == {}

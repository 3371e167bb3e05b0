"""Documents are promises: commands run, tables match the code, links lead somewhere."""

import importlib
import json
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from service.settings import VARIABLES, Settings
from service.wsgi.app import create_app
from tests.test_boundaries import LEVELS
from training.presets import PRESETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "training.md").read_text()
# The store may hold models of the user in addition to the ready-made one.
STORE = {"RESIDUAL_STORE": str(ROOT / "models"), "RESIDUAL_DEFAULT_MODEL": "digits"}
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]


def blocks(language):
    """Return the code blocks of a language in the README."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture(scope="module")
def server():
    """The ready-made model on a real port of loopback; its address."""
    app = create_app(Settings.from_environ(STORE))
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    app.extensions["residual"].models.stop()


def test_readme_curl_gives_the_answer_below_it(server):
    """The command runs unchanged on another port, and figures agree to the last printed digit."""
    (command,) = (block for block in blocks("sh") if "curl" in block)
    (shown,) = (json.loads(block) for block in blocks("json"))
    arguments = shlex.split(command.replace("127.0.0.1:8000", server))

    answer = json.loads(subprocess.run(arguments, capture_output=True, check=True, timeout=30).stdout)

    assert answer.keys() == shown.keys()
    for name in ("model", "version", "alpha", "is_anomaly"):
        assert answer[name] == shown[name]
    for name in ("expected_rate", "threshold", "score", "ratio", "p_value"):
        assert answer[name] == pytest.approx(shown[name], rel=2e-3), name


def test_readme_python_runs():
    """The notebook lines, in a fresh interpreter at the top of the checkout."""
    (code,) = blocks("python")

    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert result.stdout.startswith("[ True]")


def test_readme_make_targets_exist():
    """Every `make` command on a page is a target."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"^make ([a-z]+)", page.read_text(), flags=re.MULTILINE))
        named |= set(re.findall(r"`make ([a-z]+)", page.read_text()))

        assert named <= targets, page.name


@pytest.mark.parametrize("page", ["README.md", "docs/training.md"])
def test_training_commands_are_valid_usage(page):
    """Every flag of every command with arguments is one."""
    commands = re.findall(r"python -m training\.(\w+) (?!--help)([^\n`|]+)", (ROOT / page).read_text())

    assert len(commands) >= 3
    for module, arguments in commands:
        parser = importlib.import_module(f"training.{module}")._parser()
        assert parser.parse_args(shlex.split(arguments, comments=True))


def test_readme_settings_are_those_of_the_service():
    """Name, default and words of every variable, in order."""
    rows = re.findall(r"^\| `(RESIDUAL_\w+)` \| `?([^|`]*?)`? ?\| (.*) \|$", README, flags=re.MULTILINE)

    assert rows == [(variable.name, variable.default, variable.help) for variable in VARIABLES]


def test_readme_routes_exist(server):
    """Every path of the endpoint table is described in the OpenAPI document."""
    app = create_app(Settings.from_environ(STORE))
    paths = app.test_client().get("/openapi.json").get_json()["paths"]
    app.extensions["residual"].models.stop()
    table = README[README.index("## Endpoints") : README.index("Bodies are JSON")]

    for path in re.findall(r"`(?:POST |GET )?(/[a-z./{}]*[a-z}])`", table):
        assert path.replace("{v}", "{version}") in paths


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Relative links name files of the repository."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", ["architecture.md", "maintaining.md"])
def test_pages_for_maintainers_name_files_that_exist(page):
    """Files and folders in backticks, so that a moved module shows."""
    text = (ROOT / "docs" / page).read_text()
    named = re.findall(
        r"`((?:detector|training|service|residual_client|tests|benchmarks|docs|deploy)/[\w./-]*)`", text
    )

    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("package", ["detector", "training", "service"])
def test_architecture_names_every_room(package):
    """Every room of the table of levels that is not a dunder."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {room for level in LEVELS[package] for room in level if not room.startswith("_")}

    assert {room for room in rooms if f"`{room}`" not in page} == set()


def test_readme_figures_are_those_of_the_benchmark():
    """The table of the README is made of the committed result file, line by line."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "one_class.json").read_text())["rows"]
    table = re.findall(
        r"^\| (\d) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) of (\d+) \|$", README, flags=re.MULTILINE
    )

    expected = [
        (
            row["label"],
            f"{row['roc_auc']:.4f}",
            f"{row['expected_rate']:.4f}",
            f"{row['realised_rate']:.4f}",
            str(row["false_alarms"]),
            str(row["n_test"]),
        )
        for row in rows
    ]
    assert table == expected


def test_restorations_of_the_guide_are_those_of_the_benchmark():
    """PSNR before, of the baseline and after, and the share that is flagged, line by line."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "restoration.json").read_text())["rows"]
    table = re.findall(
        r"^\| (?:noise|mosaic) of [^|]+ \| ([\d.]+) \| ([\d.]+) \([a-z ]+\) \| ([\d.]+) \| ([\d.]+) \|$",
        GUIDE,
        flags=re.MULTILINE,
    )

    figures = ("psnr_corrupted", "baseline", "psnr")
    expected = [
        (*(f"{row[name]:.2f}" for name in figures), f"{row['flagged_corrupted']:.4f}") for row in rows
    ]
    assert table == expected


def test_readme_counts_the_networks():
    """The README states the number of presets."""
    assert f"publishes one of {len(PRESETS)} networks" in README


def test_sequences_of_the_guide_are_those_of_the_benchmark():
    """Each preset with its seeds, from the committed result file."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "sequences.json").read_text())["rows"]
    table = re.findall(
        r"^\| `([a-z0-9-]+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| \d+ \|$", GUIDE, flags=re.MULTILINE
    )

    presets = dict.fromkeys(row["preset"] for row in rows)
    figures = {(row["preset"], row["seed"]): f"{row['roc_auc']:.4f}" for row in rows}
    assert table == [(preset, *(figures[preset, seed] for seed in range(3))) for preset in presets]


def _footprint_tables():
    """Each table of memory and start as the result file has it, first line for line, by its part."""
    rows = json.loads((ROOT / "benchmarks" / "results" / "footprint.json").read_text())["rows"]
    times = {"ready_seconds": 2, "score_seconds": 2, "worker_mb": 1, "total_mb": 1}
    yield (
        "operations.md",
        [
            [f"`{row['model']}`", *(f"{row[name]:.{digits}f}" for name, digits in times.items())]
            for row in rows
            if row["part"] == "start"
        ],
    )
    for part, page in (("batches", "operations.md"), ("options", DECISION_OF_MEMORY)):
        yield (
            page,
            [
                [f"`{row['model']}`", row["variant"], *(f"{memory:.1f}" for memory in row["memory_mb"])]
                for row in rows
                if row["part"] == part
            ],
        )
    yield (
        DECISION_OF_MEMORY,
        [
            [
                row["variant"],
                f"{row['open_seconds']:.3f}",
                *(f"{row[name] / 1000:.2f}" for name in ("row_us", "batch_us")),
                *(f"{row[name]:.1f}" for name in ("process_mb", "total_mb")),
            ]
            for row in rows
            if row["part"] == "sharing"
        ],
    )


DECISION_OF_MEMORY = "decisions/0027-each-worker-holds-its-weights-once.md"


def test_memory_and_start_of_the_docs_are_those_of_the_benchmark():
    """Every row of the result file is in a table, figure by figure."""
    n_rows = 0
    for page, expected in _footprint_tables():
        lines = (ROOT / "docs" / page).read_text().splitlines()
        cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
        for row in expected:
            assert row in [[line[0], *line[len(line) - len(row) + 1 :]] for line in cells], (page, row)
        n_rows += len(expected)

    assert n_rows == len(json.loads((ROOT / "benchmarks" / "results" / "footprint.json").read_text())["rows"])

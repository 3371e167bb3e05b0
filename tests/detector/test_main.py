"""`python -m detector`: each command, and one sentence with exit status 1 for each failure."""

import subprocess
import sys
from pathlib import Path

import pytest

from detector import ModelStore
from detector.__main__ import main
from tests.model_folder import publish_model

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def filled(store: ModelStore) -> ModelStore:
    """A store with four versions of `tiny` and one of `other`, label `stable` on 2."""
    for _ in range(4):
        publish_model(store)
    publish_model(store, name="other")
    store.set_label("tiny", "stable", 2)
    return store


def run(*arguments: str, store: ModelStore | None = None) -> int:
    return main([*arguments, *(["--store", str(store.root)] if store else [])])


def test_list_prints_models_versions_and_labels(filled, capsys):
    """Each model has one line, and the lines are sorted."""
    filled.set_label("tiny", "canary", 4)

    assert run("list", store=filled) == 0
    assert capsys.readouterr().out.splitlines() == [
        "other: versions [1]",
        "tiny: versions [1, 2, 3, 4], labels canary -> 4, stable -> 2",
    ]


def test_list_of_an_empty_store_says_so(store, capsys):
    """An empty store is no error, but the message helps if the folder is mistyped."""
    assert run("list", store=store) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"there is no model in {store.root}\n"


def test_verify_prints_the_digest(filled, capsys):
    """The same 64 digits as in the folder, for a script to compare."""
    folder = filled.folder("tiny", 3)

    assert run("verify", str(folder)) == 0
    digest = (folder / "manifest.sha256").read_text().strip()
    assert capsys.readouterr().out == f"tiny version 3: ok, digest {digest}\n"


def test_verify_names_the_damaged_file(filled, capsys):
    """One sentence on stderr, nothing on stdout, status 1."""
    folder = filled.folder("tiny", 3)
    content = bytearray((folder / "decoder.onnx").read_bytes())
    content[-1] ^= 1
    (folder / "decoder.onnx").write_bytes(content)

    assert run("verify", str(folder)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: decoder.onnx must have SHA-256 ")
    assert err.count("\n") == 1


def test_label_points_at_a_version(filled):
    """A label can be created and moved."""
    assert run("label", "tiny", "canary", "4", store=filled) == 0
    assert run("label", "tiny", "stable", "3", store=filled) == 0

    assert filled.labels("tiny") == {"canary": 4, "stable": 3}


def test_unlabel_takes_a_label_away(filled):
    """The version stays."""
    assert run("unlabel", "tiny", "stable", store=filled) == 0

    assert filled.labels("tiny") == {}
    assert filled.versions("tiny") == [1, 2, 3, 4]


def test_retain_says_what_it_removed(filled, capsys):
    """Labelled versions stay; a second run has nothing to do."""
    assert run("retain", "tiny", "--keep", "1", store=filled) == 0
    assert capsys.readouterr().out == "removed versions [1, 3]\n"

    assert run("retain", "tiny", "--keep", "1", store=filled) == 0
    assert capsys.readouterr().out == "nothing to remove\n"
    assert filled.versions("tiny") == [2, 4]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["label", "tiny", "stable", "9"], "model 'tiny' has no version 9, only [1, 2, 3, 4]"),
        (["label", "none", "stable", "1"], "there is no model 'none'"),
        (["label", "../x", "stable", "1"], "a model name must match"),
        (["label", "tiny", "Stable", "1"], "a label must match"),
        (["unlabel", "tiny", "canary"], "model 'tiny' has no label 'canary', only ['stable']"),
        (["unlabel", "none", "stable"], "model 'none' has no label 'stable', only []"),
        (["retain", "none", "--keep", "1"], "there is no model 'none'"),
        (["retain", "tiny", "--keep", "0"], "keep must be at least 1, got 0"),
        (["retain", "..", "--keep", "1"], "a model name must match"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(filled, capsys, arguments, sentence):
    """The command ends with status 1, nothing on stdout and no traceback."""
    assert run(*arguments, store=filled) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {sentence}")
    assert err.count("\n") == 1


def test_store_that_cannot_be_written_is_one_sentence(filled, capsys):
    """A folder takes the place of the labels file, so that no user can replace it."""
    (filled.root / "other" / "labels.json").mkdir()

    assert run("label", "other", "stable", "1", store=filled) == 1
    assert "labels.json cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["publish"], ["label", "tiny", "stable", "new"], ["retain", "tiny"]]
)
def test_bad_usage_ends_with_status_2(capsys, arguments):
    """Argparse ends the program with status 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert caught.value.code == 2
    assert "usage: python -m detector" in capsys.readouterr().err


def test_help_shows_commands_that_run(filled, capsys):
    """The manual's own lines are the ones that the program takes."""
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = [
        line.split()[3:] for line in capsys.readouterr().out.splitlines() if "python -m detector " in line
    ]
    lines = [line for line in lines if line and line[0] in ("list", "label", "unlabel", "retain")]

    assert [line[0] for line in lines] == ["list", "label", "unlabel", "retain"]
    for line in lines:
        arguments = [{"digits": "tiny"}.get(word, word) for word in line]
        filled.set_label("tiny", "canary", 4)
        assert run(*arguments, store=filled) == 0


def test_module_runs_as_a_program(filled):
    """The shell gets the exit status of `main`."""
    command = [sys.executable, "-m", "detector", "verify", str(filled.folder("tiny", 9))]

    finished = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )

    assert finished.returncode == 1
    assert finished.stderr.startswith("error: manifest.json cannot be read in ")

"""The fine-tuning benchmark draws fairly, runs missing rows only, and judges the requested rows."""

import json

import numpy as np
import pytest

from benchmarks import finetune
from benchmarks.rows import write_rows

SEED = finetune.SEEDS[0]


def row(labels, seed, method, accuracy, name="digits"):
    """Return a row as an earlier run wrote it."""
    return {
        "set": name,
        "labels": labels,
        "seed": seed,
        "method": method,
        "learning_rate": 0.001,
        "validation_accuracy": accuracy,
        "accuracy": accuracy,
        "macro_f1": accuracy,
        "n_validation": 300,
        "n_test": 500,
        "seconds": 1.0,
    }


def pool(n_test=0):
    """Three classes, one of them rare."""
    targets = np.repeat([0, 1, 2], [300, 195, 5])
    samples = np.arange(500.0)[:, np.newaxis]
    return finetune.LabelledSet(samples, samples, targets, None, (), n_validation=100, n_test=n_test)


@pytest.mark.parametrize("n_labels", [10, 50, 200])
def test_draw_keeps_labels_validation_and_test_apart(n_labels):
    """The draw has the requested number of labels, covers every class, and uses each sample once."""
    drawn = finetune.draw(pool(n_test=200), n_labels, seed=0)

    assert (drawn.labelled.size, drawn.validation.size, drawn.test.size) == (n_labels, 100, 200)
    assert np.unique(np.concatenate([drawn.labelled, drawn.validation, drawn.test])).size == n_labels + 300
    assert set(pool().targets[drawn.labelled]) == {0, 1, 2}


def test_draw_follows_the_shares_of_the_classes():
    """Two seeds give different draws."""
    first, second = (finetune.draw(pool(), 50, seed) for seed in (0, 1))

    assert np.bincount(pool().targets[first.labelled]).tolist() == [30, 19, 1]
    assert set(first.labelled) != set(second.labelled)


def test_rows_that_are_there_are_not_run_again(tmp_path, capsys):
    """A whole file is read, printed and judged without a fit."""
    out = tmp_path / "out.json"
    rows = [row(10, SEED, "residual", 0.6), row(10, SEED, "random", 0.5)]
    rows += [row(50, SEED, "residual", 0.9), row(50, SEED, "random", 0.8)]
    write_rows(out, rows)

    assert finetune.main(["--quick", "--out", str(out)]) == 0

    assert json.loads(out.read_text())["rows"] == rows
    printed = capsys.readouterr().out
    assert "digits         10    0.6000    0.5000  +0.1000" in printed
    assert "1 of 1" in printed


@pytest.mark.parametrize(("accuracy", "status"), [(0.81, 0), (0.8, 1), (0.7, 1)])
def test_status_tells_whether_pre_training_won_everywhere(accuracy, status):
    """A draw does not count as a win."""
    rows = [row(10, 0, "residual", 0.6), row(10, 0, "random", 0.5)]
    rows += [row(50, 0, "residual", accuracy), row(50, 0, "random", 0.8)]

    assert finetune.summarise(rows) == status


@pytest.mark.slow
def test_quick_run_from_nothing(tmp_path):
    """Two numbers of labels, one seed, both methods, on the same test samples."""
    out = tmp_path / "out.json"

    finetune.main(["--quick", "--out", str(out), "--work", str(tmp_path / "work")])

    rows = json.loads(out.read_text())["rows"]
    assert [(found["labels"], found["method"]) for found in rows] == [
        (10, "residual"),
        (10, "random"),
        (50, "residual"),
        (50, "random"),
    ]
    assert all(0.2 < found["accuracy"] < 1 for found in rows)
    assert all(found["n_test"] == 500 for found in rows)

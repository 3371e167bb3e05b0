"""The benchmark of the guarantee runs missing rows only, and judges the requested rows."""

import json

import numpy as np
import pytest

from benchmarks import one_class
from benchmarks.rows import write_rows


@pytest.fixture
def data(tmp_path):
    """Images of two classes, bright and dark."""
    rng = np.random.default_rng(0)
    labels = np.arange(700) % 2
    images = (rng.integers(0, 100, size=(700, 4, 4)) + 150 * labels[:, None, None]).astype(np.uint8)
    path = tmp_path / "classes.npz"
    np.savez(path, x_train=images[:500], y_train=labels[:500], x_test=images[500:], y_test=labels[500:])
    return path


def row(label, *, alpha=0.05, false_alarms=2):
    """Return a row as an earlier run wrote it."""
    return {
        "label": label,
        "seed": 0,
        "promised_rate": alpha,
        "expected_rate": alpha / 2,
        "realised_rate": false_alarms / 100,
        "false_alarms": false_alarms,
        "most_false_alarms": 9,
        "n_calibration": 100,
        "n_test": 100,
        "roc_auc": 0.9,
        "recall": 0.8,
        "fit_seconds": 1.0,
    }


@pytest.mark.slow
def test_a_row_is_fitted_for_what_is_missing_alone(data, tmp_path, capsys):
    """An existing row of the same label with another alpha does not replace the requested one."""
    out = tmp_path / "out.json"
    write_rows(out, [row("1", alpha=0.2), row("0")])

    one_class.main(["--data", str(data), "--labels", "0,1", "--quick", "--out", str(out)])

    rows = json.loads(out.read_text())["rows"]
    assert [(found["label"], found["promised_rate"]) for found in rows] == [
        ("1", 0.2),
        ("0", 0.05),
        ("1", 0.05),
    ]
    assert rows[2]["n_test"] == 100
    assert rows[2]["n_calibration"] >= 59
    assert "2 fits: pooled rate" in capsys.readouterr().out


@pytest.mark.parametrize(("false_alarms", "status"), [(2, 0), (5, 0), (6, 1), (10, 1)])
def test_status_tells_whether_the_promise_held(tmp_path, false_alarms, status):
    """Pooled at most alpha, and no fit above the quantile of its own count; other rows do not matter."""
    out = tmp_path / "out.json"
    write_rows(out, [row("0", false_alarms=false_alarms), row("1", false_alarms=50)])

    assert one_class.main(["--data", "unread.npz", "--labels", "0", "--out", str(out)]) == status

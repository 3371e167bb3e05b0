"""The benchmark of sequences runs missing rows only, and sums up the requested ones."""

import json

from benchmarks import sequences
from benchmarks.rows import write_rows


def row(preset, seed, roc_auc):
    """Return a row as an earlier run wrote it."""
    return {
        "preset": preset,
        "seed": seed,
        "max_minutes": sequences.MINUTES,
        "roc_auc": roc_auc,
        "roc_auc_interval": [roc_auc - 0.01, roc_auc + 0.01],
        "false_alarm_rate": 0.04,
        "recall": 0.9,
        "expected_rate": 0.036,
        "epochs": 40,
        "fit_seconds": 30.0,
    }


def test_rows_of_an_earlier_run_are_not_fitted_again(tmp_path, capsys):
    """If no row is missing, the data are not even read; rows of other presets do not count."""
    out = tmp_path / "out.json"
    rows = [row("dense", seed, 0.97 + seed / 100) for seed in sequences.SEEDS] + [row("lstm", 0, 0.5)]
    write_rows(out, rows)

    assert sequences.main(["--data-dir", "unread", "--presets", "dense", "--out", str(out)]) == 0

    assert json.loads(out.read_text())["rows"] == rows
    assert "dense: mean ROC AUC 0.9800 of 3, least 0.9700" in capsys.readouterr().out


def test_a_quick_row_is_not_a_full_one(tmp_path, monkeypatch):
    """Its fit had another limit, so it is run where the full one is there."""
    out, full = tmp_path / "out.json", row("dense", 0, 0.97)
    write_rows(out, [full])
    quick = full | {"max_minutes": sequences.QUICK_MINUTES}
    monkeypatch.setattr(sequences, "fit_one", lambda data, preset, seed, minutes: quick)

    sequences.main(["--data-dir", "unread", "--presets", "dense", "--quick", "--out", str(out)])

    assert json.loads(out.read_text())["rows"] == [full, quick]

"""The benchmark of the reference networks runs, resumes after a stop, and compares comparable figures."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import seeds
from training.presets import PRESETS

REPOSITORY = Path(__file__).parents[2]
FIELDS = {"preset", "parameters", "loss", "reported", "train", "test", "pca", "epochs", "seconds"}


@pytest.mark.slow
def test_quick_run_fits_what_is_missing(tmp_path, capsys):
    """One epoch is fitted for each network; a second run keeps the rows that exist."""
    out = tmp_path / "seeds.json"

    assert seeds.main(["--quick", "--presets", "two-head", "--out", str(out)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row.keys() >= FIELDS
    assert (row["parameters"], row["epochs"], row["loss"]) == (284, 1, "bce+mse")

    out.write_text(json.dumps({"machine": "m", "rows": [row | {"train": 0.5}]}))
    assert seeds.main(["--quick", "--presets", "two-head,rowwise", "--out", str(out)]) == 0
    assert [row["preset"] for row in json.loads(out.read_text())["rows"]] == ["rowwise", "two-head"]
    assert json.loads(out.read_text())["rows"][1]["train"] == 0.5
    assert "| bce+mse | 1.0719 | 0.5000 |" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras' own backup
def test_a_stopped_row_goes_on_after_its_last_epoch(tmp_path, monkeypatch):
    """Its losses and seconds cover all epochs, including those before the stop."""
    row = seeds.Reference("rowwise", "mnist-images", 3)
    samples = np.random.default_rng(0).uniform(size=(64, 28, 28)).astype(np.float32)

    class Stop(seeds._Record):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if epoch == 1:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(seeds, "_Record", Stop)
        with pytest.raises(KeyboardInterrupt):
            seeds._fit(row, samples, samples, row.epochs, tmp_path / "backup")
    before = json.loads((tmp_path / "backup" / "epochs.json").read_text())
    result = seeds._fit(row, samples, samples, row.epochs, tmp_path / "backup")

    assert len(before["epochs"]) == 2
    assert result["epochs"] == 3
    assert result["seconds"] >= before["seconds"]
    assert result["train"] < before["epochs"][0]
    assert not (tmp_path / "backup").exists()


def test_data_that_are_not_there_are_named(tmp_path, capsys):
    """The error names the missing file, without a traceback."""
    assert (
        seeds.main(["--presets", "rowwise", "--data-dir", str(tmp_path), "--out", str(tmp_path / "x")]) == 1
    )

    assert f"got '{tmp_path / 'mnist.npz'}': no such file" in capsys.readouterr().err


def test_the_page_of_models_has_the_figures_of_the_benchmark():
    """Every row, as it was measured, and an image of every preset."""
    page = (REPOSITORY / "docs" / "models.md").read_text()
    rows = json.loads((REPOSITORY / "benchmarks" / "results" / "seeds.json").read_text())["rows"]

    assert {row["key"] for row in rows} == {row.key for row in seeds.REFERENCES}
    assert seeds.HEADER in page
    for row in rows:
        assert seeds.describe(row) in page
        assert seeds._reached(row), row["key"]
    for preset in PRESETS:
        assert f"](images/{preset}.svg)" in page
        assert (REPOSITORY / "docs" / "images" / f"{preset}.svg").exists()


def test_every_reference_preset_has_a_row():
    """Presets without a published reference are in another table."""
    memories = {"memory", "vector-fast", "memory-image", "memory-window", "memory-stream"}
    own = memories | {"dense", "conv", "conv1d", "lstm-plain", "variational", "restore"}

    assert {row.preset for row in seeds.REFERENCES} == PRESETS.keys() - own


def test_pca_of_all_components_is_exact_and_one_row_is_judged_by_its_loss():
    """The errors of PCA fall to nothing; rows that never trained are not held against their figure."""
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(100, 3)) @ rng.normal(size=(3, 9))

    assert seeds._pca_errors(samples, samples, (3,))[0] == pytest.approx(0, abs=1e-12)
    assert seeds._pca_errors(samples, samples, (2,))[1] > 0.01
    assert seeds._pca_errors(samples, samples, (9,)) == (None, None)
    assert not seeds._reached({"reported": 0.1, "train": 0.2, "note": ""})
    assert seeds._reached({"reported": 0.1, "train": 0.1, "note": ""})
    assert seeds._reached({"reported": 0.1, "train": 0.7, "note": seeds._UNTRAINED})

"""A sweep ranks trials on validation samples, keeps to its time, and publishes one of them."""

import dataclasses
import json

import numpy as np
import pytest

from detector import Detector, NonFiniteScore
from training import fit, sweep
from training.config import FitConfig
from training.errors import TrainingError
from training.sweep import Trial, run_trials


@dataclasses.dataclass(frozen=True)
class History:
    """The duration of a fit."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The part of a fit that the time limit needs."""

    config: FitConfig
    history: History


CONFIG = FitConfig.from_preset("dense")


def trials_of(*latent_dims):
    """Return one trial for each latent size; None makes an impossible one."""
    return [
        Trial("dense", size, None, dataclasses.replace(CONFIG, latent_dim=size))
        if size
        else Trial("dense", size, None, None, "impossible")
        for size in latent_dims
    ]


def run(trials, detections, seconds=60.0, fit_seconds=0.0):
    """Run trials with a given detection by latent size and a standard error of 0.1; others fail."""

    def train_one(config):
        return Fitted(config, History(fit_seconds))

    def judge(fitted):
        size = fitted.config.latent_dim
        if size not in detections:
            raise TrainingError("the loss is infinite")
        if detections[size] is None:
            raise NonFiniteScore("the model answered a value that is not finite")
        return {"latent_size": size, "detection": detections[size], "standard_error": 0.1}

    return run_trials(trials, train_one, judge, seconds)


@pytest.mark.parametrize("sizes", [(1, 2, 4, 8), (8, 4, 2, 1)])
def test_the_smallest_latent_within_one_standard_error_is_published(sizes):
    """The order of trials does not matter; rows have the most detection first."""
    best, rows = run(trials_of(*sizes), {1: 0.7, 2: 0.85, 4: 0.9, 8: 0.8})

    assert best.config.latent_dim == 2
    assert [row["latent_dim"] for row in rows] == [4, 2, 8, 1]
    assert [row["outcome"] for row in rows] == ["done", "done, published", "done", "done"]


def test_trials_that_cannot_be_or_fail_are_rows_too():
    """The other trials go on; failed ones come last, with the reason."""
    best, rows = run(trials_of(None, 2, 3, 4), {3: None, 4: 0.6})

    assert best.config.latent_dim == 4
    assert [row["outcome"] for row in rows] == [
        "done, published",
        "not run: impossible",
        "failed: the loss is infinite",
        "failed: the model answered a value that is not finite",
    ]


def test_a_trial_without_time_is_reported_as_not_run():
    """The budget was used up before it began."""
    best, rows = run(trials_of(1, 2), {1: 0.7, 2: 0.9}, seconds=0.0)

    assert best is None
    assert {row["outcome"] for row in rows} == {"not run: no time was left"}


@pytest.mark.parametrize(
    ("fit_seconds", "outcome"), [(0.5, "done"), (59.0, "done"), (60.0, "stopped by time")]
)
def test_only_a_fit_that_time_ended_records_its_limit(fit_seconds, outcome):
    """The manifest of the others holds no odd number of minutes."""
    best, rows = run(trials_of(1), {1: 0.7}, 60.0, fit_seconds)

    assert rows[0]["outcome"] == f"{outcome}, published"
    assert (best.config.max_minutes is None) == (outcome == "done")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep over two latent sizes, through the command line; its folder."""
    store = tmp_path_factory.mktemp("swept") / "models"
    arguments = ["--data", "breast-cancer", "--name", "rows", "--store", str(store), "--epochs", "8"]
    assert sweep.main([*arguments, "--latent-dims", "1,6", "--max-minutes", "2"]) == 0
    return store / "rows" / "1"


@pytest.mark.slow
def test_a_trial_is_published_with_the_figures_of_all(swept):
    """The page ranks the trials like `report.json` and has the chart."""
    figures = json.loads((swept / "report.json").read_bytes())
    trials = figures["sweep"]["trials"]

    (published,) = (trial for trial in trials if trial["outcome"] == "done, published")
    assert Detector.load(swept).manifest.latent_shape == (published["latent_size"],)
    assert [trial["detection"] for trial in trials] == sorted(
        (trial["detection"] for trial in trials), reverse=True
    )
    assert {trial["latent_size"] for trial in trials} == {1, 6}
    small, large = sorted(trials, key=lambda trial: trial["latent_size"])
    assert small["pca_error"] > large["pca_error"]
    assert "Reconstruction error against latent size" in (swept / "report.html").read_text()
    assert "max_minutes" not in figures["configuration"]


@pytest.mark.slow
def test_the_published_model_is_the_one_that_fit_makes(swept, tmp_path):
    """Same flags and seed, same stages: nothing of the sweep leaks into the model."""
    latent_dim = Detector.load(swept).manifest.latent_shape[0]
    arguments = ["--data", "breast-cancer", "--name", "rows", "--store", str(tmp_path), "--epochs", "8"]
    assert fit.main([*arguments, "--preset", "dense", "--latent-dim", str(latent_dim)]) == 0

    alone = Detector.load(tmp_path / "rows" / "1").manifest
    assert alone.threshold == Detector.load(swept).manifest.threshold
    assert alone.training["configuration"] == Detector.load(swept).manifest.training["configuration"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--presets", "dense,nothing"], "preset must be one of"),
        (["--presets", "conv,lstm"], "presets conv, lstm take no kind of samples in common"),
        (
            ["--presets", "conv-pool", "--latent-dims", "2,4"],
            "architecture conv-pool has no latent_dim, got 2",
        ),
        (
            ["--presets", "memory"],
            "preset memory has a prototype memory, which does not depend on the latent or noise of a sweep",
        ),
        (["--noises", "3"], "corruption_level must be between 0 and 1"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(tmp_path, capsys, flags, words):
    """The error is one sentence, before anything is fitted."""
    np.savez(tmp_path / "data.npz", X=np.zeros((200, 16, 16), dtype=np.uint8))

    assert sweep.main(["--data", str(tmp_path / "data.npz"), "--store", str(tmp_path), *flags]) == 1

    assert words in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "1,2", "soon"])
def test_the_budget_is_a_positive_number(minutes, capsys):
    """The error has the name of the flag."""
    with pytest.raises(SystemExit) as caught:
        sweep.main(["--data", "digits", "--max-minutes", minutes])

    assert caught.value.code == 2
    assert "--max-minutes: must be" in capsys.readouterr().err

"""A channel that keeps one value for longer than in the fit is an anomaly, and nothing else changes."""

import dataclasses

import numpy as np
import pytest

from detector import Detector
from detector.engine.graphs import open_sessions
from training import fit
from training.config import FitConfig
from training.data.load import load_dataset
from training.data.scaling import Scaling
from training.data.splits import split_dataset
from training.data.windowing import cut_series
from training.networks.architectures import build_autoencoder
from training.publishing.graphs import export_graphs
from training.publishing.stuck import LongestRuns, find_longest_runs

WINDOW = 16


def channels(n_steps=4000):
    """A measurement with a run of 9, one with a run of 40, a switch, a set point and a constant."""
    rng = np.random.default_rng(0)
    measured = np.round(rng.normal(size=n_steps), 2)
    measured[700:709] = 5.0
    long = np.round(rng.normal(size=n_steps), 2)
    long[300:340] = 7.0
    switch = rng.integers(0, 2, n_steps)
    setpoint = np.repeat(rng.normal(size=n_steps // 10), 10)
    return np.column_stack([measured, long, switch, setpoint, np.zeros(n_steps)]).astype(np.float32)


def test_longest_runs_are_those_of_the_fit(tmp_path):
    """Runs of the calibration and test splits do not count; notes name every channel."""
    steps = channels()
    steps[3000:3012, 0] = 1.0
    np.save(tmp_path / "steps.npy", steps)
    config = FitConfig.from_preset("conv1d", {"window": WINDOW})
    dataset = cut_series(load_dataset(str(tmp_path / "steps.npy"), kinds=["sequence"]), config)
    runs = find_longest_runs(dataset, split_dataset(dataset, config))

    assert runs.judged() == {"x0": 9}
    assert runs.limits.tolist() == [9, WINDOW, WINDOW, WINDOW, WINDOW]
    notes = list(runs.notes())
    assert notes[0].startswith("longest runs of one value in the fit, in steps: x0 9, x1 40, x2 1")
    assert notes[1] == "a longer run than in the fit is an anomaly for x0"
    assert set(notes[2:]) == {
        "no run is too long for x1: a run in the fit fills a window of 16 steps; a longer "
        "--window would tell",
        "no run is too long for x2, x4: at most 10 different values",
        "no run is too long for x3: changes at fewer than 0.25 of the steps",
    }


def test_windows_that_are_already_cut_are_judged_too(tmp_path):
    """A run ends with its window."""
    windows = channels()[:, :1].reshape(-1, WINDOW, 1)
    np.savez(tmp_path / "windows.npz", X=windows)
    dataset = load_dataset(str(tmp_path / "windows.npz"), kinds=["sequence"])
    config = dataclasses.replace(FitConfig.from_preset("conv1d"), promise=False)
    splits = split_dataset(dataset, config)
    fitted = windows[np.union1d(splits.train, splits.validation), :, 0]
    longest = max(max(len(run) for run in np.split(row, np.flatnonzero(np.diff(row)) + 1)) for row in fitted)

    assert find_longest_runs(dataset, splits).judged() == {"x0": longest}


@pytest.mark.parametrize("scored_steps", [None, 3])
def test_only_a_run_that_is_too_long_changes_the_score(scored_steps):
    """Every other score keeps its bits; each step too long adds ten of the largest scores of the fit."""
    shape = (WINDOW, 2)
    network = build_autoencoder(
        FitConfig.from_preset("dense", {"kind": "sequence"}).for_samples(shape), shape
    )
    scaling = Scaling(np.zeros(shape, np.float32), np.ones(shape, np.float32))
    rng = np.random.default_rng(0)
    fitted = rng.normal(size=(300, *shape)).astype(np.float32)
    runs = LongestRuns(("a", "b"), np.array([5, 5]), ("", "at most 10 different values"), WINDOW)
    samples = rng.normal(size=(8, *shape)).astype(np.float32)
    for length, row in ((5, 0), (6, 1), (9, 2), (16, 3)):
        samples[row, -length:, 0] = 0.5
    samples[4, :12, 0] = 0.5  # over before the newest step
    samples[5, :, 1] = 0.5  # of a channel that is not judged

    plain, judged = (
        _Session(graphs, shape).run(samples)
        for graphs in (
            export_graphs(network, scaling, scored_steps=scored_steps),
            export_graphs(network, scaling, scored_steps=scored_steps, runs=runs, fitted=fitted),
        )
    )
    largest = (
        _Session(export_graphs(network, scaling, scored_steps=scored_steps), shape).run(fitted)["score"].max()
    )

    same = [0, 4, 5, 6, 7]
    assert (judged["score"][same] == plain["score"][same]).all()
    assert (judged["reconstruction"] == plain["reconstruction"]).all()
    added = judged["score"] - plain["score"]
    assert added[[1, 2, 3]] == pytest.approx(10 * largest * np.array([1, 4, 11]), rel=1e-4)
    assert (judged["feature_error"][1:4].reshape(3, -1).argmax(axis=1) == (WINDOW - 1) * 2).all()


class _Session:
    """`model.onnx`, run on windows."""

    def __init__(self, graphs, shape):
        draft = type("Draft", (), {"sample_shape": shape, "latent_shape": (32 // 4,), "classifier": None})
        draft.latent_shape = (
            graphs["encoder.onnx"].function(np.zeros((1, *shape), np.float32))["latent"].shape[1:]
        )
        contents = {name: graph.onnx for name, graph in graphs.items()}
        self._session = open_sessions(contents, draft)["model.onnx"]

    def run(self, samples):
        return self._session.run(samples, ("score", "reconstruction", "feature_error"))


@pytest.mark.slow
def test_a_sensor_that_stands_still_is_found_and_named(tmp_path):
    """From the first step that is too long on; the switch beside it raises no alarm, nor do other steps."""
    rng = np.random.default_rng(1)
    n_steps, start, length = 9000, 8300, 60
    wave = np.sin(np.arange(n_steps) * 2 * np.pi / 48)
    level = np.round(5 * wave + rng.normal(0, 0.3, n_steps), 1)
    level[start : start + length] = level[start]
    switch = (wave > 0).astype(int)
    rows = [f"{value},{state}" for value, state in zip(level, switch, strict=True)]
    (tmp_path / "tank.csv").write_text("\n".join(["level,valve", *rows]) + "\n")
    arguments = ["--data", str(tmp_path / "tank.csv"), "--store", str(tmp_path), "--kind", "sequence"]
    assert (
        fit.main(
            [
                *arguments,
                "--preset",
                "memory-window",
                "--latent-dim",
                "0",
                "--prototypes",
                "64",
                "--window",
                "24",
            ]
        )
        == 0
    )
    detector = Detector.load(tmp_path / "tank" / "1")
    limit = detector.manifest.training["longest_runs"]["level"]
    steps = np.column_stack([level, switch])[7700:].astype(np.float32)
    scores = detector.score(steps, explain=1)
    first = start - 7700 + limit

    assert detector.manifest.training["longest_runs"] == {"level": limit}
    assert "has kept one value for longer" in detector.manifest.score
    assert scores.is_anomaly[first : start - 7700 + length].all()
    assert {parts[0].feature for parts in scores.explanation[first : start - 7700 + length]} == {"level"}
    others = np.ones(len(steps), dtype=bool)
    others[start - 7700 : start - 7700 + length + 24] = False
    assert scores.is_anomaly[others].mean() <= 0.05

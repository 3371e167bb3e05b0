"""Protocols for series: the steps to fit on, the steps to measure, and the form of the files."""

import json

import numpy as np
import pytest

from benchmarks import quality
from benchmarks.errors import BenchmarkError
from benchmarks.measures.vus import find_period, vus_pr
from benchmarks.protocols import PROTOCOLS, streams, telemetry
from benchmarks.protocols.steps import CAUSAL, OFFLINE, View, drawn_series, score_steps, usual_window
from training.errors import TrainingError


def write_channels(path, **members):
    """An `.npz` with arrays `<channel>/<member>`, of keys `channel__member`."""
    np.savez(path, **{key.replace("__", "/"): array for key, array in members.items()})


def channel(n_steps=300, n_columns=2, seed=0):
    """Return values and labels of one drawn series."""
    series = drawn_series(seed, n_columns, n_steps)
    return series.values, series.labels.astype(np.uint8)


def view(rule, **options):
    """Return the view of a method, for our own networks with windows of 8 steps."""
    return View("memory-stream", 8, None, rule, options)


@pytest.mark.parametrize("rule", [CAUSAL, OFFLINE])
def test_every_step_has_a_score(rule):
    """Steps at the start have scores, too, because TSB-AD measures them."""
    series = drawn_series(0, 2, 200)

    timed = score_steps("knn5", series.values, 100, 0, view(rule))

    assert timed.scores.shape == (200,)
    assert timed.scores[series.labels].mean() > 2 * timed.scores[50:100].mean()


def test_a_causal_score_knows_nothing_of_the_future():
    """Steps that follow a step do not change its score."""
    series = drawn_series(0, 2, 200)
    other = series.values.copy()
    other[150:] += 5

    one, two = (score_steps("knn5", values, 100, 0, view(CAUSAL)).scores for values in (series.values, other))

    assert (one[:150] == two[:150]).all()
    assert not np.isclose(one[150:], two[150:]).any()


def test_a_constant_start_is_scored_by_the_distance_from_it():
    """A fit on constant values would be refused, but later values may still differ."""
    values = np.full((60, 2), 3.0)
    values[50] = (4, 5)

    scores = score_steps("residual", values, 40, 0, view(CAUSAL)).scores

    assert not scores[:50].any()
    assert scores[50:58] == pytest.approx((1 + 4) / 16)


def test_windows_of_baselines_follow_the_period():
    """The window is the period of a series with one column, and 20 steps for several columns."""
    wave = drawn_series(0, 1, 600).values

    assert usual_window(wave) == find_period(wave[:, 0]) == 25
    assert usual_window(np.hstack([wave, wave])) == 20


# --- telemetry ----------------------------------------------------------------------------------------------


def test_channels_say_what_to_fit_on(tmp_path):
    """`n_train` or a channel's known name gives the training steps; other channels are left out."""
    values, labels = channel()
    known = dict.fromkeys(["P-1__test", "S-1__test"], values) | {"P-1__label": labels, "S-1__label": labels}
    write_channels(tmp_path / "smap.npz", **known)
    mine = {"mine__test": values[:, 0], "mine__label": labels, "mine__n_train": np.array(120)}
    write_channels(tmp_path / "own.npz", **mine)
    np.savez(tmp_path / "rows.npz", X=values, y=labels)

    found = PROTOCOLS["S1"].find(tmp_path)

    assert [data.name for data in found] == ["S-1", "mine"]
    assert found[1].load().n_train == 120
    assert found[1].load().values.shape == (300, 1)
    with pytest.raises(BenchmarkError, match="S-1/n_train must lie within the 300 steps, got 1832"):
        found[0].load()


def test_a_channel_with_training_data_of_its_own_is_measured_on_its_test_data(tmp_path):
    """The whole test array is measured if the file has training data."""
    values, labels = channel()
    write_channels(tmp_path / "own.npz", a__train=values[:140], a__test=values, a__label=labels)

    loaded = PROTOCOLS["S2"].find(tmp_path)[0].load()
    row = telemetry.measure(loaded, 0, "knn5")

    assert loaded.values.shape == (440, 2)
    assert (row["n_steps"], row["n_train"], row["columns"]) == (300, 140, 2)
    scores = score_steps("knn5", loaded.values, 140, 0, view(OFFLINE)).scores[140:]
    assert row["vus_pr"] == round(vus_pr(labels, scores, find_period(values[:, 0])), 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a__test": np.zeros((300, 2, 2))}, "a/test must hold numbers of shape"),
        ({"a__test": np.full(300, np.nan)}, "a/test must be finite"),
        ({"a__label": np.zeros(299)}, r"a/label must hold 0 and 1 of shape \(300,\)"),
        ({"a__label": np.full(300, 2)}, "a/label must hold 0 and 1"),
        ({"a__label": np.zeros(300)}, "a/label must mark an anomalous step"),
        ({"a__n_train": np.array(300)}, "a/n_train must lie within the 300 steps, got 300"),
    ],
)
def test_channels_of_another_form_are_refused(tmp_path, changes, message):
    """The error names the file and the array, the expected form and the given one."""
    values, labels = channel()
    members = {"a__test": values, "a__label": labels, "a__n_train": np.array(100)} | changes
    write_channels(tmp_path / "own.npz", **members)

    with pytest.raises(BenchmarkError, match=f"own.npz: {message}"):
        PROTOCOLS["S1"].find(tmp_path)[0].load()


# --- streams ------------------------------------------------------------------------------------------------


def test_counts_of_runs_are_pooled(tmp_path):
    """F1 and both rates over the steps behind the start of all runs, by a naive loop."""
    runs = {name: channel(500, 3, seed) for seed, name in enumerate("ab")}
    members = {f"{name}__X": values for name, (values, _) in runs.items()}
    members |= {f"{name}__label": labels for name, (_, labels) in runs.items()}
    write_channels(tmp_path / "runs.npz", normal__X=runs["a"][0], **members)
    (data,) = PROTOCOLS["S4"].find(tmp_path)

    row = streams.measure_skab(data.load(), 0, "knn5")

    figures = []
    for margin in streams.MARGINS:
        hit = false = missed = quiet = 0
        for values, labels in runs.values():
            scores = score_steps("knn5", values, 300, 0, streams.SKAB_VIEW).scores
            threshold = margin * max(scores[300:400])
            for score, label in zip(scores[400:], labels[400:], strict=True):
                hit += bool(label) and score > threshold
                missed += bool(label) and score <= threshold
                false += not label and score > threshold
                quiet += not label and score <= threshold
        f1 = 2 * hit / (2 * hit + false + missed)
        figures.append((f1, false / (false + quiet), missed / (hit + missed), margin))
    best = max(figures, key=lambda one: one[0])
    assert [row[name] for name in ("f1", "false_alarm_rate", "miss_rate")] == pytest.approx(
        best[:3], abs=1e-6
    )
    assert (row["margin"], row["n_series"], row["n_steps"]) == (best[3], 2, 200)


def test_a_score_counts_against_the_highest_of_its_past():
    """The reference is the mean of the highest hundredth, but at least three, of the earlier scores."""
    scores = np.random.default_rng(0).gamma(2, size=500)

    ratios = streams.against_past(scores)

    assert not ratios[: streams.N_HISTORY].any()
    assert ratios[100] == pytest.approx(scores[100] / np.sort(scores[:100])[-3:].mean())
    assert ratios[450] == pytest.approx(scores[450] / np.sort(scores[:450])[-5:].mean())
    assert (streams.against_past(scores[:300]) == ratios[:300]).all()


def test_a_high_score_silences_lower_ones_for_a_while():
    """Only the first high score of an event and later higher ones raise alarms; equal scores do not."""
    scores = np.array([1, 3, 2, 3, 4, 1, 1, 2, 2], dtype=float)

    assert streams.newly_high(scores, 2).tolist() == [1, 3, 1, 1, 4, 1, 1, 2, 1]


def test_a_stream_that_nothing_is_learned_from_raises_no_alarm(tmp_path, monkeypatch):
    """It counts as silent, and its windows as missed."""
    series = drawn_series(0, 1, 400)

    def refuse(*arguments):
        raise TrainingError("every column is constant")

    monkeypatch.setattr(streams, "score_steps", refuse)

    row = streams.measure_nab([series], 0, "knn5")

    assert (row["n_silent"], row["n_hit"], row["standard"]) == (1, 0, 0)


def test_a_corpus_is_one_set_with_the_scores_of_three_profiles(tmp_path):
    """Fitted on the first 15 %, with one threshold for all series."""
    values, labels = channel(400, 1)
    members = {"a/b__value": values[:, 0], "a/b__window": labels, "c__value": values[::-1, 0]}
    write_channels(tmp_path / "corpus.npz", **members, c__window=np.zeros(400, np.uint8))
    (data,) = PROTOCOLS["S3"].find(tmp_path)

    row = streams.measure_nab(data.load(), 0, "windowed-gaussian")

    assert data.name == "corpus"
    assert (row["n_series"], row["n_windows"]) == (2, 2)
    assert all(row[metric] <= 100 for metric in ("standard", "low_fp", "low_fn"))
    assert [series.n_train for series in data.load()] == [60, 60]


@pytest.mark.parametrize("protocol", ["S1", "S2", "S3", "S4"])
def test_a_folder_without_such_files_is_refused(tmp_path, protocol):
    """The error lists the arrays that a file must have."""
    np.savez(tmp_path / "rows.npz", a=np.zeros((5, 2)), y=np.zeros(5))

    with pytest.raises(BenchmarkError, match=r"must hold an \.npz with"):
        PROTOCOLS[protocol].find(tmp_path)


def test_a_run_without_enough_steps_is_refused(tmp_path):
    """The error names the run."""
    values, labels = channel(390)
    write_channels(tmp_path / "runs.npz", a__X=values, a__label=labels)

    with pytest.raises(BenchmarkError, match="a must have more than 400 steps, got 390"):
        PROTOCOLS["S4"].find(tmp_path)[0].load()


@pytest.mark.parametrize("protocol", ["S1", "S2", "S3", "S4"])
def test_a_quick_run_needs_no_file(tmp_path, protocol, capsys):
    """It prints tables and writes rows; the published figures belong to other data."""
    out = tmp_path / "quick.json"

    arguments = ["--protocol", protocol, "--quick", "--methods", "knn5,pca", "--out", str(out)]
    assert quality.main(arguments) == 0

    rows = json.loads(out.read_text())["rows"]
    assert {row["method"] for row in rows} == {"knn5", "pca"}
    assert all(metric in row for row in rows for metric in PROTOCOLS[protocol].metrics)
    assert "published" not in capsys.readouterr().out

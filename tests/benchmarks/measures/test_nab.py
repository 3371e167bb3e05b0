"""The scoring of NAB: a naive loop, known answers, and the official scores of two published detectors."""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measures.nab import PROFILES, nab_results, probation
from benchmarks.measures.nab_published import relative_entropy, windowed_gaussian
from benchmarks.measures.vus import labelled_runs

DATA = Path(os.environ.get("BENCHMARK_DATA", "data")) / "series"
OFFICIAL = {
    "windowedGaussian": (39.649523496077585, 20.86798582474138, 47.4100271583046),
    "relativeEntropy": (54.64274893469828, 47.598351759844824, 58.84229239324713),
}


def sigmoid(position):
    """Return the published curve: 1 far before and -1 far after the right edge of a window."""
    return 2 / (1 + np.exp(5 * position)) - 1


def naive_total(scores, windows, profile, threshold):
    """Compute the total of one series step by step, as the paper defines it."""
    total, earned = 0.0, {}
    for step in range(int(min(0.15 * len(scores), 750)), len(scores)):
        if scores[step] < threshold:
            continue
        inside = [window for window in windows if window[0] <= step <= window[1]]
        before = [window for window in windows if window[1] < step]
        if inside:
            width = inside[0][1] - inside[0][0] + 1
            worth = sigmoid(-(inside[0][1] - step + 1) / width) / sigmoid(-1)
            earned[inside[0]] = max(earned.get(inside[0], worth), worth)
        else:
            far = 3.0 if not before else (step - before[-1][1]) / (before[-1][1] - before[-1][0])
            total += profile.false_alarm * (sigmoid(far) if far < 3 else -1)
    return total + sum(earned.get(window, -profile.miss) for window in windows)


def test_results_are_those_of_a_naive_loop_over_all_thresholds():
    """The results are the same for scores with ties, and for series with two windows and with none."""
    random = np.random.default_rng(0)
    windows = {"a": [(60, 79), (120, 131)], "b": [], "c": [(50, 99)]}
    scores = {name: random.integers(0, 12, 200) / 12 for name in windows}
    for name, profile in PROFILES.items():
        totals = {
            threshold: sum(
                naive_total(scores[series], windows[series], profile, threshold) for series in windows
            )
            for threshold in [np.inf, *np.unique(np.concatenate([*scores.values()]))]
        }
        result = nab_results(scores, windows)[name]
        worst, best = -3 * profile.miss, 3.0

        assert result.score == pytest.approx(100 * (max(totals.values()) - worst) / (best - worst))
        assert totals[result.threshold] == pytest.approx(max(totals.values()))
        given = nab_results(scores, windows, threshold=0.5)[name]
        assert given.score == pytest.approx(100 * (totals[0.5] - worst) / (best - worst))


def test_one_alarm_at_the_left_edge_of_each_window_is_perfect():
    """An alarm at every step scores worse than no alarm."""
    windows = {"a": [(50, 69), (80, 89)]}
    scores = np.zeros(100)
    scores[[50, 80]] = 1

    results = nab_results({"a": scores}, windows)
    everywhere = nab_results({"a": np.ones(100)}, windows, threshold=1.0)["reward_low_FP_rate"]

    assert [result.score for result in results.values()] == pytest.approx([100, 100, 100])
    assert (results["standard"].n_hit, results["standard"].n_false_alarms) == (2, 0)
    assert everywhere.n_hit == 2
    assert everywhere.n_false_alarms == 100 - 15 - 30
    assert everywhere.score < 90


def test_a_detector_that_says_nothing_scores_0():
    """The null detector of the published tables has a constant score, too."""
    results = nab_results({"a": np.full(100, 0.5)}, {"a": [(95, 99)]})

    assert [result.score for result in results.values()] == [0, 0, 0]
    assert results["standard"].threshold == np.inf


def test_probation_ends_at_750_steps():
    """The part is 15 % of a series of up to 5,000 steps."""
    assert [probation(100), probation(4032), probation(22695)] == [15, 604, 750]


@pytest.mark.parametrize(
    ("scores", "windows", "message"),
    [
        ({"a": np.zeros(20)}, {}, "'a' has no entry of windows"),
        ({"a": np.zeros(20)}, {"a": []}, "1 series have no labelled window"),
        ({"a": np.full(20, np.nan)}, {"a": [(5, 9)]}, "'a' must be finite"),
        ({"a": np.zeros(20)}, {"a": [(5, 20)]}, "within its 20 steps"),
    ],
)
def test_what_cannot_be_scored_is_refused(scores, windows, message):
    """The error names the input that cannot be scored."""
    with pytest.raises(ValueError, match=message):
        nab_results(scores, windows)


def test_windowed_gaussian_reads_the_past_only():
    """Later values do not change the score of a step, and window size and stride are exact."""
    values = np.random.default_rng(0).normal(size=60)
    scores = windowed_gaussian(values, size=20, stride=5)

    assert (windowed_gaussian(values[:40], size=20, stride=5) == scores[:40]).all()
    window = values[20:40]  # full since step 20, moved on at steps 24, 29, 34 and 39
    assert scores[42] == windowed_gaussian(np.append(window, values[42]), size=20)[-1]


@pytest.mark.skipif(not (DATA / "nab.npz").exists(), reason=f"needs {DATA}/nab.npz; see docs/quality.md")
@pytest.mark.parametrize(
    ("name", "detect"),
    [("windowedGaussian", windowed_gaussian), ("relativeEntropy", relative_entropy)],
)
def test_two_published_detectors_reach_their_official_scores(name, detect):
    """All three profiles to six decimals: corpus, probation, windows, thresholds and scale are NAB's."""
    corpus = np.load(DATA / "nab.npz")
    series = sorted({key.rpartition("/")[0] for key in corpus.files})
    scores = {one: detect(corpus[f"{one}/value"]) for one in series}
    windows = {one: labelled_runs(corpus[f"{one}/window"]) for one in series}

    results = nab_results(scores, windows)

    assert [results[profile].score for profile in PROFILES] == pytest.approx(OFFICIAL[name], abs=1e-6)

"""Sentences on figures: broken promises, one sample that makes the threshold, better baselines, findings."""

import numpy as np
import pytest

from detector.calibration import CONFIDENCE, threshold_of_rank
from detector.manifest import Threshold
from detector.schema import CONDITIONAL_PROMISE
from training.figures.baselines import BASELINES
from training.figures.findings import baseline_notes, found_words, promise_warnings, threshold_notes
from training.figures.metrics import rate
from training.presets import PRESETS


def evaluation_of(n_flagged, n_normal):
    """Return the part of an evaluation that the promise is about."""
    return {"n_normal": n_normal, "false_alarm_rate": rate(np.arange(n_normal) < n_flagged)}


@pytest.mark.parametrize(
    ("n_flagged", "n_normal", "confidence", "words"),
    [
        (
            19,
            24,
            0.95,
            "19 of its 24 normal samples are flagged (0.792, interval 0.578 to 0.929), at most",
        ),
        (9, 100, 0.95, None),  # 0.042 to 0.164: chance may do that
        (
            13,
            100,
            0.95,
            "13 of its 100 normal samples are flagged (0.13, interval 0.0711 to 0.212)",
        ),
        (0, 5624, 0.95, "0 of its 5624 normal samples are flagged, 0.03 were expected"),
        (9, 2000, 0.95, None),  # as many or fewer in one of 200 tests
        (0, 100, 0.95, None),
        (19, 24, None, None),
        (0, 5624, None, None),
        (0, 0, 0.95, None),
    ],
)
def test_data_that_break_the_promise_give_a_warning(n_flagged, n_normal, confidence, words):
    """The interval of the rate lies above the promise, or chance explains so few alarms too rarely."""
    promise = "none" if confidence is None else CONDITIONAL_PROMISE
    threshold = Threshold(1.0, 0.05, promise, confidence, 3, 100, 0.03)

    warnings = promise_warnings(threshold, evaluation_of(n_flagged, n_normal))

    if words is None:
        assert warnings == []
    else:
        (warning,) = warnings
        assert "the test split: " in warning
        assert words in warning


@pytest.mark.parametrize(
    ("top", "rank", "words"),
    [
        (
            [2.86, 3.07, 58.6],
            1,
            "row 7 has the score 58.6, 19.1 times as high as the next calibration score, 3.07",
        ),
        ([2.0, 8.0, 9.0], 2, "row 7 has the score 8, 4 times as high as the next calibration score, 2"),
        ([2.0, 8.0, 9.0], 1, None),
        ([2.0, 3.0], 1, None),  # a usual step of a tail
        ([0.0, 3.0], 1, "row 7 has the score 3, far above the next calibration score, 0"),
    ],
)
def test_one_sample_that_makes_the_threshold_is_named(top, rank, words):
    """The note says how far its score lies above the next lower one."""
    scores = np.concatenate([np.linspace(0, min(top), 50), top])
    threshold = threshold_of_rank(scores, rank, 0.05, CONDITIONAL_PROMISE)

    notes = threshold_notes(threshold, scores, "row 7")

    assert [words in note for note in notes] == ([] if words is None else [True])
    assert threshold.confidence == CONFIDENCE


def test_the_lowest_score_as_threshold_has_no_next_one():
    """Nothing is below it."""
    scores = np.array([1.0, 5.0])

    assert threshold_notes(threshold_of_rank(scores, 2, 0.9, "none"), scores, "row 1") == []


def comparison_of(better):
    """Return a comparison in which these methods are better than the model."""
    figures = {"roc_auc": {"value": 1.0}}
    return {
        "own": {"roc_auc": {"value": 0.8}},
        "methods": dict.fromkeys(BASELINES, figures),
        "better": better,
    }


@pytest.mark.parametrize(
    ("kind", "preset", "n_values", "other"),
    [
        ("image", "memory-image", 64, "memory"),
        ("image", "memory-image", 96 * 96, "conv"),
        ("image", "memory", 64, "memory-image"),
        ("sequence", "conv1d", 64, "memory-window"),
        ("vector", "dense", 30, "memory"),
        ("vector", "memory", 30, "dense"),
    ],
)
def test_where_simple_detectors_are_better_a_preset_is_named(kind, preset, n_values, other):
    """One that takes such samples, and not the one that was fitted."""
    (note,) = baseline_notes(comparison_of(list(BASELINES)), kind, preset, n_values)

    assert ") and isolation forest (1.0000) ranked the test split clearly better than this model (0.8" in note
    assert f"try --preset {other} (" in note
    assert kind in PRESETS[other].kinds
    assert baseline_notes(comparison_of([]), kind, preset, n_values) == []
    assert baseline_notes(None, kind, preset, n_values) == []


@pytest.mark.parametrize(
    ("n_anomalies", "recall", "steps", "kind", "words"),
    [
        (50, {"count": 2}, None, "vector", "of 50 anomalies 2 were found"),
        (7, {"count": 1}, None, "image", "of 7 anomalies 1 was found"),
        (
            12,
            {"count": 10},
            {"n_anomalies": 300, "recall": 0.25},
            "sequence",
            "of 12 anomalous windows 10 were found, of 300 anomalous steps 75",
        ),
        (0, None, None, "vector", "no sample is labelled an anomaly: nothing measures how many are found"),
    ],
)
def test_a_sentence_says_how_many_anomalies_were_found(n_anomalies, recall, steps, kind, words):
    """Samples are counted, of a series windows and steps."""
    assert found_words({"n_anomalies": n_anomalies, "recall": recall, "steps": steps}, kind) == words

"""`Detector` of a sequence model: windows, whole series, and explanations by step and channel.

The hand-made model keeps the first two values of a window; its score is the mean square of the rest.
"""

import numpy as np
import pytest

from detector import Detector, InputError
from detector.engine import engine
from detector.schema import MERGE_RULES
from detector.windows import cut_windows, merge_scores, merge_steps, window_starts
from tests.model_folder import expected_score, write_model_folder

WINDOW, N_CHANNELS = 5, 3


def load(folder, shape: tuple[int, int] = (WINDOW, N_CHANNELS), **changes: object) -> Detector:
    """Return the hand-made sequence model."""
    write_model_folder(folder, kind="sequence", sample_shape=shape, **changes)
    return Detector.load(folder)


@pytest.fixture
def detector(tmp_path) -> Detector:
    """Windows of 5 steps of the channels a, b and c; stride 1, the newest window decides."""
    return load(tmp_path)


@pytest.fixture
def univariate(tmp_path) -> Detector:
    """Windows of 5 steps of one channel."""
    return load(tmp_path, (WINDOW, 1))


@pytest.fixture
def series() -> np.ndarray:
    """50 steps, one of them far off."""
    series = np.random.default_rng(0).normal(size=(50, N_CHANNELS))
    series[32, 1] = 40
    return series


# --- scores -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", MERGE_RULES)
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_series_scores_as_its_windows_merged(tmp_path, series, rule, stride):
    """One score, ratio, p-value and decision for each step, from the known scores of the windows."""
    detector = load(tmp_path, stride=stride, merge=rule)
    starts = window_starts(len(series), WINDOW, stride)
    windows = cut_windows(series.astype(np.float32), WINDOW, starts)

    result = detector.score(series)

    known = merge_scores(expected_score(windows), starts, len(series), WINDOW, rule)
    np.testing.assert_allclose(result.score, known, rtol=1e-5)
    assert {field.shape for field in (result.ratio, result.p_value, result.is_anomaly)} == {(len(series),)}
    assert (result.is_anomaly == (result.p_value <= result.expected_rate)).all()
    assert result.is_anomaly[32]


def test_step_has_the_score_of_the_window_that_ends_with_it(detector, series):
    """The scores are equal to the bit, so later steps do not change a score."""
    score = detector.score(series).score

    for step in (WINDOW - 1, 17, 49):
        assert detector.score(series[: step + 1]).score[-1] == score[step]
        assert detector.score(series[None, step - WINDOW + 1 : step + 1]).score[0] == score[step]


@pytest.mark.parametrize("stride", [1, 3])
def test_last_window_keeps_the_false_alarm_rate(tmp_path, stride):
    """The share of flagged normal steps equals the share of flagged separate normal windows."""
    detector = load(tmp_path, stride=stride)
    rng = np.random.default_rng(3)

    steps = detector.score(rng.normal(size=(60_000, N_CHANNELS)))
    windows = detector.score(rng.normal(size=(60_000, WINDOW, N_CHANNELS)))

    assert steps.is_anomaly.mean() == pytest.approx(windows.is_anomaly.mean(), rel=0.1)


def test_windows_score_as_samples(detector, series):
    """Windows that are cut already have one score each."""
    windows = cut_windows(series, WINDOW, window_starts(len(series), WINDOW, 5))

    assert detector.score(windows).score.shape == (10,)
    np.testing.assert_allclose(detector.score(windows).score, expected_score(windows), rtol=1e-5)


def test_long_series_runs_in_blocks_with_the_same_bits(detector, series, monkeypatch):
    """The number of windows that are cut at a time does not change a bit."""
    whole = detector.score(series, explain=2)
    monkeypatch.setattr(engine, "BLOCK_VALUES", 7 * WINDOW * N_CHANNELS)

    blocks = detector.score(series, explain=2)

    assert blocks.score.tobytes() == whole.score.tobytes()
    assert blocks.explanation == whole.explanation


@pytest.mark.parametrize("verb", ["reconstruct", "score"])
def test_one_channel_needs_no_axis_of_its_own(univariate, verb):
    """A list of numbers is a series, (n, window) are windows; answers have the shape of the question."""
    series = np.random.default_rng(1).normal(size=20)
    windows = cut_windows(series[:, None], WINDOW, np.arange(16))

    if verb == "score":
        score = univariate.score(series).score
        assert score.tobytes() == univariate.score(series[:, None]).score.tobytes()
        assert univariate.score(series.tolist()).score.shape == (20,)
        assert univariate.score(windows[..., 0]).score.tobytes() == score[4:].tobytes()
        assert univariate.score(series, explain="map").explanation.shape == (20,)
    else:
        for samples in (series, series[:, None], windows, windows[..., 0]):
            assert univariate.reconstruct(samples).shape == samples.shape


def test_axis_of_a_window_is_never_taken_for_steps(univariate):
    """(5, 5) are five windows, (5, 1) is a series of one window."""
    assert univariate.score(np.zeros((5, 5))).score.shape == (5,)
    assert univariate.score(np.zeros((5, 1))).score.shape == (5,)
    assert univariate.encode(np.zeros((5, 5))).shape == (5, 2)
    assert univariate.encode(np.zeros((5, 1))).shape == (1, 2)


# --- arrays -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", MERGE_RULES)
def test_reconstruction_of_a_series_is_merged_from_its_windows(tmp_path, series, rule):
    """Each step is a float32 value, merged from the windows that cover it."""
    detector = load(tmp_path, stride=2, merge=rule)
    starts = window_starts(len(series), WINDOW, 2)
    windows = cut_windows(series.astype(np.float32), WINDOW, starts)

    reconstruction = detector.reconstruct(series)

    assert reconstruction.dtype == np.float32
    known = merge_steps(detector.reconstruct(windows), starts, len(series), rule)
    np.testing.assert_array_equal(reconstruction, known.astype(np.float32))


def test_encode_answers_the_latents_of_the_windows(tmp_path, series):
    """Latents are in order of time, one for each window, and the last window ends with the series."""
    detector = load(tmp_path, stride=4)

    latent = detector.encode(series)

    starts = [*range(0, 45, 4), 45]
    np.testing.assert_array_equal(latent, series[starts, :2].astype(np.float32))


# --- explanations -------------------------------------------------------------------------------------------


def test_explanation_of_a_step_names_its_channels(detector, series):
    """Actual and expected values belong to the step; the contribution is a share of its window's score."""
    explanation = detector.score(series, explain=2).explanation
    reconstruction = detector.reconstruct(series)

    assert len(explanation) == len(series)
    assert (explanation[32][0].feature, explanation[32][0].index) == ("b", (1,))
    assert explanation[32][0].contribution > 0.95
    assert (explanation[32][0].actual, explanation[32][0].expected) == (40, reconstruction[32, 1])
    assert (
        max(item.contribution for item in explanation[33]) < 0.05
    )  # an anomaly by its window, not by itself


@pytest.mark.parametrize("rule", MERGE_RULES)
def test_contributions_of_steps_are_shares_of_their_scores(tmp_path, series, rule):
    """A step's errors over all errors of the windows that its score comes from."""
    detector = load(tmp_path, stride=2, merge=rule)
    starts = window_starts(len(series), WINDOW, 2)
    windows = cut_windows(series.astype(np.float32), WINDOW, starts)
    errors = detector.score(windows, explain="map").explanation.astype(np.float64)
    totals = merge_scores(errors.sum(axis=(1, 2)), starts, len(series), WINDOW, rule)

    result = detector.score(series, explain=N_CHANNELS)

    error_map = detector.score(series, explain="map").explanation
    np.testing.assert_allclose(error_map, merge_steps(errors, starts, len(series), rule), rtol=1e-6)
    for step, explanation in enumerate(result.explanation):
        shares = {item.index[0]: item.contribution for item in explanation}
        known = error_map[step] / totals[step]
        assert [shares[channel] for channel in range(N_CHANNELS)] == pytest.approx(known)
        assert 0 <= sum(shares.values()) <= 1


@pytest.mark.parametrize("value", [1.0, 3.0, 7.0, 0.3])
def test_contributions_of_a_step_never_sum_above_1(tmp_path, value):
    """All the error is at one step, and its mean over the windows is rounded to float32."""
    detector = load(tmp_path, (3, 1), merge="mean")

    explanation = detector.score(value * np.eye(1, 9, 4)[0], explain=1).explanation

    assert 1 - 1e-6 < explanation[4][0].contribution <= 1


def test_explanation_of_a_window_names_step_and_channel(detector):
    """A feature of a window is one channel at one step."""
    windows = np.zeros((2, WINDOW, N_CHANNELS))
    windows[1, 3, 2] = 4

    explanation = detector.score(windows, explain=1).explanation

    (item,) = explanation[1]
    assert (item.feature, item.index, item.contribution) == ("c[3]", (3, 2), pytest.approx(1))
    assert (item.actual, item.expected) == (4, 0)


def test_explanation_without_names_counts_channels(tmp_path):
    """Channels are counted from 0, with the step in windows."""
    detector = load(tmp_path, (WINDOW, 1), feature_names=None)

    assert detector.score(np.ones(9), explain=1).explanation[8][0].feature == "[0]"
    assert detector.score(np.ones((1, WINDOW)), explain=1).explanation[0][0].feature == "[2, 0]"


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "samples", "sentence"),
    [
        ((5, 3), np.zeros((4, 3)), "a series must have at least the 5 steps of one window, got 4"),
        ((5, 1), np.zeros(4), "a series must have at least the 5 steps of one window, got 4"),
        (
            (5, 3),
            np.zeros((9, 5)),
            "samples must have shape (n, 5, 3) for windows, (n_steps, 3) for a series, got (9, 5)",
        ),
        (
            (5, 3),
            np.zeros(9),
            "samples must have shape (n, 5, 3) for windows, (n_steps, 3) for a series, got (9,)",
        ),
        (
            (5, 1),
            np.zeros((9, 3)),
            "samples must have shape (n, 5, 1) or (n, 5) for windows, (n_steps, 1) or (n_steps,) for a "
            "series, got (9, 3)",
        ),
        ((5, 3), np.zeros((0, 3)), "samples must hold at least one sample, got shape (0, 3)"),
        ((5, 3), np.zeros((0, 5, 3)), "samples must hold at least one sample, got shape (0, 5, 3)"),
    ],
)
def test_score_refuses_what_is_neither_windows_nor_a_series(tmp_path, shape, samples, sentence):
    """The sentence has the shapes of both."""
    with pytest.raises(InputError) as caught:
        load(tmp_path, shape).score(samples)

    assert str(caught.value) == sentence


def test_refusal_names_step_and_channel(detector, series):
    """In a series the error names the step, in windows the row and the step within it."""
    series[7, 1] = np.nan
    with pytest.raises(
        InputError,
        match=r"got nan in step 7, b; missing values of a series are for models fitted with --missing gaps$",
    ) as caught:
        detector.score(series)
    assert caught.value.index == (7, 1)

    with pytest.raises(InputError, match=r"got nan in row 1, b\[2\]; missing values of a series") as caught:
        detector.score(series[:10].reshape(2, WINDOW, N_CHANNELS))
    assert caught.value.index == (1, 2, 1)

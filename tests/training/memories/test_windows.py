"""The memory of windows or steps: weights of channels, whitening over time and channels, and its network."""

import numpy as np
import pytest
import tensorflow as tf

from detector.windows import cut_windows
from training.config import FitConfig
from training.memories.windows import channel_weights, fit_window_memory, rebuild_windows
from training.memories.windows_keras import window_network
from training.publishing.manifests import describe_score


def waves(n_steps=600, seed=0, window=16):
    """Windows of two noisy waves and a switch that is rarely on, shape (n, window, 3)."""
    rng = np.random.default_rng(seed)
    steps = np.arange(n_steps)
    switch = (steps % 50 < 2).astype(float)
    series = np.stack([np.sin(steps / 5), np.cos(steps / 5), switch], axis=1)
    series[:, :2] += rng.normal(0, 0.1, (n_steps, 2))
    return cut_windows(series.astype(np.float32), window, np.arange(n_steps - window + 1))


def scores(memory, windows):
    return rebuild_windows(windows, memory)[1].mean(axis=(1, 2))


@pytest.mark.parametrize("by_step", [False, True])
@pytest.mark.parametrize("n_prototypes", [3000, 40])
def test_network_answers_as_the_memory_by_hand(n_prototypes, by_step):
    """The Keras network gives the same values as the definitions in NumPy."""
    memory = fit_window_memory(waves(), n_prototypes, 8, seed=0, by_step=by_step)
    others = waves(80, seed=1)

    answers = window_network(memory, others.shape[1:])(tf.constant(others), training=False)

    for answer, expected in zip(answers, rebuild_windows(others, memory), strict=True):
        np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("by_step", [False, True])
def test_a_usual_window_scores_about_one(by_step):
    """The unit of the score is the mean over training windows, each without itself."""
    memory = fit_window_memory(waves(), 200, 8, seed=0, by_step=by_step)

    assert 0.3 < np.median(scores(memory, waves(200, seed=1))) < 2


def test_whitening_over_time_leaves_steps_alike():
    """Steps of a random walk are correlated; whitened steps are not, and have equal variance."""
    rng = np.random.default_rng(0)
    walk = rng.normal(size=(4000, 12, 2)).cumsum(axis=1).astype(np.float32)
    memory = fit_window_memory(walk, 10, 4, seed=0)

    whitened = (memory.time_whitening @ (walk - walk.mean(axis=0)))[:, :, 0]

    assert np.corrcoef(walk[:, :, 0].T)[5, 6] > 0.9
    correlations = np.corrcoef(whitened.T) - np.eye(12)
    assert np.abs(correlations).max() < 0.2


def test_whitening_over_channels_leaves_residuals_alike():
    """The common part of two channels counts less than their difference."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(3000, 1)) @ np.ones((1, 2)) + rng.normal(size=(3000, 2)) * 0.05
    windows = cut_windows(steps.astype(np.float32), 8, np.arange(2993))
    memory = fit_window_memory(windows, 4, 4, seed=0, by_step=True)

    parted = memory.residual_whitening @ [1, -1]
    together = memory.residual_whitening @ [1, 1]

    assert np.abs(parted).max() > 1.5 * np.abs(together).max()


def test_the_error_lies_where_the_anomaly_is():
    """One channel of one step is off: its error is the highest of its window."""
    memory = fit_window_memory(waves(), 3000, 8, seed=0)
    others = waves(60, seed=1)
    others[:, 5, 1] += 3

    error = rebuild_windows(others, memory)[1]

    step, channel = np.unravel_index(error.reshape(len(error), -1).argmax(axis=1), error.shape[1:])
    assert (step == 5).all()
    assert (channel == 1).all()


def test_an_impossible_order_is_found_by_windows_alone():
    """Steps that are all normal, in an order that none had: only whole windows tell."""
    forwards, backwards = waves(200, seed=1), waves(200, seed=1)[:, ::-1]
    whole, single = (
        fit_window_memory(waves(), 3000, 8, seed=0, by_step=by_step) for by_step in (False, True)
    )

    assert (scores(whole, backwards) > scores(whole, forwards)).mean() > 0.9
    assert (scores(single, backwards) > scores(single, forwards)).mean() < 0.6


def test_a_reconstruction_is_the_window_without_what_is_odd():
    """Normal steps stay nearly where they are, a spike comes down by most of its height."""
    memory = fit_window_memory(waves(), 3000, 8, seed=0)
    others = waves(60, seed=1)
    spoiled = others.copy()
    spoiled[:, 5, 1] += 3

    rebuilt = rebuild_windows(spoiled, memory)[0]

    off = np.abs(rebuilt - others)[:, :, :2]
    assert np.median(off[:, 5, 1]) < 1
    assert np.median(np.delete(off, 5, axis=1)) < 0.2


def test_a_switch_counts_by_its_range():
    """Scaled by its deviation, a switch that is on once in 25 steps would count five times as much."""
    windows = waves()
    scaled = windows / windows.std(axis=(0, 1))

    weights = channel_weights(scaled, 0.0)

    np.testing.assert_allclose(weights * np.ptp(scaled[:, :, 2]), [5.1, 5.1, 1], rtol=0.05)


def test_a_channel_that_drifts_counts_less():
    """Its level will be another behind the training part; noise alone is no drift."""
    rng = np.random.default_rng(0)
    series = rng.normal(size=(800, 3))
    series[:, 1] += np.linspace(-5, 5, 800)
    windows = cut_windows(series.astype(np.float32), 8, np.arange(793))

    weights = channel_weights(windows, 10.0)

    assert 1 / 11 <= weights[1] < 0.12
    assert (weights[[0, 2]] > 0.9).all()
    assert (channel_weights(windows, 0.0) == 1).all()


@pytest.mark.parametrize("by_step", [False, True])
def test_a_constant_series_is_one_prototype(by_step):
    """Without variation there is one prototype, and changed windows have higher, finite scores."""
    constant = np.zeros((30, 8, 2), dtype=np.float32)

    memory = fit_window_memory(constant, 500, 16, seed=0, by_step=by_step)

    assert len(memory.prototypes) == 1
    assert scores(memory, constant).max() < scores(memory, constant + 1).min() < np.inf


def test_no_prototype_is_a_window_where_each_must_be_a_mean():
    """`--no-samples` requires this."""
    windows = waves()

    memory = fit_window_memory(windows, 3000, 8, seed=0, least_rows=3)

    points = (windows * memory.channel_weights).reshape(len(windows), -1)
    assert np.square(points[:, None] - memory.prototypes).sum(axis=2).min() > 1e-3


def test_the_score_says_what_is_remembered():
    """The description of the score names whole windows or single steps."""
    said = [describe_score(FitConfig.from_preset(preset)) for preset in ("memory-window", "memory-stream")]

    assert "scaled window and its reconstruction from 16 prototypes" in said[0]
    assert "each scaled step and its reconstruction from 16 prototypes" in said[1]

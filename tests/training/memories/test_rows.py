"""The memory: prototypes, features of heavy columns, attention and whitening, and the network made of it."""

import numpy as np
import pytest
import tensorflow as tf

from training.config import FitConfig
from training.errors import ConfigError
from training.memories.prototypes import find_prototypes, nearest_prototypes, recall
from training.memories.rows import Features, Memory, fit_features, fit_memory
from training.memories.rows_keras import memory_network


def rows(n_rows: int = 400, n_columns: int = 6, seed: int = 0) -> np.ndarray:
    """Related standardised columns, the first with a heavy tail."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_rows, 3)) @ rng.normal(size=(3, n_columns))
    values += 0.1 * rng.normal(size=values.shape)
    values[:, 0] = np.exp(2 * values[:, 0] / values[:, 0].std())
    return ((values - values.mean(axis=0)) / values.std(axis=0)).astype(np.float32)


def test_nearest_prototypes_agree_with_every_distance():
    """The search by matrix products finds the nearest of all prototypes, with exact distances."""
    points, prototypes = rows(50), rows(80, seed=1)

    positions, squares = nearest_prototypes(points, prototypes, 5)

    every = np.square(points[:, None].astype(np.float64) - prototypes).sum(axis=2)
    np.testing.assert_array_equal(positions, np.argsort(every, axis=1)[:, :5])
    np.testing.assert_allclose(squares, np.sort(every, axis=1)[:, :5], rtol=1e-4)


def test_a_prototype_that_is_left_out_is_not_found():
    """Each point finds its own neighbour instead of itself."""
    points = rows(30)

    positions, squares = nearest_prototypes(points, points, 1, leave_out=np.arange(30))

    assert (positions[:, 0] != np.arange(30)).all()
    assert (squares > 0).all()


def test_only_columns_with_tails_and_more_than_two_values_enter_twice():
    """A rare flag has a high kurtosis, too, but no middle that its tail could hide."""
    samples = rows()
    samples[:, 1] = np.arange(400) % 100 == 0

    features = fit_features(samples)

    assert features.heavy.tolist() == [0]
    assert features.apply(samples).shape == (400, 7)


def test_copy_of_a_heavy_column_is_ascending_and_spread_like_half_a_column():
    """Order is kept beyond the training range, and the variances of the two copies sum to about one."""
    samples = rows()
    features = fit_features(samples)
    line = np.zeros((1000, 6), dtype=np.float32)
    line[:, 0] = np.linspace(-50, 50, 1000)

    copies = features.apply(line)[:, -1]

    assert (np.diff(copies) > 0).all()
    assert features.apply(samples)[:, -1].std() == pytest.approx(np.sqrt(0.5), rel=1e-3)


def test_few_samples_are_their_own_prototypes():
    """Nothing is averaged where there is room for all."""
    samples = rows(40)

    memory = fit_memory(samples, 100, 16, seed=0)

    np.testing.assert_array_equal(memory.prototypes, memory.features.apply(samples))


def test_no_prototype_is_a_sample_where_each_must_be_a_mean():
    """`--no-samples` requires this."""
    samples = rows(200)

    memory = fit_memory(samples, 3000, 16, seed=0, least_rows=3)

    _, squares = nearest_prototypes(memory.features.apply(samples), memory.prototypes, 1)
    assert len(memory.prototypes) <= 200 // 3
    assert (squares > 0).all()


def test_no_prototype_is_a_sample_where_one_pass_is_all_there_is_time_for(monkeypatch):
    """Centres that k-means started anew from a row, and did not move since, are means all the same."""
    monkeypatch.setattr("training.memories.prototypes.MOST_KMEANS_POINTS", 1)
    points = np.random.default_rng(0).normal(size=(9000, 4)).astype(np.float32)
    points[:8100] *= 0.05

    prototypes = find_prototypes(points, 3000, seed=0, least_rows=3)

    assert not {row.tobytes() for row in points} & {row.tobytes() for row in prototypes}


def test_no_knot_is_a_value_of_one_sample_where_each_must_be_a_mean():
    """The farthest value of a heavy column is one sample's own."""
    samples = rows()

    features = fit_features(samples, least_rows=3)

    knots = features.knots[0][features.knots[0] < 1e30]
    assert not np.isin(knots, samples[:, 0]).any()
    assert knots.max() < samples[:, 0].max()
    differences = np.abs(features.apply(samples) - fit_features(samples).apply(samples))
    assert np.quantile(differences[:, -1], 0.95) < 0.1  # all but the farthest


def test_an_odd_training_row_does_not_explain_what_is_like_it():
    """One anomaly among the training rows has no prototype of its own."""
    samples = np.concatenate([rows(), np.full((1, 6), 30, dtype=np.float32)])

    memory = fit_memory(samples, 3000, 16, seed=0)

    odd = memory.features.apply(samples[-1:])
    assert nearest_prototypes(odd, memory.prototypes, 1)[1][0, 0] > 100


@pytest.mark.parametrize(
    ("copies", "n_single"),
    [
        (np.full(600, 2), 400),
        (np.full(10, 60), 400),
        (np.repeat([1, 1, 2, 3, 5], 150), 0),
    ],
)
def test_rows_that_stand_once_among_copies_are_not_odd(copies, n_single):
    """If most distances are 0, any other distance is large compared with their median."""
    every = rows(len(copies) + n_single)
    points = np.concatenate([np.repeat(every[: len(copies)], copies, axis=0), every[len(copies) :]])

    prototypes = find_prototypes(points, 3000, seed=0, least_rows=1)

    np.testing.assert_array_equal(prototypes, points)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_handful_of_far_rows_is_odd(copies):
    """Only far rows are removed, both among single rows and among pairs."""
    points = np.repeat(np.random.default_rng(0).uniform(size=(600, 3)), copies, axis=0).astype(np.float32)
    far = 10 * np.arange(1, 6, dtype=np.float32)[:, np.newaxis] * np.ones((1, 3), dtype=np.float32)

    prototypes = find_prototypes(np.concatenate([points, far]), 3000, seed=0, least_rows=1)

    np.testing.assert_array_equal(prototypes, points)


def test_recall_of_a_prototype_is_nearly_itself():
    """With a narrow width the nearest prototype has all the weight."""
    prototypes = rows(50)

    recalled = recall(prototypes, prototypes, 4, 1e-3)

    np.testing.assert_allclose(recalled, prototypes, atol=1e-4)


def score_by_hand(memory: Memory, samples: np.ndarray) -> np.ndarray:
    points = memory.features.apply(samples)
    residual = points - recall(points, memory.prototypes, memory.neighbours, memory.width)
    return np.square(residual.astype(np.float64) @ memory.whitening).sum(axis=1) / samples.shape[1]


@pytest.mark.parametrize("n_prototypes", [3000, 64])
def test_network_answers_as_the_memory_by_hand(n_prototypes):
    """Feature errors sum to the squared whitened residual, the reconstruction is the weighted mean."""
    samples, others = rows(), rows(100, seed=1)
    memory = fit_memory(samples, n_prototypes, 16, seed=0)

    reconstruction, error = memory_network(memory, (6,))(tf.constant(others), training=False)

    points = memory.features.apply(others)
    recalled = recall(points, memory.prototypes, 16, memory.width)[:, :6] / memory.features.weights
    np.testing.assert_allclose(reconstruction, recalled, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.mean(error, axis=1), score_by_hand(memory, others), rtol=1e-3, atol=1e-4)


def test_prototypes_equally_far_away_are_told_apart_without_rounding():
    """Of 200 rows of flags that differ in two of them each, every engine attends to the same 16."""
    flags = np.full((200, 400), 0.1, dtype=np.float32)
    flags[np.arange(200), np.arange(200)] = flags[np.arange(200), 200 + np.arange(200)] = 1.1
    order = np.random.default_rng(0).permutation(400)  # sums of other parts round otherwise
    points = np.full((1, 400), 0.1, dtype=np.float32)

    recalled = recall(points, flags, 16, 1.0)
    shuffled = recall(points[:, order], flags[:, order], 16, 1.0)

    np.testing.assert_allclose(shuffled, recalled[:, order], atol=1e-4)
    assert np.ptp(recalled) > 0.05  # of 16, not of all


def test_a_usual_sample_scores_about_one():
    """The unit of the score is the mean over training samples, each without its own prototype."""
    samples = rows(2500)
    memory = fit_memory(samples[:2000], 500, 16, seed=0)

    assert 0.5 < score_by_hand(memory, samples[2000:]).mean() < 2


def test_samples_of_any_shape_are_remembered():
    """Images and windows are flattened on the way in and shaped on the way out."""
    memory = fit_memory(rows(), 100, 16, seed=0)

    reconstruction, error = memory_network(memory, (2, 3))(tf.zeros((5, 2, 3)), training=False)

    assert reconstruction.shape == error.shape == (5, 2, 3)


def test_two_samples_are_enough():
    """The smallest memory has one neighbour to leave out."""
    memory = fit_memory(rows(2), 10, 16, seed=0)

    assert np.isfinite(score_by_hand(memory, rows(5))).all()


def test_constant_columns_have_no_say_until_they_change():
    """A column that never varied is rebuilt exactly, and a change of it counts."""
    samples = rows()
    samples[:, 3] = 0
    memory = fit_memory(samples, 100, 16, seed=0)
    changed = samples[:20].copy()
    changed[:, 3] = 3

    assert (score_by_hand(memory, changed) > score_by_hand(memory, samples[:20]) + 1).all()


def test_features_without_heavy_columns_are_the_columns():
    """Nothing is added to well-behaved columns."""
    samples = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)

    features: Features = fit_features(samples)

    np.testing.assert_array_equal(features.apply(samples), samples)


def test_a_rare_value_of_a_column_of_few_weighs_no_more_than_a_common_one():
    """Half the range is the unit: of 0 and 1 in standardised columns, however rare the 1 is."""
    flags = np.zeros((1000, 2), dtype=np.float32)
    flags[:500, 0] = flags[:5, 1] = 1
    scaled = (flags - flags.mean(axis=0)) / flags.std(axis=0)

    points = fit_features(scaled).apply(scaled)

    np.testing.assert_allclose(np.ptp(points, axis=0), [2, 2], rtol=1e-5)


def test_samples_too_wide_to_whiten_are_refused():
    """A whitening of 96 x 96 pixels would be larger than all else in the model."""
    config = FitConfig.from_preset("memory", {"kind": "image"})

    with pytest.raises(ConfigError, match="at most 4096 values, got 9216: take --preset memory-image"):
        config.check_memory((96, 96))

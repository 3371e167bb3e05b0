"""Scaling is fitted on the training split and refuses values that float32 cannot distinguish."""

import dataclasses

import numpy as np
import pytest

from tests.training.data.test_splits import make_dataset
from training.data.scaling import SCALED_LIMIT, fit_scaling
from training.errors import DataError

TRAIN = np.arange(200)


def with_columns(*columns):
    """Return a data set of 200 rows with these columns."""
    samples = np.column_stack(columns)
    return dataclasses.replace(
        make_dataset(200), samples=samples.astype(np.float32), feature_names=tuple("abcdef"[: len(columns)])
    )


def test_vectors_get_mean_0_and_standard_deviation_1():
    """Only training rows count."""
    samples = np.random.default_rng(0).normal(50, 3, size=(200, 2))
    dataset = with_columns(*samples.T)

    scaled = fit_scaling(dataset, TRAIN[:100]).apply(dataset.samples[:100])

    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)


def test_images_go_from_their_value_range_to_0_and_1():
    """The range decides, not the pixels that happen to be there."""
    samples = np.random.default_rng(0).integers(3, 9, size=(200, 4, 4)).astype(np.float32)
    dataset = dataclasses.replace(make_dataset(200), samples=samples, kind="image", value_range=(0.0, 16.0))

    np.testing.assert_array_equal(fit_scaling(dataset, TRAIN, (0.0, 1.0)).apply(samples), samples / 16)
    np.testing.assert_array_equal(fit_scaling(dataset, TRAIN, (-1.0, 1.0)).apply(samples), samples / 8 - 1)


def test_features_without_a_value_range_take_that_of_the_training_split():
    """The least value becomes 0 and the largest 1; a constant feature keeps its unit."""
    dataset = with_columns(np.arange(200), np.full(200, 7.0))

    scaling = fit_scaling(dataset, TRAIN[:100], (0.0, 1.0))

    assert scaling.constant == ("b",)
    np.testing.assert_allclose(scaling.apply(dataset.samples[[0, 99]]), [[0, 0], [1, 0]])


def test_channels_of_a_sequence_share_their_scale_over_time():
    """One mean and one standard deviation for a channel, whatever the step."""
    windows = np.random.default_rng(0).normal((5, -2), (3, 1), size=(200, 7, 2)).astype(np.float32)
    dataset = dataclasses.replace(
        make_dataset(200), samples=windows, kind="sequence", feature_names=("a", "b")
    )

    scaled = fit_scaling(dataset, TRAIN).apply(windows)

    np.testing.assert_allclose(scaled.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=(0, 1)), 1, atol=1e-5)


def test_a_constant_column_is_named_and_keeps_its_unit():
    """A change of a constant column counts in raw units."""
    scaling = fit_scaling(with_columns(np.arange(200), np.full(200, 7.0)), TRAIN)

    assert scaling.constant == ("b",)
    assert scaling.apply(np.array([[0, 9.0]], dtype=np.float32))[0, 1] == 2


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ((np.ones(200), np.zeros(200)), "every column is constant"),
        ((np.arange(200), 1.7e9 + np.arange(200) * 8.0), "column 'b' varies by"),
        ((np.arange(200), (np.arange(200) < 1) * 1e-44), "column 'b' varies by"),
    ],
)
def test_fit_scaling_refuses_what_cannot_be_learned_from(columns, sentence):
    """Nothing varies, or it varies below float32's resolution."""
    with pytest.raises(DataError) as caught:
        fit_scaling(with_columns(*columns), TRAIN)

    assert sentence in str(caught.value)


def test_images_of_one_colour_are_refused():
    """There is nothing to learn from 200 black images."""
    dataset = dataclasses.replace(
        make_dataset(200), samples=np.zeros((200, 4, 4), np.uint8), kind="image", value_range=(0.0, 255.0)
    )

    with pytest.raises(DataError, match="nothing to learn"):
        fit_scaling(dataset, TRAIN)


@pytest.mark.parametrize("value", [3e38, -3e38])
def test_apply_bounds_the_farthest_values(value):
    """The farthest values become `SCALED_LIMIT`, never infinite."""
    scaling = fit_scaling(with_columns(np.arange(200), np.arange(200) * 1e-20), TRAIN)

    scaled = scaling.apply(np.full((1, 2), value, dtype=np.float32))

    np.testing.assert_array_equal(np.abs(scaled), SCALED_LIMIT)

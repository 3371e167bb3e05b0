"""Splits never overlap, hold anomalies in the test split only, and follow the seed."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.config import FitConfig
from training.data.dataset import Dataset
from training.data.splits import split_dataset
from training.errors import DataError

CONFIG = FitConfig.from_preset("dense")


def make_dataset(n_normal, n_anomalies=0, n_held_out=0, seed=0):
    """Distinct random rows; the last `n_held_out` are held out, half of them anomalies."""
    n = n_normal + n_anomalies + n_held_out
    is_anomaly = np.zeros(n, dtype=bool)
    is_anomaly[n_normal : n_normal + n_anomalies] = True
    is_anomaly[n - n_held_out // 2 :] = n_held_out > 1
    held_out = np.zeros(n, dtype=bool)
    held_out[n - n_held_out :] = n_held_out > 0
    samples = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    return Dataset(samples, is_anomaly, None, held_out, "vector", None, ("a", "b", "c"), "test")


@settings(max_examples=60, deadline=None)
@given(st.integers(180, 700), st.integers(0, 60), st.sampled_from([0, 40]), st.integers(0, 5))
def test_splits_never_overlap_and_lose_no_row(n_normal, n_anomalies, n_held_out, seed):
    """Every row is in exactly one split, except anomalies if the data bring their own test split."""
    dataset = make_dataset(n_normal, n_anomalies, n_held_out)
    splits = split_dataset(dataset, dataclasses.replace(CONFIG, seed=seed))
    parts = [splits.train, splits.validation, splits.calibration, splits.test]
    fitted = np.concatenate(parts[:3])

    left_out = dataset.is_anomaly & ~dataset.held_out & dataset.held_out.any()
    assert np.sort(np.concatenate(parts)).tolist() == np.flatnonzero(~left_out).tolist()
    assert not dataset.is_anomaly[fitted].any()
    assert not dataset.held_out[fitted].any()
    assert all(part.size for part in parts)


def test_splits_follow_the_seed():
    """The same seed deals the same hand, another seed another."""
    dataset = make_dataset(400)
    first, again, other = (
        split_dataset(dataset, dataclasses.replace(CONFIG, seed=seed)) for seed in (1, 1, 2)
    )

    assert first.train.tolist() == again.train.tolist()
    assert first.train.tolist() != other.train.tolist()


def test_held_out_rows_take_the_place_of_a_drawn_test_split():
    """If the data bring a test split, no further normal row is held back."""
    splits = split_dataset(make_dataset(400, n_held_out=40), CONFIG)

    assert splits.test.tolist() == list(range(400, 440))


def test_anomalies_beside_a_test_split_of_the_data_are_left_out():
    """Figures on the data's own test split are comparable with published ones."""
    splits = split_dataset(make_dataset(400, n_anomalies=30, n_held_out=40), CONFIG)

    assert splits.test.tolist() == list(range(430, 470))


def test_few_rows_give_the_calibration_what_the_promise_needs():
    """150 normal rows: 59 for alpha 0.05, more than the configured fifth."""
    assert split_dataset(make_dataset(150), CONFIG).calibration.size == 59


def test_many_rows_keep_the_configured_share():
    """The share of 10,000 rows is a fifth."""
    assert split_dataset(make_dataset(10_000), CONFIG).calibration.size == 2000


def test_too_few_rows_for_the_promise_are_refused_with_the_number_needed():
    """The error has the needed and the given number of rows, and the options that help."""
    with pytest.raises(
        DataError, match=r"needs 59 calibration samples, so at least 148 normal samples, got 100"
    ):
        split_dataset(make_dataset(100), CONFIG)


def test_the_number_needed_is_enough():
    """148 normal samples are accepted, as the sentence says."""
    assert split_dataset(make_dataset(148), CONFIG).calibration.size == 59


def test_no_promise_goes_on_with_few_rows():
    """With --no-promise the configured share is used."""
    splits = split_dataset(make_dataset(60), dataclasses.replace(CONFIG, promise=False))

    assert splits.calibration.size == 18


def test_too_few_rows_to_train_on_are_refused():
    """There is a floor even without a promise."""
    with pytest.raises(DataError, match="12 normal samples are too few"):
        split_dataset(make_dataset(12), dataclasses.replace(CONFIG, promise=False))


def test_rows_limits_what_is_dealt_out_but_not_the_held_out_rows():
    """--rows draws among the rows that are not held out."""
    splits = split_dataset(make_dataset(1000, n_held_out=40), dataclasses.replace(CONFIG, rows=300))

    assert sum(splits.sizes().values()) == 340


def test_duplicates_across_splits_are_counted():
    """A normal test row that is also in another split is reported."""
    dataset = make_dataset(400, n_held_out=2)
    samples = dataset.samples.copy()
    samples[400] = samples[0]

    splits = split_dataset(dataclasses.replace(dataset, samples=samples), CONFIG)

    assert splits.n_duplicates == 1
    assert split_dataset(dataset, CONFIG).n_duplicates == 0


def test_duplicates_of_fitted_samples_in_the_calibration_split_are_counted():
    """They make the threshold too low, so they are counted separately from duplicates in the test split."""
    dataset = make_dataset(400)
    splits = split_dataset(dataset, CONFIG)
    samples = dataset.samples.copy()
    samples[splits.calibration[:3]] = samples[splits.train[:3]]

    copied = split_dataset(dataclasses.replace(dataset, samples=samples), CONFIG)

    assert (splits.n_calibration_duplicates, copied.n_calibration_duplicates) == (0, 3)
    assert copied.n_duplicates == 0


def test_the_test_split_is_never_empty():
    """There is always a sample to measure false alarms on."""
    assert split_dataset(make_dataset(400), dataclasses.replace(CONFIG, test_fraction=1e-4)).test.size == 1

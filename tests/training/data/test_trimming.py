"""Samples with the least company are left out of the fit, and of nothing else."""

import numpy as np
import pytest

from training.config import FitConfig
from training.data import trimming
from training.data.load import load_dataset
from training.data.trimming import loneliness
from training.errors import ConfigError, DataError
from training.stages import deal_splits, prepare

N_NORMAL, N_ODD = 950, 50


@pytest.fixture
def dataset(tmp_path):
    """Rows of four columns; the last 50 are anomalies that nobody has named, all alike."""
    rng = np.random.default_rng(0)
    odd = 4 + 0.1 * rng.normal(size=(N_ODD, 4))
    np.savez(tmp_path / "rows.npz", X=np.concatenate([rng.normal(size=(N_NORMAL, 4)), odd]))
    return load_dataset(str(tmp_path / "rows.npz"), kinds=["vector"])


def config(**options):
    """Return the default for rows."""
    return FitConfig.from_preset("memory", options).for_samples((4,))


@pytest.mark.parametrize(("contamination", "place"), [(0.0, 5), (0.1, 9)])
def test_loneliness_is_the_distance_to_a_neighbour_behind_all_anomalies(contamination, place):
    """The value equals a sort of all distances, without the sample itself."""
    samples = np.random.default_rng(1).normal(size=(60, 3)).astype(np.float32)

    lonely = loneliness(samples, contamination, seed=0)

    squares = np.square(samples[:, None].astype(float) - samples[None]).sum(axis=2)
    np.testing.assert_allclose(lonely, np.sort(squares, axis=1)[:, place], rtol=1e-4)


def test_loneliness_of_many_samples_is_measured_to_some_of_them(monkeypatch):
    """Distances are computed in blocks, and a drawn reference does not count as its own neighbour."""
    monkeypatch.setattr(trimming, "MOST_REFERENCES", 100)
    monkeypatch.setattr(trimming, "BLOCK_VALUES", 1000)
    samples = np.random.default_rng(1).normal(size=(205, 3)).astype(np.float32)
    samples[7] = 50

    lonely = loneliness(samples, 0.01, seed=0)

    assert np.argmax(lonely) == 7
    assert (lonely > 0).all()


def test_anomalies_that_are_alike_are_left_out(dataset):
    """Each of them has dozens of close neighbours; twice the share is removed, the rest are normal rows."""
    whole, splits = deal_splits(dataset, config()), deal_splits(dataset, config(contamination=0.05))
    left_out = np.setdiff1d(whole.train, splits.train)

    assert (splits.train < N_NORMAL).all()
    assert (splits.validation < N_NORMAL).all()
    assert splits.n_trimmed == round(0.1 * (whole.train.size + whole.validation.size))
    assert 0 < (left_out >= N_NORMAL).sum() < left_out.size
    np.testing.assert_array_equal(splits.calibration, whole.calibration)
    np.testing.assert_array_equal(splits.test, whole.test)


def test_scaling_is_that_of_what_is_left_and_a_note_counts_what_is_not(dataset):
    """Splits that are dealt out already, as for the trials of a sweep, are not trimmed again."""
    prepared = prepare(dataset, config(contamination=0.05))

    offset = dataset.samples[prepared.splits.train].mean(axis=0)
    np.testing.assert_allclose(prepared.scaling.offset, offset, atol=1e-6)
    whole = deal_splits(dataset, config())
    counts = f"{prepared.splits.n_trimmed} of {whole.train.size + whole.validation.size} samples for"
    assert any(note.startswith(counts) for note in prepared.notes)
    assert prepare(dataset, prepared.config, prepared.splits).splits is prepared.splits


def test_too_few_samples_to_leave_some_out_are_named(tmp_path):
    """The error has the number of samples that would be left."""
    np.savez(tmp_path / "few.npz", X=np.random.default_rng(0).normal(size=(36, 4)))
    few = load_dataset(str(tmp_path / "few.npz"), kinds=["vector"])

    with pytest.raises(DataError, match=r"a contamination of 0.2 leaves \d+ samples to train on"):
        deal_splits(few, config(contamination=0.2, promise=False))


@pytest.mark.parametrize("share", [-0.1, 0.3])
def test_contamination_is_a_share(share):
    """The share is at most a fifth."""
    with pytest.raises(ConfigError, match=r"contamination must be between 0 and 0\.2, got"):
        config(contamination=share)

"""A network that learned nothing is refused; one that is not finished, or has little to learn, is not."""

import numpy as np
import pytest

from training.errors import TrainingError
from training.networks.collapse import Rebuilding, check_rebuilding, check_spread, measure_rebuilding

RNG = np.random.default_rng(0)
SAMPLES = RNG.normal(size=(200, 2, 3))
MEAN = np.zeros((2, 3))


def check(reconstructions, samples=SAMPLES, *, is_trained=True, was_learning=False):
    """Return the notes on these reconstructions."""
    rebuilding = measure_rebuilding(samples, reconstructions, MEAN, 0.0)
    return check_rebuilding(rebuilding, is_trained=is_trained, was_learning=was_learning)


def test_errors_are_those_of_a_naive_loop():
    """The loop computes the own error, the error of the mean, and every foreign pair."""
    samples, reconstructions = SAMPLES[:7], RNG.normal(size=(7, 2, 3))

    rebuilding = measure_rebuilding(samples, reconstructions, MEAN + 1, 0.5)

    errors = np.array([[np.square(a - b).mean() for b in reconstructions] for a in samples])
    from_mean = np.square(samples - 1).mean(axis=(1, 2))
    far = np.quantile(from_mean, 0.9)
    weights = [min(1, far / distance) for distance in from_mean]
    foreign = [(sum(row) - row[place]) / 6 for place, row in enumerate(errors)]
    assert rebuilding == Rebuilding(
        error=pytest.approx(np.average(np.diag(errors), weights=weights)),
        mean_error=pytest.approx(np.average(from_mean, weights=weights)),
        middle_error=pytest.approx(np.average(np.square(samples - 0.5).mean(axis=(1, 2)), weights=weights)),
        foreign_error=pytest.approx(np.average(foreign, weights=weights)),
    )


@pytest.mark.parametrize(
    "reconstructions",
    [
        np.zeros_like(SAMPLES),
        np.full_like(SAMPLES, 0.3),
        RNG.normal(size=SAMPLES.shape),
        1e4 * RNG.normal(size=SAMPLES.shape),
        np.full_like(SAMPLES, np.nan),
    ],
    ids=["mean", "constant", "foreign", "wild", "nan"],
)
@pytest.mark.parametrize("is_trained", [True, False])
def test_what_does_not_follow_its_sample_has_collapsed(reconstructions, is_trained):
    """The kind of answer does not matter; a memory has no learning rate to change."""
    way_out = "a smaller --learning-rate" if is_trained else "another --preset, or publish"
    with pytest.raises(TrainingError, match=rf"has collapsed: .* try {way_out}"):
        check(reconstructions, is_trained=is_trained)


def test_what_follows_but_is_no_nearer_than_the_mean_is_refused_of_a_network():
    """A memory's nearest samples may be farther away in many features, and rank anomalies all the same."""
    reconstructions = SAMPLES + 1.1 * RNG.normal(size=SAMPLES.shape)

    assert check(reconstructions, is_trained=False) == []
    with pytest.raises(TrainingError, match="no better than their mean does"):
        check(reconstructions)


def test_one_of_six_independent_features_is_enough():
    """The check does not require features that cannot be learned."""
    reconstructions = np.zeros_like(SAMPLES)
    reconstructions[:, 0, 0] = SAMPLES[:, 0, 0]

    assert check(reconstructions) == []


def test_a_single_huge_sample_does_not_decide():
    """A sample that the network cannot reach weighs more than all others in the mean error."""
    samples, reconstructions = SAMPLES.copy(), 0.5 * SAMPLES
    samples[0], reconstructions[0] = 1000, -10

    assert check(reconstructions, samples) == []


def test_a_network_that_was_still_learning_is_noted():
    """After one epoch little is learned, which gives a note and no error."""
    (note,) = check(np.full_like(SAMPLES, 0.1), was_learning=True)

    assert "fit for more --epochs" in note


def test_a_wild_network_is_refused_however_it_came_there():
    """The loss of a fit that diverges may fall, too."""
    with pytest.raises(TrainingError, match="has collapsed"):
        check(30 * RNG.normal(size=SAMPLES.shape), was_learning=True)


@pytest.mark.parametrize("scores", [np.full(9, 2.5), 7 + 1e-7 * np.arange(9)])
def test_scores_that_are_all_the_same_are_refused(scores):
    """Different samples must have different scores, beyond rounding."""
    with pytest.raises(TrainingError, match="all 9 calibration samples have the same score"):
        check_spread(np.arange(9.0)[:, None], scores)


def test_samples_that_are_all_the_same_may_have_one_score():
    """Equal samples cannot be distinguished."""
    check_spread(np.ones((9, 2)), np.full(9, 2.5))
    check_spread(np.arange(9.0)[:, None], np.linspace(1, 2, 9))

"""The threshold's promise, p-values and false-discovery selection, each against an independent oracle."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom

from detector.calibration import (
    p_values,
    promised_rank,
    select_false_discovery,
    smallest_alpha,
    smallest_calibration,
    threshold_at,
)
from detector.errors import InputError
from detector.schema import CONDITIONAL_PROMISE, NO_PROMISE

SIZES = (0, 1, 2, 58, 59, 60, 149, 298, 299, 300, 999, 2994, 2995, 5000, 20_000)
ALPHAS = (0.001, 0.01, 0.05, 0.1, 0.18, 0.3, 0.5, 0.9, 0.999)


def oracle_rank(n_calibration: int, alpha: float) -> int:
    """Return the rank by definition: the largest k with P(Binomial(n, alpha) <= k - 1) of at most 5 %."""
    tail = binom.cdf(np.arange(n_calibration), n_calibration, alpha)
    return int(np.count_nonzero(tail <= 0.05))


@pytest.mark.parametrize(
    ("n_calibration", "alpha", "rank"),
    [
        (100, 0.05, 2),
        (300, 0.05, 9),
        (300, 0.01, 1),
        (1000, 0.05, 39),
        (1000, 0.01, 5),
        (2000, 0.05, 84),
        (2000, 0.01, 13),
        (5000, 0.05, 225),
        (5000, 0.01, 39),
        (5000, 0.001, 2),
        (10000, 0.05, 464),
        (10000, 0.01, 84),
        (10000, 0.001, 5),
        (100, 0.01, 0),
        (100, 0.001, 0),
    ],
)
def test_promised_rank_has_the_published_values(n_calibration, alpha, rank):
    """The code computes the table in the documentation."""
    assert promised_rank(n_calibration, alpha) == rank


@pytest.mark.parametrize("alpha", ALPHAS)
def test_promised_rank_equals_the_binomial_oracle(alpha):
    """The rank is exact at the sizes where it changes from impossible to possible, and far from them."""
    assert [promised_rank(n, alpha) for n in SIZES] == [oracle_rank(n, alpha) for n in SIZES]


@given(n_calibration=st.integers(0, 3000), alpha=st.floats(1e-4, 0.9999))
def test_promised_rank_equals_the_binomial_oracle_anywhere(n_calibration, alpha):
    """No combination of size and rate is a special case."""
    assert promised_rank(n_calibration, alpha) == oracle_rank(n_calibration, alpha)


def test_promised_rank_survives_a_large_calibration_split():
    """A million scores neither underflow nor lose the rank."""
    assert promised_rank(1_000_000, 0.05) == int(binom.ppf(0.05, 1_000_000, 0.05))


@pytest.mark.parametrize(
    ("alpha", "confidence", "n_calibration"),
    [
        (0.05, 0.95, 59),
        (0.01, 0.95, 299),
        (0.001, 0.95, 2995),
        (0.05, 0.99, 90),
        (0.01, 0.99, 459),
        (0.001, 0.99, 4603),
    ],
)
def test_smallest_calibration_is_the_first_size_that_can_promise(alpha, confidence, n_calibration):
    """One sample fewer is not enough for the guarantee."""
    assert smallest_calibration(alpha, confidence) == n_calibration
    assert promised_rank(n_calibration - 1, alpha, confidence) == 0
    assert promised_rank(n_calibration, alpha, confidence) == 1


@pytest.mark.parametrize("promise", [CONDITIONAL_PROMISE, NO_PROMISE])
@pytest.mark.parametrize("n_calibration", [1, 2, 58, 59, 149, 199, 1000, 12_345])
def test_smallest_alpha_is_accepted_and_less_is_not(n_calibration, promise):
    """The rate that a refusal names is one that the same calibration scores take."""
    scores = np.linspace(1, 2, n_calibration)
    alpha = smallest_alpha(n_calibration, promise)

    assert threshold_at(scores, alpha, promise).rank == 1
    with pytest.raises(InputError, match="at least"):
        threshold_at(scores, alpha - 2e-6, promise)


def test_threshold_is_the_ranked_calibration_score():
    """With 100 scores and 5 % the threshold is the second largest score, and the rule has every figure."""
    rule = threshold_at(np.arange(1.0, 101.0), 0.05)

    assert (rule.value, rule.rank, rule.n_calibration) == (99.0, 2, 100)
    assert (rule.alpha, rule.promise, rule.confidence) == (0.05, CONDITIONAL_PROMISE, 0.95)
    assert rule.expected_rate == 2 / 101


def test_threshold_without_a_promise_takes_the_marginal_rank():
    """`none` takes k = floor(alpha (n + 1)) and claims no confidence."""
    rule = threshold_at(np.arange(1.0, 101.0), 0.05, NO_PROMISE)

    assert (rule.rank, rule.value, rule.promise, rule.confidence) == (5, 96.0, NO_PROMISE, None)


def test_marginal_rank_reads_alpha_as_the_decimal_that_was_written():
    """0.18 * 150 and 0.29 * 100 are just below 27 and 29 in binary, and mean 27 and 29."""
    assert threshold_at(np.arange(1.0, 150.0), 0.18, NO_PROMISE).rank == 27
    assert threshold_at(np.arange(1.0, 100.0), 0.29, NO_PROMISE).rank == 29


@pytest.mark.parametrize("alpha", [0, 1, -0.05, 5, float("nan"), float("inf")])
def test_threshold_refuses_an_alpha_outside_its_range(alpha):
    """A rate is a fraction, and NaN is not one."""
    with pytest.raises(InputError, match=r"alpha must be between 0 and 1, got"):
        threshold_at(np.arange(1.0, 101.0), alpha)


def test_threshold_names_the_smallest_alpha_of_this_calibration():
    """An alpha that is too small is refused with the one that is possible and the number of samples."""
    with pytest.raises(
        InputError, match=r"^alpha must be at least 0\.029514 with 100 calibration samples, got 0\.01$"
    ):
        threshold_at(np.arange(1.0, 101.0), 0.01)


def test_threshold_is_never_zero():
    """If the ranked score is 0 there is no threshold, because a ratio to 0 has no meaning."""
    scores = np.concatenate([np.zeros(90), np.ones(10)])

    assert threshold_at(scores, 0.1).value == 1.0
    with pytest.raises(InputError, match=r"alpha must be small enough for a positive threshold, got 0\.5"):
        threshold_at(scores, 0.5)


@given(
    calibration=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    scores=st.lists(st.integers(-1, 13), min_size=1, max_size=20),
)
def test_p_values_equal_a_naive_count(calibration, scores):
    """Ties count as at least as high, and the sample itself is counted."""
    ascending = np.sort(np.array(calibration, dtype=np.float64))

    answer = p_values(np.array(scores, dtype=np.float64), ascending)

    naive = [(1 + sum(c >= score for c in calibration)) / (len(calibration) + 1) for score in scores]
    assert answer.tolist() == naive


@given(
    calibration=st.lists(st.integers(1, 30), min_size=59, max_size=200),
    alpha=st.floats(0.05, 0.95),
    promise=st.sampled_from([CONDITIONAL_PROMISE, NO_PROMISE]),
)
def test_score_above_threshold_is_p_value_within_expected_rate(calibration, alpha, promise):
    """Both forms of the decision agree for every score between, on and beyond the calibration scores."""
    ascending = np.sort(np.array(calibration, dtype=np.float64))
    rule = threshold_at(ascending, alpha, promise)
    scores = np.arange(0, 31.5, 0.5)

    decisions = scores > rule.value

    assert (decisions == (p_values(scores, ascending) <= rule.expected_rate)).all()


def test_score_and_p_value_agree_where_the_expected_rate_is_no_float():
    """27 / 150 and 0.18 are different floats, and every decision agrees all the same."""
    ascending = np.arange(1.0, 150.0)
    rule = threshold_at(ascending, 0.18, NO_PROMISE)

    decisions = ascending > rule.value

    assert decisions.sum() == 26
    assert (decisions == (p_values(ascending, ascending) <= rule.expected_rate)).all()


@given(
    p=st.lists(st.integers(1, 40).map(lambda rank: rank / 40), min_size=1, max_size=60),
    fdr=st.floats(0.01, 0.99),
)
def test_false_discovery_selection_equals_the_textbook(p, fdr):
    """Reject the hypotheses 1 to i of the ascending order, i the largest with p_(i) <= i q / m."""
    answer = select_false_discovery(np.array(p), fdr)

    order = sorted(range(len(p)), key=p.__getitem__)
    last = max((i for i in range(1, len(p) + 1) if p[order[i - 1]] <= fdr * i / len(p)), default=0)
    assert set(np.flatnonzero(answer)) == set(order[:last])


@given(
    p=st.lists(st.floats(0.001, 1), min_size=2, max_size=40),
    fdr=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_false_discovery_selection_does_not_depend_on_order(p, fdr, seed):
    """Permuted rows get their own decision back."""
    order = np.random.default_rng(seed).permutation(len(p))

    answer = select_false_discovery(np.array(p), fdr)

    assert (select_false_discovery(np.array(p)[order], fdr) == answer[order]).all()


@given(p=st.lists(st.floats(0.001, 1), min_size=1, max_size=40), fdr=st.floats(0.01, 0.98))
def test_false_discovery_selection_grows_with_its_rate(p, fdr):
    """A higher tolerated share of false discoveries never takes one back."""
    fewer = select_false_discovery(np.array(p), fdr)
    assume(fewer.any())

    assert select_false_discovery(np.array(p), fdr + 0.01)[fewer].all()


@pytest.mark.parametrize("fdr", [0, 1, -1, float("nan")])
def test_false_discovery_selection_refuses_a_rate_outside_its_range(fdr):
    """A share is a fraction."""
    with pytest.raises(InputError, match="fdr must be between 0 and 1, got"):
        select_false_discovery(np.array([0.1]), fdr)


@pytest.mark.parametrize(("n_calibration", "alpha"), [(59, 0.05), (100, 0.05), (400, 0.05), (300, 0.01)])
def test_promise_holds_over_many_calibration_splits(n_calibration, alpha):
    """At most 5 % of the thresholds let more than alpha of normal data pass; with one rank lower more do."""
    n_runs = 4000
    scores = np.sort(np.random.default_rng(0).uniform(size=(n_runs, n_calibration)), axis=1)
    rank = threshold_at(scores[0], alpha).rank

    # The share of normal data above a threshold t is 1 - t where scores are uniform.
    broken = np.mean(1 - scores[:, n_calibration - rank] > alpha)
    broken_one_lower = np.mean(1 - scores[:, n_calibration - rank - 1] > alpha)

    margin = 3 * np.sqrt(0.05 * 0.95 / n_runs)
    assert broken <= 0.05 + margin
    assert broken_one_lower > 0.05


def test_false_discovery_selection_keeps_its_rate_on_conformal_p_values():
    """Averaged over batches with 20 anomalies among 200 rows, at most the wanted share is false."""
    rng = np.random.default_rng(0)
    false_shares, found = [], 0
    for _ in range(400):
        calibration = np.sort(rng.normal(size=500))
        scores = np.concatenate([rng.normal(size=180), rng.normal(loc=5, size=20)])
        selected = select_false_discovery(p_values(scores, calibration), 0.2)
        false_shares.append(selected[:180].sum() / max(1, selected.sum()))
        found += selected[180:].sum()

    assert np.mean(false_shares) <= 0.2 + 3 * np.std(false_shares) / np.sqrt(400)
    assert found > 0.9 * 400 * 20

"""Rows with categories and gaps become columns and come back, in NumPy and in the graph alike."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from training.data.columns import ColumnLayout, network_shape
from training.data.dataset import Dataset
from training.data.scaling import GAP_STEP, NOVEL_STEP, STEP, Scaling, fit_scaling
from training.data.splits import Splits
from training.errors import DataError
from training.figures.pseudo import make_pseudo_anomalies
from training.publishing import graph_scaling
from training.stages import _cell_notes

NAN = np.nan
# Measured, a text of three, a number of two, measured and never missing.
ROWS = np.array(
    [[1, 0, 2, 9], [2, 1, 5, 8], [NAN, 1, 5, 8.5], [4, NAN, 2, 9], [5, 2, NAN, 9]], dtype=np.float32
)
UNKNOWN = np.array([[1, 3, 2, 9], [1, 0, 4, NAN], [NAN] * 4], dtype=np.float32)


def make_dataset(rows=ROWS, **changes) -> Dataset:
    """Return rows of these features."""
    dataset = Dataset(
        samples=rows,
        is_anomaly=np.zeros(len(rows), dtype=bool),
        labels=None,
        held_out=np.zeros(len(rows), dtype=bool),
        kind="vector",
        value_range=None,
        feature_names=("t", "state", "grade", "p"),
        source="rows",
        missing="median",
        categories={"state": ("a", "b", "c"), "grade": (2, 5)},
        unknown_category="own",
    )
    return dataclasses.replace(dataset, **changes)


def fitted(**changes) -> Scaling:
    """Return the scaling of all rows."""
    dataset = make_dataset(**changes)
    return fit_scaling(dataset, np.arange(len(dataset.samples)))


def test_columns_are_numbers_values_others_and_gaps():
    """One of each for every feature that has it, gaps filled by the median or the most frequent."""
    scaling = fitted()

    np.testing.assert_array_equal(scaling.fill, [3, 1, 2, 9])
    columns = scaling.layout.columns(np.concatenate([ROWS[[0, 2, 3]], UNKNOWN]), scaling.fill)
    #    t  p   a  b  c  2  5  other  gaps
    assert columns.tolist() == [
        [1, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        [3, 8.5, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0],
        [4, 9, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 0],
        [1, 9, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0],
        [1, 9, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1],
        [3, 9, 0, 1, 0, 1, 0, 0, 0, 1, 1, 1, 1],
    ]
    assert network_shape(make_dataset()) == (13,)


def test_scale_weighs_categories_like_deviations_and_what_is_new_more():
    """Measured columns have mean 0 and deviation 1 over the values that are there."""
    scaling = fitted()
    scaled = scaling.apply(ROWS)

    present = scaled[~np.isnan(ROWS[:, 0]), 0]
    np.testing.assert_allclose([present.mean(), present.std()], [0, 1], atol=1e-6)
    np.testing.assert_allclose(np.ptp(scaled[:, 2:7], axis=0), STEP, rtol=1e-6)
    np.testing.assert_allclose(np.ptp(scaled[:, 9:12], axis=0), GAP_STEP, rtol=1e-6)
    new = scaling.apply(UNKNOWN) - scaling.apply(ROWS[[0, 0, 0]])
    np.testing.assert_allclose([new[0, 7], new[1, 8], new[2, 12]], NOVEL_STEP, rtol=1e-6)


@pytest.mark.parametrize("own", ["own", "refuse"])
@pytest.mark.parametrize("missing", ["median", "refuse"])
def test_graph_scales_as_numpy_does_and_back(own, missing):
    """Scaling and its inverse agree with NumPy, with and without missing values and other categories."""
    whole = ROWS[~np.isnan(ROWS).any(axis=1)]
    rows = ROWS if missing == "median" else whole
    scaling = fitted(rows=rows, missing=missing, unknown_category=own)

    scaled = graph_scaling.scale(tf.constant(rows), scaling).numpy()

    np.testing.assert_array_equal(scaled, scaling.apply(rows))
    np.testing.assert_allclose(graph_scaling.unscale(tf.constant(scaling.apply(whole)), scaling), whole)


@pytest.mark.parametrize(
    "categories", [{"state": ("a", "b", "c"), "grade": (2, 5), "t": (1,), "p": (8, 9)}, None]
)
def test_graph_scales_rows_of_one_sort(categories):
    """All features may be categories, or none with missing values only."""
    rows = np.array([[1, 0, 2, 9], [1, 1, 5, 8]], dtype=np.float32)
    scaling = fitted(rows=rows, categories=categories, unknown_category="own" if categories else None)

    scaled = graph_scaling.scale(tf.constant(rows), scaling)

    np.testing.assert_array_equal(scaled, scaling.apply(rows))
    np.testing.assert_allclose(graph_scaling.unscale(scaled, scaling), rows)


def test_categories_that_are_as_likely_but_for_rounding_are_the_first():
    """All machines give the same answer."""
    scaling = fitted()
    even = scaling.apply(ROWS[[0, 1]]).mean(axis=0, keepdims=True)

    for noise in (1e-6, -1e-6):
        even[0, 2] += noise
        assert graph_scaling.unscale(tf.constant(even), scaling)[0, 1] == 0


def test_pool_gives_a_feature_the_errors_of_its_columns():
    """A feature gets the errors of its values, of other categories and of its missing flag."""
    errors = np.arange(13, dtype=np.float32)[np.newaxis]

    pooled = graph_scaling.pool(tf.constant(errors), fitted())

    assert pooled.numpy().tolist() == [[0 + 9, 2 + 3 + 4 + 7 + 10, 5 + 6 + 8 + 11, 1 + 12]]


def test_range_takes_flags_to_its_ends():
    """Networks that end in a sigmoid rebuild them."""
    dataset = make_dataset()

    scaled = fit_scaling(dataset, np.arange(5), (0.0, 1.0)).apply(ROWS)

    assert (scaled.min(), scaled.max()) == (0, 1)
    assert set(scaled[:, 2:].ravel()) == {0, 1}


def test_drawn_rows_are_rows():
    """The golden samples of a model without samples hold categories that there are."""
    drawn = fitted().at(np.random.default_rng(0).normal(size=(50, 4)))

    assert set(drawn[:, 1]) == {0, 1, 2}
    assert set(drawn[:, 2]) == {2, 5}


def test_pseudo_anomalies_have_categories_of_other_rows():
    """Exaggerating a category has no meaning."""
    pseudo = make_pseudo_anomalies(ROWS, "vector", np.nanmean(ROWS, axis=0), np.random.default_rng(0), [1, 2])

    for feature in (1, 2):
        np.testing.assert_array_equal(np.sort(pseudo[:, feature]), np.sort(ROWS[:, feature]))


def test_notes_say_what_no_training_row_has():
    """A category of the test split alone, and features without gaps."""
    dataset = make_dataset(categories={"state": ("a", "b", "c", "d"), "grade": (2, 5)})
    rows = np.arange(5)

    notes = list(_cell_notes(dataset, Splits(rows, rows, rows, rows, 0, 0)))

    assert notes == [
        "shares of missing values in the training split: t 0.2, state 0.2, grade 0.2; a missing value "
        "of any other feature is an anomaly",
        "no training row has these categories of state, so that they are anomalies: d",
    ]


def test_a_column_without_values_is_refused():
    """Such a column has no median."""
    rows = ROWS.copy()
    rows[:, 3] = NAN

    with pytest.raises(DataError, match="column 'p' has no value in the training split"):
        fitted(rows=rows)


def test_rows_that_are_all_the_same_are_refused():
    """Equal rows contain nothing to learn."""
    with pytest.raises(DataError, match="every column is constant"):
        fitted(rows=np.repeat(ROWS[:1], 5, axis=0))


def test_layout_of_measured_rows_is_none():
    """They go to the network as they are."""
    dataset = make_dataset(missing="refuse", categories=None, unknown_category=None)

    assert ColumnLayout.of(dataset) is None
    assert network_shape(dataset) == (4,)

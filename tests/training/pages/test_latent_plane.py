"""Planes, hulls and drawn points agree with geometry."""

import itertools

import numpy as np
import pytest
from scipy.spatial import Delaunay

from training.pages.latent_plane import (
    draw_far,
    draw_inside,
    fit_plane,
    group_samples,
    hull_area,
    hull_corners,
)

SQUARE = np.array([[0, 0], [2, 0], [2, 2], [0, 2], [1, 1], [0.5, 1.5]])


def test_plane_of_two_dimensions_is_the_latent_itself():
    """Its axes can be read off and posted to `/decode`."""
    latent = np.random.default_rng(0).normal(5, 1, size=(9, 2))

    np.testing.assert_array_equal(fit_plane(latent).project(latent), latent)
    np.testing.assert_array_equal(fit_plane(latent[:, :1]).project(latent[:, :1])[:, 1], 0)


def test_plane_of_more_dimensions_keeps_the_most_variance():
    """The variance equals the singular values of the centred vectors."""
    latent = np.random.default_rng(0).normal(size=(50, 5)) * [1, 9, 2, 4, 1]
    plane = fit_plane(latent)
    singular = np.linalg.svd(latent - latent.mean(axis=0), compute_uv=False)

    np.testing.assert_allclose(plane.shares, singular[:2] ** 2 / (singular**2).sum())
    np.testing.assert_allclose(plane.project(latent).std(axis=0) * 50**0.5, singular[:2])


def groups_apart(n_groups):
    """Return vectors of groups that differ along an axis of little variance, and the groups."""
    rng = np.random.default_rng(0)
    code = np.repeat(np.arange(n_groups), 40)
    latent = rng.normal(size=(code.size, 6)) * [50, 20, 1, 1, 1, 1]
    latent[:, 2] += 8 * (code == 1)
    latent[:, 3] += 8 * (code == 2)
    return latent, {str(group): code == group for group in range(n_groups)}


@pytest.mark.parametrize("n_groups", [2, 3])
def test_groups_are_drawn_along_the_axes_in_which_they_differ(n_groups):
    """The main axes of these vectors mix the groups; two groups have one such axis."""
    latent, groups = groups_apart(n_groups)
    plane = fit_plane(latent, groups)
    points = plane.project(latent)

    assert plane.names[0] == "first axis in which the groups differ"
    for first, second in itertools.combinations(groups.values(), 2):
        apart = np.linalg.norm(
            points[first].mean(axis=0)[: n_groups - 1] - points[second].mean(axis=0)[: n_groups - 1]
        )
        assert apart > 6 * points[first, 0].std()
    mixed = fit_plane(latent).project(latent)
    assert abs(mixed[groups["0"], 0].mean() - mixed[groups["1"], 0].mean()) < mixed[:, 0].std()


@pytest.mark.parametrize(
    "groups", [{}, {"all": np.ones(9, bool)}, {str(n): np.arange(9) == n for n in range(9)}]
)
def test_without_groups_of_several_vectors_the_plane_is_that_of_the_variance(groups):
    """Nothing tells how groups differ."""
    latent = np.random.default_rng(0).normal(size=(9, 4))

    np.testing.assert_array_equal(fit_plane(latent, groups).axes, fit_plane(latent).axes)


@pytest.mark.parametrize("latent", [np.ones((1, 7)), np.ones((4, 7))])
def test_a_plane_is_found_where_nothing_varies(latent):
    """One sample, or equal ones, give a point."""
    assert fit_plane(latent).project(latent).shape == (len(latent), 2)


def test_hull_is_that_of_the_outermost_points():
    """Inner points of a square are left out, and a line has no hull."""
    corners = hull_corners(SQUARE)

    assert {tuple(corner) for corner in corners} == {(0, 0), (2, 0), (2, 2), (0, 2)}
    assert hull_area(corners) == 4
    assert hull_corners(SQUARE[:2]) is None
    assert hull_corners(np.column_stack([np.arange(5), np.arange(5)])) is None
    assert hull_area(None) == 0


def test_points_inside_are_inside_and_far_ones_are_not():
    """A triangulation of the hull in three dimensions confirms it."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(60, 3))
    hull = Delaunay(latent)

    assert (hull.find_simplex(draw_inside(latent, 100, rng)) >= 0).all()
    far = draw_far(latent, 100, rng)
    assert (hull.find_simplex(far) < 0).all()
    distances = np.linalg.norm(far - latent.mean(axis=0), axis=1)
    assert (distances > 2.9 * np.linalg.norm(latent - latent.mean(axis=0), axis=1).max()).all()


def test_groups_are_labels_in_the_order_of_numbers_else_kinds():
    """10 after 9; more labels than colours fall back to normal and anomaly."""
    labels = np.array(["10", "9", "b", "10"])
    many = np.arange(40).astype(str)

    assert list(group_samples(labels, None)) == ["9", "10", "b"]
    assert group_samples(labels, None)["10"].tolist() == [True, False, False, True]
    assert list(group_samples(many, np.zeros(40, dtype=bool))) == ["normal"]
    assert group_samples(many, None) == {}


def test_a_large_spatial_latent_is_projected_in_its_own_precision():
    """Ten thousand vectors of some thousand values are not copied as float64."""
    latent = np.random.default_rng(0).normal(size=(2500, 300)).astype(np.float32)
    latent[:, 7] *= 30
    plane = fit_plane(latent)

    assert abs(plane.axes[7, 0]) > 0.99
    np.testing.assert_allclose(plane.project(latent), (latent - plane.mean) @ plane.axes, atol=1e-3)

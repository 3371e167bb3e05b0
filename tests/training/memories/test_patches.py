"""Patches of images: usual and unusual ones, and the network that scores them."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from training.memories.images import fit_image_memory, standardise
from training.memories.images_keras import image_network
from training.memories.patches import details_map, fit_details, interpolation_matrix, thinning_matrix


def surfaces(n_images: int = 60, shape: tuple[int, ...] = (30, 24), seed: int = 0) -> np.ndarray:
    """Rough surfaces with vertical grain, some rougher than others, standardised."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n_images, *shape)) * rng.uniform(0.3, 1, size=(n_images, *(1,) * len(shape)))
    blur = (0, 4, 0.5, *(0,) * (len(shape) - 2))
    ground = gaussian_filter(rng.normal(size=noise.shape), (0, 8, 8, *blur[3:])) * 30
    return standardise((gaussian_filter(noise, blur) + ground).astype(np.float32), (-9, 9), (1e-3, 9))


def test_a_small_spot_stands_out_of_its_image():
    """The map is highest at it, in rough images and in smooth ones."""
    spoiled = surfaces(20, seed=1)
    spoiled[:, 14:16, 10:12] += 1.5

    errors = details_map(spoiled, fit_details(surfaces(), seed=0))

    rows, columns = np.unravel_index(errors.reshape(20, -1).argmax(axis=1), (30, 24))
    assert np.median(np.abs(rows - 14.5)) < 5
    assert np.median(np.abs(columns - 10.5)) < 5


def test_normal_images_have_a_mean_of_one():
    """The weight of details is therefore their share of the score."""
    details = fit_details(surfaces(), seed=0)

    assert details_map(surfaces(40, seed=1), details).mean() == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize("shape", [(30, 24), (21, 26, 3), (9, 12)])
def test_network_adds_the_map_by_hand(shape):
    """The feature error is the weighted mean of both errors; odd sides, colours and small images too."""
    images, others = surfaces(40, shape), surfaces(5, shape, seed=1)
    memory = fit_image_memory(images, 3000, 4, seed=0)
    standard, others_standard = (
        standardise(values, memory.brightness, memory.contrast) for values in (images, others)
    )
    details = fit_details(standard, seed=0)

    _, coarse = image_network(memory, None)(tf.constant(others), training=False)
    _, both = image_network(memory, None, details, 0.5)(tf.constant(others), training=False)

    fine = details_map(others_standard, details).reshape(5, *shape[:2], *(1,) * (len(shape) - 2))
    np.testing.assert_allclose(both, (coarse.numpy() + 0.5 * fine) / 1.5, rtol=2e-2, atol=1e-3)


def test_images_that_hold_no_patch_have_no_details():
    """Four pixels are fewer than a patch has."""
    assert fit_details(surfaces(10, (4, 12)), seed=0) is None


def test_flat_images_are_finite():
    """Without variation scores are finite, and a first spot scores finite, too."""
    flat = np.zeros((10, 12, 12), dtype=np.float32)
    details = fit_details(flat, seed=0)
    spot = flat.copy()
    spot[:, 5, 5] = 1e6

    assert np.isfinite(details_map(spot, details)).all()


def test_matrices_thin_out_and_interpolate():
    """Pairs are averaged, an odd one left out; a place is met at its centre."""
    np.testing.assert_array_equal(thinning_matrix(5, 2), [[0.5, 0.5, 0, 0, 0], [0, 0, 0.5, 0.5, 0]])
    matrix = interpolation_matrix(10, 6, 1)

    np.testing.assert_array_equal(matrix[2], [1, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(matrix.sum(axis=1), 1)

"""Each corruption has its effect only while fitting, anew at every step, and follows the seed."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy.ndimage import gaussian_filter

from training.config import FitConfig
from training.networks.corruption import CHUNK, corrupt, corrupted_copy

IMAGES = np.random.default_rng(0).uniform(0.2, 0.8, size=(50, 20, 21)).astype(np.float32)
WAYS = {
    "gaussian": 0.3,
    "gaussian-clipped": 0.3,
    "salt-and-pepper": 0.2,
    "masking": 0.25,
    "mosaic": 4.0,
    "blur": 1.5,
}


def corruption(way, level=None, shape=IMAGES.shape[1:], **overrides):
    """Return a model that applies a corruption, like the first layer before an encoder."""
    level = WAYS[way] if level is None else level
    config = FitConfig.from_preset("conv", {"corruption": way, "corruption_level": level, **overrides})
    samples = layers.Input(shape)
    return keras.Model(samples, corrupt(samples, config))


def corrupted(way, level=None, samples=IMAGES, **overrides):
    """Return samples as the network would see them in one step of a fit."""
    return corruption(way, level, samples.shape[1:], **overrides)(samples, training=True).numpy()


@pytest.mark.parametrize("way", WAYS)
def test_corruption_is_for_fitting_only(way):
    """Samples are not corrupted when they are scored."""
    np.testing.assert_array_equal(corruption(way)(IMAGES, training=False), IMAGES)
    assert np.abs(corrupted(way) - IMAGES).mean() > 0.01


@pytest.mark.parametrize("way", ["gaussian", "gaussian-clipped", "salt-and-pepper", "masking"])
def test_draws_are_fresh_for_every_sample_and_step_and_follow_the_seed(way):
    """Two equal samples, and two steps, are corrupted differently; the same seed repeats both."""
    same = np.repeat(IMAGES[:1], 2, axis=0)
    first, again, other = corruption(way), corruption(way), corruption(way, seed=1)

    steps = [first(same, training=True).numpy() for _ in range(2)]

    assert (steps[0][0] != steps[0][1]).any()
    assert (steps[0] != steps[1]).any()
    for step in steps:
        np.testing.assert_array_equal(again(same, training=True), step)
    assert (other(same, training=True).numpy() != steps[0]).any()


@pytest.mark.parametrize("way", ["gaussian", "gaussian-clipped"])
def test_gaussian_noise_has_its_standard_deviation_and_may_leave_the_range(way):
    """Clipping is an option."""
    noisy = corrupted(way, 0.3)

    if way == "gaussian":
        assert np.std(noisy - IMAGES) == pytest.approx(0.3, rel=0.02)
        assert noisy.min() < 0 < 1 < noisy.max()
    else:
        assert (noisy.min(), noisy.max()) == (0, 1)


def test_salt_and_pepper_are_black_and_white_in_equal_shares():
    """A fifth of the pixels changes, half of them each way."""
    noisy = corrupted("salt-and-pepper", 0.2)

    assert np.mean(noisy == 0) == pytest.approx(0.1, rel=0.1)
    assert np.mean(noisy == 1) == pytest.approx(0.1, rel=0.1)
    rest = (noisy != 0) & (noisy != 1)
    np.testing.assert_array_equal(noisy[rest], IMAGES[rest])


def test_masked_pixels_are_as_dark_as_can_be():
    """A quarter of the pixels is masked; the others stay."""
    masked = corrupted("masking", 0.25, output_activation="tanh")

    assert np.mean(masked == -1) == pytest.approx(0.25, rel=0.05)
    np.testing.assert_array_equal(masked[masked != -1], IMAGES[masked != -1])


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_mosaic_has_the_mean_of_each_tile(channels):
    """Tiles at the edge are cut off, 1 wide where the width is 21 and tiles are 4."""
    images = np.random.default_rng(1).uniform(size=(3, 20, 21, *channels)).astype(np.float32)
    expected = np.empty_like(images)
    for top in range(0, 20, 4):
        for left in range(0, 21, 4):
            tile = np.s_[:, top : top + 4, left : left + 4]
            expected[tile] = images[tile].mean(axis=(1, 2), keepdims=True)

    np.testing.assert_allclose(corrupted("mosaic", 4.0, images), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_blur_is_a_gaussian(channels):
    """The blur equals SciPy's, mirrored at the edges and cut at three standard deviations."""
    images = np.random.default_rng(1).uniform(size=(3, 20, 21, *channels)).astype(np.float32)
    sigma = (0, 1.5, 1.5, 0)[: images.ndim]
    expected = gaussian_filter(images.astype(np.float64), sigma, radius=5, mode="reflect")

    np.testing.assert_allclose(corrupted("blur", 1.5, images), expected, atol=1e-5)


def test_a_corrupted_copy_is_the_same_for_a_seed():
    """The copy is larger than one chunk and has its own draws, different from those of the first step."""
    samples = np.zeros((CHUNK + 3, 4, 5), dtype=np.float32)
    config, other = (
        FitConfig.from_preset("conv", {"corruption_level": 0.5, "seed": seed}) for seed in (0, 2**32 - 1)
    )

    copy = corrupted_copy(samples, config)

    assert (copy.shape, copy.dtype) == (samples.shape, np.float32)
    assert np.std(copy) == pytest.approx(0.5, rel=0.05)
    np.testing.assert_array_equal(corrupted_copy(samples, config), copy)
    assert (corrupted_copy(samples, other) != copy).any()
    assert (corrupted("gaussian", 0.5, samples) != copy).all()
    assert (copy[:3] != copy[CHUNK:]).all()


def test_standardised_rows_are_masked_by_their_mean():
    """A standardised feature has the mean 0."""
    config = FitConfig.from_preset("dense", {"corruption": "masking", "corruption_level": 0.5})
    rows = np.random.default_rng(0).normal(size=(200, 10)).astype(np.float32)
    samples = layers.Input((10,))

    masked = keras.Model(samples, corrupt(samples, config))(rows, training=True).numpy()

    assert np.mean(masked == 0) == pytest.approx(0.5, rel=0.1)

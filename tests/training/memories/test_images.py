"""The memory of images: brightness and contrast aside, blurred, and the network made of it."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from scipy.ndimage import gaussian_filter

from detector.engine.graphs import open_sessions
from detector.files import MODEL_FILE
from training.config import FitConfig
from training.data.scaling import Scaling
from training.memories.images import (
    ImageMemory,
    attention,
    blur_matrix,
    blurred,
    fit_image_memory,
    look_from_afar,
    residual_matrices,
    standardise,
)
from training.memories.images_keras import image_network, remember_images
from training.networks.architectures import Autoencoder
from training.publishing.graphs import check_parity, export_graphs


def bars(n_images: int = 60, shape: tuple[int, ...] = (12, 16), seed: int = 0) -> np.ndarray:
    """Soft bright bars at any height on a dark ground, of any brightness and contrast, in [0, 1]."""
    rng = np.random.default_rng(seed)
    places = np.arange(shape[0]) - rng.uniform(shape[0] / 4, shape[0] * 3 / 4, size=(n_images, 1))
    profile = np.exp(-0.5 * np.square(places / 1.5))
    levels, contrasts = (
        rng.uniform(0.1, 0.3, size=(n_images, 1)),
        rng.uniform(0.3, 0.6, size=(n_images, 1)),
    )
    rows = levels + contrasts * profile
    images = np.broadcast_to(rows.reshape(n_images, -1, *(1,) * (len(shape) - 1)), (n_images, *shape))
    return (images + rng.normal(scale=0.01, size=images.shape)).clip(0, 1).astype(np.float32)


def answers_by_hand(memory: ImageMemory, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute reconstruction and feature error as the module documents them."""
    standard = standardise(images, memory.brightness, memory.contrast)
    weights = attention(look_from_afar(standard) - memory.centre, memory)
    recalled = np.tensordot(weights, memory.images, axes=1)
    matrices = residual_matrices(images.shape[1:], memory.residual_blur)
    scale = (images.max(axis=(1, 2)) - images.min(axis=(1, 2))) / np.ptp(standard, axis=(1, 2))
    each = (-1, *(1,) * (images.ndim - 1))
    offset = images.mean(axis=(1, 2)) - scale * standard.mean(axis=(1, 2))
    rebuilt = recalled * scale.reshape(each) + offset.reshape(each)
    return rebuilt, np.square(blurred(standard - recalled, *matrices)) / memory.unit


def scores(memory: ImageMemory, images: np.ndarray) -> np.ndarray:
    _, error = image_network(memory, (0.0, 1.0))(tf.constant(images), training=False)
    return np.mean(error.numpy().reshape(len(images), -1), axis=1)


@pytest.mark.parametrize("stride", [1, 3])
def test_blur_is_an_average(stride):
    """A flat image stays as it is, up to its edges."""
    matrix = blur_matrix(10, 2.0, stride)

    np.testing.assert_allclose(matrix @ np.ones(10), np.ones(len(range(0, 10, stride))), rtol=1e-6)


@pytest.mark.parametrize("n_prototypes", [3000, 10])
def test_network_answers_as_the_memory_by_hand(n_prototypes):
    """The Keras network gives the same values as the definitions in NumPy."""
    memory = fit_image_memory(bars(), n_prototypes, 4, seed=0)
    others = bars(20, seed=1)

    reconstruction, error = image_network(memory, (0.0, 1.0))(tf.constant(others), training=False)

    rebuilt, expected = answers_by_hand(memory, others)
    np.testing.assert_allclose(reconstruction, rebuilt.clip(0, 1), atol=1e-3)
    np.testing.assert_allclose(error, expected, rtol=1e-2, atol=1e-3)


def test_brightness_and_contrast_do_not_count_within_the_usual():
    """An image under another light is the same image."""
    memory = fit_image_memory(bars(), 3000, 4, seed=0)
    others = bars(20, seed=1)

    np.testing.assert_allclose(scores(memory, others * 0.8 + 0.05), scores(memory, others), rtol=1e-2)


@pytest.mark.parametrize("change", [lambda p: p * 100, lambda p: p - 50, lambda p: 0 * p, lambda p: 1 - p])
def test_brightness_and_contrast_beyond_the_usual_count(change):
    """A change beyond usual lighting scores above every normal image."""
    memory = fit_image_memory(bars(), 3000, 4, seed=0)
    others = bars(20, seed=1)

    assert scores(memory, change(others)).min() > scores(memory, others).max()


def test_a_flat_image_far_out_has_no_contrast_by_rounding():
    """The mean of 12,288 values of a million is off by more than a normal image's contrast."""
    memory = fit_image_memory(bars(20, (64, 64, 3)), 3000, 4, seed=0)
    flat = np.full((1, 64, 64, 3), 1e6 / 3, dtype=np.float32)
    standard = standardise(flat, memory.brightness, memory.contrast)

    np.testing.assert_allclose(scores(memory, flat), np.square(standard).mean() / memory.unit, rtol=1e-2)


def test_the_error_lies_where_the_defect_is():
    """A dark spot is found by its score, and the map is highest at it."""
    memory = fit_image_memory(bars(200), 3000, 4, seed=0)
    others = bars(20, seed=1)
    spoiled = others.copy()
    spoiled[:, 2:5, 10:13] = 0.9

    _, error = image_network(memory, (0.0, 1.0))(tf.constant(spoiled), training=False)

    assert scores(memory, spoiled).min() > scores(memory, others).max()
    rows, columns = np.unravel_index(error.numpy().reshape(20, -1).argmax(axis=1), (12, 16))
    assert (np.abs(rows - 3) <= 2).all()
    assert (np.abs(columns - 11) <= 2).all()


@pytest.mark.parametrize("shape", [(12, 9), (9, 12, 1), (12, 12, 3), (5, 5)])
def test_images_of_any_shape_are_remembered(shape):
    """Grey with and without a channel, in colour, small and oblong."""
    memory = fit_image_memory(bars(30, shape), 3000, 16, seed=0)

    reconstruction, error = image_network(memory, None)(tf.zeros((3, *shape)), training=False)

    assert reconstruction.shape == error.shape == (3, *shape)
    assert np.isfinite(error).all()


def test_no_prototype_is_an_image_where_each_must_be_a_mean():
    """`--no-samples` requires this."""
    images = bars(90)

    memory = fit_image_memory(images, 3000, 16, seed=0, least_rows=3)

    standard = standardise(images, memory.brightness, memory.contrast)
    distances = np.square(standard[:, None] - memory.images).sum(axis=(2, 3))
    assert 2 <= len(memory.images) <= 30
    assert distances.min() > 0.1


def test_equal_images_are_one_prototype():
    """Copies add no prototype, and similar images still have finite scores."""
    images = np.repeat(bars(2), 10, axis=0)

    memory = fit_image_memory(images, 3000, 16, seed=0)

    assert len(memory.images) == 2
    assert np.isfinite(scores(memory, bars(5, seed=1))).all()


@pytest.mark.parametrize("kind", ["flat", "copies"])
def test_images_that_are_one_prototype_leave_finite_scores(kind):
    """Without brightness flat images are equal, and any further image has a finite score."""
    levels = np.linspace(0.1, 0.9, 20, dtype=np.float32)[:, np.newaxis, np.newaxis]
    images = np.broadcast_to(levels, (20, 12, 12)) if kind == "flat" else np.repeat(bars(1), 20, axis=0)
    config = FitConfig.from_preset("memory-image", {"latent_dim": 0})
    far = np.random.default_rng(0).choice([-1e6, 0, 1e6], size=(20, *images.shape[1:])).astype(np.float32)

    network = remember_images(images, config)

    for samples in (images, far):
        error = network(samples, training=False)[1]
        assert np.isfinite(np.mean(error, axis=(1, 2))).all()


def test_a_usual_image_scores_about_one():
    """The unit of the score is the mean over training images, each without itself."""
    memory = fit_image_memory(bars(200), 3000, 16, seed=0)

    assert 0.3 < np.median(scores(memory, bars(50, seed=1))) < 2


def textures(n_images: int, shape: tuple[int, ...], contrast: float) -> np.ndarray:
    """Return bright surfaces with a grain and stains of this contrast, in whole grey levels to 255."""
    rng = np.random.default_rng(0)
    grain, stains = rng.normal(size=(2, n_images, *shape))
    sigma = shape[0] / 12
    stains = gaussian_filter(stains, (0, sigma, sigma, 0)[: stains.ndim])
    values = 200 + contrast * (0.7 * grain + stains / stains.std())
    return values.round().clip(0, 255).astype(np.float32)


@dataclasses.dataclass
class _Draft:
    """The part of a manifest that sessions need."""

    sample_shape: tuple[int, ...]
    latent_shape: None = None
    classifier: None = None


@pytest.mark.parametrize(
    ("shape", "contrast"),
    [((16, 16), 2), ((16, 16, 3), 30), ((96, 96), 30), ((128, 128, 3), 2), ((512, 512), 2)],
)
def test_the_exported_memory_answers_as_the_network_at_any_size(shape, contrast):
    """Answers agree even if brightness is a hundred times the contrast, alone and in a batch."""
    images, scaling = textures(20, shape, contrast), Scaling(np.float32(0), np.float32(255))
    config = FitConfig.from_preset("memory-image", {"latent_dim": 0})
    memory = remember_images(scaling.apply(images[:13]), config)
    graphs = export_graphs(Autoencoder(None, None, memory=memory), scaling)

    differences = check_parity(graphs, _Draft(shape), images[13:], scaling, 1.0)

    assert differences.pop(f"{MODEL_FILE}:score (extreme inputs)") < 5e-5
    assert max(differences.values()) < 2e-5
    session = open_sessions({MODEL_FILE: graphs[MODEL_FILE].onnx}, _Draft(shape))[MODEL_FILE]
    together = session.run(images[13:], ["score"])["score"]
    alone = [session.run(image[np.newaxis], ["score"])["score"][0] for image in images[13:]]
    np.testing.assert_array_equal(together, np.array(alone))

"""A memory of images: typical images, with brightness and contrast taken out.

An image is rebuilt from the most similar remembered images; they are compared blurred, so that only coarse
structure counts. The residual is blurred too, so that a stroke that is a pixel off counts little and a
missing one counts in full (docs/decisions/0016). No Keras here; `images_keras` makes the network.

References
----------
Gong, Liu, Le, Saha, Mansour, Venkatesh, van den Hengel (2019). Memorizing normality to detect anomaly:
memory-augmented deep autoencoder for unsupervised anomaly detection. ICCV.
"""

import dataclasses
import math

import numpy as np

from training.memories.prototypes import LEAST_WEIGHT, attention_width, find_prototypes, nearest_prototypes

# Standard deviations of the two Gaussians, as shares of the side. Chosen on MNIST with the digits 2, 3, 5 and
# 8 as the normal one, where half of the first or half or twice of the second cost up to 0.01 ROC AUC; on
# magnetic tiles of 96 pixels the same shares were the best of several.
SEARCH_BLUR = 1 / 14
RESIDUAL_BLUR = 1 / 25
LEAST_CONTRAST = 1e-3  # of the scaled range: flat images differ by rounding
MARGIN = 0.5  # of the training images' range of brightness; contrast may double or halve
MOST_VALUES = 2**24  # of all remembered images together: 64 MB in the model's file
UNIT_IMAGES = 1000
LEAST_UNIT = 1e-6


@dataclasses.dataclass(frozen=True)
class ImageMemory:
    """All constants of a memory autoencoder of images.

    Attributes
    ----------
    images : ndarray of shape (n_prototypes, *sample_shape), float32
        Standardised: mean 0, standard deviation 1 over all values of an image.
    keys : ndarray of shape (n_prototypes, n_keys), float32
        The images blurred and subsampled, minus `centre`.
    centre : ndarray of shape (n_keys,), float32
    neighbours : int
        Number of prototypes that an image attends to.
    width : float
        Standard deviation of the Gaussian that turns distances of keys into weights.
    brightness, contrast : tuple of float
        Ranges that are taken out of an image; brightness or contrast beyond them counts as a difference.
    residual_blur : float
        Standard deviation, in pixels, of the Gaussian that blurs the residual.
    unit : float
        Mean squared residual of a typical training image.
    """

    images: np.ndarray
    keys: np.ndarray
    centre: np.ndarray
    neighbours: int
    width: float
    brightness: tuple[float, float]
    contrast: tuple[float, float]
    residual_blur: float
    unit: float


def fit_image_memory(
    images: np.ndarray,
    n_prototypes: int,
    neighbours: int,
    seed: int,
    least_rows: int = 1,
    residual_blur: float = 0.0,
) -> ImageMemory:
    """Fit prototypes, width and unit to normal images.

    Parameters
    ----------
    images : ndarray of shape (n_samples, height, width) or (n_samples, height, width, channels), float32
        Scaled; at least two.
    n_prototypes : int
        Most prototypes; with fewer images all of them are prototypes.
    neighbours : int
    seed : int
        Seed of the first prototypes, and of the images that the unit is computed from.
    least_rows : int
        Fewest images that a prototype is the mean of.
    residual_blur : float
        In pixels; 0 takes a share of the side.
    """
    shape = images.shape[1:]
    brightness, contrast = _levels(images)
    margin = MARGIN * (brightness.max() - brightness.min())
    brightness_range = (float(brightness.min() - margin), float(brightness.max() + margin))
    contrast_range = (max(contrast.min() / 2, LEAST_CONTRAST), max(contrast.max() * 2, LEAST_CONTRAST))
    standard = standardise(images, brightness_range, contrast_range)
    keys = look_from_afar(standard)
    centre = keys.mean(axis=0)
    keys = keys - centre
    n_prototypes = max(2, min(n_prototypes, MOST_VALUES // math.prod(shape)))
    prototypes = find_prototypes(keys, n_prototypes, seed, least_rows)
    nearest = nearest_prototypes(keys, prototypes, 1)[0][:, 0]
    order = np.argsort(nearest, kind="stable")
    first, counts = np.unique(nearest[order], return_index=True, return_counts=True)[1:]
    sums = np.add.reduceat(standard[order], first, axis=0)
    means = (sums / counts.reshape(-1, *(1,) * len(shape))).astype(
        np.float32
    )  # of the images of each cluster
    prototypes = look_from_afar(means) - centre
    memory = ImageMemory(
        images=means,
        keys=prototypes,
        centre=centre,
        neighbours=min(neighbours, len(prototypes)),
        width=attention_width(prototypes),
        brightness=brightness_range,
        contrast=contrast_range,
        residual_blur=residual_blur or RESIDUAL_BLUR * math.sqrt(shape[0] * shape[1]),
        unit=1.0,
    )
    return dataclasses.replace(memory, unit=_unit(standard, keys, memory, seed))


def standardise(
    images: np.ndarray, brightness_range: tuple[float, float], contrast_range: tuple[float, float]
) -> np.ndarray:
    """Take out brightness and contrast, clipped to their ranges."""
    brightness, contrast = _levels(images)
    each = (-1, *(1,) * (images.ndim - 1))
    offset = np.clip(brightness, *brightness_range).astype(np.float32).reshape(each)
    scale = np.clip(contrast, *contrast_range).astype(np.float32).reshape(each)
    return (images - offset) / scale


def look_from_afar(standard: np.ndarray) -> np.ndarray:
    """Make keys of standardised images, shape (n, n_keys): blurred, and subsampled accordingly."""
    rows, columns = search_matrices(standard.shape[1:])
    return blurred(standard, rows, columns).reshape(len(standard), -1)


def blurred(images: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Multiply images by a matrix for their rows and one for their columns, in every channel."""
    maps = images.reshape(*images.shape[:3], -1)  # (n, height, width, channels)
    narrow = np.tensordot(maps, columns, axes=(2, 1))  # (n, height, channels, width)
    both = np.tensordot(narrow, rows, axes=(1, 1))  # (n, channels, width, height)
    return both.transpose(0, 3, 2, 1).reshape(len(images), len(rows), len(columns), *images.shape[3:])


def search_matrices(sample_shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that blur and subsample images to keys, for rows and for columns."""
    height, width = sample_shape[:2]
    sigma = SEARCH_BLUR * math.sqrt(height * width)
    stride = max(1, math.floor(sigma))
    return blur_matrix(height, sigma, stride), blur_matrix(width, sigma, stride)


def residual_matrices(sample_shape: tuple[int, ...], sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that blur a residual, for rows and for columns."""
    height, width = sample_shape[:2]
    return blur_matrix(height, sigma), blur_matrix(width, sigma)


def blur_matrix(size: int, sigma: float, stride: int = 1) -> np.ndarray:
    """Gaussian averages around every `stride`-th of `size` places; places outside the image have no weight.

    Returns
    -------
    ndarray of shape (ceil(size / stride), size), float32
        Each row's sum is 1.
    """
    places = np.arange(size)
    weights = np.exp(-0.5 * np.square((places - places[::stride, np.newaxis]) / sigma))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _levels(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each image, float64."""
    values = images.reshape(len(images), -1)
    return values.mean(axis=1, dtype=np.float64), values.std(axis=1, dtype=np.float64)


def _unit(standard: np.ndarray, keys: np.ndarray, memory: ImageMemory, seed: int) -> float:
    """Mean squared residual of training images; an image that is a prototype is rebuilt without itself."""
    chosen = np.random.default_rng(seed).permutation(len(standard))[:UNIT_IMAGES]
    nearest, squares = nearest_prototypes(keys[chosen], memory.keys, 1)
    is_own = (squares[:, 0] < LEAST_UNIT * memory.keys.shape[1]) & (len(memory.keys) > 1)
    leave_out = np.where(is_own, nearest[:, 0], -1)
    weights = attention(keys[chosen], memory, leave_out)
    recalled = np.tensordot(weights, memory.images, axes=1)
    matrices = residual_matrices(standard.shape[1:], memory.residual_blur)
    residual = blurred(standard[chosen] - recalled, *matrices)
    return max(float(np.square(residual).mean()), LEAST_UNIT)


def attention(points: np.ndarray, memory: ImageMemory, leave_out: np.ndarray | None = None) -> np.ndarray:
    """Weight of each prototype for each point in the space of the keys: (n, n_prototypes), float32.

    The weight of the last neighbour is subtracted from all, so that a tie for its place does not matter.
    `leave_out` names for each point a prototype without weight, -1 for none.
    """
    closeness = points @ memory.keys.T - np.square(memory.keys).sum(axis=1) / 2
    if leave_out is not None:
        closeness[np.flatnonzero(leave_out >= 0), leave_out[leave_out >= 0]] = -np.inf
    last = np.sort(closeness, axis=1)[:, -memory.neighbours, np.newaxis]
    above = closeness - closeness.max(axis=1, keepdims=True)
    weights = np.exp(above / memory.width**2)
    floor = np.exp((last - closeness.max(axis=1, keepdims=True)) / memory.width**2)
    weights = np.maximum(weights - floor, 0) + LEAST_WEIGHT * weights
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

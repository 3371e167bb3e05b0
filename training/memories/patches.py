"""Small patches that normal images do not have, which a blurred comparison of images misses.

A patch is whitened by the covariance of normal patches, so that the grain of all images counts little. Its
squared length is compared with the usual one at its place and in its image, so that a scratch or a hole shows
however rough the surface is (docs/decisions/0016). No Keras here.
"""

import dataclasses

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter

SIDE, THINNING = 5, 2  # of a patch, in pixels of an image of half the side
LEAST_SIDE = 20  # smaller images are not thinned out
COVARIANCE_PATCHES, MOST_PATCHES = 20_000, 200_000
LEAST_VARIANCE, LEAST_ERROR = 1e-4, 1e-2  # shares of the whole variance, and of a usual error
FLAT_VARIANCE = 1e-6  # of whole patches; flat images have less, and a scratch in one must stay finite
PLACE_BLUR = 1.0
MOST_TIMES_USUAL = 100.0


@dataclasses.dataclass(frozen=True)
class Details:
    """All constants of the comparison of patches.

    Attributes
    ----------
    rows, columns : ndarray of shape (n_rows, height) and (n_columns, width), float32
        Averages that subsample an image.
    filters : ndarray of shape (SIDE, SIDE, channels, n_filters), float32
        Whitening of a patch after its mean is taken out.
    bias : ndarray of shape (n_filters,), float32
        Added to the results of the filters.
    usual : ndarray of shape (n_places,), float32
        Logarithm of the usual error of each place, row by row.
    up_rows, up_columns : ndarray of shape (height, ...) and (width, ...), float32
        Interpolation from places to pixels.
    unit : float
        Mean of the map over normal images.
    """

    rows: np.ndarray
    columns: np.ndarray
    filters: np.ndarray
    bias: np.ndarray
    usual: np.ndarray
    up_rows: np.ndarray
    up_columns: np.ndarray
    unit: float

    @property
    def map_shape(self) -> tuple[int, int]:
        """Rows and columns of places."""
        return (len(self.rows) - SIDE + 1, len(self.columns) - SIDE + 1)

    @property
    def least_error(self) -> float:
        """Added to every squared length: in flat images all places are alike."""
        return LEAST_ERROR * self.filters.shape[-1]


def fit_details(standard: np.ndarray, seed: int) -> Details | None:
    """Fit filters and usual errors to standardised normal images; None if the images are too small.

    Parameters
    ----------
    standard : ndarray of shape (n_samples, height, width) or (n_samples, height, width, channels), float32
    seed : int
        Seed of the images and patches that are drawn.
    """
    height, width = standard.shape[1:3]
    thinning = THINNING if min(height, width) >= LEAST_SIDE else 1
    rows, columns = thinning_matrix(height, thinning), thinning_matrix(width, thinning)
    if min(len(rows), len(columns)) < SIDE:
        return None
    rng = np.random.default_rng(seed)
    places = (len(rows) - SIDE + 1) * (len(columns) - SIDE + 1)
    chosen = rng.permutation(len(standard))[: max(2, MOST_PATCHES // places)]
    thin = thinned(standard[chosen], rows, columns)
    filters, bias = _whiten(patches_of(thin), rng)
    details = Details(
        rows=rows,
        columns=columns,
        filters=filters.reshape(SIDE, SIDE, -1, filters.shape[1]),
        bias=bias,
        usual=np.zeros(places, dtype=np.float32),
        up_rows=interpolation_matrix(height, len(rows) - SIDE + 1, thinning),
        up_columns=interpolation_matrix(width, len(columns) - SIDE + 1, thinning),
        unit=1.0,
    )
    logs = np.log(patch_errors(thin, details)).mean(axis=0).reshape(details.map_shape)
    usual = gaussian_filter(logs, PLACE_BLUR).ravel().astype(np.float32)
    details = dataclasses.replace(details, usual=usual)
    return dataclasses.replace(details, unit=float(details_map(standard[chosen], details).mean()))


def details_map(standard: np.ndarray, details: Details) -> np.ndarray:
    """Squared ratio of the error around each pixel to the usual error: (n, height, width).

    1 on average over normal images; squared so that one unusual patch counts more than many slight errors.
    """
    logs = np.log(patch_errors(thinned(standard, details.rows, details.columns), details)) - details.usual
    times = np.exp(logs - logs.mean(axis=1, keepdims=True)).clip(max=MOST_TIMES_USUAL)
    times = np.square(times).reshape(len(standard), *details.map_shape)
    return details.up_rows @ times @ details.up_columns.T / details.unit


def patch_errors(thin: np.ndarray, details: Details) -> np.ndarray:
    """Squared lengths of whitened patches: (n, n_places)."""
    patches = patches_of(thin)
    errors = np.empty(patches.shape[:2], dtype=np.float32)
    for image, own in enumerate(patches):
        white = own @ details.filters.reshape(own.shape[1], -1) + details.bias
        errors[image] = np.square(white).sum(axis=1)
    return errors + details.least_error


def patches_of(thin: np.ndarray) -> np.ndarray:
    """(n, n_rows, n_columns, channels) -> (n, n_places, SIDE * SIDE * channels)."""
    windows = sliding_window_view(thin, (SIDE, SIDE), axis=(1, 2))  # (n, rows, columns, channels, SIDE, SIDE)
    windows = windows.transpose(0, 1, 2, 4, 5, 3)
    return windows.reshape(len(thin), windows.shape[1] * windows.shape[2], -1)


def thinned(standard: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(n, height, width) or with channels -> (n, n_rows, n_columns, channels)."""
    maps = standard.reshape(*standard.shape[:3], -1)
    return np.einsum("nhwc,rh,kw->nrkc", maps, rows, columns, optimize=True)


def thinning_matrix(size: int, thinning: int) -> np.ndarray:
    """Means of `thinning` neighbours each; a remainder at the end is left out."""
    n_means = size // thinning
    matrix = np.repeat(np.eye(n_means, dtype=np.float32) / thinning, thinning, axis=1)
    return np.pad(matrix, ((0, 0), (0, size - n_means * thinning)))


def interpolation_matrix(size: int, n_places: int, thinning: int) -> np.ndarray:
    """Interpolate from the centres of patches to pixels, linearly, constant beyond the outermost."""
    centres = (np.arange(n_places) + SIDE / 2) * thinning - 0.5
    return np.stack([np.interp(np.arange(size), centres, one) for one in np.eye(n_places)], axis=1).astype(
        np.float32
    )


def _whiten(patches: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Whitening filters, one a column, and their bias; small variances are floored."""
    every = patches.reshape(-1, patches.shape[-1])
    drawn = every[rng.choice(len(every), min(len(every), COVARIANCE_PATCHES), replace=False)]
    size = drawn.shape[1]
    without_mean = np.eye(size) - 1 / size
    drawn = drawn.astype(np.float64) @ without_mean
    centre = drawn.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(drawn, rowvar=False))
    floor = LEAST_VARIANCE * max(float(values.clip(min=0).sum()), FLAT_VARIANCE)
    white = without_mean @ vectors[:, 1:] / np.sqrt(values[1:].clip(min=0) + floor)
    return white.astype(np.float32), (-centre @ white).astype(np.float32)

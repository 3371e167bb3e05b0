"""Pseudo-anomalies made from normal samples, to judge detectors without real anomalies."""

import numpy as np

FACTORS = (1.25, 3.0)
SHARES = (1 / 8, 1 / 2)  # of each side of an image


def make_pseudo_anomalies(
    samples: np.ndarray,
    kind: str,
    mean: np.ndarray,
    rng: np.random.Generator,
    categorical: np.ndarray | None = None,
) -> np.ndarray:
    """Make an almost normal copy of each sample; some are easy to tell from normal samples, some are hard.

    Parameters
    ----------
    samples : ndarray of shape (n_samples, *sample_shape)
        At least two.
    kind : str
        Rows and windows are exaggerated: their difference from the mean is made 1.25 to 3 times as large.
        Images get a box of an eighth to half of each side from another place of another image
        (CutPaste: Li, Sohn, Yoon, Pfister (2021), CVPR).
    mean : ndarray of shape sample_shape
        Mean of normal samples.
    rng : numpy.random.Generator
    categorical : ndarray of int, optional
        Features of rows that are categories; each gets the value of another row.

    Returns
    -------
    ndarray of the shape of `samples`
        Some may equal their sample, if both boxes show the same.
    """
    if kind == "image":
        return _with_foreign_boxes(samples, rng)
    factors = rng.uniform(*FACTORS, size=(len(samples), *[1] * (samples.ndim - 1)))
    copies = (mean + factors * (samples - mean)).astype(np.float32)
    for feature in () if categorical is None else categorical:
        copies[:, feature] = rng.permutation(samples[:, feature])
    return copies


def _with_foreign_boxes(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    n_images = len(images)
    donors = images[(np.arange(n_images) + rng.integers(1, n_images, size=n_images)) % n_images]
    copies = images.copy()
    for copy, donor in zip(copies, donors, strict=True):
        boxes: list[tuple[slice, slice]] = []  # to and from, for rows and for columns
        for side in copy.shape[:2]:
            least, largest = (max(1, round(side * share)) for share in SHARES)
            length = rng.integers(least, largest, endpoint=True)
            to, origin = rng.integers(0, side - length, size=2, endpoint=True)
            boxes.append((slice(to, to + length), slice(origin, origin + length)))
        (rows, from_rows), (columns, from_columns) = boxes
        copy[rows, columns] = donor[from_rows, from_columns]
    return copies

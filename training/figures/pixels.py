"""How well the error of a pixel tells anomalous pixels from others, by the masks of the test images."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def evaluate_pixels(
    errors: np.ndarray, is_anomaly: np.ndarray, masks: Mapping[int, np.ndarray]
) -> dict[str, Any]:
    """Compute the ROC AUC over all pixels of all images together.

    A normal image without a mask has no anomalous pixel. An anomaly without a mask is left out, since nothing
    says which of its pixels are anomalous.

    Parameters
    ----------
    errors : ndarray of shape (n_images, height, width[, channels]), float32
        Feature errors, as explanations and heat maps show them; the channels of a pixel are summed.
    is_anomaly : ndarray of shape (n_images,), bool
    masks : mapping of int to ndarray of shape (height, width), bool
        The anomalous pixels of an image, by its number.

    Returns
    -------
    dict
        `roc_auc`, None if all pixels or none are anomalous; `n_images`, of which `n_masks` have an anomalous
        pixel, and `n_without_mask`, the number of images that were left out.
    """
    height, width = errors.shape[1:3]
    blank = np.zeros((height, width), dtype=bool)
    kept = [row for row in range(len(errors)) if row in masks or not is_anomaly[row]]
    pixels = errors.reshape(len(errors), height, width, -1).sum(axis=3)
    marked = [masks.get(row, blank) for row in kept]
    return {
        "roc_auc": _roc_auc([pixels[row] for row in kept], marked),
        "n_images": len(kept),
        "n_masks": sum(bool(mask.any()) for mask in marked),
        "n_without_mask": len(errors) - len(kept),
    }


def _roc_auc(images: list[np.ndarray], marked: list[np.ndarray]) -> float | None:
    """Share of the pairs of an anomalous and another pixel in which the first is larger; ties count half.

    Image by image, so that the pixels of a large test split need not be sorted together.
    """
    pairs = list(zip(images, marked, strict=True))
    anomalous = np.sort(np.concatenate([image[mask] for image, mask in pairs] or [np.zeros(0)]))
    n_others = sum(int((~mask).sum()) for mask in marked)
    if not anomalous.size or not n_others:
        return None
    larger = 0.0
    for image, mask in pairs:
        others = np.sort(image[~mask])
        first = np.searchsorted(anomalous, others, side="left")
        behind = np.searchsorted(anomalous, others, side="right")
        larger += float((anomalous.size - (first + behind) / 2).sum())
    return larger / (anomalous.size * n_others)

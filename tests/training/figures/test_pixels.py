"""The ROC AUC of pixels agrees with scikit-learn's, and anomalies without a mask do not count."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from training.figures.pixels import evaluate_pixels

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_pixels_of_all_images_are_ranked_together(channels):
    """Ties count half; channels are summed; a normal image has no anomalous pixel."""
    errors = RNG.integers(0, 6, size=(4, 8, 9, *channels)).astype(np.float32)
    masks = {1: RNG.random((8, 9)) < 0.3, 2: RNG.random((8, 9)) < 0.1}

    figures = evaluate_pixels(errors, np.array([False, True, True, False]), masks)

    truth = np.stack([np.zeros((8, 9)), masks[1], masks[2], np.zeros((8, 9))]).ravel()
    expected = roc_auc_score(truth, errors.reshape(4, 8, 9, -1).sum(axis=3).ravel())
    assert figures == {
        "roc_auc": pytest.approx(expected, rel=1e-12),
        "n_images": 4,
        "n_masks": 2,
        "n_without_mask": 0,
    }


def test_an_anomaly_without_a_mask_is_left_out():
    """Its largest errors would count as false."""
    errors = np.zeros((3, 4, 4), np.float32)
    errors[0], errors[1, 0] = 9, 1
    masks = {1: errors[1] > 0}

    figures = evaluate_pixels(errors, np.array([True, True, False]), masks)

    assert figures == {"roc_auc": 1.0, "n_images": 2, "n_masks": 1, "n_without_mask": 1}


def test_masks_that_mark_nothing_give_no_figure():
    """There is nothing to rank."""
    blank = {0: np.zeros((4, 4), bool)}

    assert evaluate_pixels(np.ones((1, 4, 4), np.float32), np.array([True]), blank)["roc_auc"] is None

"""Explain scores: the features that contribute most to each, or the whole error map."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from detector.engine.batches import WINDOW_ERROR
from detector.engine.checks import feature_name, with_channels
from detector.engine.graphs import FEATURE_ERROR, RECONSTRUCTION
from detector.engine.session import check_stop
from detector.errors import InputError
from detector.manifest import Manifest
from detector.results import Contribution
from detector.tables import holds_cells, to_cell

ERROR_MAP = "map"


def explain_scores(
    samples: np.ndarray, outputs: Mapping[str, np.ndarray], features: int | Literal["map"], manifest: Manifest
) -> list[list[Contribution]] | np.ndarray:
    """Name the features that contribute most to each score, largest first, or return the error map, float32.

    A sample whose outputs are NaN has no contributions. Raise `InputError` if `features` is neither a
    positive integer nor `map`.

    Parameters
    ----------
    samples : ndarray
        As the caller brought them.
    outputs : mapping of str to ndarray
        `feature_error` and `reconstruction` of the graph; for a series also `window_error`.
    features : int or "map"
    manifest : Manifest
    """
    errors = outputs[FEATURE_ERROR]
    if features == ERROR_MAP:
        return errors.reshape(np.shape(samples))
    if not isinstance(features, int) or isinstance(features, bool) or features < 1:
        raise InputError(f"explain must be a positive integer or 'map', got {features!r}")
    expected = outputs[RECONSTRUCTION]
    actual, errors = with_channels(samples, manifest), errors.astype(np.float64)
    totals = outputs.get(WINDOW_ERROR, errors.reshape(len(errors), -1).sum(axis=1))
    contributions: list[list[Contribution]] = []
    for row in range(len(errors)):
        check_stop()
        contributions.append(
            []
            if np.isnan(totals[row])  # a step without a score
            else _contributions(actual[row], expected[row], errors[row], totals[row], features, manifest)
        )
    return contributions


def _contributions(
    actual: np.ndarray,
    expected: np.ndarray,
    error: np.ndarray,
    total: float,
    n_features: int,
    manifest: Manifest,
) -> list[Contribution]:
    """The largest shares of one sample's score; equal shares in the order of the features."""
    total = max(total, error.sum()) * (1 + 1e-12)  # so that rounded shares never sum above 1
    shares = error / total if total > 0 else error
    contributions = []
    for flat in np.argsort(-shares, axis=None, kind="stable")[:n_features]:
        index = tuple(map(int, np.unravel_index(flat, shares.shape)))
        contributions.append(
            Contribution(
                feature=feature_name(index, manifest.feature_names),
                index=index,
                contribution=float(shares[index]),
                actual=_cell(actual[index], index, manifest),
                expected=_cell(expected[index], index, manifest),
            )
        )
    return contributions


def _cell(value: Any, index: tuple[int, ...], manifest: Manifest) -> Any:
    """Write a value as a client reads it: a number of Python, the text of a category, None if missing."""
    if holds_cells(manifest):
        value = to_cell(value, (manifest.categories or {}).get(feature_name(index, manifest.feature_names)))
    if isinstance(value, np.float32 | np.float16):
        return float(str(value))  # 12.3, as JSON has it, and not 12.300000190734863
    return value.item() if isinstance(value, np.generic) else value

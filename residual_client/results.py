"""What the service answers, as arrays: decisions with their explanation, and classes."""

import dataclasses
from collections.abc import Sequence
from typing import Self

import numpy as np


@dataclasses.dataclass(frozen=True)
class Contribution:
    """One feature's part in one sample's score.

    Attributes
    ----------
    feature : str
        Its name, or its position where features have none; with the step, as `name[step]`, in a window.
    index : tuple of int
        Position within the sample; (step, channel) in a window, (channel,) at a step of a series.
    contribution : float
        Share of the score, in [0, 1].
    actual, expected : float, str or None
        The input and the model's reconstruction of it, raw units; the word of a category, None for a missing
        value.
    """

    feature: str
    index: tuple[int, ...]
    contribution: float
    actual: float | str | None
    expected: float | str | None


@dataclasses.dataclass(frozen=True)
class Scores:
    """Decisions; arrays have one element for each sample, of a series each step.

    Attributes
    ----------
    model : str
    version : int
        Who answered.
    score : ndarray of shape (n_samples,), float64
        Anomaly score, at least 0; higher is more anomalous.
    ratio : ndarray of shape (n_samples,), float64
        score / threshold; above 1 means anomaly.
    p_value : ndarray of shape (n_samples,), float64
        Conformal p-value; small is unusual.
    is_anomaly : ndarray of shape (n_samples,), bool
        score > threshold.
    threshold, alpha, expected_rate : float
        The rule that was applied.
    selected : ndarray of shape (n_samples,), bool, or None
        Benjamini-Hochberg selection over all samples of the call, where it was asked for.
    explanation : list of list of Contribution, ndarray of the shape of the samples, or None
        The largest contributions of each sample, or the whole error map, where asked for.
    """

    model: str
    version: int
    score: np.ndarray
    ratio: np.ndarray
    p_value: np.ndarray
    is_anomaly: np.ndarray
    threshold: float
    alpha: float
    expected_rate: float
    selected: np.ndarray | None = None
    explanation: list[list[Contribution]] | np.ndarray | None = None

    def take(self, rows: np.ndarray) -> Self:
        """The decisions on some of the samples, by their positions."""
        arrays = {name: getattr(self, name)[rows] for name in ("score", "ratio", "p_value", "is_anomaly")}
        selected = None if self.selected is None else self.selected[rows]
        explanation = self.explanation
        if explanation is not None:
            explanation = (
                explanation[rows]
                if isinstance(explanation, np.ndarray)
                else [explanation[row] for row in rows]
            )
        return dataclasses.replace(self, **arrays, selected=selected, explanation=explanation)


@dataclasses.dataclass(frozen=True)
class Classes:
    """Classes of samples.

    Attributes
    ----------
    model : str
    version : int
        Who answered.
    label : ndarray of shape (n_samples,), str
        The most probable class of each sample.
    probability : ndarray of shape (n_samples, n_classes), float32
        In the order of `classes`; a row sums to 1.
    classes : tuple of str
    """

    model: str
    version: int
    label: np.ndarray
    probability: np.ndarray
    classes: tuple[str, ...]


def join_scores(parts: Sequence[Scores]) -> Scores:
    """The answers to the parts of one call, in order, as one; all of one model and rule."""
    if len(parts) == 1:
        return parts[0]
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("score", "ratio", "p_value", "is_anomaly")
    }
    explanation = parts[0].explanation
    if isinstance(explanation, np.ndarray):
        explanation = np.concatenate([part.explanation for part in parts])
    elif explanation is not None:
        explanation = [named for part in parts for named in part.explanation]
    return dataclasses.replace(parts[0], **arrays, selected=None, explanation=explanation)


def join_classes(parts: Sequence[Classes]) -> Classes:
    """The answers to the parts of one call, in order, as one."""
    if len(parts) == 1:
        return parts[0]
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in ("label", "probability")
    }
    return dataclasses.replace(parts[0], **arrays)

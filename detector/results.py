"""What a detector answers: decisions with their explanation, classes, packed latents."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import numpy as np


@dataclasses.dataclass(frozen=True)
class Contribution:
    """How much one feature contributes to the score of one sample.

    Attributes
    ----------
    feature : str
        Its name, or its position where features have no names; in a window with the step, `name[step]`.
    index : tuple of int
        Position within the sample; (step, channel) in a window, (channel,) at a step of a series.
    contribution : float
        Share of the score, in [0, 1].
    actual, expected : float, int, str or None
        The input and its reconstruction, in raw units, as numbers of Python with the digits of their dtype.
        The text of a category; None for a missing value.
    """

    feature: str
    index: tuple[int, ...]
    contribution: float
    actual: float | int | str | None
    expected: float | int | str | None


@dataclasses.dataclass
class Scores:
    """Decisions for a batch. Arrays have one element for each sample, or for each step of a series.

    Attributes
    ----------
    score : ndarray of shape (n_samples,), float64
        Anomaly score, at least 0; higher is more anomalous. NaN if there is none, since the window holds a
        missing value; only of series that may have missing values, see `scored`.
    ratio : ndarray of shape (n_samples,), float64
        score / threshold; above 1 means anomaly.
    p_value : ndarray of shape (n_samples,), float64
        Conformal p-value; small is unusual.
    is_anomaly : ndarray of shape (n_samples,), bool
        score > threshold; also true without a score, so that nobody takes an unknown step for a normal one.
    threshold, alpha, expected_rate : float
        The rule that was applied.
    model : str
    version : int
        The model that answered.
    selected : ndarray of shape (n_samples,), bool, or None
        Benjamini-Hochberg selection, if requested; true without a score.
    explanation : list of list of Contribution, ndarray of the shape of the samples, or None
        The largest contributions to each sample's score, or the whole error map, if requested; an empty list
        or NaN without a score.
    """

    score: np.ndarray
    ratio: np.ndarray
    p_value: np.ndarray
    is_anomaly: np.ndarray
    threshold: float
    alpha: float
    expected_rate: float
    model: str
    version: int
    selected: np.ndarray | None = None
    explanation: list[list[Contribution]] | np.ndarray | None = None

    @property
    def scored(self) -> np.ndarray:
        """Whether each sample has a score, bool."""
        scored: np.ndarray = ~np.isnan(self.score)
        return scored

    def or_none(self, values: np.ndarray) -> np.ndarray:
        """Return values of the samples as objects, with None for each sample without a score."""
        cells = values.astype(object)
        cells[~self.scored] = None
        return cells

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Join consecutive parts, all of one model and rule; the result has no selection."""
        if len(parts) == 1:
            return parts[0]
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in _PER_SAMPLE
        }
        explanations: list[Any] = [part.explanation for part in parts]
        explanation: Any = None
        if isinstance(explanations[0], np.ndarray):
            explanation = np.concatenate(explanations)
        elif explanations[0] is not None:
            explanation = [sample for samples in explanations for sample in samples]
        return dataclasses.replace(parts[0], **arrays, selected=None, explanation=explanation)

    def take(self, rows: np.ndarray) -> Self:
        """Keep the samples at these positions."""
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in _PER_SAMPLE}
        selected = None if self.selected is None else self.selected[rows]
        explanation = self.explanation
        if isinstance(explanation, np.ndarray):
            explanation = explanation[rows]
        elif explanation is not None:
            explanation = [explanation[row] for row in rows]
        return dataclasses.replace(self, **arrays, selected=selected, explanation=explanation)


_PER_SAMPLE = ("score", "ratio", "p_value", "is_anomaly")


@dataclasses.dataclass(frozen=True)
class Classes:
    """The class of each sample of a batch.

    Attributes
    ----------
    label : ndarray of shape (n_samples,), str
        The most probable class of each sample, the first of equals.
    probability : ndarray of shape (n_samples, n_classes), float32
        In the order of `classes`; a row sums to 1.
    classes : tuple of str
    model : str
    version : int
        The model that answered.
    """

    label: np.ndarray
    probability: np.ndarray
    classes: tuple[str, ...]
    model: str
    version: int

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Join consecutive parts, all of one model."""
        if len(parts) == 1:
            return parts[0]
        return dataclasses.replace(
            parts[0],
            label=np.concatenate([part.label for part in parts]),
            probability=np.concatenate([part.probability for part in parts]),
        )


@dataclasses.dataclass(frozen=True)
class Compressed:
    """Latents as they are sent or stored, with their compression ratio and error.

    Attributes
    ----------
    latent : ndarray of shape (n_samples, *latent_shape), float32, float16 or int8
    ratio : float
        Bytes of the raw samples over bytes of the latents; a pixel of an image counts as one byte, any other
        value as four.
    error : float
        Root mean squared difference, in raw units, between the samples and the decoding of these latents.
    """

    latent: np.ndarray
    ratio: float
    error: float

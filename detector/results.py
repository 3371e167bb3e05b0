"""What a detector answers: decisions with their explanation, and classes."""

import dataclasses
from collections.abc import Iterable

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
    actual, expected : NumPy number, str, float or None
        The input, in its own dtype, and the model's reconstruction of it, float32; raw units. The word of a
        category, None for a missing value.
    """

    feature: str
    index: tuple[int, ...]
    contribution: float
    actual: np.number | str | float | None
    expected: np.number | str | float | None


@dataclasses.dataclass
class Scores:
    """What a detector says of a batch; arrays have one element for each sample, of a series each step.

    Attributes
    ----------
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
        Benjamini-Hochberg selection, where it was asked for.
    explanation : list of list of Contribution, ndarray of the shape of the samples, or None
        The largest contributions of each sample, or the whole error map, where asked for.
    """

    score: np.ndarray
    ratio: np.ndarray
    p_value: np.ndarray
    is_anomaly: np.ndarray
    threshold: float
    alpha: float
    expected_rate: float
    selected: np.ndarray | None = None
    explanation: list[list[Contribution]] | np.ndarray | None = None

    def split(self, lengths: Iterable[int]) -> "list[Scores]":
        """The scores of parts of the batch, one behind the other; without selection and explanation."""
        rule = (self.threshold, self.alpha, self.expected_rate)
        arrays = (self.score, self.ratio, self.p_value, self.is_anomaly)
        parts, start = [], 0
        for length in lengths:
            end = start + length
            parts.append(Scores(*(array[start:end] for array in arrays), *rule))
            start = end
        return parts


@dataclasses.dataclass(frozen=True)
class Classes:
    """What a classifier says of a batch.

    Attributes
    ----------
    label : ndarray of shape (n_samples,), str
        The most probable class of each sample, the first of equals.
    probability : ndarray of shape (n_samples, n_classes), float32
        In the order of `classes`; a row sums to 1.
    classes : tuple of str
    """

    label: np.ndarray
    probability: np.ndarray
    classes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Compressed:
    """Latents as they are sent or stored, and what that costs.

    Attributes
    ----------
    latent : ndarray of shape (n_samples, *latent_shape), float32, float16 or int8
    ratio : float
        Bytes of the raw samples, a pixel of an image one byte and any other value four, over bytes of the
        latents.
    error : float
        Root mean squared difference, in raw units, between the samples and the decoding of exactly these
        latents.
    """

    latent: np.ndarray
    ratio: float
    error: float

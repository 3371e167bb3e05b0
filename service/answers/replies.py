"""Content of answers, independent of their media type."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from detector import Classes, Compressed, Detector, Manifest, Scores
from detector.images import encode_heat_map, encode_image
from detector.schema import GAP_RULES
from detector.tables import holds_cells, to_cells
from service.bodies import TIMESTAMP, Timestamp, column_names
from service.http.problems import Problem

SCORE, RECONSTRUCTION, LATENT, PROBABILITY = "score", "reconstruction", "latent", "probability"
IS_ANOMALY, SELECTED, UNSCORED = "is_anomaly", "selected", "unscored"
WHY_UNSCORED = "the window holds a missing value"
WHY_NOT_FINITE = "the model's answer is not finite"
Result = Scores | Compressed | Classes | np.ndarray


@dataclasses.dataclass(frozen=True)
class Block:
    """Columns of a table that share an array: their names, and values of shape (n,) or (n, n_names)."""

    names: Sequence[str]
    values: np.ndarray | list[Any]


_CELL_VALUES = 8  # writing a text or a contribution takes as long as this many values of an array


class Reply:
    """Content of an answer.

    Attributes
    ----------
    detector : Detector
    timestamps : list of str, int or float, or None
        One for each step of a series, in order.
    """

    def __init__(self, detector: Detector, timestamps: list[Timestamp] | None) -> None:
        self.detector = detector
        self.timestamps = timestamps

    def head(self) -> Mapping[str, Any]:
        """Return the values that are not per sample, except model and version."""
        return {}

    def rows(self) -> dict[str, Any]:
        """Return the values of each sample by name, in order."""
        return {} if self.timestamps is None else {TIMESTAMP: self.timestamps}

    def array(self) -> np.ndarray:
        """Return the main array, for media types that hold only one."""
        raise NotImplementedError

    def size(self) -> int:
        """Estimate how many values must be written."""
        return self.array().size

    def blocks(self) -> list[Block]:
        """Return the rows as columns of a table, for answers that can be a table."""
        return [] if self.timestamps is None else [Block((TIMESTAMP,), self.timestamps)]

    def image(self) -> bytes:
        """Return a PNG, for answers to a single image."""
        raise NotImplementedError


class ScoreReply(Reply):
    """Scores and decisions."""

    def __init__(self, detector: Detector, scores: Scores, timestamps: list[Timestamp] | None) -> None:
        super().__init__(detector, timestamps)
        self.scores = scores

    def head(self) -> Mapping[str, Any]:
        """See `Reply`."""
        scores = self.scores
        rule = {"alpha": scores.alpha, "expected_rate": scores.expected_rate, "threshold": scores.threshold}
        return rule | unscored(scores, self.detector.manifest)

    def rows(self) -> dict[str, Any]:
        """See `Reply`."""
        rows = super().rows() | self._columns()
        if self.scores.explanation is not None:
            rows["explanation"] = self.scores.explanation
        return rows

    def array(self) -> np.ndarray:
        """See `Reply`."""
        return self.scores.score

    def blocks(self) -> list[Block]:
        """See `Reply`."""
        return super().blocks() + [Block((name,), values) for name, values in self._columns().items()]

    def image(self) -> bytes:
        """See `Reply`."""
        error_map = cast(np.ndarray, self.scores.explanation)
        _check_drawn(error_map)
        return encode_heat_map(error_map[0], cast(float, self.detector.usual_error))

    def _columns(self) -> dict[str, np.ndarray | list[bool | None]]:
        scores = self.scores
        columns: dict[str, np.ndarray | list[bool | None]] = {
            SCORE: scores.score,
            "ratio": scores.ratio,
            "p_value": scores.p_value,
            IS_ANOMALY: scores.is_anomaly,
        }
        if scores.selected is not None:
            columns[SELECTED] = scores.selected
        if self.detector.manifest.missing in GAP_RULES or not scores.scored.all():
            columns |= decisions(scores)
        return columns


def decisions(scores: Scores) -> dict[str, list[bool | None]]:
    """Return the decisions by name, None for a step without a score, which JSON writes as null."""
    columns = {IS_ANOMALY: scores.is_anomaly}
    if scores.selected is not None:
        columns[SELECTED] = scores.selected
    return {name: scores.or_none(values).tolist() for name, values in columns.items()}


def unscored(scores: Scores, manifest: Manifest) -> dict[str, Any]:
    """Return the member that counts the samples or steps without a score; empty if there are none."""
    count = int(np.count_nonzero(~scores.scored))
    reason = WHY_UNSCORED if manifest.missing in GAP_RULES else WHY_NOT_FINITE
    return {UNSCORED: {"count": count, "reason": reason}} if count else {}


class ClassReply(Reply):
    """Classes and their probabilities."""

    def __init__(self, detector: Detector, classes: Classes) -> None:
        super().__init__(detector, None)
        self.classes = classes

    def head(self) -> Mapping[str, Any]:
        """See `Reply`."""
        return {"classes": self.classes.classes}

    def rows(self) -> dict[str, Any]:
        """See `Reply`."""
        return {"label": self.classes.label.tolist(), PROBABILITY: self.classes.probability}

    def array(self) -> np.ndarray:
        """See `Reply`."""
        return self.classes.probability

    def blocks(self) -> list[Block]:
        """See `Reply`."""
        names = [f"{PROBABILITY}_{name}" for name in self.classes.classes]
        return [Block(("label",), self.classes.label.tolist()), Block(names, self.classes.probability)]


class ArrayReply(Reply):
    """A reconstruction, or latents; the rows of a reconstruction hold text for categories."""

    def __init__(
        self, detector: Detector, output: str, values: np.ndarray, timestamps: list[Timestamp] | None
    ) -> None:
        super().__init__(detector, timestamps)
        self.output = output
        self.values = values

    def rows(self) -> dict[str, Any]:
        """See `Reply`."""
        return {**super().rows(), self.output: self._cells()}

    def array(self) -> np.ndarray:
        """See `Reply`."""
        return self.values

    def blocks(self) -> list[Block]:
        """See `Reply`."""
        names = self.detector.manifest.feature_names if self.output == RECONSTRUCTION else None
        columns = column_names(names, self.values.shape[1:] or (1,))
        return [*super().blocks(), Block(columns, self._cells())]

    def image(self) -> bytes:
        """See `Reply`."""
        _check_drawn(self.values)
        return encode_image(self.values[0], cast(tuple[float, float], self.detector.manifest.value_range))

    def _cells(self) -> np.ndarray | list[Any]:
        manifest = self.detector.manifest
        has_words = self.output == RECONSTRUCTION and manifest.kind == "vector" and holds_cells(manifest)
        return to_cells(self.values, manifest) if has_words else self.values


def _check_drawn(values: np.ndarray) -> None:
    """Refuse to draw values that are not finite."""
    if not np.isfinite(values).all():
        raise Problem("invalid-input", f"{WHY_NOT_FINITE}, so no image can show it: ask for another format")


def reply_to(
    output: str, detector: Detector, result: Result, timestamps: list[Timestamp] | None = None
) -> Reply:
    """Return the content of the answer to a verb that returns the array `output`."""
    if isinstance(result, Scores):
        return ScoreReply(detector, result, timestamps)
    if isinstance(result, Classes):
        return ClassReply(detector, result)
    values = result.latent if isinstance(result, Compressed) else result
    return ArrayReply(detector, output, values, timestamps)


def size_of(values: np.ndarray | list[Any]) -> int:
    """Estimate the values of an array or a list, whose rows have one length and take longer to write."""
    if isinstance(values, np.ndarray):
        return values.size
    return len(values) * (_CELL_VALUES * len(values[0]) if values and isinstance(values[0], list) else 1)

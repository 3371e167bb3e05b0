"""Scores of the steps of a series, as the service answers a whole series, and flagged stretches."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from detector.inference import RECONSTRUCTION, SCORE, Detector
from detector.manifest import Manifest
from detector.windows import merge_scores, window_starts
from training.data.dataset import Dataset
from training.data.series import describe_windows, runs


@dataclasses.dataclass(frozen=True)
class StepRun:
    """Parts of a series, concatenated, with the scores and decisions of their steps.

    Attributes
    ----------
    steps : ndarray of shape (n,), int
        Positions in the series.
    part : ndarray of shape (n,), int
        Which part each step belongs to; a part has no gap in time and one entity.
    samples, reconstruction : ndarray of shape (n, n_channels), raw units
    score : ndarray of shape (n,), float64
    is_flagged, is_anomaly : ndarray of shape (n,), bool
    touches_anomaly : ndarray of shape (n,), bool
        Whether an anomalous step is in a window that the score of a step comes from.
    """

    steps: np.ndarray
    part: np.ndarray
    samples: np.ndarray
    reconstruction: np.ndarray
    score: np.ndarray
    is_flagged: np.ndarray
    is_anomaly: np.ndarray
    touches_anomaly: np.ndarray

    def judged(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The arguments of `evaluate_steps`."""
        return self.score, self.is_flagged, self.is_anomaly, self.touches_anomaly


def run_steps(
    detector: Detector, series: Dataset, parts: Sequence[slice], alpha: float | None = None
) -> StepRun | None:
    """Score each part as if it were posted whole; None if no part is as long as a window.

    Parameters
    ----------
    detector : Detector
    series : Dataset
        Its samples are steps.
    parts : sequence of slice
        Slices of its steps; parts shorter than a window are left out.
    alpha : float, optional
        False-alarm rate to decide by instead of the model's own.

    Raises
    ------
    DetectorError
        If the steps do not fit the model.
    """
    parts = [part for part in parts if part.stop - part.start >= detector.manifest.window]
    if not parts:
        return None
    outputs = [
        detector.engine.run(detector.engine.check_samples(series.samples[part]), (SCORE, RECONSTRUCTION))
        for part in parts
    ]
    score = detector.engine.finite(np.concatenate([output[SCORE] for output in outputs]))
    steps = np.concatenate([np.arange(part.start, part.stop) for part in parts])
    return StepRun(
        steps=steps,
        part=np.repeat(np.arange(len(parts)), [part.stop - part.start for part in parts]),
        samples=series.samples[steps],
        reconstruction=np.concatenate([output[RECONSTRUCTION] for output in outputs]),
        score=score,
        is_flagged=score > detector.engine.threshold(alpha).value,
        is_anomaly=series.is_anomaly[steps],
        touches_anomaly=np.concatenate(
            [_touches(series.is_anomaly[part], detector.manifest) for part in parts]
        ),
    )


def _touches(is_anomaly: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Whether the score of each step of a part comes from a window with an anomalous step."""
    window = manifest.window
    starts = window_starts(len(is_anomaly), window, manifest.stride)
    holds, _ = describe_windows(is_anomaly, None, starts, window)
    return merge_scores(holds, starts, len(is_anomaly), window, manifest.merge) > 0


def flagged_stretches(run: StepRun, series: Dataset) -> list[dict[str, Any]]:
    """List stretches of consecutive flagged steps, in order of time.

    Returns
    -------
    list of dict
        `entity` and the times are None if the series has none; `first_step` and `last_step` are positions in
        the series, `n_anomalous` is how many of its steps the data call anomalous.
    """
    timeline = series.timeline
    keys = np.where(run.is_flagged, run.part, -1)
    return [
        {
            "entity": timeline.names[timeline.entities[run.steps[run_of.start]]] or None,
            "first_step": int(run.steps[run_of.start]),
            "last_step": int(run.steps[run_of.stop - 1]),
            "first_time": timeline.time_text(run.steps[run_of.start]),
            "last_time": timeline.time_text(run.steps[run_of.stop - 1]),
            "n_steps": run_of.stop - run_of.start,
            "highest_score": float(run.score[run_of].max()),
            "n_anomalous": int(run.is_anomaly[run_of].sum()),
        }
        for run_of in runs(keys)
        if run.is_flagged[run_of.start]
    ]

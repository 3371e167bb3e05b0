"""Render `report.json`, `report.html` and the model card from the same figures."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from detector.engine.graphs import FEATURE_ERROR, LATENT, RECONSTRUCTION, SCORE
from detector.files import CARD_FILE, FIGURES_FILE, REPORT_FILE
from detector.results import Contribution
from training.data.dataset import Dataset, spread
from training.figures.stepwise import StepRun
from training.networks.fitting import History
from training.pages import charts
from training.pages.latent_plane import fit_plane, group_samples
from training.pages.render import render, to_json

N_SHOWN = 4  # samples shown of each side: usual and unusual


@dataclasses.dataclass(frozen=True)
class TestRun:
    """The test split with the outputs of the exported model.

    Attributes
    ----------
    samples : ndarray of shape (n_samples, *sample_shape), raw units
    is_anomaly : ndarray of shape (n_samples,), bool
    labels : ndarray of shape (n_samples,), str, or None
    outputs : dict of str to ndarray
        Every output of `model.onnx`.
    shown : ndarray of int
        Positions of the samples that the report shows, chosen by `choose_shown`.
    explanation : list of list of Contribution
        The largest contributions to the score of each shown sample; empty unless the samples are rows.
    steps : StepRun, or None
        The steps of the test split, if the samples are windows of a series.
    denoised : tuple of ndarray, or None
        For a preset that denoises images: a few normal ones, copies corrupted as in the fit, and the
        reconstructions of the copies; each of shape (n_shown, *sample_shape), raw units.
    """

    samples: np.ndarray
    is_anomaly: np.ndarray
    labels: np.ndarray | None
    outputs: dict[str, np.ndarray]
    shown: np.ndarray
    explanation: Sequence[Sequence[Contribution]] = ()
    steps: StepRun | None = None
    denoised: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


def choose_shown(scores: np.ndarray, is_anomaly: np.ndarray) -> np.ndarray:
    """Choose normal samples with evenly spread scores, then anomalies, or without any the highest scores.

    Return their positions, int, at most `N_SHOWN` of each.
    """
    normal, anomalies = np.flatnonzero(~is_anomaly), np.flatnonzero(is_anomaly)
    usual = normal[np.argsort(scores[normal])][spread(normal.size, N_SHOWN)]
    unusual = anomalies[np.argsort(scores[anomalies])] if anomalies.size else np.argsort(scores)[-N_SHOWN:]
    unusual = np.setdiff1d(unusual[spread(unusual.size, N_SHOWN)], usual, assume_unique=True)
    return np.concatenate([usual, unusual]).astype(int)


def write_report(
    figures: dict[str, Any],
    history: History | None,
    calibration_scores: np.ndarray,
    test: TestRun,
    dataset: Dataset,
) -> dict[str, bytes]:
    """Render the three files.

    Parameters
    ----------
    figures : dict
        All words and numbers of the pages; written to `report.json` unchanged.
    history, calibration_scores, test, dataset
        Data of the charts.

    Returns
    -------
    dict of file name to bytes
    """
    inputs = "corrupted" if figures["configuration"]["corrupt_validation"] else "clean"
    losses = (history.train_loss, history.validation_loss, history.best_epoch, inputs) if history else None
    shows_samples, threshold = figures["configuration"]["samples"], figures["threshold"]["value"]
    scores, is_anomaly = test.outputs[SCORE], test.is_anomaly
    ranked = is_anomaly.any() and not is_anomaly.all()
    images = {
        "losses": charts.loss_chart(*losses) if losses else None,
        "scores": charts.score_chart(calibration_scores, scores[~is_anomaly], scores[is_anomaly], threshold),
        "ranking": charts.ranking_charts(scores, is_anomaly, threshold) if ranked else (),
        "latent": _latent_chart(test) if LATENT in test.outputs else None,
        "sweep": charts.sweep_chart(figures["sweep"]["trials"]) if figures["sweep"] else None,
        "steps": _step_charts(threshold, test, dataset, shows_samples) if test.steps else (),
        "samples": _shown_samples(test, dataset) if shows_samples else (),
        "denoised": charts.denoising_charts(*test.denoised, dataset.value_range)
        if shows_samples and test.denoised
        else (),
    }
    return {
        FIGURES_FILE: to_json(figures),
        REPORT_FILE: render("report.html.jinja", figures, images),
        CARD_FILE: render("card.md.jinja", figures),
    }


def _latent_chart(test: TestRun) -> str:
    latent = test.outputs[LATENT].reshape(len(test.samples), -1)
    groups = group_samples(test.labels, test.is_anomaly)
    plane = fit_plane(latent, groups)
    return charts.latent_chart(plane.project(latent), groups, plane.names)


def _shown_samples(test: TestRun, dataset: Dataset) -> list[dict[str, Any]]:
    """Describe the shown samples: each has a caption, and a chart or, for rows, its contributions."""
    rows = test.shown
    words = ["anomaly" if test.is_anomaly[row] else "normal" for row in rows]
    captions = [
        f"{word}, score {test.outputs[SCORE][row]:.4g}" for word, row in zip(words, rows, strict=True)
    ]
    if dataset.kind == "vector":
        parts = {"contributions": test.explanation}
    else:
        parts = {"chart": _sample_charts(test, dataset, rows)}
    return [
        {"caption": caption} | {name: values[position] for name, values in parts.items()}
        for position, caption in enumerate(captions)
    ]


def _sample_charts(test: TestRun, dataset: Dataset, rows: np.ndarray) -> list[str]:
    samples = test.samples[rows].astype(np.float32)
    reconstructions, errors = test.outputs[RECONSTRUCTION][rows], test.outputs[FEATURE_ERROR][rows]
    if dataset.kind == "sequence":
        return charts.window_charts(samples, reconstructions, errors, dataset.feature_names)
    latents = test.outputs[LATENT][rows] if LATENT in test.outputs else None
    return charts.image_charts(samples, latents, reconstructions, errors, dataset.value_range)


def _step_charts(threshold: float, test: TestRun, dataset: Dataset, shows_samples: bool) -> tuple[str, str]:
    """Draw the steps for a large and for a small screen."""
    run, timeline = test.steps, dataset.timeline

    def time_of(position: int) -> str:
        return timeline.time_text(run.steps[position]) or str(run.steps[position])

    def entity_of(position: int) -> str:
        return timeline.names[timeline.entities[run.steps[position]]]

    series = (run.samples if shows_samples else None, run.reconstruction, run, threshold)
    wide, small = (
        charts.step_chart(*series, dataset.feature_names, time_of, entity_of, width)
        for width in (charts.WIDE, charts.WIDTH)
    )
    return wide, small

"""Render `report.json`, `report.html` and the model card from the same figures."""

import dataclasses
from typing import Any

import numpy as np

from detector.engine.graphs import FEATURE_ERROR, LATENT, RECONSTRUCTION, SCORE
from detector.files import CARD_FILE, FIGURES_FILE, REPORT_FILE
from training.data.dataset import Dataset, spread
from training.data.scaling import Scaling
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
    steps: StepRun | None = None
    denoised: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None


def write_report(
    figures: dict[str, Any],
    history: History | None,
    calibration_scores: np.ndarray,
    test: TestRun,
    dataset: Dataset,
    scaling: Scaling,
) -> dict[str, bytes]:
    """Render the three files.

    Parameters
    ----------
    figures : dict
        All words and numbers of the pages; written to `report.json` unchanged.
    history, calibration_scores, test, dataset, scaling
        Data of the charts.

    Returns
    -------
    dict of file name to bytes
    """
    inputs = "corrupted" if figures["configuration"]["corrupt_validation"] else "clean"
    losses = (history.train_loss, history.validation_loss, history.best_epoch, inputs) if history else None
    shows_samples = figures["configuration"]["samples"]
    images = {
        "losses": charts.loss_chart(*losses) if losses else None,
        "scores": charts.score_chart(
            calibration_scores,
            test.outputs[SCORE][~test.is_anomaly],
            test.outputs[SCORE][test.is_anomaly],
            figures["threshold"]["value"],
        ),
        "latent": _latent_chart(test) if LATENT in test.outputs else None,
        "sweep": charts.sweep_chart(figures["sweep"]["trials"]) if figures["sweep"] else None,
        "steps": _step_chart(figures, test, dataset, scaling) if test.steps else None,
        "samples": _sample_chart(test, dataset, scaling) if shows_samples else None,
        "denoised": charts.denoising_chart(*test.denoised, dataset.value_range)
        if shows_samples and test.denoised
        else None,
    }
    return {
        FIGURES_FILE: to_json(figures),
        REPORT_FILE: render("report.html.jinja", figures, images),
        CARD_FILE: render("card.md.jinja", figures),
    }


def _latent_chart(test: TestRun) -> str:
    latent = test.outputs[LATENT].reshape(len(test.samples), -1)
    plane, groups = fit_plane(latent), group_samples(test.labels, test.is_anomaly)
    return charts.latent_chart(plane.project(latent), groups, plane.names)


def _sample_chart(test: TestRun, dataset: Dataset, scaling: Scaling) -> str:
    rows, titles = _shown(test)
    samples = test.samples[rows].astype(np.float32)
    reconstructions, errors = test.outputs[RECONSTRUCTION][rows], test.outputs[FEATURE_ERROR][rows]
    if dataset.kind == "image":
        latents = test.outputs[LATENT][rows] if LATENT in test.outputs else None
        return charts.image_chart(samples, latents, reconstructions, errors, titles, dataset.value_range)
    shown = (scaling.shown(samples), scaling.shown(reconstructions), errors, titles, dataset.feature_names)
    if dataset.kind == "sequence":
        return charts.window_chart(*shown)
    words = "standard deviations from the mean"
    if scaling.layout is not None:
        words += ", categories from -1 to 1 in their order, missing values nowhere"
    return charts.feature_chart(*shown, words)


def _step_chart(figures: dict[str, Any], test: TestRun, dataset: Dataset, scaling: Scaling) -> str:
    run, timeline, shown = test.steps, dataset.timeline, figures["configuration"]["samples"]
    return charts.step_chart(
        scaling.apply(run.samples) if shown else None,
        scaling.apply(run.reconstruction),
        run,
        figures["threshold"]["value"],
        dataset.feature_names,
        lambda position: timeline.time_text(run.steps[position]) or str(run.steps[position]),
        lambda position: timeline.names[timeline.entities[run.steps[position]]],
    )


def _shown(test: TestRun) -> tuple[np.ndarray, list[str]]:
    """Choose normal samples with evenly spread scores, then anomalies, or without any the highest scores."""
    scores = test.outputs[SCORE]
    normal, anomalies = np.flatnonzero(~test.is_anomaly), np.flatnonzero(test.is_anomaly)
    usual = normal[np.argsort(scores[normal])][spread(normal.size, N_SHOWN)]
    unusual = anomalies[np.argsort(scores[anomalies])] if anomalies.size else np.argsort(scores)[-N_SHOWN:]
    unusual = np.setdiff1d(unusual[spread(unusual.size, N_SHOWN)], usual, assume_unique=True)
    rows = np.concatenate([usual, unusual]).astype(int)
    words = ["anomaly" if test.is_anomaly[row] else "normal" for row in rows]
    return rows, [f"{word}\nscore {scores[row]:.3g}" for word, row in zip(words, rows, strict=True)]

"""Render `report.json`, `report.html` and the model card from the same figures."""

import dataclasses
from typing import Any

import numpy as np

from detector.engine.graphs import FEATURE_ERROR, LATENT, RECONSTRUCTION, SCORE
from detector.files import CARD_FILE, FIGURES_FILE, REPORT_FILE
from training.data.dataset import Dataset
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
        For a preset that denoises images: a few normal ones, the same corrupted as in the fit, and the
        reconstructions of these; each of shape (n_shown, *sample_shape), raw units.
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
    images = {
        "losses": _loss_chart(figures, history) if history else None,
        "scores": charts.score_chart(
            calibration_scores,
            test.outputs[SCORE][~test.is_anomaly],
            test.outputs[SCORE][test.is_anomaly],
            figures["threshold"]["value"],
        ),
        "latent": _latent_chart(test) if LATENT in test.outputs else None,
        "sweep": charts.sweep_chart(figures["sweep"]["trials"]) if figures["sweep"] else None,
        "steps": _step_chart(figures, test, dataset, scaling) if test.steps else None,
        "samples": _sample_chart(test, dataset, scaling) if figures["configuration"]["samples"] else None,
        "denoised": _denoising_chart(test, dataset) if figures["configuration"]["samples"] else None,
    }
    return {
        FIGURES_FILE: to_json(figures),
        REPORT_FILE: render("report.html.jinja", figures, images),
        CARD_FILE: render("card.md.jinja", figures),
    }


def _loss_chart(figures: dict[str, Any], history: History) -> str:
    inputs = "corrupted" if figures["configuration"]["corrupt_validation"] else "clean"
    return charts.loss_chart(history.train_loss, history.validation_loss, history.best_epoch, inputs)


def _latent_chart(test: TestRun) -> str:
    latent = test.outputs[LATENT].reshape(len(test.samples), -1)
    plane = fit_plane(latent)
    return charts.latent_chart(
        plane.project(latent), group_samples(test.labels, test.is_anomaly), plane.names
    )


def _sample_chart(test: TestRun, dataset: Dataset, scaling: Scaling) -> str:
    rows, titles = _shown(test)
    samples = test.samples[rows].astype(np.float32)
    reconstructions, errors = test.outputs[RECONSTRUCTION][rows], test.outputs[FEATURE_ERROR][rows]
    if dataset.kind == "image":
        low, high = dataset.value_range
        latents = test.outputs[LATENT][rows] if LATENT in test.outputs else None
        return charts.image_chart(samples, latents, reconstructions, errors, titles, low=low, high=high)
    shown = (scaling.shown(samples), scaling.shown(reconstructions), errors, titles, dataset.feature_names)
    if dataset.kind == "sequence":
        return charts.window_chart(*shown)
    return charts.feature_chart(*shown, *[_MIXED_WORDS] * (scaling.layout is not None))


_MIXED_WORDS = (
    "standard deviations from the mean, categories from -1 to 1 in their order, missing values nowhere"
)


def _denoising_chart(test: TestRun, dataset: Dataset) -> str | None:
    if test.denoised is None:
        return None
    low, high = dataset.value_range
    return charts.denoising_chart(*test.denoised, low=low, high=high)


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
    """Normal samples with evenly spread scores, then anomalies, or without any the highest scores."""
    scores = test.outputs[SCORE]
    normal, anomalies = np.flatnonzero(~test.is_anomaly), np.flatnonzero(test.is_anomaly)
    usual = _spread(normal[np.argsort(scores[normal])], N_SHOWN)
    unusual = anomalies[np.argsort(scores[anomalies])] if anomalies.size else np.argsort(scores)[-N_SHOWN:]
    unusual = np.setdiff1d(_spread(unusual, N_SHOWN), usual, assume_unique=True)
    rows = np.concatenate([usual, unusual]).astype(int)
    words = ["anomaly" if test.is_anomaly[row] else "normal" for row in rows]
    return rows, [f"{word}\nscore {scores[row]:.3g}" for word, row in zip(words, rows, strict=True)]


def _spread(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.unique(np.linspace(0, rows.size - 1, count).astype(int))] if rows.size else rows

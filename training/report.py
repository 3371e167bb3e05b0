"""`report.json`, `report.html` and the model card: the same figures three times, computed once."""

import dataclasses
import json
from typing import Any

import jinja2
import numpy as np

from detector.inference import FEATURE_ERROR, LATENT, RECONSTRUCTION, SCORE
from detector.manifest import CARD_FILE, FIGURES_FILE, REPORT_FILE
from training import charts
from training.datasets import Dataset
from training.fitting import History
from training.scaling import Scaling

MOST_GROUPS = 10
N_SHOWN = 4  # samples shown of each side: usual and unusual


@dataclasses.dataclass(frozen=True)
class TestRun:
    """The test split and what the exported model says of it.

    Attributes
    ----------
    samples : ndarray of shape (n_samples, *sample_shape), raw units
    is_anomaly : ndarray of shape (n_samples,), bool
    labels : ndarray of shape (n_samples,), str, or None
    outputs : dict of str to ndarray
        Every output of `model.onnx`.
    """

    samples: np.ndarray
    is_anomaly: np.ndarray
    labels: np.ndarray | None
    outputs: dict[str, np.ndarray]


def write_report(
    figures: dict[str, Any],
    history: History,
    calibration_scores: np.ndarray,
    test: TestRun,
    dataset: Dataset,
    scaling: Scaling,
) -> dict[str, bytes]:
    """Render the three files.

    Parameters
    ----------
    figures : dict
        Everything that is said in words and numbers; `report.json` as it is.
    history, calibration_scores, test, dataset, scaling
        What the charts are drawn from.

    Returns
    -------
    dict of file name to bytes
    """
    pictures = {
        "losses": charts.loss_chart(history.train_loss, history.validation_loss, history.best_epoch),
        "scores": charts.score_chart(
            calibration_scores,
            test.outputs[SCORE][~test.is_anomaly],
            test.outputs[SCORE][test.is_anomaly],
            figures["threshold"]["value"],
        ),
        "latent": charts.latent_chart(test.outputs[LATENT], _groups(test)),
        "samples": _sample_chart(test, dataset, scaling) if figures["configuration"]["samples"] else None,
    }
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("training"),
        autoescape=jinja2.select_autoescape(["html.jinja"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["figure"] = _figure
    templates.filters["figured"] = lambda item: (item[0], _figure(item[1]))
    html = templates.get_template("report.html.jinja").render(figures, charts=pictures)
    card = templates.get_template("card.md.jinja").render(figures)
    return {
        FIGURES_FILE: (json.dumps(figures, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        REPORT_FILE: html.encode(),
        CARD_FILE: card.encode(),
    }


def _figure(value: Any) -> str:
    """A count whole, a number with its interval or four significant digits; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        low, high = value["interval"]
        return f"{value['value']:.4f} ({low:.4f} to {high:.4f})"
    return f"{value:.4g}"


def _groups(test: TestRun) -> dict[str, np.ndarray]:
    """The samples by label where the labels are few, else by normal and anomalous."""
    names = [] if test.labels is None else sorted(set(test.labels))
    if 2 <= len(names) <= MOST_GROUPS:
        return {f"label {name}": test.labels == name for name in names}
    groups = {"normal": ~test.is_anomaly, "anomaly": test.is_anomaly}
    return {name: members for name, members in groups.items() if members.any()}


def _sample_chart(test: TestRun, dataset: Dataset, scaling: Scaling) -> str:
    rows, titles = _shown(test)
    samples = test.samples[rows].astype(np.float32)
    reconstructions, errors = test.outputs[RECONSTRUCTION][rows], test.outputs[FEATURE_ERROR][rows]
    if dataset.kind == "image":
        low, high = dataset.value_range
        return charts.picture_chart(samples, reconstructions, errors, titles, low=low, high=high)
    return charts.feature_chart(
        scaling.apply(samples), scaling.apply(reconstructions), errors, titles, dataset.feature_names
    )


def _shown(test: TestRun) -> tuple[np.ndarray, list[str]]:
    """Usual samples, with scores spread evenly, then unusual ones: anomalies, else the highest scores."""
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

"""Evaluate a published model on other data: false alarms, recall, ranking, scores.

  python -m training.evaluate models/digits new_digits.npz
  python -m training.evaluate models/pump@canary june.csv --label-column state --normal-label ok
  python -m training.evaluate models/parts/3 photos/ --json figures.json

The model is a version folder, STORE/NAME (its label `stable`, else its highest version) or STORE/NAME@LABEL.
The data may be anything that `training.fit` reads, with labels or without; columns of a table are found by
the model's feature names, the columns of time and entity by the names that they had in the fit. Every score
comes from the published graph, as in the service.

Results go to stdout, notes to stderr. Exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.inference import Detector
from detector.store import find_folder
from training.cli.options import (
    add_label_flags,
    add_reading_flags,
    add_series_flags,
    column_options,
    command_parser,
    reading_options,
    run_command,
)
from training.cli.printing import pixel_words, print_notes, print_table, print_warnings
from training.data.for_model import Labelled, describe_run, load_for
from training.errors import TrainingError
from training.figures.findings import found_words, promise_warnings
from training.figures.metrics import evaluate, evaluate_steps, operating_points, rate
from training.figures.pixels import evaluate_pixels
from training.figures.stepwise import flagged_stretches, run_steps
from training.pages.render import to_json

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
SHOWN_QUANTILES = ("0.05", "0.5", "0.95")
MOST_LABELS = 20
SHOWN_STRETCHES = 20
SEED = 0  # of the bootstrap


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("training.evaluate", __doc__)
    parser.add_argument("model", metavar="MODEL", help="a version folder, STORE/NAME or STORE/NAME@LABEL")
    parser.add_argument("data", metavar="DATA", help="a file, a folder of images or a built-in name")
    add_label_flags(parser)
    add_series_flags(parser)
    add_reading_flags(parser.add_argument_group("text tables"))
    parser.add_argument(
        "--alpha", type=float, help="false-alarm rate to decide by instead of the model's own"
    )
    parser.add_argument(
        "--strict", action="store_true", help="fail if the data break the promise of the threshold"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    detector = Detector.load(find_folder(arguments.model))
    data = load_for(detector, arguments.data, reading_options(arguments), **column_options(arguments))
    print_notes(data.notes)
    figures = evaluate_published(detector, data, arguments.alpha)
    if arguments.json:
        arguments.json.write_bytes(to_json(figures))
    print_warnings(figures["warnings"])
    _print_figures(figures)
    if arguments.strict and figures["warnings"]:
        raise TrainingError(f"{data.source} breaks the promise of the threshold, see the warning above")


def evaluate_published(detector: Detector, data: Labelled, alpha: float | None = None) -> dict[str, Any]:
    """Compute the figures of a published model on data for it.

    Parameters
    ----------
    detector : Detector
    data : Labelled
    alpha : float, optional
        False-alarm rate to decide by instead of the model's own.

    Returns
    -------
    dict
        `model`, `data`, `threshold` and `notes` describe the run; `warnings` say that the data break the
        promise of the threshold. `evaluation` is the result of `evaluate`, and `found` says how many
        anomalies were found; both are None if nothing tells which samples are normal. `operating_points` is
        the result of `metrics.operating_points`. `groups` has, for all samples and for each kind and label,
        how many were flagged and the quantiles of their scores. The samples of a series are windows
        that do not overlap; `steps` are the figures of its steps, from `evaluate_steps` with the share that
        was `flagged`, and `flagged` its flagged stretches; both are None for other data. `pixels` is the
        result of `evaluate_pixels`, or None if no image has a mask.

    Raises
    ------
    DetectorError
        If the samples do not fit the model, or the model cannot decide at this `alpha`.
    """
    scores, rule = detector.score(data.samples, alpha=alpha), detector.engine.threshold(alpha)
    known = data.is_anomaly is not None
    evaluation = evaluate(scores, data.is_anomaly, SEED) if known else None
    steps = flagged = None
    if data.cut is not None:
        run = run_steps(detector, data.cut.series, data.cut.test_parts, alpha)
        steps = {"n_steps": len(run.score), "flagged": float(run.is_flagged.mean())}
        steps |= evaluate_steps(*run.judged()) if known else {}
        flagged = flagged_stretches(run, data.cut.series)
    return {
        **describe_run(detector, data),
        "threshold": dataclasses.asdict(rule),
        "warnings": promise_warnings(rule, evaluation, data.source) if known else [],
        "evaluation": evaluation,
        "found": found_words(evaluation | {"steps": steps}, detector.manifest.kind) if known else None,
        "operating_points": operating_points(
            detector.calibration_scores, detector.manifest.threshold.promise, scores.score, data.is_anomaly
        )
        if known
        else [],
        "groups": [
            {
                "name": name,
                "n_samples": int(members.sum()),
                "flagged": rate(scores.is_anomaly[members]),
                "score_quantiles": {
                    str(level): float(np.quantile(scores.score[members], level)) for level in QUANTILES
                },
            }
            for name, members in _groups(data)
        ],
        "steps": steps,
        "flagged": flagged,
        "pixels": _evaluate_pixels(detector, data) if data.masks and known else None,
    }


def _evaluate_pixels(detector: Detector, data: Labelled) -> dict[str, Any] | None:
    if detector.manifest.kind != "image":
        return None
    errors = detector.score(data.samples, explain="map").explanation
    return evaluate_pixels(np.asarray(errors), data.is_anomaly, data.masks)


def _groups(data: Labelled) -> Iterator[tuple[str, np.ndarray]]:
    """All samples; normal samples and anomalies; the samples of each label, if there are few labels."""
    yield "all", np.ones(len(data.samples), dtype=bool)
    if data.is_anomaly is not None:
        for name, members in (("normal", ~data.is_anomaly), ("anomalies", data.is_anomaly)):
            if members.any():
                yield name, members
    labels = [] if data.labels is None else np.unique(data.labels)
    if 2 <= len(labels) <= MOST_LABELS:
        for label in labels:
            yield f"label {label}", data.labels == label


def _print_figures(figures: dict[str, Any]) -> None:
    model, rule = figures["model"], figures["threshold"]
    print(f"model: {model['name']} version {model['version']}, digest {model['digest'][:12]}")
    print(f"data: {figures['data']['source']}, {figures['data']['n_samples']} samples")
    print(
        f"threshold: {rule['value']:.6g}, alpha {rule['alpha']:g}: {rule['expected_rate']:.4f} of normal "
        "samples are flagged on average"
    )
    if figures["found"]:
        print(figures["found"])
    for name, figure in (figures["evaluation"] or {}).items():
        if isinstance(figure, dict):
            low, high = figure["interval"]
            print(f"{name}: {figure['value']:.4f} ({low:.4f} to {high:.4f})")
    if figures["pixels"]:
        print(f"pixel_roc_auc: {pixel_words(figures['pixels'])}")
    print()
    print_table([_HEAD, *(_row(group) for group in figures["groups"])])
    if figures["operating_points"]:
        print("\nother false-alarm rates (--alpha, or alpha in a request) on these data:")
        print_table([_POINT_HEAD, *map(_point_row, figures["operating_points"])])
    if figures["steps"]:
        clear = "; clear steps have no anomaly in their window" if figures["evaluation"] else ""
        print(f"\nsamples are windows that do not overlap; figures of the steps of the whole series{clear}:")
        for name, figure in figures["steps"].items():
            if figure is not None:
                print(f"{name}: {figure:.4f}" if isinstance(figure, float) else f"{name}: {figure}")
        print(f"flagged stretches: {len(figures['flagged'])}")
        _print_stretches(figures["flagged"])


_POINT_HEAD = ("alpha", "threshold", "recall", "precision", "false alarms", "expected")


def _point_row(point: dict[str, Any]) -> list[str]:
    precision = "-" if point["precision"] is None else f"{point['precision']:.4f}"
    shares = [f"{point[name]:.4f}" for name in ("false_alarm_rate", "expected_rate")]
    return [f"{point['alpha']:g}", f"{point['threshold']:.4g}", f"{point['recall']:.4f}", precision, *shares]


def _print_stretches(stretches: list[dict[str, Any]]) -> None:
    """Print the first stretches, one a line."""
    for stretch in stretches[:SHOWN_STRETCHES]:
        first, last = (
            stretch[f"{end}_time"] or f"step {stretch[f'{end}_step']}" for end in ("first", "last")
        )
        entity = f"{stretch['entity']}: " if stretch["entity"] else ""
        print(
            f"  {entity}{first} to {last}, {stretch['n_steps']} steps, up to {stretch['highest_score']:.4g}"
        )
    if len(stretches) > SHOWN_STRETCHES:
        print(f"  and {len(stretches) - SHOWN_STRETCHES} more; --json FILE has them all")


_HEAD = ("samples", "number", "flagged", "share", "(95 % interval)", *(f"score {q}" for q in SHOWN_QUANTILES))


def _row(group: dict[str, Any]) -> list[str]:
    flagged = group["flagged"]
    low, high = flagged["interval"]
    cells = [str(flagged["count"]), f"{flagged['value']:.4f}", f"({low:.4f} to {high:.4f})"]
    quantiles = [f"{group['score_quantiles'][level]:.4g}" for level in SHOWN_QUANTILES]
    return [group["name"], str(group["n_samples"]), *cells, *quantiles]


if __name__ == "__main__":
    sys.exit(main())

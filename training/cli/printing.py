"""Print notes, tables and the published model."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from detector.columns import NAME_CHARACTERS, listed
from detector.manifest import Manifest
from training.data.summaries import ColumnSummary
from training.figures.findings import found_words

MOST_COLUMNS = 60  # in a table of columns
MOST_VALUES = 6  # of a category


def print_notes(notes: Sequence[str]) -> None:
    """Print notes on stderr."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


def print_warnings(warnings: Sequence[str]) -> None:
    """Print warnings on stdout, since they belong to the result."""
    for warning in warnings:
        print(f"warning: {warning}")


def print_table(rows: Sequence[Sequence[str]], file: TextIO | None = None) -> None:
    """Print columns as wide as their widest cell, numbers right-aligned; the first row is the heading.

    Without a `file`, on stdout.
    """
    columns = []
    for column in zip(*rows, strict=True):
        side = "<" if any(cell[:1].isalpha() for cell in column[1:]) else ">"
        columns.append([f"{cell:{side}{max(map(len, column))}}" for cell in column])
    for cells in zip(*columns, strict=True):
        print("  ".join(cells).rstrip(), file=file)


def print_columns(columns: Sequence[ColumnSummary], file: TextIO) -> None:
    """Print what each column of the data is used as and what it holds, a line each."""
    if not columns:
        return
    print_table([_COLUMN_HEAD, *map(_column_row, columns[:MOST_COLUMNS])], file)
    if len(columns) > MOST_COLUMNS:
        print(f"and {len(columns) - MOST_COLUMNS} more columns", file=file)


_COLUMN_HEAD = ("column", "used as", "missing", "values")


def _column_row(column: ColumnSummary) -> list[str]:
    role = f"{column.role}: {column.reason}" if column.reason else column.role
    missing = f"{column.n_missing / column.n_rows:.1%}" if column.n_missing else "-"
    values = ""
    if column.categories:
        values = listed(column.categories, MOST_VALUES, quoted=False)
    elif column.least is not None:
        values = f"{column.least:g} .. {column.most:g}"
    return [column.name[:NAME_CHARACTERS], role, missing, values]


def print_published(published: Path, manifest: Manifest) -> None:
    """Print warnings and notes of the test; the folder, its promise, its test figures, the next command."""
    threshold, evaluation = manifest.threshold, manifest.evaluation
    print_warnings(evaluation["warnings"])
    print_notes(evaluation["notes"])
    print(f"published: {published}")
    if threshold.confidence is None:
        promise = f"no promise, {threshold.expected_rate:.4f} of normal samples flagged on average"
    else:
        promise = (
            f"at most {threshold.alpha:g} of normal samples flagged, with {threshold.confidence:g} "
            f"confidence; {threshold.expected_rate:.4f} expected"
        )
    print(f"threshold: {threshold.value:.6g} ({promise}; {threshold.n_calibration} calibration samples)")
    if "quantization" in manifest.training:
        print(f"int8: {_quantization_words(manifest.training['quantization'])}")
    for name in ("false_alarm_rate", "recall", "roc_auc", "average_precision"):
        figure = evaluation[name]
        if figure is not None:
            low, high = figure["interval"]
            print(f"test {name}: {figure['value']:.4f} ({low:.4f} to {high:.4f})")
    found = found_words(evaluation, manifest.kind)
    print(f"test samples: {evaluation['n_normal']} normal, {evaluation['n_anomalies']} anomalies; {found}")
    if evaluation.get("baselines"):
        methods, own = evaluation["baselines"]["methods"], evaluation["baselines"]["own"]
        words = ", ".join(f"{name} {figure['roc_auc']['value']:.4f}" for name, figure in methods.items())
        print(f"baselines, ROC AUC: {words}; this model {own['roc_auc']['value']:.4f}")
    if evaluation.get("pixels"):
        print(f"test pixel_roc_auc: {pixel_words(evaluation['pixels'])}")
    if evaluation.get("steps"):
        print(f"test steps, scored as a whole series: {_step_words(evaluation['steps'])}")
    print(f"report: {published / 'report.html'}")
    store, name = published.parent.parent, published.parent.name
    settings = f"RESIDUAL_STORE={store} RESIDUAL_DEFAULT_MODEL={name}"
    gunicorn = Path(sys.executable).with_name("gunicorn")  # it may not be on the PATH
    if gunicorn.is_relative_to(Path.cwd()):
        gunicorn = gunicorn.relative_to(Path.cwd())
    print(f"next: {settings} {gunicorn if gunicorn.exists() else 'gunicorn'} -c deploy/gunicorn.conf.py")


def _quantization_words(figures: Mapping[str, Any]) -> str:
    """Agreement and speed of a model in integers."""
    speed = ", ".join(f"{each['times']:g} times at {each['rows']} rows" for each in figures["speed_up"])
    return (
        f"{figures['agreement']:.4f} of {figures['decisions']} decisions on the calibration split agree with "
        f"float; speed relative to float {speed.replace(' 1 rows', ' 1 row')}"
    )


def pixel_words(pixels: Mapping[str, Any]) -> str:
    """Write the ROC AUC of pixels, and which images it is of."""
    value = "none" if pixels["roc_auc"] is None else f"{pixels['roc_auc']:.4f}"
    n_lacking = pixels["n_without_mask"]
    lacking = f"; {n_lacking} anomalies without a mask are left out" if n_lacking else ""
    return f"{value} (all pixels of {pixels['n_images']} images, {pixels['n_masks']} with a mask{lacking})"


def _step_words(steps: Mapping[str, Any]) -> str:
    """Figures of the steps of a series, as far as they are known."""
    words = {
        "false_alarm_rate_clear": f"flagged {{:.4f}} of the {steps['n_clear']} clear of anomalies",
        "recall": f"flagged {{:.4f}} of the {steps['n_anomalies']} anomalous ones",
        "roc_auc": "ROC AUC of all {:.4f}",
    }
    return ", ".join(text.format(steps[name]) for name, text in words.items() if steps[name] is not None)

"""Fit a classifier on a published model and some labelled samples, and publish it as the next version.

  python -m training.fit --data digits --name digits
  python -m training.finetune --model models/digits --data digits
  python -m training.finetune --model models/pump --data named_faults.csv --label-column fault

The model is a version folder, STORE/NAME or STORE/NAME@LABEL. The data may be anything that `training.fit`
reads; every sample needs a label. The classifier starts from the model's encoder, which was fitted on many
samples without labels, so that few labels are enough: after fifty named anomalies the next one gets a name.
A series is cut into windows that do not overlap; a window has the label of its first anomalous step, or of
its first step if none is anomalous.

The new version holds the unchanged detector, with the same scores and threshold, and `classifier.onnx` for
`/classify`. Its probabilities are calibrated (temperature scaling) on samples that were not fitted on.
It needs the `weights.npz` that `training.fit` writes; the ready-made models/digits/1 has none.
With fewer than 2,000 labels every figure comes from five-fold cross-validation, and the published classifier
is fitted on all samples; with more, the data are split.

Results go to stdout, progress to stderr. Exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from detector.inference import Detector
from detector.store import ModelStore, find_folder
from training import flags
from training.cli.options import (
    add_keep_flag,
    add_reading_flags,
    add_series_flags,
    column_options,
    command_parser,
    reading_options,
    remove_old_versions,
    run_command,
)
from training.cli.printing import print_notes
from training.data.dataset import Dataset
from training.data.for_model import read_for
from training.errors import DataError
from training.quiet import import_tensorflow


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments), interrupted="nothing was published")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("training.finetune", __doc__)
    parser.add_argument("--model", required=True, help="a version folder, STORE/NAME or STORE/NAME@LABEL")
    parser.add_argument("--data", required=True, metavar="PATH_OR_NAME", help="labelled samples")
    parser.add_argument("--label-column", metavar="COLUMN", help="column of the labels in a table")
    add_series_flags(parser)
    add_reading_flags(parser.add_argument_group("text tables"))
    add_keep_flag(parser)
    parser.add_argument(
        "--epochs",
        type=flags.count,
        help="passes over the labelled samples; chosen by their number if not given",
    )
    parser.add_argument(
        "--learning-rate", type=flags.positive, default=0.001, help="learning rate of Adam (default: 0.001)"
    )
    parser.add_argument(
        "--seed", type=flags.seed, default=0, help="seed of folds, head and batches (default: 0)"
    )
    return parser


def _run(arguments: argparse.Namespace) -> None:
    folder = find_folder(arguments.model)
    detector = Detector.load(folder)
    dataset = read_for(detector, arguments.data, reading_options(arguments), **column_options(arguments))
    classes, targets = _classes(dataset)
    manifest = detector.manifest
    store = ModelStore(folder.resolve().parents[1])
    with store.stage(manifest.name) as staged:  # before the fit, so that a read-only store shows at once
        # TensorFlow takes seconds to import: faults of the data show before.
        import_tensorflow()
        from training.classifiers.network import ClassifierConfig
        from training.classifiers.stages import fit_classifier, write_classified_folder
        from training.networks.fitting import seed_everything
        from training.networks.weights import load_network

        seed_everything(arguments.seed)
        config = ClassifierConfig(arguments.learning_rate, arguments.epochs, arguments.seed)
        fitted = fit_classifier(load_network(folder, detector), dataset, classes, targets, config)
        print_notes(fitted.notes)
        manifest = write_classified_folder(staged, folder, detector, dataset, fitted)
        published, manifest = store.publish(staged, manifest)
        print(f"published: {published}")
        _print_figures(manifest.classifier.evaluation, manifest.classifier.temperature)
        print(f"next: POST /models/{manifest.name}/versions/{manifest.version}/classify")
        remove_old_versions(store, manifest.name, arguments.keep)


def _classes(dataset: Dataset) -> tuple[tuple[str, ...], np.ndarray]:
    """List the classes, and number each sample by its class.

    Raises
    ------
    DataError
        If there are no labels, only one class, or a class with fewer than two samples to fit on.
    """
    if dataset.labels is None:
        raise DataError(f"{dataset.source} has no labels: name their column with --label-column")
    names, targets = np.unique(dataset.labels, return_inverse=True)
    if names.size < 2:
        raise DataError(f"{dataset.source} has one class, {str(names[0])!r}: at least two are needed")
    counts = np.bincount(targets[~dataset.held_out], minlength=names.size)
    if counts.min() < 2:
        name, count = names[counts.argmin()], counts.min()
        raise DataError(
            f"every class needs at least 2 labelled samples to fit on, got {count} of {str(name)!r} in "
            f"{dataset.source}"
        )
    return tuple(map(str, names)), targets


def _print_figures(evaluation: dict[str, Any], temperature: float) -> None:
    low, high = evaluation["accuracy"]["interval"]
    print(f"figures by {evaluation['method']}, {evaluation['n_samples']} samples:")
    print(f"accuracy: {evaluation['accuracy']['value']:.4f} ({low:.4f} to {high:.4f})")
    print(f"macro F1: {evaluation['macro_f1']:.4f}")
    print(
        f"expected calibration error: {evaluation['expected_calibration_error']:.4f} "
        f"(temperature {temperature:.3g})"
    )


if __name__ == "__main__":
    sys.exit(main())

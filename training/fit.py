"""Fit an autoencoder on normal data and publish it as a calibrated detector.

  python -m training.fit --data digits --name digits
  python -m training.fit --data sensors.csv --name pump --label-column state --normal-label ok
  python -m training.fit --data mnist.npz --name zeros --normal-label 0
  python -m training.fit --data good_parts/ --name parts --alpha 0.01

Data are a CSV, TSV or Parquet table, `.npy`, `.npz` (X and y, or x_train, y_train, x_test, y_test), a folder
of PNG or JPEG pictures, or a built-in name: digits, breast-cancer, mnist, fashion-mnist, cifar10.
Only normal samples are fitted on; anomalies, where there are labels, are used for the test figures alone.

The result is `<store>/<name>/<next version>/`: ONNX graphs, threshold, report and model card.
Results go to stdout, progress to stderr. Exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

import argparse
import dataclasses
import datetime
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from detector.calibration import promised_rank
from detector.store import ModelStore, check_name
from training.commands import add_label_flags, command_parser, names, print_notes, run_command, value_range
from training.config import FitConfig, add_flags
from training.datasets import Dataset, load_dataset
from training.errors import ConfigError
from training.presets import DEFAULT_PRESETS, PRESETS
from training.quiet import import_tensorflow
from training.scaling import fit_scaling
from training.splits import Splits, split_dataset

MANY_PARAMETERS = 20_000_000  # 80 MB of weights, in every worker of the service


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments), interrupted="nothing was published")


def _run(arguments: argparse.Namespace) -> None:
    arguments.name = check_name(arguments.name or _name_after(arguments.data))
    dataset, config = _prepare(arguments)
    if arguments.dry_run:
        _describe(dataset, config)
    else:
        _fit(arguments, dataset, config)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("training.fit", __doc__)
    parser.epilog = "presets:\n" + "\n".join(_preset_lines())
    parser.add_argument("--data", required=True, metavar="PATH_OR_NAME", help="what to train on")
    parser.add_argument("--name", help="of the model; made of the data's name if not given")
    parser.add_argument("--store", default="models", help="where models are published (default: models)")
    parser.add_argument(
        "--kind", choices=sorted(DEFAULT_PRESETS), help="of the samples, where data do not tell"
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        metavar="PRESET",
        help="network and training, one of those below; by kind if not given",
    )
    parser.add_argument("--columns", type=names, metavar="A,B,C", help="features of a table, in this order")
    add_label_flags(parser)
    parser.add_argument(
        "--value-range", type=value_range, metavar="LOW,HIGH", help="values of black and white"
    )
    parser.add_argument("--no-promise", action="store_true", help="go on with too few samples for a promise")
    parser.add_argument("--no-samples", action="store_true", help="publish no sample of the data")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the network and stop: the data are read, not split"
    )
    add_flags(parser.add_argument_group("hyperparameters"))
    return parser


def _preset_lines() -> Iterator[str]:
    for name, preset in PRESETS.items():
        yield f"  {name:17} {', '.join(preset.kinds)}: {preset.words}"


def _name_after(data: str) -> str:
    """A model name made of a file's, folder's or built-in name: `Pump 7.csv` gives `pump-7`."""
    name = re.sub(r"[^a-z0-9._-]+", "-", Path(data).resolve().stem.lower()).strip("-._")[:64]
    if not name:
        raise ConfigError(f"name the model with --name: nothing can be made of {data!r}")
    return name


def _prepare(arguments: argparse.Namespace) -> tuple[Dataset, FitConfig]:
    """Read the data and settle the configuration."""
    kinds = PRESETS[arguments.preset].kinds if arguments.preset else tuple(DEFAULT_PRESETS)
    dataset = load_dataset(
        arguments.data,
        kinds=[arguments.kind] if arguments.kind else kinds,
        columns=arguments.columns,
        label_column=arguments.label_column,
        normal_label=arguments.normal_label,
        value_range=arguments.value_range,
    )
    preset = arguments.preset or DEFAULT_PRESETS[dataset.kind]
    fields = {field.name for field in dataclasses.fields(FitConfig)}
    overrides = {
        name: value for name, value in vars(arguments).items() if name in fields - {"kind", "preset"}
    }
    overrides |= {
        "kind": dataset.kind,
        "promise": not arguments.no_promise,
        "samples": not arguments.no_samples,
    }
    config = FitConfig.from_preset(preset, overrides)
    if arguments.value_range and config.scaled_range is None:
        raise ConfigError(
            "--value-range needs samples that are scaled from it: pictures, or --output-activation sigmoid "
            f"or tanh; preset {preset} standardises features of kind {dataset.kind}"
        )
    return dataset, config.for_samples(dataset.sample_shape)


def _describe(dataset: Dataset, config: FitConfig) -> None:
    """Print the network without fitting it."""
    import_tensorflow()
    from training.architectures import build_autoencoder

    autoencoder = build_autoencoder(config, dataset.sample_shape)
    autoencoder.encoder.summary(print_fn=print)
    autoencoder.decoder.summary(print_fn=print)
    print(f"parameters: {autoencoder.n_parameters}")


def _fit(arguments: argparse.Namespace, dataset: Dataset, config: FitConfig) -> None:
    """All stages in order: split, scale, build, fit, export, calibrate, evaluate, report, publish."""
    splits = split_dataset(dataset, config)
    config = config.for_training(dataset.sample_shape, splits.train.size)
    scaling = fit_scaling(dataset, splits.train, config.scaled_range)
    has_normal_test = not dataset.is_anomaly[splits.test].all()
    notes = [*dataset.notes, *_notes(splits, scaling.constant, has_normal_test, config)]
    print_notes(notes)
    store = ModelStore(arguments.store)
    with store.stage(arguments.name) as staged:  # first: a store that cannot be written shows before the fit
        # Keras takes seconds to import: what is wrong with the data has shown by now.
        import_tensorflow()
        from training import folder
        from training.architectures import build_autoencoder
        from training.export import export_graphs
        from training.fitting import fit_autoencoder, seed_everything
        from training.progress import progress_callback

        seed_everything(config.seed)
        autoencoder = build_autoencoder(config, dataset.sample_shape)
        size_notes = list(_size_notes(autoencoder.n_parameters, dataset.sample_shape))
        print_notes(size_notes)
        with progress_callback(config.epochs) as progress:
            history = fit_autoencoder(
                autoencoder,
                scaling.apply(dataset.samples[splits.train]),
                scaling.apply(dataset.samples[splits.validation]),
                config,
                [progress],
            )
        graphs = export_graphs(autoencoder, scaling, config.residual_smoothing)
        created_at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        fitted = folder.Fitted(
            arguments.name, created_at, dataset, splits, scaling, config, autoencoder, history
        )
        manifest = folder.write_folder(staged, fitted, graphs, notes + size_notes)
        published, manifest = store.publish(staged, manifest)
    _print_results(published, manifest.threshold, manifest.evaluation)


def _size_notes(n_parameters: int, sample_shape: tuple[int, ...]) -> Iterator[str]:
    if n_parameters > MANY_PARAMETERS:
        yield (
            f"the network has {n_parameters} parameters for samples of shape {sample_shape}: smaller "
            "pictures, or more and narrower --widths, make less"
        )


def _notes(
    splits: Splits, constant: Sequence[str], has_normal_test: bool, config: FitConfig
) -> Iterator[str]:
    n_calibration = splits.calibration.size
    rank = promised_rank(n_calibration, config.alpha)
    if config.promise and rank < config.alpha * n_calibration / 2:
        yield (
            f"{n_calibration} calibration samples are few: to keep the promise of {config.alpha:g} the "
            f"threshold is number {rank} of their scores, the largest first; more normal samples would "
            "lower it"
        )
    if constant:
        shown = ", ".join(constant[:8]) + (f" and {len(constant) - 8} more" if len(constant) > 8 else "")
        yield f"constant in the training split, so that any change counts in raw units: {shown}"
    if splits.n_calibration_duplicates:
        yield (
            f"{splits.n_calibration_duplicates} calibration samples are exact copies of samples that the "
            "network was fitted on: unless new samples are too, the threshold is too low for its promise"
        )
    if splits.n_duplicates:
        yield (
            f"{splits.n_duplicates} normal test samples are exact copies of samples in other splits: "
            "the test figures are optimistic"
        )
    if not has_normal_test:
        yield "the test split of the data holds anomalies alone: nothing measures the false-alarm rate"


def _print_results(published: Path, threshold: Any, evaluation: dict[str, Any]) -> None:
    print(f"published: {published}")
    if threshold.confidence is None:
        promise = f"no promise, {threshold.expected_rate:.4f} of normal samples flagged on average"
    else:
        promise = (
            f"at most {threshold.alpha:g} of normal samples flagged, with {threshold.confidence:g} "
            f"confidence; {threshold.expected_rate:.4f} expected"
        )
    print(f"threshold: {threshold.value:.6g} ({promise}; {threshold.n_calibration} calibration samples)")
    for name in ("false_alarm_rate", "recall", "roc_auc", "average_precision"):
        figure = evaluation[name]
        if figure is not None:
            low, high = figure["interval"]
            print(f"test {name}: {figure['value']:.4f} ({low:.4f} to {high:.4f})")
    print(f"test samples: {evaluation['n_normal']} normal, {evaluation['n_anomalies']} anomalies")
    print(f"report: {published / 'report.html'}")
    store, name = published.parent.parent, published.parent.name
    settings = f"RESIDUAL_STORE={store} RESIDUAL_DEFAULT_MODEL={name}"
    print(f"next: {settings} {_gunicorn()} -c deploy/gunicorn.conf.py")


def _gunicorn() -> str:
    """The gunicorn beside this Python, which need not be on the path."""
    beside = Path(sys.executable).with_name("gunicorn")
    if not beside.exists():
        return "gunicorn"
    return str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)


if __name__ == "__main__":
    sys.exit(main())

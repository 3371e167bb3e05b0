"""Fit an autoencoder on normal data and publish it as a calibrated detector.

  python -m training.fit --data digits --name digits
  python -m training.fit --data sensors.csv --name pump --label-column state --normal-label ok
  python -m training.fit --data mnist.npz --name zeros --normal-label 0
  python -m training.fit --data good_parts/ --name parts --alpha 0.01
  python -m training.fit --data june.csv --name line --kind sequence --time-column when
  python -m training.fit --data july.csv --like models/line

Data are a table (CSV, TSV, also .gz; Parquet, Feather, Arrow, lines of JSON, .xlsx; a folder of CSV files),
`.npy`, `.npz` (X and y, or x_train, y_train, x_test, y_test), a folder of PNG, JPEG, BMP, TIFF or WebP images
(sub-folders are labels, or splits that hold labels), or a built-in name: digits, breast-cancer, mnist,
fashion-mnist, cifar10.
Only normal samples are fitted on; labelled anomalies are used only for the test figures.
With --kind sequence a table or an `.npy` of one or two dimensions is a series, one row a step; it is split in
order of time and cut into windows.

The result is `<store>/<name>/<next version>/`: ONNX graphs, threshold, report and model card.
Results go to stdout, progress to stderr. Exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence

from detector.store import ModelStore
from training.cli.like import parse_like
from training.cli.options import (
    add_fit_flags,
    command_parser,
    configure,
    read_data,
    remove_old_versions,
    run_command,
)
from training.cli.printing import print_columns, print_notes, print_published
from training.data.columns import network_shape
from training.presets import DEFAULT_PRESETS, PRESETS
from training.publishing.manifests import Prepared
from training.quiet import import_tensorflow
from training.stages import build, prepare, publish, train


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    return run_command(lambda: _run(parse_like(parser, arguments, argv)), interrupted="nothing was published")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("training.fit", __doc__)
    lines = [f"  {name:17} {', '.join(preset.kinds)}: {preset.words}" for name, preset in PRESETS.items()]
    parser.epilog = "\n".join(["presets:", *lines])
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        metavar="PRESET",
        help="network and training, one of the list below; chosen by kind if not given",
    )
    parser.add_argument(
        "--like",
        metavar="MODEL",
        help="fit as this model was fitted, a version folder, STORE/NAME or STORE/NAME@LABEL: its name, its "
        "store, how its data were read, and its configuration; flags that are given come first, and with "
        "another --preset only what no preset sets is repeated",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="read and split the data, print their columns and the network, and stop before the fit",
    )
    add_fit_flags(parser)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    kinds = PRESETS[arguments.preset].kinds if arguments.preset else tuple(DEFAULT_PRESETS)
    dataset = read_data(arguments, kinds)
    config = configure(arguments, arguments.preset or DEFAULT_PRESETS[dataset.kind], dataset)
    print_columns(dataset.columns, sys.stdout if arguments.dry_run else sys.stderr)
    prepared = prepare(dataset, config)
    print_notes(prepared.notes)
    if arguments.dry_run:
        _describe(prepared)
    else:
        _fit(arguments, prepared)


def _describe(prepared: Prepared) -> None:
    """Print the splits and the network without fitting it."""
    sizes = ", ".join(f"{name} {n_samples}" for name, n_samples in prepared.splits.sizes().items())
    print(f"samples: {sizes}")
    dataset, config = prepared.dataset, prepared.config
    import_tensorflow()
    from training.networks.architectures import build_autoencoder

    autoencoder = build_autoencoder(config, network_shape(dataset))
    for model in (autoencoder.encoder, autoencoder.decoder):
        if model is not None:
            model.summary(print_fn=print)
    if config.has_memory:
        print(f"with a prototype memory of at most {config.prototypes} prototypes")
    print(f"parameters: {autoencoder.n_parameters}")


def _fit(arguments: argparse.Namespace, prepared: Prepared) -> None:
    """Run the stages after the preparation in order, and print the notes of each as it ends."""
    store = ModelStore(arguments.store)
    with store.stage(arguments.name) as staged:  # before the fit, so that a read-only store shows at once
        built = build(prepared)
        print_notes(built.notes)
        fitted = train(built, arguments.name)
        print_notes(fitted.notes)
        published, manifest = publish(store, staged, fitted)
        print_published(published, manifest)
        remove_old_versions(store, arguments.name, arguments.keep)


if __name__ == "__main__":
    sys.exit(main())

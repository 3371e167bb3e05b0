"""Every reference autoencoder with its own number of epochs: its loss, the reported loss, and PCA.

  python benchmarks/seeds.py --data-dir DIR --out benchmarks/results/seeds.json
  python benchmarks/seeds.py --data-dir DIR --presets conv-latent,rowwise --out /tmp/two.json
  python benchmarks/seeds.py --quick --out /tmp/quick.json

DIR holds `mnist.npz` and, for the coloured rows, `cifar10.npz`, both with x_train and x_test; without DIR
MNIST is downloaded. If there is no `cifar10.npz`, the coloured rows are fitted on 32 x 32 tiles of the two
photographs that scikit-learn ships. `--quick` fits every network for one epoch on digits of scikit-learn.

`train` is the loss over the last epoch, as Keras prints it and as the reported figures were taken; `test` is
the loss of the finished network on samples that it has not seen. `test_mse` can be compared with the mean
squared error of PCA with as many numbers for a sample: `pca` is fitted on the training samples, `pca_test` on
the test samples themselves, which a method fitted on the training samples cannot be expected to reach.

A row of a hundred epochs or more ends early once its loss is below the reported one. A row that the output
file has is not run again, and a row that was stopped continues after its last full epoch.
"""

import argparse
import dataclasses
import json
import logging
import math
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import commands
from benchmarks.rows import Row, read_rows, table_head, table_line, write_json, write_rows
from training.quiet import import_tensorflow

import_tensorflow()

import keras  # noqa: E402  (TensorFlow is quietened first)

from training.config import FitConfig  # noqa: E402
from training.data.load import load_dataset  # noqa: E402
from training.errors import DataError  # noqa: E402
from training.networks.architectures import Autoencoder, build_autoencoder  # noqa: E402
from training.networks.fitting import compiled_network, seed_everything, targets  # noqa: E402

EARLY_FROM_EPOCHS = 100
QUICK_SAMPLES = 320
N_TILES_TRAIN = 400  # of 520 tiles of 32 x 32 that two photographs of 427 x 640 have


@dataclasses.dataclass(frozen=True)
class Reference:
    """One reference network with its data and epochs.

    Attributes
    ----------
    preset : str
    data : str
        A key of `DATA`.
    epochs : int
    reported : float, or None
        The loss that was reported for these data and epochs.
    overrides : dict
        Changes of the preset: a learning rate, a latent size.
    note : str
    """

    preset: str
    data: str
    epochs: int
    reported: float | None = None
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""

    @property
    def key(self) -> str:
        """Preset, data and overrides, which identify the row."""
        changes = [f"{name}={value}" for name, value in self.overrides.items()]
        return " ".join([self.preset, self.data, *changes])


_KERAS_ADADELTA = {"learning_rate": 0.001}
_UNTRAINED = "the reference's learning rate, at which Adadelta hardly moves"
_SLOW = "the reference's learning rate"
REFERENCES = (
    Reference("dense-simple", "mnist", 10),
    Reference("dense-simple", "mnist", 10, None, _KERAS_ADADELTA, _UNTRAINED),
    Reference("dense-deep", "mnist", 20),
    Reference("dense-deep", "mnist", 20, None, _KERAS_ADADELTA, _UNTRAINED),
    Reference("dense-reduce", "mnist-3000-standardised", 500),
    Reference("dense-narrow", "mnist-test", 10, 0.1515),
    Reference("dense-narrow", "mnist", 2, 0.1549),
    Reference("dense-lopsided", "mnist", 2, 0.0452),
    Reference("dense-sparse", "mnist", 10, 0.6948),
    Reference("dense-sparse", "mnist", 10, 0.6948, _KERAS_ADADELTA, _UNTRAINED),
    Reference("dense-stacked", "mnist", 5, 0.6938),
    Reference("dense-stacked", "mnist", 5, 0.6938, _KERAS_ADADELTA, _UNTRAINED),
    Reference("rowwise", "mnist-images", 3, 0.0023),
    Reference("conv-latent", "mnist-images", 100, 0.0393),
    Reference("conv-latent", "mnist-images", 5, None, {"latent_dim": 8}),
    Reference("conv-latent", "mnist-images", 5, None, {"latent_dim": 32}),
    Reference("conv-map", "mnist-3000", 100),
    Reference("conv-pool", "mnist-images", 10),
    Reference("conv-pool", "mnist-images", 10, None, _KERAS_ADADELTA, _UNTRAINED),
    Reference("conv-denoise", "mnist-3000", 100),
    Reference("lstm", "mnist-3000", 500),
    Reference("two-head", "mnist-images", 5, 1.0719),
    Reference("conv-rgb", "colours", 100),
    Reference("conv-rgb", "colours", 100, None, {"learning_rate": 0.00001}, _SLOW),
    Reference("conv-rgb-wide", "colours", 30),
    Reference("conv-rgb-deep", "colours", 8),
    Reference("conv-rgb-denoise", "colours", 100),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rows that are missing and print the table; return 1 if a reported loss was not reached."""
    parser = commands.parser(__doc__)
    presets = dict.fromkeys(row.preset for row in REFERENCES)
    parser.add_argument("--presets", type=commands.names_among(presets), help="only rows of these presets")
    parser.add_argument("--data-dir", type=Path, help="folder of mnist.npz and cifar10.npz")
    parser.add_argument("--quick", action="store_true", help="one epoch on a few digits: does it run?")
    arguments = parser.parse_args(argv)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns about one graph for each row
    finished = {row["key"]: row for row in read_rows(arguments.out)}
    wanted = [row for row in REFERENCES if arguments.presets is None or row.preset in arguments.presets]
    print(HEADER)
    for row in wanted:
        if row.key not in finished:
            try:
                finished[row.key] = _quick(row) if arguments.quick else _run(row, arguments)
            except DataError as error:
                print(f"error: {error}", file=sys.stderr)
                return 1
            write_rows(arguments.out, [finished[row.key] for row in REFERENCES if row.key in finished])
        print(describe(finished[row.key]), flush=True)
    missed = [row.key for row in wanted if not _reached(finished[row.key])]
    if missed and not arguments.quick:
        print(f"above the reported loss: {'; '.join(missed)}")
    return 1 if missed and not arguments.quick else 0


def _reached(result: Row) -> bool:
    comparable = result["reported"] is not None and result["note"] != _UNTRAINED
    return not comparable or result["train"] <= result["reported"]


# --- one row ------------------------------------------------------------------------------------------------


def _run(row: Reference, arguments: argparse.Namespace) -> Row:
    train, test = DATA[row.data](arguments.data_dir)
    backup = arguments.out.with_suffix(".partial.d") / row.key.replace(" ", "_")
    return _fit(row, train, test, row.epochs, backup)


def _quick(row: Reference) -> Row:
    digits = _small_digits()
    shape = {"colours": (32, 32, 3), "mnist": (784,), "mnist-test": (784,), "mnist-3000-standardised": (784,)}
    samples = _as_shape(digits, shape.get(row.data, (28, 28)))
    return _fit(row, samples[:QUICK_SAMPLES], samples[QUICK_SAMPLES:], epochs=1, backup=None)


def _fit(row: Reference, train: np.ndarray, test: np.ndarray, epochs: int, backup: Path | None) -> Row:
    """Fit one network on all of `train`; it stops early only below the reported loss."""
    sample_shape = train.shape[1:]
    config = FitConfig.from_preset(row.preset, {**row.overrides, "kind": _kind(row, sample_shape)})
    config = config.for_samples(sample_shape).for_training(sample_shape, len(train))
    seed_everything(config.seed)
    autoencoder = build_autoencoder(config, sample_shape)
    network = compiled_network(autoencoder, config, sample_shape)
    record = _Record(backup)
    callbacks: list[keras.callbacks.Callback] = [record]
    if backup is not None:
        callbacks.append(keras.callbacks.BackupAndRestore(str(backup / "state"), delete_checkpoint=False))
    if row.reported is not None and epochs >= EARLY_FROM_EPOCHS:
        callbacks.append(_StopBelow(row.reported))
    options = {"batch_size": config.batch_size, "epochs": epochs, "verbose": 0, "callbacks": callbacks}
    network.fit(train, targets(network, train), **options)
    result = {
        "preset": row.preset,
        "parameters": autoencoder.n_parameters,
        "loss": "+".join(config.losses),
        "reported": row.reported,
        "train": record.epochs[-1],
        **_test_figures(autoencoder, network, train, test),
        "epochs": len(record.epochs),
        "seconds": round(record.seconds, 1),
        "learning_rate": config.learning_rate,
        "optimizer": config.optimizer,
        "batch_size": config.batch_size,
        "data": row.data,
        "n_train": len(train),
        "note": row.note,
        "key": row.key,
    }
    if backup is not None:
        shutil.rmtree(backup)
    return result


def _test_figures(autoencoder: Autoencoder, network: keras.Model, train: np.ndarray, test: np.ndarray) -> Row:
    """Return loss and error of the finished network, and the error of PCA with as many numbers."""
    quietly = {"batch_size": 256, "verbose": 0}
    losses = network.evaluate(test, targets(network, test), return_dict=True, **quietly)
    decoded = autoencoder.decoder.predict(autoencoder.encoder.predict(test, **quietly), **quietly)
    latent_shape = autoencoder.encoder.output_shape[1:]
    pca, pca_test = _pca_errors(train, test, latent_shape)
    return {
        "test": losses["loss"],
        "test_mse": float(np.square(decoded - test).mean()),
        "pca": pca,
        "pca_test": pca_test,
        "latent_shape": list(latent_shape),
    }


def _kind(row: Reference, sample_shape: tuple[int, ...]) -> str:
    if len(sample_shape) == 1:
        return "vector"
    return "sequence" if row.preset == "lstm" else "image"


class _Record(keras.callbacks.Callback):
    """Records losses and seconds of every epoch, also of epochs before a stop."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        self._path = None if folder is None else folder / "epochs.json"
        self.epochs: list[float] = []
        self.seconds = 0.0
        if self._path is not None and self._path.exists():
            state = json.loads(self._path.read_text())
            self.epochs, self.seconds = state["epochs"], state["seconds"]

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Forget an epoch whose weights were not kept."""
        del self.epochs[epoch:]
        self._start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Record the loss."""
        self.epochs.append(float(logs["loss"]))
        self.seconds += time.monotonic() - self._start
        if self._path is not None:
            write_json(self._path, {"epochs": self.epochs, "seconds": self.seconds})


class _StopBelow(keras.callbacks.Callback):
    """Ends a fit after an epoch whose loss is below the reported one."""

    def __init__(self, reported: float) -> None:
        super().__init__()
        self._reported = reported

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Stop if the loss is low enough."""
        if logs["loss"] < self._reported:
            self.model.stop_training = True


def _pca_errors(
    train: np.ndarray, test: np.ndarray, latent_shape: tuple[int, ...]
) -> tuple[float | None, float | None]:
    """Return mean squared errors on `test` of PCA with as many numbers, fitted on `train` and on `test`.

    If the latent has one vector for each row of a sample, PCA is fitted on rows. None if the latent has as
    many numbers as the sample.
    """
    per_row = len(latent_shape) == 2
    if per_row:
        train, test = (samples.reshape(-1, samples.shape[-1]) for samples in (train, test))
    else:
        train, test = (samples.reshape(len(samples), -1) for samples in (train, test))
    size = latent_shape[-1] if per_row else math.prod(latent_shape)
    if size >= min(train.shape[1], len(train), len(test)):
        return None, None
    return _pca_error(train, test, size), _pca_error(test, test, size)


def _pca_error(fitted_on: np.ndarray, test: np.ndarray, size: int) -> float:
    mean = fitted_on.mean(axis=0, dtype=np.float64)
    centred = fitted_on - mean
    _, vectors = np.linalg.eigh(centred.T @ centred)
    components = vectors[:, -size:]
    rest = (test - mean) - (test - mean) @ components @ components.T
    return float(np.square(rest).mean())


# --- data: folder -> training and test samples, scaled as for the reference ------------------------------

Samples = tuple[np.ndarray, np.ndarray]


def _mnist(data_dir: Path | None) -> Samples:
    train, test = _load("mnist" if data_dir is None else str(data_dir / "mnist.npz"))
    return train.astype(np.float32) / 255, test.astype(np.float32) / 255


def _load(data: str) -> Samples:
    """Load training and test samples of a file or a built-in name, 8-bit."""
    dataset = load_dataset(data, kinds=["image"])
    return dataset.samples[~dataset.held_out], dataset.samples[dataset.held_out]


def _flat_mnist(data_dir: Path | None) -> Samples:
    train, test = _mnist(data_dir)
    return train.reshape(-1, 784), test.reshape(-1, 784)


def _mnist_test(data_dir: Path | None) -> Samples:
    """Load the 10,000 test images to fit on and as many training images to test on."""
    train, test = _flat_mnist(data_dir)
    return test, train[: len(test)]


def _mnist_3000(data_dir: Path | None) -> Samples:
    train, test = _mnist(data_dir)
    return train[:3000], test


def _standardised_mnist(data_dir: Path | None) -> Samples:
    """Scale each pixel to mean 0 and standard deviation 1 over 3,000 images; always black pixels stay 0.

    A pixel that is black in nearly all of the 3,000 may be hundreds of deviations away in a test image.
    """
    train, test = _flat_mnist(data_dir)
    train = train[:3000]
    mean, spread = train.mean(axis=0), train.std(axis=0)
    spread[spread == 0] = 1
    return (train - mean) / spread, (test - mean) / spread


def _colours(data_dir: Path | None) -> Samples:
    """Load CIFAR-10, or tiles of photographs if its file is missing; in [-1, 1]."""
    path = None if data_dir is None else data_dir / "cifar10.npz"
    if path is not None and path.exists():
        train, test = _load(str(path))
    else:
        train, test = np.split(_tiles(), [N_TILES_TRAIN])
    return train.astype(np.float32) / 127.5 - 1, test.astype(np.float32) / 127.5 - 1


def _tiles() -> np.ndarray:
    """Cut the photographs that scikit-learn ships into tiles of 32 x 32 pixels, shuffled; uint8."""
    from sklearn.datasets import load_sample_images

    tiles = []
    for photograph in load_sample_images().images:
        rows, columns = photograph.shape[0] // 32, photograph.shape[1] // 32
        cut = photograph[: rows * 32, : columns * 32].reshape(rows, 32, columns, 32, 3)
        tiles.append(cut.swapaxes(1, 2).reshape(-1, 32, 32, 3))
    return np.random.default_rng(0).permutation(np.concatenate(tiles))


def _small_digits() -> np.ndarray:
    """Load digits of scikit-learn in [0, 1], shape (400, 8, 8)."""
    from sklearn.datasets import load_digits

    return load_digits().images[:400].astype(np.float32) / 16


def _as_shape(digits: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Enlarge digits of 8 x 8 pixels to the shape of a reference network's samples."""
    side = 32 if shape == (32, 32, 3) else 28
    position = np.arange(side) * 8 // side
    large = digits[:, position][:, :, position]
    if shape == (32, 32, 3):
        return np.repeat(2 * large[..., np.newaxis] - 1, 3, axis=3)
    return large.reshape(-1, *shape)


DATA: dict[str, Callable[[Path | None], Samples]] = {
    "mnist": _flat_mnist,
    "mnist-images": _mnist,
    "mnist-test": _mnist_test,
    "mnist-3000": _mnist_3000,
    "mnist-3000-standardised": _standardised_mnist,
    "colours": _colours,
}


# --- results ------------------------------------------------------------------------------------------------


_COLUMNS = (
    *("preset", "fitted on", "parameters", "loss", "reported", "train", "test", "test MSE", "PCA"),
    *("PCA of the test samples", "epochs", "seconds"),
)
HEADER = table_head(_COLUMNS)


def describe(row: Row) -> str:
    """Return one row of the table, in Markdown."""
    changes = row["key"].split(" ")[2:]
    cells = [
        ", ".join(
            [f"`{row['preset']}`", *(change.replace("=", " ").replace("_", " ") for change in changes)]
        ),
        f"{row['n_train']} {row['data']}",
        str(row["parameters"]),
        row["loss"],
        *(_cell(row[name]) for name in ("reported", "train", "test", "test_mse", "pca", "pca_test")),
        str(row["epochs"]),
        f"{row['seconds']:.0f}",
    ]
    return table_line(cells)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    commands.run(main)

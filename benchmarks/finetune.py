"""Does pre-training help? A fine-tuned encoder against the same network from random weights, by labels.

  python benchmarks/finetune.py --out benchmarks/results/finetune.json
  python benchmarks/finetune.py --data-dir data --out benchmarks/results/finetune.json
  python benchmarks/finetune.py --quick --out /tmp/quick.json

The sets are scikit-learn's digits and, where --data-dir or a folder below it holds them, mnist.npz (x_train,
y_train, x_test, y_test) and ecg5000.npz (X, is_ucr_train, cls_train). Of each an autoencoder is fitted by
`python -m training.fit` without a label, and without a sample that is tested on. Then classifiers are fitted
with 10, 50 and 200 labels in total, every class among them: `residual` starts from the fitted encoder,
`random` from drawn weights. Network, noise, steps, optimiser and the grid of learning rates are the same; the
learning rate is chosen for each by the accuracy on validation samples that neither was fitted on, and the
test samples are looked at once.

A row that the output file has is not run again. The status is 0 where the fine-tuned encoder is better, on
the mean of the seeds, for every set and number of labels.
"""

import argparse
import dataclasses
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import find_row, read_rows, write_rows
from detector import Detector

LABELS = (10, 50, 200)
SEEDS = (10, 11, 12, 13, 14, 15, 16, 17, 18, 19)  # the recipe was chosen on draws of the seeds before
LEARNING_RATES = (0.0003, 0.001, 0.003)
METHODS = ("residual", "random")
UNLABELLED_FRACTIONS = ("--validation-fraction", "0.05", "--calibration-fraction", "0.05")


@dataclasses.dataclass(frozen=True)
class Pool:
    """One set.

    Attributes
    ----------
    unlabelled : ndarray of shape (n_unlabelled, *sample_shape)
        For the autoencoder.
    samples, targets : ndarray
        Of whom labels, validation and, where `test` is None, test samples are drawn.
    test : tuple of ndarray, or None
        Samples and targets.
    options : tuple of str
        Of `training.fit`.
    n_validation, n_test : int
    """

    unlabelled: np.ndarray
    samples: np.ndarray
    targets: np.ndarray
    test: tuple[np.ndarray, np.ndarray] | None
    options: tuple[str, ...]
    n_validation: int
    n_test: int = 0


@dataclasses.dataclass(frozen=True)
class Draw:
    """Row numbers of one seed: labelled, validation and test, without overlap."""

    labelled: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, print the table and whether pre-training won."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, help="where mnist.npz and ecg5000.npz are looked for")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--quick", action="store_true", help="digits alone, one seed, one learning rate")
    parser.add_argument("--work", type=Path, help="where fitted autoencoders are kept between runs")
    arguments = parser.parse_args(argv)
    rows = read_rows(arguments.out)
    labels, seeds, rates = LABELS, SEEDS, LEARNING_RATES
    if arguments.quick:
        labels, seeds, rates = labels[:2], seeds[:1], rates[1:2]
    work = arguments.work or Path(tempfile.gettempdir()) / "residual-finetune"
    asked_for = []
    for name, pool in load_pools(None if arguments.quick else arguments.data_dir).items():
        wanted = list(itertools.product(labels, seeds, METHODS))
        missing = [key for key in wanted if _row(rows, name, *key) is None]
        if missing:
            options = (*pool.options, "--epochs", "3") if arguments.quick else pool.options
            bench = Bench(name, pool, fit_unlabelled(name, pool, options, work))
            for key in missing:
                rows.append(bench.row(*key, rates))
                write_rows(arguments.out, rows)
                print(describe(rows[-1]), flush=True)
        asked_for += [_row(rows, name, *key) for key in wanted]
    return summarise(asked_for)


def load_pools(data_dir: Path | None) -> dict[str, Pool]:
    """The sets that are there."""
    pools = {"digits": load_digits()}
    for file_name, load in (("mnist.npz", load_mnist), ("ecg5000.npz", load_ecg)):
        for path in sorted(data_dir.rglob(file_name)) if data_dir else ():
            pools[path.stem] = load(path)
    return pools


def load_digits() -> Pool:
    """1,797 images of 8 x 8, 500 of them for the test."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.images))
    images, targets = data.images[order].astype(np.uint8), data.target[order]
    test, pool = slice(0, 500), slice(500, None)
    options = ("--kind", "image", "--value-range", "0,16", "--epochs", "150")
    return Pool(images[pool], images[pool], targets[pool], (images[test], targets[test]), options, 300)


def load_mnist(path: Path) -> Pool:
    """24,000 images of 28 x 28 for the autoencoder, 5,000 for the test."""
    with np.load(path) as data:
        images, targets = data["x_train"][:24_000], data["y_train"][:24_000]
        test = data["x_test"][:5000], data["y_test"][:5000]
    return Pool(images, images, targets, test, ("--epochs", "12"), 1000)


def load_ecg(path: Path) -> Pool:
    """4,500 heartbeats of 140 values for the autoencoder, 500 others with their five classes."""
    with np.load(path) as data:
        named = data["is_ucr_train"].astype(bool)
        samples, classes = data["X"], data["cls_train"][named]
    targets = np.unique(classes, return_inverse=True)[1]
    options = ("--widths", "128,64", "--latent-dim", "32", "--epochs", "60")
    return Pool(samples[~named], samples[named], targets, None, options, 100, n_test=200)


def draw(pool: Pool, n_labels: int, seed: int) -> Draw:
    """Rows of a seed: labels in the shares of the classes, and at least one of each."""
    order = np.random.default_rng(seed).permutation(len(pool.targets))
    n_classes = pool.targets.max() + 1
    counts = np.ones(n_classes, dtype=int)
    shares = np.bincount(pool.targets) / pool.targets.size
    while counts.sum() < n_labels:
        counts[np.argmax(shares * n_labels - counts)] += 1
    members = [order[pool.targets[order] == number] for number in range(n_classes)]
    labelled = np.concatenate([rows[:count] for rows, count in zip(members, counts, strict=True)])
    others = order[~np.isin(order, labelled)]
    test, others = others[: pool.n_test], others[pool.n_test :]
    return Draw(labelled, others[: pool.n_validation], test)


def fit_unlabelled(name: str, pool: Pool, options: Sequence[str], work: Path) -> Path:
    """The version folder of an autoencoder of the unlabelled samples, fitted where it is not there yet."""
    model = f"{name}-{options[-1]}"
    folder = work / "models" / model / "1"
    if not folder.exists():
        work.mkdir(parents=True, exist_ok=True)
        path = work / f"{model}.npz"
        np.savez(path, X=pool.unlabelled)
        store = ["--name", model, "--store", str(work / "models")]
        command = [sys.executable, "-m", "training.fit", "--data", str(path), *store]
        subprocess.run([*command, *UNLABELLED_FRACTIONS, *options], check=True, stdout=subprocess.DEVNULL)
    return folder


class Bench:
    """One set with its network, which all rows share."""

    def __init__(self, name: str, pool: Pool, folder: Path) -> None:
        from training.quiet import import_tensorflow

        import_tensorflow()
        from training.classifiers.network import ClassifierNetwork
        from training.networks.fitting import seed_everything
        from training.networks.weights import restore

        seed_everything(0)
        self._name, self._pool = name, pool
        self._restored = restore(folder, Detector.load(folder))
        encoder = self._restored.autoencoder.encoder
        self._fitted = encoder.get_weights()
        self._shape = encoder.input_shape[1:]
        self._network = ClassifierNetwork(encoder, int(pool.targets.max()) + 1)
        self._samples = self._restored.scaling.apply(pool.samples)
        self._test = None if pool.test is None else self._restored.scaling.apply(pool.test[0])

    def row(self, n_labels: int, seed: int, method: str, rates: Sequence[float]) -> dict[str, Any]:
        """Fit with every learning rate, keep what validates best, test that."""
        from training.classifiers.network import ClassifierConfig
        from training.classifiers.probability import macro_f1

        started = time.monotonic()
        rows = draw(self._pool, n_labels, seed)
        targets = self._pool.targets
        start = self._fitted if method == "residual" else self._random_weights(seed)
        if self._test is None:
            test, wanted = self._samples[rows.test], targets[rows.test]
        else:
            test, wanted = self._test, self._pool.test[1]
        tried = []
        for rate in rates:
            config = ClassifierConfig(rate, None, seed)
            self._network.fit(self._samples[rows.labelled], targets[rows.labelled], start, config)
            validated = self._network.logits(self._samples[rows.validation]).argmax(axis=1)
            accuracy = float((validated == targets[rows.validation]).mean())
            tried.append((accuracy, rate, self._network.logits(test).argmax(axis=1)))
        validation, rate, predicted = max(tried, key=lambda item: item[0])
        return {
            "set": self._name,
            "labels": n_labels,
            "seed": seed,
            "method": method,
            "learning_rate": rate,
            "validation_accuracy": validation,
            "accuracy": float((predicted == wanted).mean()),
            "macro_f1": macro_f1(predicted, wanted),
            "n_validation": rows.validation.size,
            "n_test": wanted.size,
            "seconds": round(time.monotonic() - started, 1),
        }

    def _random_weights(self, seed: int) -> list[np.ndarray]:
        import keras

        from training.networks.architectures import build_autoencoder

        keras.utils.set_random_seed(1000 + seed)
        return build_autoencoder(self._restored.config, self._shape).encoder.get_weights()


def _row(rows: list[dict[str, Any]], name: str, labels: int, seed: int, method: str) -> dict[str, Any] | None:
    return find_row(rows, set=name, labels=labels, seed=seed, method=method)


def describe(row: dict[str, Any]) -> str:
    """One line while it runs."""
    return (
        f"{row['set']} {row['labels']} labels seed {row['seed']} {row['method']}: "
        f"accuracy {row['accuracy']:.4f}, macro F1 {row['macro_f1']:.4f} "
        f"(learning rate {row['learning_rate']:g}, {row['seconds']:.0f} s)"
    )


def summarise(rows: list[dict[str, Any]]) -> int:
    """Print the table; 1 if random weights are as good anywhere."""
    print("set        labels  residual    random     gain  better in  macro F1 of both")
    lost = 0
    for name, labels in dict.fromkeys((row["set"], row["labels"]) for row in rows):
        own, other = (
            [row for row in rows if (row["set"], row["labels"], row["method"]) == (name, labels, method)]
            for method in METHODS
        )
        gains = np.array([a["accuracy"] - b["accuracy"] for a, b in zip(own, other, strict=True)])
        means = [np.mean([row["accuracy"] for row in side]) for side in (own, other)]
        scores = [np.mean([row["macro_f1"] for row in side]) for side in (own, other)]
        print(
            f"{name:10} {labels:6} {means[0]:9.4f} {means[1]:9.4f} {gains.mean():+8.4f} "
            f"{(gains > 0).sum():5} of {gains.size} {scores[0]:8.4f} {scores[1]:8.4f}"
        )
        lost += gains.mean() <= 0
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

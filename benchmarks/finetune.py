"""Does pre-training help? A fine-tuned encoder against the same network from random weights, by labels.

  python benchmarks/finetune.py --out benchmarks/results/finetune.json
  python benchmarks/finetune.py --data-dir data --out benchmarks/results/finetune.json
  python benchmarks/finetune.py --quick --out /tmp/quick.json

The sets are scikit-learn's digits and, if --data-dir or a folder below it holds them, mnist.npz (x_train,
y_train, x_test, y_test) and ecg5000.npz (X, is_ucr_train, cls_train). For each set `python -m training.fit`
fits an autoencoder without labels and without the test samples. Then classifiers are fitted with 10, 50 and
200 labels in total, at least one for each class: `residual` starts from the fitted encoder, `random` from
random weights. Network, noise, steps, optimiser and the grid of learning rates are the same. The learning
rate of each is chosen by its accuracy on validation samples that neither was fitted on; the test samples are
used once.

A row that the output file has is not run again. The exit status is 0 if the fine-tuned encoder has the better
mean over the seeds for every set and number of labels.
"""

import dataclasses
import functools
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import commands, fit_command
from benchmarks.rows import Row, found_or_measured
from detector import Detector

LABELS = (10, 50, 200)
SEEDS = (10, 11, 12, 13, 14, 15, 16, 17, 18, 19)  # the recipe was chosen on earlier seeds
LEARNING_RATES = (0.0003, 0.001, 0.003)
METHODS = ("residual", "random")
UNLABELLED_FRACTIONS = ("--validation-fraction", "0.05", "--calibration-fraction", "0.05")


@dataclasses.dataclass(frozen=True)
class LabelledSet:
    """The samples of one set.

    Attributes
    ----------
    unlabelled : ndarray of shape (n_unlabelled, *sample_shape)
        The autoencoder is fitted to them.
    samples, targets : ndarray
        Labelled and validation samples are drawn from them; test samples too if `test` is None.
    test : tuple of ndarray, or None
        Samples and targets.
    options : tuple of str
        Further arguments of `training.fit`.
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
    """Row numbers drawn with one seed: labelled, validation and test, without overlap."""

    labelled: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Run the fits that are missing, print the table; return 1 if pre-training does not win everywhere."""
    parser = commands.parser(__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder that is searched for mnist.npz and ecg5000.npz")
    parser.add_argument("--quick", action="store_true", help="digits alone, one seed, one learning rate")
    parser.add_argument("--work", type=Path, help="folder that keeps fitted autoencoders between runs")
    arguments = parser.parse_args(argv)
    labels, seeds, rates = LABELS, SEEDS, LEARNING_RATES
    if arguments.quick:
        labels, seeds, rates = labels[:2], seeds[:1], rates[1:2]
    work = arguments.work or Path(tempfile.gettempdir()) / "residual-finetune"
    rows = []
    for name, data in load_sets(None if arguments.quick else arguments.data_dir).items():
        options = (*data.options, "--epochs", "3") if arguments.quick else data.options
        bench = functools.cache(functools.partial(Bench, name, data, options, work))
        for n_labels, seed, method in itertools.product(labels, seeds, METHODS):
            measure = functools.partial(_measure, bench, n_labels, seed, method, rates)
            key = {"set": name, "labels": n_labels, "seed": seed, "method": method}
            rows.append(found_or_measured(arguments.out, measure, **key))
            print(describe(rows[-1]), flush=True)
    return summarise(rows)


def load_sets(data_dir: Path | None) -> dict[str, LabelledSet]:
    """Load the sets that are there."""
    datas = {"digits": load_digits()}
    for file_name, load in (("mnist.npz", load_mnist), ("ecg5000.npz", load_ecg)):
        for path in sorted(data_dir.rglob(file_name)) if data_dir else ():
            datas[path.stem] = load(path)
    return datas


def load_digits() -> LabelledSet:
    """Load 1,797 images of 8 x 8, 500 of them for the test."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(0).permutation(len(bunch.images))
    images, targets = bunch.images[order].astype(np.uint8), bunch.target[order]
    test, data = slice(0, 500), slice(500, None)
    options = ("--kind", "image", "--value-range", "0,16", "--epochs", "150")
    return LabelledSet(images[data], images[data], targets[data], (images[test], targets[test]), options, 300)


def load_mnist(path: Path) -> LabelledSet:
    """Load 24,000 images of 28 x 28 for the autoencoder, 5,000 for the test."""
    with np.load(path) as arrays:
        images, targets = arrays["x_train"][:24_000], arrays["y_train"][:24_000]
        test = arrays["x_test"][:5000], arrays["y_test"][:5000]
    return LabelledSet(images, images, targets, test, ("--epochs", "12"), 1000)


def load_ecg(path: Path) -> LabelledSet:
    """Load 4,500 heartbeats of 140 values for the autoencoder, 500 others with their five classes."""
    with np.load(path) as arrays:
        named = arrays["is_ucr_train"].astype(bool)
        samples, classes = arrays["X"], arrays["cls_train"][named]
    targets = np.unique(classes, return_inverse=True)[1]
    options = ("--widths", "128,64", "--latent-dim", "32", "--epochs", "60")
    return LabelledSet(samples[~named], samples[named], targets, None, options, 100, n_test=200)


def draw(data: LabelledSet, n_labels: int, seed: int) -> Draw:
    """Draw the rows of a seed: labels in proportion to the classes, at least one of each."""
    order = np.random.default_rng(seed).permutation(len(data.targets))
    n_classes = data.targets.max() + 1
    counts = np.ones(n_classes, dtype=int)
    shares = np.bincount(data.targets) / data.targets.size
    while counts.sum() < n_labels:
        counts[np.argmax(shares * n_labels - counts)] += 1
    members = [order[data.targets[order] == number] for number in range(n_classes)]
    labelled = np.concatenate([rows[:count] for rows, count in zip(members, counts, strict=True)])
    others = order[~np.isin(order, labelled)]
    test, others = others[: data.n_test], others[data.n_test :]
    return Draw(labelled, others[: data.n_validation], test)


class Bench:
    """One set with the network that its rows share: fitted without labels, if `work` does not have it."""

    def __init__(self, name: str, data: LabelledSet, options: Sequence[str], work: Path) -> None:
        from training.quiet import import_tensorflow

        import_tensorflow()
        from training.classifiers.network import ClassifierNetwork
        from training.networks.fitting import seed_everything
        from training.networks.weights import load_network

        folder = _fit_unlabelled(f"{name}-{options[-1]}", data, options, work)
        seed_everything(0)
        self._name, self._data = name, data
        self._restored = load_network(folder, Detector.load(folder))
        encoder = self._restored.autoencoder.encoder
        self._fitted = encoder.get_weights()
        self._shape = encoder.input_shape[1:]
        self._network = ClassifierNetwork(encoder, int(data.targets.max()) + 1)
        self._samples = self._restored.scaling.apply(data.samples)
        self._test = None if data.test is None else self._restored.scaling.apply(data.test[0])

    def row(self, n_labels: int, seed: int, method: str, rates: Sequence[float]) -> Row:
        """Fit with every learning rate, test the one with the best accuracy on the validation samples."""
        from training.classifiers.network import ClassifierConfig
        from training.classifiers.probability import macro_f1

        started = time.monotonic()
        rows = draw(self._data, n_labels, seed)
        targets = self._data.targets
        start = self._fitted if method == "residual" else self._random_weights(seed)
        if self._test is None:
            test, wanted = self._samples[rows.test], targets[rows.test]
        else:
            test, wanted = self._test, self._data.test[1]
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


def _measure(bench: Callable[[], Bench], *arguments: Any) -> Row:
    return bench().row(*arguments)


def _fit_unlabelled(model: str, data: LabelledSet, options: Sequence[str], work: Path) -> Path:
    """Return the folder of the autoencoder; fit it to the unlabelled samples if it is missing."""
    folder = work / "models" / model / "1"
    if not folder.exists():
        work.mkdir(parents=True, exist_ok=True)
        path = work / f"{model}.npz"
        np.savez(path, X=data.unlabelled)
        fit_command.fit(path, work / "models", model, *UNLABELLED_FRACTIONS, *options)
    return folder


def describe(row: Row) -> str:
    """Return the line of one row."""
    return (
        f"{row['set']} {row['labels']} labels seed {row['seed']} {row['method']}: "
        f"accuracy {row['accuracy']:.4f}, macro F1 {row['macro_f1']:.4f} "
        f"(learning rate {row['learning_rate']:g}, {row['seconds']:.0f} s)"
    )


def summarise(rows: list[Row]) -> int:
    """Print the table; return 1 if random weights are as good for any set and number of labels."""
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
    commands.run(main)

"""The stages behind `training.finetune`: fit and judge a classifier, export it, write the next folder."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from detector.engine.graphs import INPUT, PROBABILITY, relative_difference
from detector.engine.session import Session
from detector.errors import ModelError
from detector.files import CARD_FILE, CLASSIFIER_FILE, GOLDEN_FILE
from detector.inference import Detector
from detector.manifest import Classifier, Manifest, verbs_of
from training.classifiers.network import ClassifierConfig, ClassifierNetwork
from training.classifiers.probability import class_figures, deal_folds, fit_temperature
from training.data.dataset import Dataset
from training.data.scaling import Scaling
from training.errors import ExportError
from training.networks.weights import LoadedNetwork
from training.publishing.graph_scaling import scale
from training.publishing.graphs import PARITY_BATCHES, PARITY_TOLERANCE, Graph, convert, extreme_samples
from training.publishing.manifests import seal, timestamp

N_FOLDS = 5
MANY_LABELLED = 2000  # from here on there are enough labels to split some off
N_PARTS, CALIBRATION_PARTS, TEST_PARTS = 20, (0, 7, 14), (3, 10, 17)  # 15 % for each
CROSS_VALIDATION, TEST_SPLIT = "cross-validation", "test split"
LOGIT_LIMIT = 1e30  # beyond it a sum of exponents is no number


@dataclasses.dataclass(frozen=True)
class FittedClassifier:
    """A fitted classifier with its figures.

    Attributes
    ----------
    n_labelled : dict of str to int
        Number of samples of each class that were available for the fit.
    evaluation : dict
        `method`, and the figures of `training.classifiers.probability.class_figures`.
    """

    network: ClassifierNetwork
    scaling: Scaling
    classes: tuple[str, ...]
    temperature: float
    n_labelled: dict[str, int]
    evaluation: dict[str, Any]
    config: ClassifierConfig
    notes: tuple[str, ...] = ()


def fit_classifier(
    loaded: LoadedNetwork,
    dataset: Dataset,
    classes: tuple[str, ...],
    targets: np.ndarray,
    config: ClassifierConfig,
) -> FittedClassifier:
    """Fit, calibrate and evaluate a classifier.

    With few labels the figures and the temperature come from cross-validation, and the classifier is fitted
    on all samples. With many, samples for calibration and evaluation are split off first. If the data have a
    test split of their own, it is used only for evaluation, in both cases.

    Parameters
    ----------
    loaded : LoadedNetwork
        Its encoder is fitted in place.
    dataset : Dataset
    classes : tuple of str
    targets : ndarray of shape (n_samples,), int
    config : ClassifierConfig
    """
    bench = _Bench(loaded, dataset, len(classes), targets, config)
    fit = _fit_on_a_split if bench.available.size >= MANY_LABELLED else _fit_on_all
    temperature, evaluation = fit(bench)
    counts = np.bincount(targets[bench.available], minlength=len(classes))
    n_labelled = dict(zip(classes, counts.tolist(), strict=True))
    few = [name for name, count in n_labelled.items() if count < N_FOLDS]
    return FittedClassifier(
        bench.network,
        loaded.scaling,
        classes,
        temperature,
        n_labelled,
        evaluation,
        config,
        (f"few samples are labelled {', '.join(few)}: their figures are uncertain",) if few else (),
    )


class _Bench:
    """A network and labelled samples to fit it on, each time from the same encoder."""

    def __init__(
        self,
        loaded: LoadedNetwork,
        dataset: Dataset,
        n_classes: int,
        targets: np.ndarray,
        config: ClassifierConfig,
    ) -> None:
        encoder = loaded.autoencoder.encoder
        self.network = ClassifierNetwork(encoder, n_classes)
        self.n_classes = n_classes
        self.seed = config.seed
        self.targets = targets
        self.available = np.flatnonzero(~dataset.held_out)
        self.held_out = np.flatnonzero(dataset.held_out)
        self._samples = loaded.scaling.apply(dataset.samples)
        self._start = encoder.get_weights()
        self._config = config

    def fit(self, rows: np.ndarray) -> None:
        """Fit anew on these rows."""
        self.network.fit(self._samples[rows], self.targets[rows], self._start, self._config)

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Logits by the last fit, shape (n_rows, n_classes)."""
        return self.network.logits(self._samples[rows])

    def figures(self, rows: np.ndarray, temperature: float) -> dict[str, Any]:
        """Figures of the last fit, on rows that it was not fitted on."""
        return {"method": TEST_SPLIT} | class_figures(self.logits(rows), temperature, self.targets[rows])


def _fit_on_a_split(bench: _Bench) -> tuple[float, dict[str, Any]]:
    """Fit on some, calibrate on others, judge on others again: temperature and figures."""
    rows, calibration, test = _split(
        bench.available, bench.targets, bench.seed, brings_test=bench.held_out.size > 0
    )
    bench.fit(rows)
    temperature = fit_temperature(bench.logits(calibration), bench.targets[calibration])
    return temperature, bench.figures(bench.held_out if bench.held_out.size else test, temperature)


def _fit_on_all(bench: _Bench) -> tuple[float, dict[str, Any]]:
    """Calibrate and judge by cross-validation, then fit on all: temperature and figures."""
    own = bench.targets[bench.available]
    folds = deal_folds(own, N_FOLDS, bench.seed)
    logits = np.empty((folds.size, bench.n_classes))
    for number in np.unique(folds):
        inside = folds == number
        bench.fit(bench.available[~inside])
        logits[inside] = bench.logits(bench.available[inside])
    temperature = fit_temperature(logits, own)
    # Each fold is judged by the temperature of the others.
    others = np.array([fit_temperature(logits[folds != n], own[folds != n]) for n in range(N_FOLDS)])
    evaluation = {"method": CROSS_VALIDATION} | class_figures(logits, others[folds][:, None], own)
    bench.fit(bench.available)
    return temperature, bench.figures(bench.held_out, temperature) if bench.held_out.size else evaluation


def _split(
    available: np.ndarray, targets: np.ndarray, seed: int, *, brings_test: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to fit on, to calibrate on and to test on, every class in the same shares.

    Parts to calibrate or to test on have parts to fit on as neighbours, and samples of a class go to parts
    that follow each other: so a class of two is fitted on, too.
    """
    parts = deal_folds(targets[available], N_PARTS, seed)
    is_calibration = np.isin(parts, CALIBRATION_PARTS)
    is_test = np.isin(parts, () if brings_test else TEST_PARTS)
    return available[~is_calibration & ~is_test], available[is_calibration], available[is_test]


def export_classifier(fitted: FittedClassifier, samples: np.ndarray) -> tuple[Graph, dict[str, float]]:
    """Build and convert `classifier.onnx`, and hold it against the network.

    Parameters
    ----------
    fitted : FittedClassifier
    samples : ndarray of shape (n_samples, *sample_shape), raw units
        Real samples; extreme ones are added.

    Returns
    -------
    tuple of Graph and dict
        The largest relative difference of the probabilities.

    Raises
    ------
    ExportError
        If the graph does not load, answers a value that is not finite, or differs by more than
        `PARITY_TOLERANCE`.
    """
    logits, scaling, temperature = fitted.network.exported(), fitted.scaling, np.float32(fitted.temperature)
    shape = samples.shape[1:]

    def classify(raw: tf.Tensor) -> dict[str, tf.Tensor]:
        bounded = tf.clip_by_value(logits(scale(raw, scaling)) / temperature, -LOGIT_LIMIT, LOGIT_LIMIT)
        return {PROBABILITY: tf.nn.softmax(bounded)}

    graph = convert(classify, INPUT, shape)
    try:
        session = Session(graph.onnx, CLASSIFIER_FILE, INPUT, shape, {PROBABILITY: (len(fitted.classes),)})
    except ModelError as error:
        raise ExportError(str(error)) from error
    real = samples[: max(PARITY_BATCHES)].astype(np.float32)
    largest = 0.0
    for size in PARITY_BATCHES:
        answer = session.run(real[:size], (PROBABILITY,))[PROBABILITY]
        expected = graph.function(tf.constant(real[:size]))[PROBABILITY].numpy()
        largest = max(largest, relative_difference(answer, expected, 1.0))
    if not largest <= PARITY_TOLERANCE:  # NaN fails too
        raise ExportError(
            f"{CLASSIFIER_FILE} differs from the network: {PROBABILITY} by {largest:.3g}, at most "
            f"{PARITY_TOLERANCE:g} is allowed"
        )
    extreme = session.run(extreme_samples(shape, scaling), (PROBABILITY,))[PROBABILITY]
    if not np.isfinite(extreme).all():
        raise ExportError(f"{CLASSIFIER_FILE} answers a value that is not finite to extreme samples")
    return graph, {f"{CLASSIFIER_FILE}:{PROBABILITY}": largest}


def write_classified_folder(
    staged: Path, base: Path, detector: Detector, dataset: Dataset, fitted: FittedClassifier
) -> Manifest:
    """Write the next version of a model: the unchanged files of the detector, and the classifier.

    Parameters
    ----------
    staged : Path
        Empty.
    base : Path
        The version folder that the encoder came from.
    detector : Detector
        The same, loaded.
    dataset : Dataset
        What was fitted on.
    fitted : FittedClassifier

    Returns
    -------
    Manifest
        As written; `ModelStore.publish` sets the version.

    Raises
    ------
    ExportError
        If the graph differs from the network.
    DetectorError
        If the finished folder does not load as it would be served.
    """
    former = detector.manifest
    for name in former.files:
        shutil.copyfile(base / name, staged / name)
    graph, parity = export_classifier(fitted, dataset.samples)
    (staged / CLASSIFIER_FILE).write_bytes(graph.onnx)
    _write_golden(staged, graph, fitted)
    classifier = Classifier(
        classes=fitted.classes,
        temperature=fitted.temperature,
        n_labelled=fitted.n_labelled,
        training={
            "base_version": former.version,
            "base_digest": detector.digest,
            "source": dataset.source,
            "fingerprint": dataset.fingerprint(),
            "learning_rate": fitted.config.learning_rate,
            "epochs": fitted.config.epochs_for(sum(fitted.n_labelled.values())),
            "seed": fitted.config.seed,
            "parity": parity,
        },
        evaluation=fitted.evaluation,
    )
    _write_card(staged, classifier)
    manifest = dataclasses.replace(
        former,
        created_at=timestamp(),
        verbs=verbs_of(latent=former.latent_shape is not None, classifier=True),
        classifier=classifier,
    )
    return seal(staged, manifest)


def _write_golden(staged: Path, graph: Graph, fitted: FittedClassifier) -> None:
    """Add the classifier's answers to the golden samples of the detector."""
    with np.load(staged / GOLDEN_FILE, allow_pickle=False) as stored:
        golden = dict(stored)
    outputs = {PROBABILITY: (len(fitted.classes),)}
    session = Session(graph.onnx, CLASSIFIER_FILE, INPUT, golden[INPUT].shape[1:], outputs)
    np.savez(staged / GOLDEN_FILE, **golden | session.run(golden[INPUT], (PROBABILITY,)))


def _write_card(staged: Path, classifier: Classifier) -> None:
    """Add a section to the model card, or replace the one of a former classifier."""
    card = (staged / CARD_FILE).read_text(encoding="utf-8").partition(_CARD_TITLE)[0].rstrip("\n")
    figures, counts = classifier.evaluation, classifier.n_labelled
    low, high = figures["accuracy"]["interval"]
    lines = [
        _CARD_TITLE.strip(),
        "",
        f"Fitted from the encoder on {sum(counts.values())} labelled samples of "
        f"`{classifier.training['source']}`; figures by {figures['method']}.",
        "A sample that belongs to none of the classes gets one all the same, so check its score too.",
        "",
        "| | |",
        "| --- | --- |",
        *(f"| samples labelled `{name}` | {count} |" for name, count in counts.items()),
        f"| accuracy | {figures['accuracy']['value']:.4f} ({low:.4f} to {high:.4f}) |",
        f"| macro F1 | {figures['macro_f1']:.4f} |",
        f"| expected calibration error | {figures['expected_calibration_error']:.4f} |",
    ]
    (staged / CARD_FILE).write_text(card + "\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


_CARD_TITLE = "\n## Classifier\n"

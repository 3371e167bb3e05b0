"""I1, I5 and I5b: images of one class to fit on, others to find; surfaces with defects marked by pixel.

I1 takes every `.npz` with `x_train`, `y_train`, `x_test` and `y_test`, 8-bit images and their classes, and
makes a set of each class. I5 takes every `.npz` with `X`, `y` and `mask`: 8-bit images, 0 or 1 (1 is an
anomaly), and 1 where a pixel belongs to the defect.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.sparse.csgraph import connected_components
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from benchmarks import in_process
from benchmarks.errors import QualityError
from benchmarks.protocols.base import DataSet, Protocol, npz_sets_with, read_arrays, refused_set
from benchmarks.protocols.baselines import BASELINES, PCA_SHARE
from benchmarks.protocols.tabular import figures
from benchmarks.rows import OURS, Row
from detector.engine.graphs import FEATURE_ERROR, SCORE
from training.data.dataset import Dataset
from training.presets import DEFAULT_PRESETS

OUR_PRESETS = {OURS: DEFAULT_PRESETS["image"], f"{OURS}-conv": "conv"}
BASELINE_METHODS = ("knn1", "knn5", "pca")
CLASSES, DEFECTS = ("x_train", "y_train", "x_test", "y_test"), ("X", "y", "mask")
LARGEST_VALUE = 255
# Two images of one part, under two lights: what is left of them correlates more than this once they are
# blurred by the first and freed from their surroundings by the second, in pixels.
SAME_PART, FINE_BLUR, COARSE_BLUR = 0.7, 1, 8


@dataclasses.dataclass(frozen=True)
class Images:
    """Normal images to fit on, others to score: 8-bit values.

    Attributes
    ----------
    train, test : ndarray of shape (n, height, width) or (n, height, width, channels), float32
    is_anomaly : ndarray of shape (n_test,), bool
    mask : ndarray of shape (n_test, height, width), bool, or None
        Pixels of the defect, where they are marked.
    """

    train: np.ndarray
    test: np.ndarray
    is_anomaly: np.ndarray
    mask: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """Scores of the test images and, from methods that have them, errors of their pixels."""

    scores: np.ndarray
    errors: np.ndarray | None
    fit_seconds: float
    score_seconds: float


# --- files --------------------------------------------------------------------------------------------------


def find_classes(data_dir: Path | None) -> Sequence[DataSet]:
    """A set for each class of each file; without a folder one of scikit-learn's digits each."""
    if data_dir is None:
        return [DataSet(f"digits-{label}", "built-in", partial(built_in_class, label)) for label in (0, 1)]
    found = []
    for data in npz_sets_with(data_dir, CLASSES, read_classes):
        try:
            labels = np.unique(read_arrays(data_dir / f"{data.name}.npz", ("y_train",))[0])
        except QualityError as error:
            found.append(refused_set(data, error))
            continue
        found += [
            DataSet(f"{data.name}-{label}", data.digest, lambda data=data, label=label: data.load()(label))
            for label in labels
        ]
    return found


def find_surfaces(data_dir: Path | None) -> Sequence[DataSet]:
    """Every file with masks; without a folder drawn ones."""
    if data_dir is None:
        return [DataSet("spots", "built-in", spotted_tiles)]
    return npz_sets_with(data_dir, DEFECTS, read_surfaces)


def read_classes(path: Path) -> Callable[[Any], Images]:
    """One file: what takes the label that is normal.

    Raises
    ------
    QualityError
        If an array has another form, naming it, what it must be and what it got.
    """
    x_train, y_train, x_test, y_test = read_arrays(path, CLASSES)
    for name, images, labels in (("x_train", x_train, y_train), ("x_test", x_test, y_test)):
        _check_images(path, name, images)
        if labels.shape != (len(images),):
            raise QualityError(
                f"{path.name}: y{name[1:]} must have shape ({len(images)},), got {labels.shape}"
            )
    return lambda label: Images(
        x_train[y_train == label].astype(np.float32), x_test.astype(np.float32), y_test != label
    )


def read_surfaces(path: Path) -> Images:
    """One file, all of it to be dealt out: `train` is empty.

    Raises
    ------
    QualityError
        As `read_classes`.
    """
    images, labels, mask = read_arrays(path, DEFECTS)
    _check_images(path, "X", images)
    if labels.shape != (len(images),) or set(np.unique(labels)) != {0, 1}:
        raise QualityError(f"{path.name}: y must hold 0 and 1 of shape ({len(images)},)")
    if mask.shape != images.shape[:3]:
        raise QualityError(f"{path.name}: mask must have shape {images.shape[:3]}, got {mask.shape}")
    images = images.astype(np.float32)
    return Images(images[:0], images, labels == 1, mask > 0)


def _check_images(path: Path, name: str, images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        raise QualityError(
            f"{path.name}: {name} must hold 8-bit images of shape (n, height, width) or (n, height, width, "
            f"channels), got {images.dtype} of shape {images.shape}"
        )


def built_in_class(label: int) -> Images:
    """scikit-learn's 8x8 digits, every other one to fit on."""
    bunch = load_digits()
    images = np.round(bunch.images * (LARGEST_VALUE / 16)).astype(np.float32)
    train, test = np.arange(0, len(images), 2), np.arange(1, len(images), 2)
    train = train[bunch.target[train] == label]
    return Images(images[train], images[test], bunch.target[test] != label)


def spotted_tiles() -> Images:
    """Thirty rough surfaces under three lights each, the last third of them with a bright spot."""
    rng = np.random.default_rng(0)
    surfaces = gaussian_filter(rng.normal(size=(30, 24, 24)), (0, 1, 1))
    lights = rng.uniform((60, 80), (90, 120), size=(3, 30, 2)).transpose(2, 1, 0)[..., np.newaxis, np.newaxis]
    images = lights[1] + lights[0] * surfaces[:, np.newaxis]
    mask = np.zeros(images.shape, dtype=bool)
    mask[20:, :, 8:14, 10:16] = True
    images = np.where(mask, LARGEST_VALUE, images).clip(0, LARGEST_VALUE).round().astype(np.float32)
    images, mask = (values.reshape(-1, 24, 24) for values in (images, mask))
    return Images(images[:0], images, mask.any(axis=(1, 2)), mask)


# --- splits -------------------------------------------------------------------------------------------------


def half_of_images(images: Images, seed: int) -> Images:
    """Half of the normal images, drawn one by one, to fit on."""
    normal = np.random.RandomState(seed).permutation(np.flatnonzero(~images.is_anomaly))
    return _deal(images, normal[: round(0.5 * len(normal))])


def half_of_parts(images: Images, seed: int) -> Images:
    """About half of the normal images: all or none of those that show the same part."""
    normal = np.flatnonzero(~images.is_anomaly)
    parts = same_parts(images.test[normal])
    train: list[int] = []
    for part in np.random.RandomState(seed).permutation(parts.max() + 1):
        members = normal[parts == part]
        if len(train) + len(members) <= round(0.55 * len(normal)):
            train.extend(members)
        if len(train) >= round(0.5 * len(normal)):
            break
    if len(train) < 2:
        raise QualityError(f"the normal images must show several parts, got {parts.max() + 1}")
    return _deal(images, np.array(train))


def same_parts(images: np.ndarray) -> np.ndarray:
    """A number for each image: the same for those that look like one part, or like a third that does."""
    grey = images.reshape(*images.shape[:3], -1).mean(axis=3) / LARGEST_VALUE
    details = gaussian_filter(grey, (0, FINE_BLUR, FINE_BLUR)) - gaussian_filter(
        grey, (0, COARSE_BLUR, COARSE_BLUR)
    )
    details = details.reshape(len(grey), -1)
    details -= details.mean(axis=1, keepdims=True)
    details /= np.maximum(np.linalg.norm(details, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return connected_components(details @ details.T > SAME_PART, directed=False)[1]


def _deal(images: Images, train: np.ndarray) -> Images:
    test = np.setdiff1d(np.arange(len(images.test)), train)
    mask = None if images.mask is None else images.mask[test]
    return Images(images.test[train], images.test[test], images.is_anomaly[test], mask)


# --- one run ------------------------------------------------------------------------------------------------


def measure_class(load: Images, seed: int, method: str) -> dict[str, Any]:
    """One row of I1."""
    return _measure(load, seed, method)


def measure_surfaces(
    split: Callable[[Images, int], Images], images: Images, seed: int, method: str
) -> dict[str, Any]:
    """One row of I5."""
    return _measure(split(images, seed), seed, method)


def _measure(images: Images, seed: int, method: str) -> dict[str, Any]:
    answer = (run_ours if method in OUR_PRESETS else run_baseline)(method, images, seed)
    row = figures(images.is_anomaly, answer.scores)
    if images.mask is not None:
        row |= map_figures(images.mask, answer.errors)
    return row | {
        "fit_seconds": round(answer.fit_seconds, 3),
        "score_seconds": round(answer.score_seconds, 3),
        "n_train": len(images.train),
        "n_test": len(images.test),
        "n_anomalies": int(images.is_anomaly.sum()),
    }


def map_figures(mask: np.ndarray, errors: np.ndarray | None) -> dict[str, float | None]:
    """Areas under the ROC curve of the error map; None from a method without one.

    `pixel_auroc` is that over all pixels of all test images, which large defects decide; `map_auroc` the
    mean over the images with a defect of the area within the image.
    """
    if errors is None:
        return {"pixel_auroc": None, "map_auroc": None}
    errors = errors.reshape(*mask.shape, -1).sum(axis=-1).reshape(len(mask), -1)
    flat = mask.reshape(len(mask), -1)
    partly = flat.any(axis=1) & ~flat.all(axis=1)
    within = [roc_auc_score(*pair) for pair in zip(flat[partly], errors[partly], strict=True)]
    return {
        "pixel_auroc": round(float(roc_auc_score(flat.ravel(), errors.ravel())), 6),
        "map_auroc": round(float(np.mean(within)), 6),
    }


def run_ours(method: str, images: Images, seed: int) -> Answer:
    """The house's own detector, fitted on all training images and scored through its exported graph."""
    fit = fit_ours(method, images.train, seed)
    start = time.perf_counter()
    outputs = fit.detector.engine.run(fit.detector.engine.check_samples(images.test), (SCORE, FEATURE_ERROR))
    scores = fit.detector.engine.finite(outputs[SCORE]).astype(np.float64)
    return Answer(scores, outputs[FEATURE_ERROR], fit.seconds, time.perf_counter() - start)


def fit_ours(method: str, train: np.ndarray, seed: int) -> in_process.Fit:
    """A preset with its defaults; one trained by gradients keeps a tenth to know when to stop."""
    dataset = Dataset(
        samples=train,
        is_anomaly=np.zeros(len(train), dtype=bool),
        labels=None,
        held_out=np.zeros(len(train), dtype=bool),
        kind="image",
        value_range=(0.0, float(LARGEST_VALUE)),
        feature_names=None,
        source="images",
    )
    return in_process.fit_all(dataset, OUR_PRESETS[method], seed)


def run_baseline(method: str, images: Images, seed: int) -> Answer:
    """Pixels from 0 to 1 as they are: standardised ones count the borders, which hardly vary, most."""
    train, test = (
        part.reshape(len(part), -1).astype(np.float64) / LARGEST_VALUE for part in (images.train, images.test)
    )
    start = time.perf_counter()
    errors = None
    if method == "pca":
        errors_of = pca_errors(train, seed)
        fitted = time.perf_counter()
        errors = errors_of(test)
        scores = errors.sum(axis=1)
        errors = errors.reshape(images.test.shape)
    else:
        score = BASELINES[method](train, seed)
        fitted = time.perf_counter()
        scores = score(test)
    return Answer(scores, errors, fitted - start, time.perf_counter() - fitted)


def pca_errors(train: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Squared residuals of each pixel from the plane of the components with 95 % of the variance."""
    n_components = min(len(train), train.shape[1], 512) - 1
    pca = PCA(n_components, svd_solver="randomized", random_state=seed).fit(train)
    shares = np.cumsum(pca.explained_variance_ratio_)
    plane = pca.components_[: int(np.searchsorted(shares, PCA_SHARE)) + 1]

    def errors(images: np.ndarray) -> np.ndarray:
        centred = images - pca.mean_
        return np.square(centred - (centred @ plane.T) @ plane)

    return errors


def class_lines(rows: Sequence[Row]) -> Iterable[str]:
    """CPU time of all fits and scores of a method."""
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        minutes = sum(row["fit_seconds"] + row["score_seconds"] for row in own) / 60
        yield f"{method}: {len(own)} fits and scores in {minutes:.1f} minutes"


PROTOCOLS = {
    "I1": Protocol(
        "images of one class to fit on, of all classes to test",
        ("auroc", "ap", "f1"),
        methods=(*OUR_PRESETS, *BASELINE_METHODS),
        quick_methods=(OURS, "pca"),
        find=find_classes,
        measure=measure_class,
        seeds=(0, 1, 2),
        default_methods=(OURS, *BASELINE_METHODS),
        summary=class_lines,
    ),
    **{
        name: Protocol(
            words,
            ("auroc", "ap", "f1", "pixel_auroc", "map_auroc"),
            methods=(*OUR_PRESETS, *BASELINE_METHODS),
            quick_methods=(OURS, "pca"),
            find=find_surfaces,
            measure=partial(measure_surfaces, split),
            seeds=(0, 1, 2),
            default_methods=(OURS, *BASELINE_METHODS),
            summary=class_lines,
        )
        for name, words, split in (
            ("I5", "surfaces with marked defects, half of the normal images to fit on", half_of_images),
            (
                "I5b",
                "the same, no part on both sides: images of one part are dealt together",
                half_of_parts,
            ),
        )
    },
}

"""I1, I5 and I5b: images of one class to fit on, others to find; surfaces whose defects are marked by pixel.

I1 reads every `.npz` with `x_train`, `y_train`, `x_test` and `y_test`, 8-bit images and their classes, and
makes a set of each class. I5 reads every `.npz` with `X`, `y` and `mask`: 8-bit images, 0 or 1 (1 is an
anomaly), and 1 for a pixel of the defect.
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
from benchmarks.errors import BenchmarkError
from benchmarks.protocols.base import DataSet, Protocol, npz_sets_with, read_arrays, refused_set
from benchmarks.protocols.baselines import BASELINES, PCA_SHARE, Timed, plane_errors
from benchmarks.protocols.tabular import METRICS, figures
from benchmarks.rows import OURS, Row
from detector.engine.graphs import FEATURE_ERROR, SCORE
from training.presets import DEFAULT_PRESETS

OUR_PRESETS = {OURS: DEFAULT_PRESETS["image"], f"{OURS}-conv": "conv"}
BASELINE_METHODS = ("knn1", "knn5", "pca")
CLASSES, DEFECTS = ("x_train", "y_train", "x_test", "y_test"), ("X", "y", "mask")
LARGEST_VALUE = 255
# Two images show one part, under two lights, if they correlate more than this after a fine blur has removed
# noise and a coarse one, subtracted, has removed the light; both in pixels.
SAME_PART, FINE_BLUR, COARSE_BLUR = 0.7, 1, 8


@dataclasses.dataclass(frozen=True)
class Images:
    """Normal images to fit on, others to score: 8-bit values.

    Attributes
    ----------
    train, test : ndarray of shape (n, height, width) or (n, height, width, channels), float32
    is_anomaly : ndarray of shape (n_test,), bool
    mask : ndarray of shape (n_test, height, width), bool, or None
        Pixels of the defect, if they are marked.
    """

    train: np.ndarray
    test: np.ndarray
    is_anomaly: np.ndarray
    mask: np.ndarray | None = None


# --- files --------------------------------------------------------------------------------------------------


def find_classes(data_dir: Path | None) -> Sequence[DataSet]:
    """Make a set of each class of each file; without a folder two classes of scikit-learn's digits."""
    if data_dir is None:
        return [DataSet(f"digits-{label}", "built-in", partial(built_in_class, label)) for label in (0, 1)]
    found = []
    for data in npz_sets_with(data_dir, CLASSES, read_classes):
        try:
            labels = np.unique(read_arrays(data_dir / f"{data.name}.npz", ("y_train",))[0])
        except BenchmarkError as error:
            found.append(refused_set(data, error))
            continue
        found += [
            DataSet(f"{data.name}-{label}", data.digest, lambda data=data, label=label: data.load()(label))
            for label in labels
        ]
    return found


def find_surfaces(data_dir: Path | None) -> Sequence[DataSet]:
    """Find every file with masks; without a folder drawn surfaces."""
    if data_dir is None:
        return [DataSet("spots", "built-in", spotted_tiles)]
    return npz_sets_with(data_dir, DEFECTS, read_surfaces)


def read_classes(path: Path) -> Callable[[Any], Images]:
    """Read one file; return a function that makes the set of a class from its label.

    Raises
    ------
    BenchmarkError
        If an array has another form; the text names the array and both forms.
    """
    x_train, y_train, x_test, y_test = read_arrays(path, CLASSES)
    for name, images, labels in (("x_train", x_train, y_train), ("x_test", x_test, y_test)):
        _check_images(path, name, images)
        if labels.shape != (len(images),):
            raise BenchmarkError(
                f"{path.name}: y{name[1:]} must have shape ({len(images)},), got {labels.shape}"
            )
    return lambda label: Images(
        x_train[y_train == label].astype(np.float32), x_test.astype(np.float32), y_test != label
    )


def read_surfaces(path: Path) -> Images:
    """Read one file; its images are not split yet: `train` is empty.

    Raises
    ------
    BenchmarkError
        As `read_classes`.
    """
    images, labels, mask = read_arrays(path, DEFECTS)
    _check_images(path, "X", images)
    if labels.shape != (len(images),) or set(np.unique(labels)) != {0, 1}:
        raise BenchmarkError(f"{path.name}: y must hold 0 and 1 of shape ({len(images)},)")
    if mask.shape != images.shape[:3]:
        raise BenchmarkError(f"{path.name}: mask must have shape {images.shape[:3]}, got {mask.shape}")
    images = images.astype(np.float32)
    return Images(images[:0], images, labels == 1, mask > 0)


def _check_images(path: Path, name: str, images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or 0 in images.shape:
        raise BenchmarkError(
            f"{path.name}: {name} must hold 8-bit images of shape (n, height, width) or (n, height, width, "
            f"channels), got {images.dtype} of shape {images.shape}"
        )


def built_in_class(label: int) -> Images:
    """Load scikit-learn's 8x8 digits, every other one to fit on."""
    bunch = load_digits()
    images = np.round(bunch.images * (LARGEST_VALUE / 16)).astype(np.float32)
    train, test = np.arange(0, len(images), 2), np.arange(1, len(images), 2)
    train = train[bunch.target[train] == label]
    return Images(images[train], images[test], bunch.target[test] != label)


def spotted_tiles() -> Images:
    """Draw thirty rough surfaces under three lights each, the last ten with a bright spot."""
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
    """Fit on half of the normal images, drawn one by one."""
    normal = np.random.RandomState(seed).permutation(np.flatnonzero(~images.is_anomaly))
    return _deal(images, normal[: round(0.5 * len(normal))])


def half_of_parts(images: Images, seed: int) -> Images:
    """Fit on about half of the normal images: all images of a part, or none."""
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
        raise BenchmarkError(f"the normal images must show several parts, got {parts.max() + 1}")
    return _deal(images, np.array(train))


def same_parts(images: np.ndarray) -> np.ndarray:
    """Number the parts: images that look alike, directly or through other images, have the same number."""
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


def measure_surfaces(
    split: Callable[[Images, int], Images], images: Images, seed: int, method: str
) -> dict[str, Any]:
    """Split, then measure one row of I5 or I5b."""
    return measure(split(images, seed), seed, method)


def measure(images: Images, seed: int, method: str) -> dict[str, Any]:
    """Measure one row: metrics of the scores and, if there is a mask, of the error map."""
    timed = (run_ours if method in OUR_PRESETS else run_baseline)(method, images, seed)
    row = figures(images.is_anomaly, timed.scores)
    if images.mask is not None:
        row |= map_figures(images.mask, timed.feature_errors)
    return row | {
        **timed.seconds(),
        "n_train": len(images.train),
        "n_test": len(images.test),
        "n_anomalies": int(images.is_anomaly.sum()),
    }


def map_figures(mask: np.ndarray, errors: np.ndarray | None) -> dict[str, float | None]:
    """Return areas under the ROC curve of the error map; None for a method without one.

    `pixel_auroc` is computed over all pixels of all test images, so large defects dominate. `map_auroc` is
    computed within each image that has a defect, then averaged.
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


def run_ours(method: str, images: Images, seed: int) -> Timed:
    """Fit our detector on all training images and score through its exported graph."""
    fit = fit_ours(method, images.train, seed)
    start = time.perf_counter()
    outputs = fit.engine.run(fit.engine.check_samples(images.test), (SCORE, FEATURE_ERROR))
    scores = fit.engine.finite(outputs[SCORE]).astype(np.float64)
    return Timed(scores, fit.seconds, time.perf_counter() - start, outputs[FEATURE_ERROR])


def fit_ours(method: str, train: np.ndarray, seed: int) -> in_process.Fit:
    """Fit a preset with its defaults, even if `training.fit` would refuse the network."""
    dataset = in_process.normal_dataset(train, "image", (0.0, float(LARGEST_VALUE)))
    order = np.random.default_rng(seed).permutation(len(train))
    options = {"seed": seed, "collapse_check": False}
    return in_process.fit_all(dataset, OUR_PRESETS[method], order, options)


def run_baseline(method: str, images: Images, seed: int) -> Timed:
    """Fit on pixels from 0 to 1, not standardised: that would weight most the borders, which hardly vary."""
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
    return Timed(scores, fitted - start, time.perf_counter() - fitted, errors)


def pca_errors(train: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of rows: squared residuals of the pixels from PCA's plane (95 % of the variance)."""
    n_components = min(len(train), train.shape[1], 512) - 1
    pca = PCA(n_components, svd_solver="randomized", random_state=seed).fit(train)
    shares = np.cumsum(pca.explained_variance_ratio_)
    return plane_errors(pca.mean_, pca.components_[: int(np.searchsorted(shares, PCA_SHARE)) + 1])


def spent_time(rows: Sequence[Row]) -> Iterable[str]:
    """Say how many minutes all fits and scores of a method took."""
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        minutes = sum(row["fit_seconds"] + row["score_seconds"] for row in own) / 60
        yield f"{method}: {len(own)} fits and scores in {minutes:.1f} minutes"


METRICS_OF_MAPS = ("pixel_auroc", "map_auroc")


def _protocol(words: str, metrics: tuple[str, ...], find: Callable, measure: Callable) -> Protocol:
    return Protocol(
        words,
        metrics,
        methods=(*OUR_PRESETS, *BASELINE_METHODS),
        quick_methods=(OURS, "pca"),
        find=find,
        measure=measure,
        seeds=(0, 1, 2),
        default_methods=(OURS, *BASELINE_METHODS),
        summary=spent_time,
    )


def _surfaces(words: str, split: Callable[[Images, int], Images]) -> Protocol:
    return _protocol(words, METRICS + METRICS_OF_MAPS, find_surfaces, partial(measure_surfaces, split))


PROTOCOLS = {
    "I1": _protocol("images of one class to fit on, of all classes to test", METRICS, find_classes, measure),
    "I5": _surfaces("surfaces with marked defects, half of the normal images to fit on", half_of_images),
    "I5b": _surfaces("the same, all images of one part on the same side of the split", half_of_parts),
}

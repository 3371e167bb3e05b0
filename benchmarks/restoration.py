"""Does `/denoise` restore? Noise and mosaics, compared with the best linear filter and bicubic up-scaling.

  python benchmarks/restoration.py --data-dir DIR --out benchmarks/results/restoration.json
  python benchmarks/restoration.py --data-dir DIR --cases noise-0.5,mosaic-4 --out /tmp/two.json
  python benchmarks/restoration.py --quick --out /tmp/quick.json

DIR holds `mnist.npz` with x_train and x_test. Every case fits `python -m training.fit --preset restore` on
the training images and serves the result by a gunicorn of its own. Every test image is corrupted in raw
units, posted as float32 `.npy` to `/denoise` and compared with the clean image. `psnr` is computed from the
mean squared error over all test images, in units of the value range. Noise is Gaussian and not clipped; a
mosaic replaces each tile by its mean.

For noise, `baseline` is the linear filter with the least mean squared error (Wiener), computed from the mean
and the covariance of the training images and the true variance of the noise. For a mosaic it is the bicubic
up-scaling of its tiles by Pillow. `baseline_clipped` is the baseline cut off at black and white, which is
fairer and harder to beat. `published` is a published figure for the same baseline, if there is one. A row is
good if `psnr` is at least 2 dB above both `baseline` and `published`.

`flagged_clean` and `flagged_corrupted` are shares of the test images that `/score` calls anomalies at the
calibrated threshold, before and after their corruption. A case that the output file has for these data is
not run again. `--quick` fits a few epochs on digits of scikit-learn: does it run?
"""

import dataclasses
import functools
import io
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import commands, fit_command
from benchmarks.rows import Row, found_or_measured
from benchmarks.servers.processes import Service, running_service

WHITE = 255  # the largest raw value; the range begins at 0
ROWS_OF_REQUEST = 1000
MARGIN = 2.0  # dB above the baseline
MODEL = "restored"


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to corrupt an image.

    Attributes
    ----------
    corruption : str
        A value of `training.fit --corruption`.
    level : float
        Standard deviation in units of the value range, or side of a tile in pixels.
    published : float, or None
        Published PSNR of the baseline on MNIST, dB.
    """

    corruption: str
    level: float
    published: float | None = None


CASES = {
    "noise-0.3": Case("gaussian", 0.3, 19.2),
    "noise-0.5": Case("gaussian", 0.5, 17.1),
    "mosaic-2": Case("mosaic", 2),
    "mosaic-4": Case("mosaic", 4),
}


@dataclasses.dataclass(frozen=True)
class ImageSplits:
    """Images to fit on and images to restore, uint8 from 0 to 255, shape (n, height, width)."""

    name: str
    train: np.ndarray
    test: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases that are missing and print the table; return 1 if a case is not good."""
    parser = commands.parser(__doc__)
    parser.add_argument("--data-dir", type=Path, help="folder of mnist.npz")
    parser.add_argument(
        "--cases",
        type=commands.names_among(CASES),
        default=list(CASES),
        help="separated by commas (default: all)",
    )
    parser.add_argument("--epochs", type=int, default=4, help="of each fit, at most (default: 4)")
    parser.add_argument("--rows", type=int, help="fit on at most this many of the images (default: all)")
    parser.add_argument("--quick", action="store_true", help="a few epochs on digits of scikit-learn")
    arguments = parser.parse_args(argv)
    if not (arguments.quick or arguments.data_dir):
        parser.error("--data-dir must name the folder of mnist.npz, or give --quick")
    data = load_digits() if arguments.quick else load_mnist(arguments.data_dir)
    rows = []
    for name in arguments.cases:
        measure = functools.partial(run_case, name, data, arguments.epochs, arguments.rows)
        rows.append(found_or_measured(arguments.out, measure, case=name, data=data.name))
        print(describe(rows[-1]), flush=True)
    missed = [row["case"] for row in rows if not is_good(row)]
    if missed and not arguments.quick:
        print(f"less than {MARGIN:g} dB above the baseline: {', '.join(missed)}")
    return 1 if missed and not arguments.quick else 0


# --- data and their corruption ------------------------------------------------------------------------------


def load_mnist(folder: Path) -> ImageSplits:
    """Load the 60,000 training and the 10,000 test images."""
    with np.load(folder / "mnist.npz") as arrays:
        return ImageSplits("mnist", arrays["x_train"], arrays["x_test"])


def load_digits() -> ImageSplits:
    """Load the 8 x 8 images of scikit-learn, a third of them to restore."""
    from sklearn.datasets import load_digits as load

    images = np.rint(load().images * (WHITE / 16)).astype(np.uint8)
    return ImageSplits("digits", images[600:], images[:600])


def corrupt(images: np.ndarray, case: Case) -> np.ndarray:
    """Corrupt images in raw units, float32, in the same way in every run."""
    if case.corruption == "mosaic":
        side = int(case.level)
        return tiles(images, side).repeat(side, axis=1).repeat(side, axis=2)
    noise = np.random.default_rng(0).normal(0, case.level * WHITE, images.shape)
    return (images + noise).astype(np.float32)


def tiles(images: np.ndarray, side: int) -> np.ndarray:
    """Return the mean of each tile, shape (n, height / side, width / side), float32."""
    n, height, width = images.shape
    split = images.reshape(n, height // side, side, width // side, side)
    return split.mean(axis=(2, 4)).astype(np.float32)


# --- the baselines ------------------------------------------------------------------------------------------


def linear_filter(corrupted: np.ndarray, train: np.ndarray, case: Case) -> np.ndarray:
    """Restore noisy images by the affine filter with the least mean squared error.

    With mean and covariance C of the training images it is
    `mean + C (C + s^2 I)^-1 (noisy - mean)` for noise of standard deviation s.

    References
    ----------
    Wiener (1949). Extrapolation, interpolation, and smoothing of stationary time series. MIT Press.
    """
    known = train.reshape(len(train), -1) / WHITE
    mean, covariance = known.mean(axis=0), np.cov(known, rowvar=False)
    noisy = covariance + case.level**2 * np.eye(mean.size)
    gain = np.linalg.solve(noisy, covariance)  # both symmetric: the transpose of C (C + s^2 I)^-1
    estimate = mean + (corrupted.reshape(len(corrupted), -1) / WHITE - mean) @ gain
    return WHITE * estimate.reshape(corrupted.shape)


def bicubic(corrupted: np.ndarray, train: np.ndarray, case: Case) -> np.ndarray:
    """Restore a mosaic: take its tiles as pixels of a small image and scale that up by Pillow."""
    size = corrupted.shape[:0:-1]  # Pillow's order: width, height
    small = tiles(corrupted, int(case.level))
    return np.stack(
        [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in small]
    )


BASELINES = {"gaussian": ("wiener", linear_filter), "mosaic": ("bicubic", bicubic)}


def psnr(restored: np.ndarray, clean: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of the mean squared error over all images, dB."""
    error = np.square(restored.astype(np.float64) - clean).mean()
    return round(float(-10 * np.log10(error / WHITE**2)), 3)


# --- one case -----------------------------------------------------------------------------------------------


def run_case(name: str, data: ImageSplits, epochs: int, n_rows: int | None, seed: int = 0) -> Row:
    """Fit, serve, restore every test image; return the row."""
    case = CASES[name]
    corrupted = corrupt(data.test, case)
    baseline_name, baseline = BASELINES[case.corruption]
    estimate = baseline(corrupted, data.train, case)
    with tempfile.TemporaryDirectory() as work:
        report = fit(case, data, epochs, n_rows, Path(work), seed)
        with running_service(Path(work) / "models", RESIDUAL_WORKERS="1") as service:
            start = time.perf_counter()
            restored = post(service, "/denoise", corrupted)
            seconds = time.perf_counter() - start
            threshold = report["threshold"]["value"]
            flagged = [
                float((post(service, "/score", images) > threshold).mean())
                for images in (data.test, corrupted)
            ]
    return {
        "case": name,
        "data": data.name,
        "psnr": psnr(restored, data.test),
        "baseline": psnr(estimate, data.test),
        "baseline_clipped": psnr(estimate.clip(0, WHITE), data.test),
        "baseline_name": baseline_name,
        "published": case.published if data.name == "mnist" else None,
        "psnr_corrupted": psnr(corrupted, data.test),
        "flagged_clean": flagged[0],
        "flagged_corrupted": flagged[1],
        "n_test": len(data.test),
        "n_train": report["data"]["splits"]["train"],
        "parameters": report["fit"]["parameters"],
        "epochs": report["fit"]["epochs"],
        "fit_seconds": round(report["fit"]["seconds"], 1),
        "denoise_seconds": round(seconds, 1),
    }


def fit(case: Case, data: ImageSplits, epochs: int, n_rows: int | None, work: Path, seed: int) -> Row:
    """Fit to the training images and publish below `work`; return the report."""
    path = work / f"{data.name}.npz"
    unlabelled = [np.zeros(len(images), dtype=int) for images in (data.train, data.test)]
    np.savez(path, x_train=data.train, y_train=unlabelled[0], x_test=data.test, y_test=unlabelled[1])
    options = ["--preset", "restore", "--epochs", epochs, "--seed", seed]
    options += ["--corruption", case.corruption, "--corruption-level", case.level]
    options += [] if n_rows is None else ["--rows", n_rows]
    return fit_command.fit(path, work / "models", MODEL, *options)


def post(service: Service, path: str, images: np.ndarray) -> np.ndarray:
    """Post images as `.npy`, 1,000 in a request; return the arrays of the answers as one."""
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    answers = []
    for start in range(0, len(images), ROWS_OF_REQUEST):
        body = io.BytesIO()
        np.save(body, images[start : start + ROWS_OF_REQUEST].astype(np.float32))
        answers.append(np.load(io.BytesIO(service.post(path, body.getvalue(), headers))))
    return np.concatenate(answers)


# --- rows ---------------------------------------------------------------------------------------------------


def is_good(row: Row) -> bool:
    """Tell whether a row is far enough above its baseline, computed and published."""
    best = max(row["baseline"], row["published"] or row["baseline"])
    return row["psnr"] >= best + MARGIN


def describe(row: Row) -> str:
    """Return one line of the table."""
    published = "" if row["published"] is None else f", published {row['published']:.1f}"
    return (
        f"{row['case']:9} ({row['data']}): {row['psnr']:.2f} dB, {row['psnr_corrupted']:.2f} corrupted; "
        f"{row['baseline_name']} {row['baseline']:.2f} (clipped {row['baseline_clipped']:.2f}{published}); "
        f"flagged {row['flagged_clean']:.3f} clean, {row['flagged_corrupted']:.3f} corrupted; "
        f"{row['epochs']} epochs of {row['n_train']} in {row['fit_seconds']:.0f} s"
    )


if __name__ == "__main__":
    commands.run(main)

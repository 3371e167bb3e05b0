"""Does `/denoise` restore? Noise and mosaics, against the best linear filter and bicubic up-scaling.

  python benchmarks/restoration.py --data-dir DIR --out benchmarks/results/restoration.json
  python benchmarks/restoration.py --data-dir DIR --cases noise-0.5,mosaic-4 --out /tmp/two.json
  python benchmarks/restoration.py --quick --out /tmp/quick.json

DIR holds `mnist.npz` with x_train and x_test. Every case is one `python -m training.fit --preset restore` on
the training images, a gunicorn of its own that serves the result, and one look at every test image:
corrupted in raw units, posted as float32 `.npy` to `/denoise`, compared with the clean image. `psnr` is
that of the mean squared error over all test images, in units of the value range. Noise is Gaussian and not
clipped; a mosaic has the mean of each tile.

`baseline` is for noise the linear filter with the least mean squared error (Wiener), computed from the mean
and the covariance of the training images and the true variance of the noise, and for a mosaic the bicubic
up-scaling of its tiles by Pillow; `baseline_clipped` is the same cut off at black and white, which is fairer
and harder. `published` is a figure from elsewhere for the same baseline, where there is one. A row is good
if `psnr` is at least 2 dB above both `baseline` and `published`.

`flagged_clean` and `flagged_corrupted` are shares of the test images that `/score` calls anomalies, at the
calibrated threshold: before and after their corruption. A case that the output file has for these data is
not run again. `--quick` fits a few epochs on digits of scikit-learn: does it run?
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.rows import find_row, read_rows, write_rows

ROOT = Path(__file__).resolve().parent.parent
WHITE = 255  # the largest raw value; the range begins at 0
ROWS_OF_REQUEST = 1000
START_SECONDS = 60
MARGIN = 2.0  # dB above the baseline
MODEL = "restored"


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to spoil an image.

    Attributes
    ----------
    corruption : str
        As `training.fit --corruption` has it.
    level : float
        Standard deviation in units of the value range, or side of a tile in pixels.
    published : float, or None
        The baseline's PSNR on MNIST, as published, dB.
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
class Data:
    """Images to fit on and images to restore, uint8 from 0 to 255, shape (n, height, width)."""

    name: str
    train: np.ndarray
    test: np.ndarray


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing and print the table; 1 if a case is not good."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, help="folder of mnist.npz")
    parser.add_argument("--cases", default=",".join(CASES), help="separated by commas (default: all)")
    parser.add_argument("--epochs", type=int, default=4, help="of each fit, at most (default: 4)")
    parser.add_argument("--rows", type=int, help="fit on at most so many of the images; all if not given")
    parser.add_argument("--quick", action="store_true", help="a few epochs on digits of scikit-learn")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args(argv)
    wanted = arguments.cases.split(",")
    unknown = set(wanted) - CASES.keys()
    if unknown:
        parser.error(f"--cases has no {', '.join(sorted(unknown))}: one of {', '.join(CASES)}")
    if not (arguments.quick or arguments.data_dir):
        parser.error("--data-dir must name the folder of mnist.npz, or give --quick")
    data = load_digits() if arguments.quick else load_mnist(arguments.data_dir)
    rows = read_rows(arguments.out)
    asked_for = []
    for name in wanted:
        row = find_row(rows, case=name, data=data.name)
        if row is None:
            row = run_case(name, data, arguments.epochs, arguments.rows)
            rows.append(row)
            write_rows(arguments.out, rows)
        asked_for.append(row)
        print(describe(row), flush=True)
    missed = [row["case"] for row in asked_for if not is_good(row)]
    if missed and not arguments.quick:
        print(f"less than {MARGIN:g} dB above the baseline: {', '.join(missed)}")
    return 1 if missed and not arguments.quick else 0


# --- data and what spoils them ------------------------------------------------------------------------------


def load_mnist(folder: Path) -> Data:
    """The 60,000 and the 10,000 images."""
    with np.load(folder / "mnist.npz") as arrays:
        return Data("mnist", arrays["x_train"], arrays["x_test"])


def load_digits() -> Data:
    """8 x 8 images of scikit-learn, a third of them to restore."""
    from sklearn.datasets import load_digits as load

    images = np.rint(load().images * (WHITE / 16)).astype(np.uint8)
    return Data("digits", images[600:], images[:600])


def corrupt(images: np.ndarray, case: Case) -> np.ndarray:
    """Spoiled images in raw units, float32, the same ones in every run."""
    if case.corruption == "mosaic":
        side = int(case.level)
        return tiles(images, side).repeat(side, axis=1).repeat(side, axis=2)
    noise = np.random.default_rng(0).normal(0, case.level * WHITE, images.shape)
    return (images + noise).astype(np.float32)


def tiles(images: np.ndarray, side: int) -> np.ndarray:
    """Mean of each tile, shape (n, height / side, width / side), float32."""
    n, height, width = images.shape
    split = images.reshape(n, height // side, side, width // side, side)
    return split.mean(axis=(2, 4)).astype(np.float32)


# --- the baselines ------------------------------------------------------------------------------------------


def linear_filter(corrupted: np.ndarray, train: np.ndarray, case: Case) -> np.ndarray:
    """The affine estimate with the least mean squared error, for the training images' covariance.

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
    """The tiles of a mosaic as pixels of a small image, scaled up by Pillow."""
    size = corrupted.shape[:0:-1]  # Pillow's order: width, height
    small = tiles(corrupted, int(case.level))
    return np.stack(
        [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)) for image in small]
    )


BASELINES = {"gaussian": ("wiener", linear_filter), "mosaic": ("bicubic", bicubic)}


def psnr(restored: np.ndarray, clean: np.ndarray) -> float:
    """Peak signal-to-noise ratio of the mean squared error over all images, dB."""
    error = np.square(restored.astype(np.float64) - clean).mean()
    return round(float(-10 * np.log10(error / WHITE**2)), 3)


# --- one case -----------------------------------------------------------------------------------------------


def run_case(name: str, data: Data, epochs: int, n_rows: int | None, seed: int = 0) -> dict[str, Any]:
    """Fit, serve, restore every test image; its figures."""
    case = CASES[name]
    corrupted = corrupt(data.test, case)
    baseline_name, baseline = BASELINES[case.corruption]
    estimate = baseline(corrupted, data.train, case)
    with tempfile.TemporaryDirectory() as work:
        figures = fit(case, data, epochs, n_rows, Path(work), seed)
        with serve(Path(work)) as url:
            start = time.perf_counter()
            restored = post(f"{url}/denoise", corrupted)
            seconds = time.perf_counter() - start
            threshold = figures["threshold"]["value"]
            flagged = [float((post(f"{url}/score", p) > threshold).mean()) for p in (data.test, corrupted)]
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
        "n_train": figures["data"]["splits"]["train"],
        "parameters": figures["fit"]["parameters"],
        "epochs": figures["fit"]["epochs"],
        "fit_seconds": round(figures["fit"]["seconds"], 1),
        "denoise_seconds": round(seconds, 1),
    }


def fit(case: Case, data: Data, epochs: int, n_rows: int | None, work: Path, seed: int = 0) -> dict[str, Any]:
    """One fit in a process of its own, into `work`; the content of its report."""
    path = work / f"{data.name}.npz"
    unlabelled = [np.zeros(len(images), dtype=int) for images in (data.train, data.test)]
    np.savez(path, x_train=data.train, y_train=unlabelled[0], x_test=data.test, y_test=unlabelled[1])
    command = [sys.executable, "-m", "training.fit", "--data", str(path), "--name", MODEL]
    command += ["--store", str(work / "models"), "--preset", "restore", "--epochs", str(epochs)]
    command += ["--seed", str(seed)]
    command += ["--corruption", case.corruption, "--corruption-level", str(case.level)]
    command += [] if n_rows is None else ["--rows", str(n_rows)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return json.loads((work / "models" / MODEL / "1" / "report.json").read_bytes())


@contextlib.contextmanager
def serve(work: Path) -> Iterator[str]:
    """The service as it ships, on a free port of loopback; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RESIDUAL_")}
    environ |= {"RESIDUAL_STORE": str(work / "models"), "RESIDUAL_BIND": address, "RESIDUAL_WORKERS": "1"}
    environ |= {"TMPDIR": str(work)}
    log = work / "service.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py"]
        server = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until_ready(server, f"http://{address}", log)
        yield f"http://{address}"
    finally:
        server.terminate()
        try:
            server.wait(START_SECONDS)
        finally:
            server.kill()


def wait_until_ready(server: subprocess.Popen, url: str, log: Path) -> None:
    """Wait for 200 from `/readyz`; a service that ends or stays silent is an error with its log."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{url}/readyz", timeout=5):  # noqa: S310 -- our own service
            return
        time.sleep(0.2)
    raise SystemExit(f"error: the service is not ready within {START_SECONDS} s:\n{log.read_text()}")


def post(url: str, images: np.ndarray) -> np.ndarray:
    """What the service answers for all images, as arrays both ways."""
    return np.concatenate(
        [
            post_once(url, images[start : start + ROWS_OF_REQUEST])
            for start in range(0, len(images), ROWS_OF_REQUEST)
        ]
    )


def post_once(url: str, images: np.ndarray) -> np.ndarray:
    """The answer to one request."""
    body = io.BytesIO()
    np.save(body, images.astype(np.float32))
    headers = {"Content-Type": "application/x-npy", "Accept": "application/x-npy"}
    request = urllib.request.Request(url, body.getvalue(), headers)  # noqa: S310 -- our own service
    with urllib.request.urlopen(request, timeout=START_SECONDS) as response:  # noqa: S310
        return np.load(io.BytesIO(response.read()))


# --- rows ---------------------------------------------------------------------------------------------------


def is_good(row: dict[str, Any]) -> bool:
    """Whether a row is far enough above its baseline, computed and published."""
    best = max(row["baseline"], row["published"] or row["baseline"])
    return row["psnr"] >= best + MARGIN


def describe(row: dict[str, Any]) -> str:
    """One line of the table."""
    published = "" if row["published"] is None else f", published {row['published']:.1f}"
    return (
        f"{row['case']:9} ({row['data']}): {row['psnr']:.2f} dB, {row['psnr_corrupted']:.2f} corrupted; "
        f"{row['baseline_name']} {row['baseline']:.2f} (clipped {row['baseline_clipped']:.2f}{published}); "
        f"flagged {row['flagged_clean']:.3f} clean, {row['flagged_corrupted']:.3f} corrupted; "
        f"{row['epochs']} epochs of {row['n_train']} in {row['fit_seconds']:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())

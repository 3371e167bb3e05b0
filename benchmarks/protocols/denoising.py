"""I4: how well `/denoise` removes noise from images, compared with the best linear filter.

A set is an `.npz` with `x_train` and `x_test`, 8-bit grey images of shape (n, height, width), at one level
of Gaussian noise. Everything is measured by `benchmarks/restoration.py`.
"""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.protocols.base import DataSet, Protocol, npz_sets_with, read_arrays
from benchmarks.restoration import CASES, ImageSplits, corrupt, linear_filter, load_digits, psnr, run_case
from benchmarks.rows import OURS

NOISES = ("noise-0.3", "noise-0.5")
IMAGES = ("x_train", "x_test")
EPOCHS = 4
Noisy = tuple[str, ImageSplits]


def find(data_dir: Path | None) -> Sequence[DataSet]:
    """Find each file at each level of noise; without a folder digits of scikit-learn at the lower level."""
    if data_dir is None:
        return [DataSet(f"digits-{NOISES[0]}", "built-in", lambda: (NOISES[0], load_digits()))]
    return [
        DataSet(f"{data.name}-{noise}", data.digest, partial(_load, noise, data))
        for data in npz_sets_with(data_dir, IMAGES, read_images)
        for noise in NOISES
    ]


def _load(noise: str, data: DataSet) -> Noisy:
    return noise, data.load()


def read_images(path: Path) -> ImageSplits:
    """Read the images of one file.

    Raises
    ------
    BenchmarkError
        If they are not 8-bit grey images of one size.
    """
    train, test = read_arrays(path, IMAGES)
    for name, images in zip(IMAGES, (train, test), strict=True):
        if images.dtype != "uint8" or images.ndim != 3 or images.shape[1:] != train.shape[1:]:
            raise BenchmarkError(
                f"{path.name}: {name} must hold 8-bit images of one shape (n, height, width), got "
                f"{images.dtype} of shape {images.shape}"
            )
    return ImageSplits(path.stem, train, test)


def measure(loaded: Noisy, seed: int, method: str) -> dict[str, Any]:
    """Measure one row: peak signal-to-noise ratio and seconds."""
    noise, data = loaded
    if method == OURS:
        row = run_case(noise, data, EPOCHS, None, seed)
        return {
            "psnr": row["psnr"],
            "fit_seconds": row["fit_seconds"],
            "score_seconds": row["denoise_seconds"],
        }
    corrupted = corrupt(data.test, CASES[noise])
    start = time.perf_counter()
    estimate = corrupted if method == "noisy" else linear_filter(corrupted, data.train, CASES[noise])
    seconds = round(time.perf_counter() - start, 3)
    return {"psnr": psnr(estimate, data.test), "fit_seconds": 0.0, "score_seconds": seconds}


PROTOCOLS = {
    "I4": Protocol(
        "images: noise removed by `/denoise`, PSNR in dB",
        metrics=("psnr",),
        methods=(OURS, "wiener", "noisy"),
        quick_methods=(OURS, "wiener", "noisy"),
        find=find,
        measure=measure,
        seeds=(0,),
    )
}

"""The two autoencoders that servers are measured with, and the samples that are sent to them.

How fast a network runs does not depend on its weights, so `python -m training.fit` fits each for one epoch on
noise, calibrated and with its score inside the graph as usual.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks import fit_command
from benchmarks.environments import ROOT
from detector.engine.graphs import SCORE
from detector.inference import Detector

FOLDER = ROOT / ".make" / "serving"
DIGITS = 6  # decimals of a value in JSON
N_FITTED_ON = 400
N_FEATURES = 784
FITS = {
    # 784-256-128-36-128-256-784
    "dense": ("--kind", "vector", "--architecture", "dense", "--widths", "256,128", "--latent-dim", "36"),
    # 3x3 convolutions of 32, 64, 64 and 64 filters on 28x28 pixels, and back
    "conv": (
        *("--kind", "image", "--architecture", "conv", "--widths", "32,64,64,64", "--strides", "1,2,2,1"),
        *("--latent-dim", "10", "--activation", "leaky_relu", "--value-range", "0,1"),
    ),
}
SHAPES = {"dense": (N_FEATURES,), "conv": (28, 28)}


@dataclasses.dataclass(frozen=True)
class Work:
    """A published model."""

    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return SHAPES[self.name]

    @property
    def store(self) -> Path:
        """Model store that holds this model alone."""
        return FOLDER / "stores" / self.name

    @property
    def folder(self) -> Path:
        """Folder of the version that is served."""
        return self.store / self.name / "1"

    def samples(self, n_rows: int) -> np.ndarray:
        """Draw values with few decimals in [0, 1]: shape (n_rows, *shape), float64."""
        rng = np.random.default_rng(1)
        return np.round(rng.random((n_rows, *self.shape)), DIGITS)

    def detector(self) -> Detector:
        """Open the folder."""
        return Detector.load(self.folder)

    def scores(self, n_rows: int) -> np.ndarray:
        """Return the scores that every contender must answer: float64, shape (n_rows,)."""
        detector = self.detector()
        samples = detector.engine.check_samples(self.samples(n_rows))
        return detector.engine.run(samples, (SCORE,))[SCORE].astype(np.float64)


def make(name: str) -> Work:
    """Return a work; fit its model if it is missing.

    Raises
    ------
    BenchmarkError
        If it cannot be fitted.
    """
    work = Work(name)
    if not work.folder.is_dir():
        print(f"fitting the model of {name} in {work.folder}", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "noise.npz"
            noise = np.random.default_rng(0).random((N_FITTED_ON, *work.shape), dtype=np.float32)
            np.savez(data, X=noise)
            options = [*FITS[name], "--epochs", 1, "--no-collapse-check"]
            fit_command.fit(data, work.store, name, *options)
    return work

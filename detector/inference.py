"""`Detector`: one model folder, verified and ready to score, reconstruct, encode, decode, classify, explain.

A sequence model takes windows, or a whole series. A series runs as its windows, and what they answer is
merged to one answer for each step, by the rule of the manifest.
"""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import numpy as np

from detector import files
from detector.calibration import promised_rank
from detector.engine.engine import Engine
from detector.engine.graphs import (
    FEATURE_ERROR,
    RECONSTRUCTION,
    SCORE,
    open_sessions,
)
from detector.engine.session import Session
from detector.errors import (
    IntegrityError,
    ManifestError,
)
from detector.files import read_file
from detector.latents import FLOAT32
from detector.manifest import Manifest, read_manifest
from detector.results import Classes, Compressed, Contribution, Scores
from detector.tables import as_rows

USUAL_LEVEL = 0.99  # of the quantiles that `training` writes; the largest one is a single sample's


class Detector:
    """One verified model folder. Safe to use from several threads at once.

    Attributes
    ----------
    manifest : Manifest
    digest : str
        SHA-256 of `manifest.json`: stands for the whole folder.
    calibration_scores : ndarray of shape (n_calibration,), float64
        Ascending.
    usual_error : float or None
        What the error of each feature stays below in 99 % of the calibration samples, the largest of the
        features; of an image all channels of a pixel are one. None where the folder does not say it.
    engine : Engine
        The steps of the methods here, for callers that run many requests as one batch.
    """

    def __init__(
        self,
        manifest: Manifest,
        digest: str,
        calibration_scores: np.ndarray,
        sessions: Mapping[str, Session],
        usual_error: float | None = None,
    ) -> None:
        self.manifest = manifest
        self.digest = digest
        self.calibration_scores = calibration_scores
        self.usual_error = usual_error
        self.engine = Engine(manifest, calibration_scores, sessions)

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 1) -> Self:
        """Open a version folder: verify every byte, load the graphs, run the golden self-test.

        Parameters
        ----------
        folder : str or Path
            `models/<name>/<version>`.
        threads : int
            How many chunks of a large batch run at a time.

        Raises
        ------
        IntegrityError
            If a file is missing or differs from what the manifest names.
        ManifestError
            If the manifest is malformed or does not fit the other files.
        ModelError
            If a graph does not load or does not answer as it did when it was exported.
        """
        folder = Path(folder)
        manifest, digest = read_manifest(folder)
        contents = {name: read_file(folder, name, entry) for name, entry in manifest.files.items()}
        calibration = _read_arrays(contents[files.CALIBRATION_FILE], files.CALIBRATION_FILE)
        scores = _calibration_scores(calibration, manifest)
        sessions = open_sessions(contents, manifest, threads)
        detector = cls(manifest, digest, scores, sessions, _usual_error(calibration, manifest))
        detector.engine.self_test(_read_arrays(contents[files.GOLDEN_FILE], files.GOLDEN_FILE))
        return detector

    def score(
        self,
        samples: np.ndarray,
        *,
        alpha: float | None = None,
        fdr: float | None = None,
        explain: int | Literal["map"] | None = None,
    ) -> Scores:
        """Score samples and decide which are anomalies.

        Parameters
        ----------
        samples : array of shape (n_samples, *sample_shape), any real dtype
            Raw units, at least one sample, finite. For a sequence model windows, or a series of shape
            (n_steps, n_channels), at least one window long; with one channel their last axis may be left
            out: (n_samples, window) are windows, (n_steps,) is a series. Rows, and the steps of a series, may
            also be a data frame, an Arrow table or a mapping of columns, matched by name in any order. Where
            the manifest has `categories` rows may hold their words (lists, or an array of dtype object), and
            where it allows missing values NaN or None.
        alpha : float, optional
            Another false-alarm rate than the model's own, in (0, 1).
        fdr : float, optional
            False-discovery rate of a Benjamini-Hochberg selection over the batch, in (0, 1).
        explain : int or "map", optional
            How many features to name for each sample, or the whole error map.

        Raises
        ------
        InputError
            If the samples do not fit the model, or an option is out of its range.
        NonFiniteScore
            If the model answers NaN or infinity.
        """
        samples = as_rows(samples, self.manifest)
        checked = self.engine.check_samples(samples)
        names = (SCORE,) if explain is None else (SCORE, RECONSTRUCTION, FEATURE_ERROR)
        outputs = self.engine.run(checked, names)
        return self.engine.judge(samples, outputs, alpha=alpha, fdr=fdr, explain=explain)

    def reconstruct(self, samples: np.ndarray) -> np.ndarray:
        """What the model expects to see instead: raw units, shape of `samples`, float32.

        Categories are numbers in it; `detector.tables.to_cells` gives their words. Raises as `score`.
        """
        samples = as_rows(samples, self.manifest)
        reconstruction = self.engine.run(self.engine.check_samples(samples), (RECONSTRUCTION,))[
            RECONSTRUCTION
        ]
        return self.engine.finite(reconstruction).reshape(np.shape(samples))

    def encode(self, samples: np.ndarray, *, dtype: str = FLOAT32) -> np.ndarray:
        """Latent vectors, shape (n_samples, *latent_shape), in a dtype out of `detector.latents.DTYPES`.

        Of a series they are those of its windows.

        Raises as `score`, `NoLatent` where the model has no bottleneck, and `NoInt8Latent` where its
        manifest has no 8-bit form of it.
        """
        self.engine.require_latent(dtype)
        return self.engine.pack(
            self.engine.finite(self.engine.run_encoder(self.engine.check_samples(samples))), dtype
        )

    def decode(self, latent: np.ndarray, *, dtype: str = FLOAT32) -> np.ndarray:
        """Reconstructions of latent vectors in a dtype: raw units, shape (n_samples, *sample_shape), float32.

        Raises as `encode`.
        """
        return self.engine.finite(self.engine.run_decoder(self.engine.check_latent(latent, dtype)))

    def compress(self, samples: np.ndarray, *, dtype: str = FLOAT32) -> Compressed:
        """Latent vectors as from `encode`, with their compression ratio and reconstruction error."""
        self.engine.require_latent(dtype)
        samples = as_rows(samples, self.manifest)
        checked = self.engine.check_samples(samples)
        return self.engine.weigh(samples, self.engine.run_compression(checked, (dtype,)), dtype)

    def classify(self, samples: np.ndarray) -> Classes:
        """The class of each sample, of a series each of its windows, and the probability of every class.

        Raises as `score`, and `NoClassifier` where the model has none.
        """
        self.engine.require_classifier()
        return self.engine.name_classes(self.engine.run_classifier(self.engine.check_samples(samples)))

    def explain(self, samples: np.ndarray, features: int) -> list[list[Contribution]]:
        """The `features` largest contributions to each sample's score, largest first. Raises as `score`."""
        return self.score(samples, explain=features).explanation


def _read_arrays(content: bytes, file_name: str) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy leaks SyntaxError, TokenError and zipfile's own errors here
        raise IntegrityError(f"{file_name} is not an .npz file without pickles: {error}") from error


def _calibration_scores(calibration: Mapping[str, np.ndarray], manifest: Manifest) -> np.ndarray:
    """The ascending calibration scores, held against the threshold that they imply."""
    file_name, rule = files.CALIBRATION_FILE, manifest.threshold
    scores = calibration.get("score")
    if scores is None or scores.dtype != np.float64 or scores.shape != (rule.n_calibration,):
        raise ManifestError(f"{file_name} must hold score, float64 of shape ({rule.n_calibration},)")
    if not np.isfinite(scores).all() or (np.diff(scores) < 0).any() or scores[0] < 0:
        raise ManifestError(f"{file_name}: score must be finite, ascending and at least 0")
    if rule.confidence is not None and rule.rank > promised_rank(scores.size, rule.alpha, rule.confidence):
        raise ManifestError(
            f"{files.MANIFEST_FILE}: threshold.rank {rule.rank} cannot promise alpha {rule.alpha:g} with "
            f"{scores.size} calibration samples"
        )
    if scores[scores.size - rule.rank] != rule.value:
        raise ManifestError(
            f"{files.MANIFEST_FILE}: threshold.value must be score {rule.rank} of {file_name}, "
            f"{scores[scores.size - rule.rank]!r}, got {rule.value!r}"
        )
    return scores


def _usual_error(calibration: Mapping[str, np.ndarray], manifest: Manifest) -> float | None:
    """See `Detector`; the quantiles are for people, so a folder without them is whole."""
    levels, quantiles = calibration.get("levels"), calibration.get("error_quantiles")
    if levels is None or quantiles is None or quantiles.shape != (*levels.shape, *manifest.sample_shape):
        return None
    usual = quantiles[levels == USUAL_LEVEL]
    if manifest.kind == "image":
        usual = usual.reshape(*usual.shape[:3], -1).sum(axis=3)
    largest = float(usual.max(initial=0))
    return largest if 0 < largest < math.inf else None

"""`Detector`: one verified model folder that scores, reconstructs, encodes, decodes, classifies, explains."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np

from detector import files
from detector.calibration import promised_rank
from detector.engine.engine import Engine
from detector.engine.graphs import FEATURE_ERROR, RECONSTRUCTION, SCORE, open_sessions
from detector.engine.session import Session
from detector.errors import InputError, IntegrityError, ManifestError
from detector.files import read_file
from detector.latents import FLOAT32
from detector.manifest import Manifest, read_manifest
from detector.results import Classes, Compressed, Contribution, Scores
from detector.tables import as_rows

USUAL_LEVEL = 0.99  # a quantile that `training` writes; the largest quantile is a single sample's error


class Detector:
    """One verified model folder. Safe to use from several threads at once.

    Attributes
    ----------
    manifest : Manifest
    digest : str
        SHA-256 of `manifest.json`, which covers the whole folder.
    calibration_scores : ndarray of shape (n_calibration,), float64
        Ascending.
    usual_error : float or None
        The 99 % quantile of a feature's error over the calibration samples, at its largest over the features;
        the channels of a pixel are summed. None where the folder has no quantiles.
    engine : Engine
        The steps of these methods, for callers that run many requests as one batch.
    folder : Path or None
        Where it was loaded from, absolute.
    threads : int
        How many chunks of a large batch run at a time.

    Notes
    -----
    A pickle holds the folder and the digest: the process that reads it, of joblib, multiprocessing or Spark,
    loads and verifies the folder again.
    """

    def __init__(
        self,
        manifest: Manifest,
        digest: str,
        calibration_scores: np.ndarray,
        sessions: Mapping[str, Session],
        usual_error: float | None = None,
        folder: Path | None = None,
        threads: int = 1,
    ) -> None:
        self.manifest = manifest
        self.digest = digest
        self.calibration_scores = calibration_scores
        self.usual_error = usual_error
        self.engine = Engine(manifest, calibration_scores, sessions)
        self.folder = folder
        self.threads = threads

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 1) -> Self:
        """Open a version folder: verify every byte, load the graphs, run the self-test.

        Parameters
        ----------
        folder : str or Path
            `models/<name>/<version>`.
        threads : int
            How many chunks of a large batch run at a time.

        Raises
        ------
        IntegrityError
            If a file is missing or is not the one that the manifest lists.
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
        usual_error = _usual_error(calibration, manifest)
        detector = cls(manifest, digest, scores, sessions, usual_error, folder.resolve(), threads)
        detector.engine.self_test(_read_arrays(contents[files.GOLDEN_FILE], files.GOLDEN_FILE))
        return detector

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.manifest.sample_shape))
        return (
            f"<Detector {self.manifest.name!r} version {self.manifest.version}: {self.manifest.kind} of "
            f"{shape}, digest {self.digest[:12]}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        if self.folder is None:
            raise TypeError("a Detector can be pickled if Detector.load opened it from a folder")
        return _load_again, (self.folder, self.digest, self.threads)

    def read_images(self, images: Sequence[str | Path | bytes]) -> np.ndarray:
        """Decode images to samples, as the service does with images that are posted to it.

        Parameters
        ----------
        images : sequence of path or bytes
            PNG, JPEG, BMP, TIFF or WebP files, or their content. Images of any size if the manifest's
            `reading.resize` is set, else of the size of a sample.

        Returns
        -------
        ndarray of shape (n_images, *sample_shape), float32, raw units

        Raises
        ------
        InputError
            If the model takes no images, or an image does not fit it; `index` has the number of the image.
        """
        from detector.images import decode_image  # late: only models of images need Pillow

        manifest, value_range = self.manifest, self.manifest.value_range
        if value_range is None:
            raise InputError(f"images are for models of images, got one of kind {manifest.kind}")
        samples = np.empty((len(images), *manifest.sample_shape), dtype=np.float32)
        for row, image in enumerate(images):
            content = image if isinstance(image, bytes) else Path(image).read_bytes()
            try:
                samples[row] = decode_image(
                    content, manifest.sample_shape, value_range, manifest.reading.resize
                )
            except InputError as error:
                raise InputError(f"image {row}: {error}", (row,)) from error
        return samples

    def score(
        self,
        samples: Any,
        *,
        alpha: float | None = None,
        fdr: float | None = None,
        explain: int | Literal["map"] | None = None,
        partial: bool = False,
    ) -> Scores:
        """Score samples and decide which are anomalies.

        Parameters
        ----------
        samples : array of shape (n_samples, *sample_shape), any real dtype
            Raw units, at least one sample, finite. For a sequence model windows, or a series of shape
            (n_steps, n_channels), at least one window long; with one channel their last axis may be left
            out: (n_samples, window) are windows, (n_steps,) is a series. Rows, and the steps of a series, may
            also be a data frame, an Arrow table or a mapping of columns, matched by name in any order. If the
            manifest has `categories`, rows may hold their texts (as lists, or an array of dtype object); if
            it allows missing values, NaN or None; where that are the missing values of a series, a step whose
            window holds one has the score NaN (`Scores.scored`).
        alpha : float, optional
            False-alarm rate to use instead of the model's own, in (0, 1).
        fdr : float, optional
            False-discovery rate of a Benjamini-Hochberg selection over the batch, in (0, 1).
        explain : int or "map", optional
            How many features to name for each sample, or the whole error map.
        partial : bool
            Whether a sample for which the model answers NaN or infinity has no score (`Scores.scored`) and
            counts as an anomaly, as in the service, instead of an error for all.

        Raises
        ------
        InputError
            If the samples do not fit the model, or an option is out of range.
        NonFiniteScore
            If the model answers NaN or infinity, without `partial`.
        """
        samples = as_rows(samples, self.manifest)
        checked = self.engine.check_samples(samples)
        names = (SCORE,) if explain is None else (SCORE, RECONSTRUCTION, FEATURE_ERROR)
        outputs = self.engine.run(checked, names)
        return self.engine.judge(samples, outputs, alpha=alpha, fdr=fdr, explain=explain, partial=partial)

    def reconstruct(self, samples: Any) -> np.ndarray:
        """Return the values that the model expects instead: raw units, shape of `samples`, float32.

        Categories are numbers; `detector.tables.to_cells` converts them to texts. Raises as `score`.
        """
        samples = as_rows(samples, self.manifest)
        outputs = self.engine.run(self.engine.check_samples(samples), (RECONSTRUCTION,))
        return self.engine.finite(outputs[RECONSTRUCTION]).reshape(np.shape(samples))

    def encode(self, samples: Any, *, dtype: str = FLOAT32) -> np.ndarray:
        """Return latent vectors, shape (n_samples, *latent_shape), in one of `detector.latents.DTYPES`.

        For a series these are the latent vectors of its windows.

        Raises as `score`, `NoLatent` if the model has no bottleneck, and `NoInt8Latent` if its manifest has
        no 8-bit form of the latent.
        """
        self.engine.require_latent(dtype)
        latent = self.engine.run_encoder(self.engine.check_samples(samples, whole=True))
        return self.engine.pack(self.engine.finite(latent), dtype)

    def decode(self, latent: Any, *, dtype: str = FLOAT32) -> np.ndarray:
        """Decode latent vectors of a dtype to raw units, shape (n_samples, *sample_shape), float32.

        Raises as `encode`.
        """
        return self.engine.finite(self.engine.run_decoder(self.engine.check_latent(latent, dtype)))

    def compress(self, samples: Any, *, dtype: str = FLOAT32) -> Compressed:
        """Return latent vectors as `encode` does, with their compression ratio and reconstruction error."""
        self.engine.require_latent(dtype)
        samples = as_rows(samples, self.manifest)
        checked = self.engine.check_samples(samples, whole=True)
        outputs = self.engine.run_compression(checked, (dtype,))
        for values in outputs.values():
            self.engine.finite(values)
        return self.engine.weigh(samples, outputs, dtype)

    def classify(self, samples: Any) -> Classes:
        """Return the class of each sample, or each window of a series, and the probability of every class.

        Raises as `score`, and `NoClassifier` if the model has none.
        """
        self.engine.require_classifier()
        probability = self.engine.run_classifier(self.engine.check_samples(samples, whole=True))
        return self.engine.name_classes(self.engine.finite(probability))

    def explain(self, samples: Any, features: int) -> list[list[Contribution]]:
        """Return the `features` largest contributions to each score, largest first. Raises as `score`."""
        explanation = self.score(samples, explain=features).explanation
        return cast(list[list[Contribution]], explanation)


def _load_again(folder: Path, digest: str, threads: int) -> Detector:
    """Load a pickled detector; raise as `Detector.load`, and `IntegrityError` if the folder has changed."""
    detector = Detector.load(folder, threads=threads)
    if detector.digest != digest:
        raise IntegrityError(f"{folder} has digest {detector.digest}, the pickled detector had {digest}")
    return detector


def _read_arrays(content: bytes, file_name: str) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy leaks SyntaxError, TokenError and zipfile's own errors here
        raise IntegrityError(f"{file_name} is not an .npz file without pickles: {error}") from error


def _calibration_scores(calibration: Mapping[str, np.ndarray], manifest: Manifest) -> np.ndarray:
    """Return the ascending calibration scores, after checking that they imply the manifest's threshold."""
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
    """Compute `Detector.usual_error`; the quantiles are optional."""
    levels, quantiles = calibration.get("levels"), calibration.get("error_quantiles")
    if levels is None or quantiles is None or quantiles.shape != (*levels.shape, *manifest.sample_shape):
        return None
    usual = quantiles[levels == USUAL_LEVEL]
    if manifest.kind == "image":
        usual = usual.reshape(*usual.shape[:3], -1).sum(axis=3)
    largest = float(usual.max(initial=0))
    return largest if 0 < largest < math.inf else None

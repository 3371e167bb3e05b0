"""`Detector`: one model folder, opened, verified and ready to score, reconstruct, encode, decode, explain."""

import dataclasses
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np

from detector import manifest as contract
from detector.calibration import p_values, promised_rank, select_false_discovery, threshold_at
from detector.errors import (
    InputError,
    IntegrityError,
    ManifestError,
    ModelError,
    NoInt8Latent,
    NoLatent,
    NonFiniteScore,
)
from detector.latents import (
    FLOAT16,
    FLOAT32,
    INT8,
    INT8_RANGE,
    LARGEST_FLOAT16,
    Compressed,
    check_dtype,
    pack,
    unpack,
)
from detector.manifest import Manifest, Threshold, read_file, read_manifest
from detector.session import Session

INPUT = "samples"
LATENT = "latent"
RECONSTRUCTION = "reconstruction"
SCORE = "score"
FEATURE_ERROR = "feature_error"

ERROR_MAP = "map"


@dataclasses.dataclass(frozen=True)
class Contribution:
    """One feature's part in one sample's score.

    Attributes
    ----------
    feature : str
        Its name, or its position where features have none.
    index : tuple of int
        Position within the sample.
    contribution : float
        Share of the score, in [0, 1].
    actual, expected : NumPy number
        The input, in its own dtype, and the model's reconstruction of it, float32; raw units.
    """

    feature: str
    index: tuple[int, ...]
    contribution: float
    actual: np.number
    expected: np.number


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a detector says of a batch; arrays have one element for each sample, in order.

    Attributes
    ----------
    score : ndarray of shape (n_samples,), float64
        Anomaly score, at least 0; higher is more anomalous.
    ratio : ndarray of shape (n_samples,), float64
        score / threshold; above 1 means anomaly.
    p_value : ndarray of shape (n_samples,), float64
        Conformal p-value; small is unusual.
    is_anomaly : ndarray of shape (n_samples,), bool
        score > threshold.
    threshold, alpha, expected_rate : float
        The rule that was applied.
    selected : ndarray of shape (n_samples,), bool, or None
        Benjamini-Hochberg selection, where it was asked for.
    explanation : list of list of Contribution, ndarray of shape (n_samples, *sample_shape), or None
        The largest contributions of each sample, or the whole error map, where asked for.
    """

    score: np.ndarray
    ratio: np.ndarray
    p_value: np.ndarray
    is_anomaly: np.ndarray
    threshold: float
    alpha: float
    expected_rate: float
    selected: np.ndarray | None = None
    explanation: list[list[Contribution]] | np.ndarray | None = None


class Detector:
    """One verified model folder. Safe to use from several threads at once.

    Attributes
    ----------
    manifest : Manifest
    digest : str
        SHA-256 of `manifest.json`: stands for the whole folder.
    calibration_scores : ndarray of shape (n_calibration,), float64
        Ascending.
    """

    def __init__(
        self,
        manifest: Manifest,
        digest: str,
        calibration_scores: np.ndarray,
        sessions: Mapping[str, Session],
    ) -> None:
        self.manifest = manifest
        self.digest = digest
        self.calibration_scores = calibration_scores
        self._sessions = sessions

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
        calibration = _read_arrays(contents[contract.CALIBRATION_FILE], contract.CALIBRATION_FILE)
        scores = _calibration_scores(calibration, manifest)
        detector = cls(manifest, digest, scores, open_sessions(contents, manifest, threads))
        detector._self_test(_read_arrays(contents[contract.GOLDEN_FILE], contract.GOLDEN_FILE))
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
            Raw units, at least one sample, finite.
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
        checked = self.check_samples(samples)
        names = (SCORE,) if explain is None else (SCORE, RECONSTRUCTION, FEATURE_ERROR)
        outputs = self.run(checked, names)
        return self.judge(samples, outputs, alpha=alpha, fdr=fdr, explain=explain)

    def reconstruct(self, samples: np.ndarray) -> np.ndarray:
        """What the model expects to see instead: raw units, shape of `samples`, float32.

        Raises as `score`.
        """
        return self.finite(self.run(self.check_samples(samples), (RECONSTRUCTION,))[RECONSTRUCTION])

    def encode(self, samples: np.ndarray, *, dtype: str = FLOAT32) -> np.ndarray:
        """Latent vectors, shape (n_samples, *latent_shape), in a dtype out of `detector.latents.DTYPES`.

        Raises as `score`, `NoLatent` where the model has no bottleneck, and `NoInt8Latent` where its
        manifest has no 8-bit form of it.
        """
        self.require_latent(dtype)
        return self.pack(self.finite(self.run_encoder(self.check_samples(samples))), dtype)

    def decode(self, latent: np.ndarray, *, dtype: str = FLOAT32) -> np.ndarray:
        """Reconstructions of latent vectors in a dtype: raw units, shape (n_samples, *sample_shape), float32.

        Raises as `encode`.
        """
        return self.finite(self.run_decoder(self.check_latent(latent, dtype)))

    def compress(self, samples: np.ndarray, *, dtype: str = FLOAT32) -> Compressed:
        """Latent vectors as from `encode`, with their compression ratio and reconstruction error."""
        self.require_latent(dtype)
        checked = self.check_samples(samples)
        return self.weigh(samples, self.run_compression(checked, (dtype,)), dtype)

    def explain(self, samples: np.ndarray, features: int) -> list[list[Contribution]]:
        """The `features` largest contributions to each sample's score, largest first. Raises as `score`."""
        return self.score(samples, explain=features).explanation

    # --- the steps of the above, for a caller that runs many requests as one batch --------------------------

    def check_samples(self, samples: np.ndarray) -> np.ndarray:
        """Samples as the graph takes them: float32, contiguous, finite, of the model's shape.

        Raises
        ------
        InputError
            Naming shape or dtype, or the first value that is not a finite float32.
        """
        return _check_array(samples, self.manifest.sample_shape, "samples", self.feature_name)

    def check_latent(self, latent: np.ndarray, dtype: str = FLOAT32) -> np.ndarray:
        """Latent vectors of a dtype as the decoder takes them: float32, whatever they were.

        Raises
        ------
        NoLatent, NoInt8Latent
            As `require_latent`.
        InputError
            As `check_samples`, and where a value is not one of that dtype.
        """
        shape = self.require_latent(dtype)
        if dtype != INT8 and np.asarray(latent).dtype == np.int8:
            raise InputError("latent of 8-bit integers must be decoded with dtype int8")
        checked = _check_array(latent, shape, "latent", _position)
        _check_packed(checked, dtype)
        if dtype == FLOAT16:
            checked = checked.astype(np.float16)
        return unpack(checked, dtype, self.manifest.latent_int8)

    def require_latent(self, dtype: str = FLOAT32) -> tuple[int, ...]:
        """The shape of a latent vector.

        Raises
        ------
        NoLatent
            Where the model has no bottleneck.
        NoInt8Latent
            Where its manifest has no 8-bit form of the latent, and `dtype` is `int8`.
        InputError
            If there is no such dtype.
        """
        if self.manifest.latent_shape is None:
            raise NoLatent(f"model {self.manifest.name} has no latent: it cannot encode or decode")
        if check_dtype(dtype) == INT8 and self.manifest.latent_int8 is None:
            raise NoInt8Latent(
                f"model {self.manifest.name} version {self.manifest.version} has no 8-bit form of its latent"
            )
        return self.manifest.latent_shape

    def pack(self, latent: np.ndarray, dtype: str) -> np.ndarray:
        """Latent vectors of the encoder in a dtype; what is beyond its range becomes its end."""
        return pack(latent, dtype, self.manifest.latent_int8)

    def run_compression(self, checked: np.ndarray, dtypes: Collection[str]) -> dict[str, np.ndarray]:
        """Latent vectors of checked samples, and for each dtype each sample's mean squared error.

        Returns
        -------
        dict of str to ndarray
            `latent`, float32; and by dtype the mean over a sample's values of the squared difference, in raw
            units, between it and the decoding of its packed latent: shape (n_samples,), float64.
        """
        latent = self.run_encoder(checked)
        outputs = {LATENT: latent}
        for dtype in dtypes:
            decoded = self.run_decoder(unpack(self.pack(latent, dtype), dtype, self.manifest.latent_int8))
            difference = (checked - decoded.astype(np.float64)).reshape(len(checked), -1)
            outputs[dtype] = np.square(difference).mean(axis=1)
        return outputs

    def weigh(self, samples: np.ndarray, outputs: Mapping[str, np.ndarray], dtype: str) -> Compressed:
        """The outcome of `run_compression` for these samples and one of its dtypes."""
        latent = self.pack(self.finite(outputs[LATENT]), dtype)
        value_bytes = 1 if self.manifest.kind == "image" else 4
        ratio = np.asarray(samples).size * value_bytes / latent.nbytes
        return Compressed(latent, ratio, float(np.sqrt(self.finite(outputs[dtype]).mean())))

    def run(self, checked: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Outputs of `model.onnx`, of the names wanted, for checked samples."""
        return self._sessions[contract.MODEL_FILE].run(checked, names)

    def run_encoder(self, checked: np.ndarray) -> np.ndarray:
        """Latent vectors of checked samples."""
        return self._sessions[contract.ENCODER_FILE].run(checked, (LATENT,))[LATENT]

    def run_decoder(self, checked: np.ndarray) -> np.ndarray:
        """Reconstructions of checked latent vectors."""
        return self._sessions[contract.DECODER_FILE].run(checked, (RECONSTRUCTION,))[RECONSTRUCTION]

    def judge(
        self,
        samples: np.ndarray,
        outputs: Mapping[str, np.ndarray],
        *,
        alpha: float | None = None,
        fdr: float | None = None,
        explain: int | Literal["map"] | None = None,
    ) -> Scores:
        """Decisions and explanations from the graph's outputs for these samples; arguments as for `score`."""
        rule = self.threshold(alpha)
        score = self.finite(outputs[SCORE]).astype(np.float64)
        p_value = p_values(score, self.calibration_scores)
        return Scores(
            score=score,
            ratio=score / rule.value,
            p_value=p_value,
            is_anomaly=score > rule.value,
            threshold=rule.value,
            alpha=rule.alpha,
            expected_rate=rule.expected_rate,
            selected=None if fdr is None else select_false_discovery(p_value, fdr),
            explanation=None if explain is None else self._explanation(samples, outputs, explain),
        )

    def threshold(self, alpha: float | None = None) -> Threshold:
        """The decision rule for a false-alarm rate; the model's own where none is given.

        Raises
        ------
        InputError
            If `alpha` is out of range or too small for this model's calibration.
        """
        own = self.manifest.threshold
        if alpha is None or alpha == own.alpha:
            return own
        return threshold_at(self.calibration_scores, alpha, own.promise)

    def finite(self, values: np.ndarray) -> np.ndarray:
        """The values themselves.

        Raises
        ------
        NonFiniteScore
            If one of them is NaN or infinite.
        """
        if not np.isfinite(values).all():
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise NonFiniteScore(
                f"model {self.manifest.name} version {self.manifest.version} answered a value that is not "
                f"finite for sample {row}"
            )
        return values

    def feature_name(self, index: tuple[int, ...]) -> str:
        """A feature's name, or its position where the model names none."""
        names = self.manifest.feature_names
        return names[index[-1]] if names else _position(index)

    def _explanation(
        self, samples: np.ndarray, outputs: Mapping[str, np.ndarray], explain: int | str
    ) -> list[list[Contribution]] | np.ndarray:
        errors = self.finite(outputs[FEATURE_ERROR])
        if explain == ERROR_MAP:
            return errors
        if not isinstance(explain, int) or isinstance(explain, bool) or explain < 1:
            raise InputError(f"explain must be a positive integer or 'map', got {explain!r}")
        expected = self.finite(outputs[RECONSTRUCTION])
        return [
            self._contributions(np.asarray(samples[row]), expected[row], errors[row], explain)
            for row in range(len(errors))
        ]

    def _contributions(
        self, actual: np.ndarray, expected: np.ndarray, error: np.ndarray, n_features: int
    ) -> list[Contribution]:
        """The largest shares of one sample's score; equal shares in the order of the features."""
        error = error.astype(np.float64)
        total = error.sum()
        shares = error / (total * (1 + 1e-12)) if total > 0 else error  # so that rounding never sums above 1
        largest = np.argsort(-shares, axis=None, kind="stable")[:n_features]
        return [
            Contribution(
                feature=self.feature_name(index),
                index=index,
                contribution=float(shares[index]),
                actual=actual[index],
                expected=expected[index],
            )
            for index in (tuple(map(int, np.unravel_index(flat, shares.shape))) for flat in largest)
        ]

    def _self_test(self, golden: Mapping[str, np.ndarray]) -> None:
        """The graphs answer for the golden samples what they answered when they were exported."""
        file_name = contract.GOLDEN_FILE
        names = [SCORE, RECONSTRUCTION, FEATURE_ERROR]
        if self.manifest.latent_shape is not None:
            names.append(LATENT)
        if golden.keys() != {INPUT, *names}:
            raise ManifestError(f"{file_name} must hold {sorted({INPUT, *names})}, got {sorted(golden)}")
        try:
            samples = self.check_samples(golden[INPUT])
        except InputError as error:
            raise ManifestError(f"{file_name} does not fit the manifest: {error}") from error
        answers = {(contract.MODEL_FILE, name): values for name, values in self.run(samples, names).items()}
        if self.manifest.latent_shape is not None:
            answers[contract.ENCODER_FILE, LATENT] = self.run_encoder(samples)
            decoded = self.run_decoder(answers[contract.ENCODER_FILE, LATENT])
            answers[contract.DECODER_FILE, RECONSTRUCTION] = decoded
        for (graph, name), answer in answers.items():
            _check_answer(graph, name, answer, golden[name], self.manifest)


def open_sessions(contents: Mapping[str, bytes], manifest: Manifest, threads: int = 1) -> dict[str, Session]:
    """The graphs of a model folder, each held against the tensors that the manifest implies.

    Raises
    ------
    ModelError
        If a graph does not load, or has other tensors.
    """
    shape, latent = manifest.sample_shape, manifest.latent_shape
    outputs = {SCORE: (), RECONSTRUCTION: shape, FEATURE_ERROR: shape}
    graphs = {contract.MODEL_FILE: (INPUT, shape, outputs)}
    if latent is not None:
        outputs[LATENT] = latent
        graphs[contract.ENCODER_FILE] = (INPUT, shape, {LATENT: latent})
        graphs[contract.DECODER_FILE] = (LATENT, latent, {RECONSTRUCTION: shape})
    return {
        name: Session(contents[name], name, input_name, input_shape, tensors, threads)
        for name, (input_name, input_shape, tensors) in graphs.items()
    }


def _check_array(
    values: np.ndarray, shape: tuple[int, ...], what: str, feature_name: Callable[[tuple[int, ...]], str]
) -> np.ndarray:
    values = np.asarray(values)
    wanted = "(n, " + ", ".join(map(str, shape)) + ")"
    if values.dtype.kind not in "fiu":
        raise InputError(f"{what} must be real numbers, got an array of {values.dtype}")
    if values.ndim != len(shape) + 1 or values.shape[1:] != shape:
        raise InputError(f"{what} must have shape {wanted}, got {values.shape}")
    if len(values) == 0:
        raise InputError(f"{what} must hold at least one sample, got shape {values.shape}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused below
        checked = np.ascontiguousarray(values, dtype=np.float32)
    finite = np.isfinite(checked)
    if not finite.all():
        index = tuple(map(int, np.argwhere(~finite)[0]))
        raise InputError(
            f"{what} must be finite float32 values, got {values[index]} in row {index[0]}, "
            f"{feature_name(index[1:])}",
            index,
        )
    return checked


def _check_packed(checked: np.ndarray, dtype: str) -> None:
    """Every value is one that a latent of this dtype can have; 8-bit integers may come as JSON numbers."""
    if dtype == FLOAT32:
        return
    least, largest = INT8_RANGE if dtype == INT8 else (-LARGEST_FLOAT16, LARGEST_FLOAT16)
    faulty = (checked < least) | (checked > largest)
    words = f"between {least:g} and {largest:g}"
    if dtype == INT8:
        faulty |= checked != np.rint(checked)
        words = f"integers from {least} to {largest}"
    if faulty.any():
        index = tuple(map(int, np.argwhere(faulty)[0]))
        raise InputError(
            f"latent of dtype {dtype} must be {words}, got {checked[index]:g} in row {index[0]}, "
            f"{_position(index[1:])}",
            index,
        )


def _position(index: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, index)) + "]"


def _read_arrays(content: bytes, file_name: str) -> dict[str, np.ndarray]:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy leaks SyntaxError, TokenError and zipfile's own errors here
        raise IntegrityError(f"{file_name} is not an .npz file without pickles: {error}") from error


def _calibration_scores(calibration: Mapping[str, np.ndarray], manifest: Manifest) -> np.ndarray:
    """The ascending calibration scores, held against the threshold that they imply."""
    file_name, rule = contract.CALIBRATION_FILE, manifest.threshold
    scores = calibration.get("score")
    if scores is None or scores.dtype != np.float64 or scores.shape != (rule.n_calibration,):
        raise ManifestError(f"{file_name} must hold score, float64 of shape ({rule.n_calibration},)")
    if not np.isfinite(scores).all() or (np.diff(scores) < 0).any() or scores[0] < 0:
        raise ManifestError(f"{file_name}: score must be finite, ascending and at least 0")
    if rule.confidence is not None and rule.rank > promised_rank(scores.size, rule.alpha, rule.confidence):
        raise ManifestError(
            f"{contract.MANIFEST_FILE}: threshold.rank {rule.rank} cannot promise alpha {rule.alpha:g} with "
            f"{scores.size} calibration samples"
        )
    if scores[scores.size - rule.rank] != rule.value:
        raise ManifestError(
            f"{contract.MANIFEST_FILE}: threshold.value must be score {rule.rank} of {file_name}, "
            f"{scores[scores.size - rule.rank]!r}, got {rule.value!r}"
        )
    return scores


def relative_difference(answer: np.ndarray, expected: np.ndarray, unit: float | np.ndarray) -> float:
    """Largest difference between two answers, relative to the sample's largest value plus `unit`.

    Parameters
    ----------
    answer, expected : ndarray of shape (n_samples, ...), float32
    unit : float or ndarray of the shape of one sample
        A size that matters, in the answer's unit: differences far below it are rounding, also where a
        sample's own values are tiny, say the error of a nearly perfect reconstruction.

    Returns
    -------
    float
        NaN where a value is not finite.
    """
    axes = tuple(range(1, expected.ndim))
    with np.errstate(invalid="ignore"):
        difference = np.abs(answer.astype(np.float64) - expected)
        scale = np.abs(expected.astype(np.float64)).max(axis=axes, keepdims=True) + unit
        return float((difference / scale).max())


def _check_answer(
    graph: str, name: str, answer: np.ndarray, expected: np.ndarray, manifest: Manifest
) -> None:
    """One output for the golden samples: of the recorded form, and within the tolerance of it."""
    if expected.shape != answer.shape or expected.dtype.kind != "f":
        raise ManifestError(
            f"{contract.GOLDEN_FILE}: {name} must hold floats of shape {answer.shape}, "
            f"got {expected.dtype} of shape {expected.shape}"
        )
    unit = manifest.threshold.value if name in (SCORE, FEATURE_ERROR) else np.abs(expected).max()
    difference = relative_difference(answer, expected, unit)
    if not difference <= manifest.self_test_tolerance:  # NaN fails too
        raise ModelError(
            f"{graph} fails its self-test: {name} differs from {contract.GOLDEN_FILE} by "
            f"{difference:.3g} relative, at most {manifest.self_test_tolerance:g} is allowed"
        )

"""`Detector`: one model folder, verified and ready to score, reconstruct, encode, decode, classify, explain.

A sequence model takes windows, or a whole series. A series runs as its windows, and what they answer is
merged to one answer for each step, by the rule of the manifest.
"""

import dataclasses
import io
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
    NoClassifier,
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
from detector.manifest import Classifier, Manifest, Threshold, read_file, read_manifest
from detector.session import Session
from detector.windows import Merger, SeriesWindows

INPUT = "samples"
LATENT = "latent"
RECONSTRUCTION = "reconstruction"
SCORE = "score"
FEATURE_ERROR = "feature_error"
PROBABILITY = "probability"

# Of a series only, beside the outputs of the graph: the error of the windows that a step's score comes from.
WINDOW_ERROR = "window_error"

ERROR_MAP = "map"
BLOCK_VALUES = 2**22  # 16 MiB in a float32 tensor: bounds the windows of a series that are cut at a time

Checked = np.ndarray | SeriesWindows


@dataclasses.dataclass(frozen=True)
class Contribution:
    """One feature's part in one sample's score.

    Attributes
    ----------
    feature : str
        Its name, or its position where features have none; with the step, as `name[step]`, in a window.
    index : tuple of int
        Position within the sample; (step, channel) in a window, (channel,) at a step of a series.
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
    """What a detector says of a batch; arrays have one element for each sample, of a series each step.

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
    explanation : list of list of Contribution, ndarray of the shape of the samples, or None
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


@dataclasses.dataclass(frozen=True)
class Classes:
    """What a classifier says of a batch.

    Attributes
    ----------
    label : ndarray of shape (n_samples,), str
        The most probable class of each sample, the first of equals.
    probability : ndarray of shape (n_samples, n_classes), float32
        In the order of `classes`; a row sums to 1.
    classes : tuple of str
    """

    label: np.ndarray
    probability: np.ndarray
    classes: tuple[str, ...]


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
            Raw units, at least one sample, finite. For a sequence model windows, or a series of shape
            (n_steps, n_channels), at least one window long; with one channel their last axis may be left
            out: (n_samples, window) are windows, (n_steps,) is a series.
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
        reconstruction = self.run(self.check_samples(samples), (RECONSTRUCTION,))[RECONSTRUCTION]
        return self.finite(reconstruction).reshape(np.shape(samples))

    def encode(self, samples: np.ndarray, *, dtype: str = FLOAT32) -> np.ndarray:
        """Latent vectors, shape (n_samples, *latent_shape), in a dtype out of `detector.latents.DTYPES`.

        Of a series they are those of its windows.

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

    def classify(self, samples: np.ndarray) -> Classes:
        """The class of each sample, of a series each of its windows, and the probability of every class.

        Raises as `score`, and `NoClassifier` where the model has none.
        """
        self.require_classifier()
        return self.name_classes(self.run_classifier(self.check_samples(samples)))

    def explain(self, samples: np.ndarray, features: int) -> list[list[Contribution]]:
        """The `features` largest contributions to each sample's score, largest first. Raises as `score`."""
        return self.score(samples, explain=features).explanation

    # --- the steps of the above, for a caller that runs many requests as one batch --------------------------

    def is_series(self, samples: np.ndarray) -> bool:
        """Whether samples are one series for a sequence model, and not windows: by rank and shape."""
        if self.manifest.kind != "sequence":
            return False
        n_channels, shape = self.manifest.sample_shape[-1], np.shape(samples)
        return shape[1:] == (n_channels,) or (n_channels == 1 and len(shape) == 1)

    def check_samples(self, samples: np.ndarray) -> Checked:
        """Samples as the graph takes them: float32, contiguous, finite, of the model's shape.

        Of a series its windows, which are not cut yet: an array of them where an array is asked for.

        Raises
        ------
        InputError
            Naming shape or dtype, the first value that is not a finite float32, or the length of a series
            that is shorter than a window.
        """
        manifest = self.manifest
        if manifest.kind != "sequence":
            return _check_array(samples, manifest.sample_shape, "samples", self.feature_name)
        values = self._with_channels(samples)
        if self.is_series(values):
            series = _check_array(values, manifest.sample_shape[1:], "samples", self.feature_name, "step")
            return SeriesWindows(series, manifest.window, manifest.stride)
        if values.shape[1:] != manifest.sample_shape:
            raise InputError(f"samples must have shape {_sequence_shapes(manifest)}, got {np.shape(samples)}")
        return _check_array(values, manifest.sample_shape, "samples", self.feature_name)

    def _with_channels(self, samples: np.ndarray) -> np.ndarray:
        """Samples with the last axis that may be left out where a sequence has one channel."""
        values, shape = np.asarray(samples), self.manifest.sample_shape
        if self.manifest.kind == "sequence" and shape[1] == 1 and values.shape[1:] in ((), shape[:1]):
            return values[..., None]
        return values

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

    def require_classifier(self) -> Classifier:
        """The classifier's part of the manifest.

        Raises
        ------
        NoClassifier
            Where the model has none.
        """
        if self.manifest.classifier is None:
            raise NoClassifier(
                f"model {self.manifest.name} version {self.manifest.version} has no classifier"
            )
        return self.manifest.classifier

    def run_classifier(self, checked: Checked) -> np.ndarray:
        """Probabilities of the classes for checked samples, of a series for its windows."""
        return self._sessions[contract.CLASSIFIER_FILE].run(checked, (PROBABILITY,))[PROBABILITY]

    def name_classes(self, probability: np.ndarray) -> Classes:
        """The classes that these probabilities speak for."""
        classes = self.require_classifier().classes
        likeliest = self.finite(probability).argmax(axis=1)
        return Classes(np.array(classes)[likeliest], probability, classes)

    def pack(self, latent: np.ndarray, dtype: str) -> np.ndarray:
        """Latent vectors of the encoder in a dtype; what is beyond its range becomes its end."""
        return pack(latent, dtype, self.manifest.latent_int8)

    def run_compression(self, checked: Checked, dtypes: Collection[str]) -> dict[str, np.ndarray]:
        """Latent vectors of checked samples, and for each dtype each sample's mean squared error.

        Returns
        -------
        dict of str to ndarray
            `latent`, float32; and by dtype the mean over a sample's values of the squared difference, in raw
            units, between it and the decoding of its packed latent: shape (n_samples,), float64.
        """
        outputs = {LATENT: self.run_encoder(checked)}
        for dtype in dtypes:
            packed = self.pack(outputs[LATENT], dtype)
            blocks = [
                self._decoding_error(checked[rows], packed[rows], dtype)
                for rows in _slices(len(checked), self._block_rows())
            ]
            outputs[dtype] = np.concatenate(blocks)
        return outputs

    def _decoding_error(self, checked: np.ndarray, packed: np.ndarray, dtype: str) -> np.ndarray:
        decoded = self.run_decoder(unpack(packed, dtype, self.manifest.latent_int8))
        difference = (checked - decoded.astype(np.float64)).reshape(len(checked), -1)
        return np.square(difference).mean(axis=1)

    def weigh(self, samples: np.ndarray, outputs: Mapping[str, np.ndarray], dtype: str) -> Compressed:
        """The outcome of `run_compression` for these samples and one of its dtypes."""
        latent = self.pack(self.finite(outputs[LATENT]), dtype)
        value_bytes = 1 if self.manifest.kind == "image" else 4
        ratio = np.asarray(samples).size * value_bytes / latent.nbytes
        return Compressed(latent, ratio, float(np.sqrt(self.finite(outputs[dtype]).mean())))

    def run(self, checked: Checked, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Outputs of `model.onnx`, of the names wanted, for checked samples; those of a series by step."""
        return self.run_together([checked], names)[0]

    def run_together(self, parts: Sequence[Checked], names: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """The same for several requests, run as one batch.

        The windows of a series are cut, run and merged a block at a time, so a long one needs little memory.
        """
        collectors = [self._collector(part, names) for part in parts]
        for batch in _batches(parts, self._block_rows()):
            arrays = [parts[position][rows] for position, rows in batch]
            joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
            outputs = self._sessions[contract.MODEL_FILE].run(joined, names)
            start = 0
            for (position, rows), array in zip(batch, arrays, strict=True):
                end = start + len(array)
                collectors[position].add({name: values[start:end] for name, values in outputs.items()}, rows)
                start = end
        return [collector.collected() for collector in collectors]

    def _block_rows(self) -> int:
        return max(1, BLOCK_VALUES // math.prod(self.manifest.sample_shape))

    def _collector(self, part: Checked, names: Sequence[str]) -> "_Rows | _Steps":
        return _Steps(part, names, self.manifest.merge) if isinstance(part, SeriesWindows) else _Rows()

    def run_encoder(self, checked: Checked) -> np.ndarray:
        """Latent vectors of checked samples, of a series those of its windows."""
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
        """A feature's name, in a window with its step, or its position where the model names none."""
        names = self.manifest.feature_names
        if not names:
            return _position(index)
        return names[index[-1]] + (_position(index[:-1]) if len(index) > 1 else "")

    def _explanation(
        self, samples: np.ndarray, outputs: Mapping[str, np.ndarray], explain: int | str
    ) -> list[list[Contribution]] | np.ndarray:
        errors = self.finite(outputs[FEATURE_ERROR])
        if explain == ERROR_MAP:
            return errors.reshape(np.shape(samples))
        if not isinstance(explain, int) or isinstance(explain, bool) or explain < 1:
            raise InputError(f"explain must be a positive integer or 'map', got {explain!r}")
        expected = self.finite(outputs[RECONSTRUCTION])
        actual, errors = self._with_channels(samples), errors.astype(np.float64)
        totals = outputs.get(WINDOW_ERROR, errors.reshape(len(errors), -1).sum(axis=1))
        return [
            self._contributions(actual[row], expected[row], errors[row], totals[row], explain)
            for row in range(len(errors))
        ]

    def _contributions(
        self, actual: np.ndarray, expected: np.ndarray, error: np.ndarray, total: float, n_features: int
    ) -> list[Contribution]:
        """The largest shares of one sample's score; equal shares in the order of the features."""
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
        wanted = {INPUT, *names}
        if self.manifest.classifier is not None:
            wanted.add(PROBABILITY)
        if golden.keys() != wanted:
            raise ManifestError(f"{file_name} must hold {sorted(wanted)}, got {sorted(golden)}")
        try:
            samples = self.check_samples(golden[INPUT])
        except InputError as error:
            raise ManifestError(f"{file_name} does not fit the manifest: {error}") from error
        answers = {(contract.MODEL_FILE, name): values for name, values in self.run(samples, names).items()}
        if self.manifest.latent_shape is not None:
            answers[contract.ENCODER_FILE, LATENT] = self.run_encoder(samples)
            decoded = self.run_decoder(answers[contract.ENCODER_FILE, LATENT])
            answers[contract.DECODER_FILE, RECONSTRUCTION] = decoded
        if self.manifest.classifier is not None:
            answers[contract.CLASSIFIER_FILE, PROBABILITY] = self.run_classifier(samples)
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
    if manifest.classifier is not None:
        probabilities = {PROBABILITY: (len(manifest.classifier.classes),)}
        graphs[contract.CLASSIFIER_FILE] = (INPUT, shape, probabilities)
    return {
        name: Session(contents[name], name, input_name, input_shape, tensors, threads)
        for name, (input_name, input_shape, tensors) in graphs.items()
    }


def _sequence_shapes(manifest: Manifest) -> str:
    """The shapes that samples of a sequence model may have, in words."""
    window, n_channels = manifest.sample_shape
    if n_channels == 1:
        return f"(n, {window}, 1) or (n, {window}) for windows, (n_steps, 1) or (n_steps,) for a series"
    return f"(n, {window}, {n_channels}) for windows, (n_steps, {n_channels}) for a series"


class _Rows:
    """Outputs of samples, which run as a whole."""

    def add(self, outputs: dict[str, np.ndarray], rows: slice) -> None:
        self._outputs = outputs

    def collected(self) -> dict[str, np.ndarray]:
        return self._outputs


class _Steps:
    """Outputs of the windows of a series, merged to its steps block by block."""

    def __init__(self, windows: SeriesWindows, names: Sequence[str], rule: str) -> None:
        n_steps, n_channels = windows.series.shape
        shapes = {name: () if name == SCORE else (n_channels,) for name in names}
        if FEATURE_ERROR in names:
            shapes[WINDOW_ERROR] = ()
        self._windows = windows
        self._mergers = {
            name: Merger(n_steps, windows.shape[1], rule, shape) for name, shape in shapes.items()
        }

    def add(self, outputs: dict[str, np.ndarray], rows: slice) -> None:
        if FEATURE_ERROR in outputs:
            outputs[WINDOW_ERROR] = outputs[FEATURE_ERROR].sum(axis=(1, 2), dtype=np.float64)
        for name, merger in self._mergers.items():
            merger.add(outputs[name], self._windows.starts[rows])

    def collected(self) -> dict[str, np.ndarray]:
        merged = {name: merger.merged() for name, merger in self._mergers.items()}
        return {
            name: values.astype(np.float32) if values.ndim > 1 else values for name, values in merged.items()
        }


def _slices(n_rows: int, block: int) -> Iterator[slice]:
    """Rows, at most `block` at a time."""
    for start in range(0, n_rows, block):
        yield slice(start, min(start + block, n_rows))


def _batches(parts: Sequence[Checked], n_rows: int) -> Iterator[list[tuple[int, slice]]]:
    """Which rows of which parts run together: arrays whole, series in blocks of `n_rows` windows."""
    batch: list[tuple[int, slice]] = []
    room = n_rows
    for position, part in enumerate(parts):
        block = n_rows if isinstance(part, SeriesWindows) else len(part)
        for rows in _slices(len(part), block):
            if batch and rows.stop - rows.start > room:
                yield batch
                batch, room = [], n_rows
            batch.append((position, rows))
            room -= rows.stop - rows.start
    yield batch


def _check_array(
    values: np.ndarray,
    shape: tuple[int, ...],
    what: str,
    feature_name: Callable[[tuple[int, ...]], str],
    row: str = "row",
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
            f"{what} must be finite float32 values, got {values[index]} in {row} {index[0]}, "
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
        NaN where a value is not finite; 0 where all values are 0, as are the latents of a dead layer.
    """
    axes = tuple(range(1, expected.ndim))
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = np.abs(answer.astype(np.float64) - expected)
        scale = np.abs(expected.astype(np.float64)).max(axis=axes, keepdims=True) + unit
        return float(np.where(difference == 0, 0, difference / scale).max())


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

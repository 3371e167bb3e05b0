"""`Engine`: the steps between samples and answers, for callers that run many requests as one batch.

`detector.Detector` runs them one after another. A sequence model takes windows, or a whole series. A series
runs as its windows, and the outputs of the windows are merged to one value for each step, by the rule of the
manifest.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from detector import files, schema
from detector.calibration import p_values, select_false_discovery, threshold_at
from detector.engine.batches import WINDOW_ERROR, Checked, run_batches, slices
from detector.engine.checks import check_array, check_packed, position, sequence_shapes
from detector.engine.graphs import (
    DECODED,
    FEATURE_ERROR,
    INPUT,
    LATENT,
    PROBABILITY,
    RECONSTRUCTION,
    SCORE,
    check_answer,
)
from detector.engine.session import Session
from detector.errors import (
    InputError,
    ManifestError,
    NoClassifier,
    NoInt8Latent,
    NoLatent,
    NonFiniteScore,
)
from detector.latents import FLOAT16, FLOAT32, INT8, check_dtype, pack, unpack
from detector.manifest import Classifier, Manifest, Threshold
from detector.results import Classes, Compressed, Contribution, Scores
from detector.tables import MISSING_HINT, as_rows, check_cells, holds_cells, to_cell, to_numbers
from detector.windows import SeriesWindows

ERROR_MAP = "map"
BLOCK_VALUES = 2**22  # 16 MiB in a float32 tensor: bounds the windows of a series that are cut at a time


class Engine:
    """The graphs of one model with their checks and rules. Safe to use from several threads at once.

    Parameters
    ----------
    manifest : Manifest
    calibration_scores : ndarray of shape (n_calibration,), float64
        Ascending.
    sessions : mapping of str to Session
        By the file name of the graph.
    """

    def __init__(
        self, manifest: Manifest, calibration_scores: np.ndarray, sessions: Mapping[str, Session]
    ) -> None:
        self._manifest = manifest
        self._calibration_scores = calibration_scores
        self._sessions = sessions

    def is_series(self, samples: np.ndarray) -> bool:
        """Whether samples are one series for a sequence model, and not windows: by rank and shape."""
        if self._manifest.kind != "sequence":
            return False
        n_channels, shape = self._manifest.sample_shape[-1], np.shape(samples)
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
        manifest, samples = self._manifest, as_rows(samples, self._manifest)
        if manifest.kind == "vector":
            return self._check_rows(samples)
        if manifest.kind != "sequence":
            return check_array(samples, manifest.sample_shape, "samples", self.feature_name)
        values = self._with_channels(samples)
        if self.is_series(values):
            series = check_array(values, manifest.sample_shape[1:], "samples", self.feature_name, "step")
            return SeriesWindows(series, manifest.window, manifest.stride)
        if values.shape[1:] != manifest.sample_shape:
            raise InputError(f"samples must have shape {sequence_shapes(manifest)}, got {np.shape(samples)}")
        return check_array(values, manifest.sample_shape, "samples", self.feature_name)

    def _check_rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows as numbers, NaN only where a value may be missing."""
        manifest = self._manifest
        checked = check_array(
            to_numbers(rows, manifest),
            manifest.sample_shape,
            "samples",
            self.feature_name,
            missing=manifest.missing == schema.MISSING_AS_MEDIAN,
            hint=MISSING_HINT,
        )
        check_cells(checked, manifest)
        return checked

    def _with_channels(self, samples: np.ndarray) -> np.ndarray:
        """Samples with the last axis that may be left out where a sequence has one channel."""
        values, shape = np.asarray(samples), self._manifest.sample_shape
        if self._manifest.kind == "sequence" and shape[1] == 1 and values.shape[1:] in ((), shape[:1]):
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
        checked = check_array(latent, shape, "latent", position)
        check_packed(checked, dtype)
        if dtype == FLOAT16:
            checked = checked.astype(np.float16)
        return unpack(checked, dtype, self._manifest.latent_int8)

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
        if self._manifest.latent_shape is None:
            raise NoLatent(f"model {self._manifest.name} has no latent: it cannot encode or decode")
        if check_dtype(dtype) == INT8 and self._manifest.latent_int8 is None:
            raise NoInt8Latent(
                f"model {self._manifest.name} version {self._manifest.version} has no 8-bit form of its "
                "latent"
            )
        return self._manifest.latent_shape

    def require_classifier(self) -> Classifier:
        """The classifier's part of the manifest.

        Raises
        ------
        NoClassifier
            Where the model has none.
        """
        if self._manifest.classifier is None:
            raise NoClassifier(
                f"model {self._manifest.name} version {self._manifest.version} has no classifier"
            )
        return self._manifest.classifier

    def run_classifier(self, checked: Checked) -> np.ndarray:
        """Probabilities of the classes for checked samples, of a series for its windows."""
        return self._sessions[files.CLASSIFIER_FILE].run(checked, (PROBABILITY,))[PROBABILITY]

    def name_classes(self, probability: np.ndarray) -> Classes:
        """The classes that these probabilities speak for."""
        classes = self.require_classifier().classes
        likeliest = self.finite(probability).argmax(axis=1)
        return Classes(
            np.array(classes)[likeliest], probability, classes, self._manifest.name, self._manifest.version
        )

    def pack(self, latent: np.ndarray, dtype: str) -> np.ndarray:
        """Latent vectors of the encoder in a dtype; what is beyond its range becomes its end."""
        return pack(latent, dtype, self._manifest.latent_int8)

    def run_compression(self, checked: Checked, dtypes: Collection[str]) -> dict[str, np.ndarray]:
        """Latent vectors of checked samples, and for each dtype each sample's mean squared error.

        Returns
        -------
        dict of str to ndarray
            `latent`, float32; and by dtype the mean over a sample's values of the squared difference, in raw
            units, between it and the decoding of its packed latent, a wrong category counting as 1: shape
            (n_samples,), float64.
        """
        outputs = {LATENT: self.run_encoder(checked)}
        for dtype in dtypes:
            packed = self.pack(outputs[LATENT], dtype)
            blocks = [
                self._decoding_error(checked[rows], packed[rows], dtype)
                for rows in slices(len(checked), self._block_rows())
            ]
            outputs[dtype] = np.concatenate(blocks)
        return outputs

    def _decoding_error(self, checked: np.ndarray, packed: np.ndarray, dtype: str) -> np.ndarray:
        return self.mean_squares(checked, self.run_decoder(unpack(packed, dtype, self._manifest.latent_int8)))

    def mean_squares(self, samples: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
        """Mean squared difference of checked samples and what they became, raw units: (n_samples,), float64.

        A wrong category counts as 1, and what is missing not at all.
        """
        difference = samples - rebuilt.astype(np.float64)
        for name in self._manifest.categories or ():  # another category is off by one, whichever it is
            column = self._manifest.feature_names.index(name)
            difference[:, column] = np.sign(difference[:, column])
        present = ~np.isnan(samples)
        squares = np.where(present, np.square(difference), 0).reshape(len(samples), -1)
        return squares.sum(axis=1) / np.maximum(present.reshape(squares.shape).sum(axis=1), 1)

    def weigh(self, samples: np.ndarray, outputs: Mapping[str, np.ndarray], dtype: str) -> Compressed:
        """The outcome of `run_compression` for these samples and one of its dtypes."""
        latent = self.pack(self.finite(outputs[LATENT]), dtype)
        value_bytes = 1 if self._manifest.kind == "image" else 4
        ratio = np.asarray(samples).size * value_bytes / latent.nbytes
        return Compressed(latent, ratio, float(np.sqrt(self.finite(outputs[dtype]).mean())))

    def run(self, checked: Checked, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Outputs of `model.onnx`, of the names wanted, for checked samples; those of a series by step."""
        return self.run_together([checked], names)[0]

    def run_together(self, parts: Sequence[Checked], names: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """The same for several requests, run as one batch."""
        session = self._sessions[files.MODEL_FILE]
        return run_batches(
            lambda samples: session.run(samples, names),
            parts,
            names,
            self._manifest.merge,
            self._block_rows(),
        )

    def _block_rows(self) -> int:
        return max(1, BLOCK_VALUES // math.prod(self._manifest.sample_shape))

    def run_encoder(self, checked: Checked) -> np.ndarray:
        """Latent vectors of checked samples, of a series those of its windows."""
        return self._sessions[files.ENCODER_FILE].run(checked, (LATENT,))[LATENT]

    def run_decoder(self, checked: np.ndarray) -> np.ndarray:
        """Reconstructions of checked latent vectors."""
        return self._sessions[files.DECODER_FILE].run(checked, (RECONSTRUCTION,))[RECONSTRUCTION]

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
        p_value = p_values(score, self._calibration_scores)
        return Scores(
            score=score,
            ratio=score / rule.value,
            p_value=p_value,
            is_anomaly=score > rule.value,
            threshold=rule.value,
            alpha=rule.alpha,
            expected_rate=rule.expected_rate,
            model=self._manifest.name,
            version=self._manifest.version,
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
        own = self._manifest.threshold
        if alpha is None or alpha == own.alpha:
            return own
        return threshold_at(self._calibration_scores, alpha, own.promise)

    def finite(self, values: np.ndarray) -> np.ndarray:
        """The values themselves.

        Raises
        ------
        NonFiniteScore
            If one of them is NaN or infinite.
        """
        if not np.logical_and.reduce(np.isfinite(values), axis=None):
            row = int(np.argwhere(~np.isfinite(values))[0][0])
            raise NonFiniteScore(
                f"model {self._manifest.name} version {self._manifest.version} answered a value that is not "
                f"finite for sample {row}"
            )
        return values

    def feature_name(self, index: tuple[int, ...]) -> str:
        """A feature's name, in a window with its step, or its position where the model names none."""
        names = self._manifest.feature_names
        if not names:
            return position(index)
        return names[index[-1]] + (position(index[:-1]) if len(index) > 1 else "")

    def _cell(self, value: Any, index: tuple[int, ...]) -> Any:
        """A feature's value as a client writes it: the word of a category, None for what is missing."""
        if not holds_cells(self._manifest):
            return value
        return to_cell(value, (self._manifest.categories or {}).get(self.feature_name(index)))

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
        total = max(total, error.sum()) * (1 + 1e-12)  # so that rounding never sums above 1
        shares = error / total if total > 0 else error
        largest = np.argsort(-shares, axis=None, kind="stable")[:n_features]
        return [
            Contribution(
                feature=self.feature_name(index),
                index=index,
                contribution=float(shares[index]),
                actual=self._cell(actual[index], index),
                expected=self._cell(expected[index], index),
            )
            for index in (tuple(map(int, np.unravel_index(flat, shares.shape))) for flat in largest)
        ]

    def golden_answers(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """What `golden.npz` holds for checked samples beside them: every output of the model's own graphs."""
        names = [SCORE, RECONSTRUCTION, FEATURE_ERROR]
        if self._manifest.latent_shape is None:
            return self.run(samples, names)
        answers = self.run(samples, [*names, LATENT])
        return answers | {self._decoded_name(): self.run_decoder(answers[LATENT])}

    def _decoded_name(self) -> str:
        """What decoding a sample's latent gives: its reconstruction, unless that comes from a memory."""
        return DECODED if self._manifest.reconstruction == schema.FROM_MEMORY else RECONSTRUCTION

    def self_test(self, golden: Mapping[str, np.ndarray]) -> None:
        """The graphs answer for the golden samples what they answered when they were exported."""
        manifest, file_name = self._manifest, files.GOLDEN_FILE
        names, decoded = [SCORE, RECONSTRUCTION, FEATURE_ERROR], self._decoded_name()
        wanted = {INPUT, *names}
        if manifest.latent_shape is not None:
            names.append(LATENT)
            wanted |= {LATENT, decoded}
        if manifest.classifier is not None:
            wanted.add(PROBABILITY)
        if golden.keys() != wanted:
            raise ManifestError(f"{file_name} must hold {sorted(wanted)}, got {sorted(golden)}")
        try:
            samples = self.check_samples(golden[INPUT])
        except InputError as error:
            raise ManifestError(f"{file_name} does not fit the manifest: {error}") from error
        answers = {(files.MODEL_FILE, name): values for name, values in self.run(samples, names).items()}
        if manifest.latent_shape is not None:
            latent = self.run_encoder(samples)
            answers[files.ENCODER_FILE, LATENT] = latent
            answers[files.DECODER_FILE, decoded] = self.run_decoder(latent)
        if manifest.classifier is not None:
            answers[files.CLASSIFIER_FILE, PROBABILITY] = self.run_classifier(samples)
        for (graph, name), answer in answers.items():
            check_answer(graph, name, answer, golden[name], manifest)

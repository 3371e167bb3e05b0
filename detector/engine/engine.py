"""`Engine`: the steps between samples and answers, for callers that run many requests as one batch.

`detector.Detector` runs them one after another for a single request. A sequence model takes windows, or a
whole series. A series is run as its windows, and the outputs of the windows are merged to one value for each
step by the rule of the manifest.
"""

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np

from detector import files, schema
from detector.calibration import p_values, select_false_discovery, threshold_at
from detector.engine.batches import run_batches, run_present, slices
from detector.engine.checks import (
    Checked,
    blank_faulty,
    check_array,
    check_finite,
    check_packed,
    check_samples,
)
from detector.engine.explanations import explain_scores
from detector.engine.graphs import (
    DECODED,
    FEATURE_ERROR,
    INPUT,
    LATENT,
    PROBABILITY,
    RECONSTRUCTION,
    SCORE,
    check_answer,
    model_outputs,
)
from detector.engine.session import Session
from detector.errors import InputError, ManifestError, NoClassifier, NoInt8Latent, NoLatent
from detector.latents import FLOAT16, FLOAT32, INT8, check_dtype, pack, unpack
from detector.manifest import Classifier, Manifest, Threshold
from detector.results import Classes, Compressed, Scores
from detector.windows import is_series

BLOCK_VALUES = 2**22  # 16 MiB in a float32 tensor: bounds the windows of a series that are cut at a time
CACHED_THRESHOLDS = 64  # values of alpha


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
        self._threshold_at = functools.lru_cache(CACHED_THRESHOLDS)(
            lambda alpha: threshold_at(calibration_scores, alpha, manifest.threshold.promise)
        )

    # --- inputs -------------------------------------------------------------------------------------------

    def is_series(self, samples: np.ndarray) -> bool:
        """Whether samples for a sequence model are one series, and not windows."""
        return self._manifest.kind == "sequence" and is_series(np.shape(samples), self._manifest.sample_shape)

    def check_samples(self, samples: np.ndarray, *, whole: bool = False) -> Checked:
        """Convert samples to the input of the graph; see `detector.engine.checks.check_samples`."""
        return check_samples(samples, self._manifest, whole=whole)

    def check_latent(self, latent: np.ndarray, dtype: str = FLOAT32) -> np.ndarray:
        """Convert latent vectors of a dtype to the input of the decoder, float32.

        Raise as `require_latent`, and `InputError` if shape or dtype do not fit, or a value is not finite or
        not one of that dtype.
        """
        shape = self.require_latent(dtype)
        if dtype != INT8 and np.asarray(latent).dtype == np.int8:
            raise InputError("latent of 8-bit integers must be decoded with dtype int8")
        checked = check_array(latent, shape, "latent", None)
        check_packed(checked, dtype)
        if dtype == FLOAT16:
            checked = checked.astype(np.float16)
        return unpack(checked, dtype, self._manifest.latent_int8)

    def require_latent(self, dtype: str = FLOAT32) -> tuple[int, ...]:
        """Return the shape of a latent vector.

        Raise `NoLatent` if the model has no bottleneck, `NoInt8Latent` if the manifest has no 8-bit form of
        the latent but `dtype` is `int8`, and `InputError` if there is no such dtype.
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
        """Return the classifier's part of the manifest; raise `NoClassifier` if the model has none."""
        if self._manifest.classifier is None:
            raise NoClassifier(
                f"model {self._manifest.name} version {self._manifest.version} has no classifier"
            )
        return self._manifest.classifier

    # --- the graphs ---------------------------------------------------------------------------------------

    def run(self, checked: Checked, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Run `model.onnx` on checked samples; return the named outputs, for a series by step."""
        return self.run_together([checked], names)[0]

    def run_together(self, parts: Sequence[Checked], names: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """Run `model.onnx` on the checked samples of several requests as one batch; see `run_batches`."""
        session, merge = self._sessions[files.MODEL_FILE], self._manifest.merge
        gaps = self._manifest.missing in schema.GAP_RULES
        if len(parts) == 1 and isinstance(parts[0], np.ndarray) and not gaps:  # spares most requests a layer
            return [session.run(parts[0], names)]

        def run(samples: np.ndarray) -> dict[str, np.ndarray]:
            return session.run(samples, names)

        if not gaps:
            return run_batches(run, parts, names, merge, self._block_rows())
        outputs = model_outputs(self._manifest)
        shapes = {name: outputs[name] for name in names}
        run_all = functools.partial(run_present, run, shapes=shapes)
        return run_batches(run_all, parts, names, merge, self._block_rows())

    def _block_rows(self) -> int:
        return max(1, BLOCK_VALUES // math.prod(self._manifest.sample_shape))

    def run_encoder(self, checked: Checked) -> np.ndarray:
        """Latent vectors of checked samples, or of the windows of a series."""
        return self._sessions[files.ENCODER_FILE].run(checked, (LATENT,))[LATENT]

    def run_decoder(self, checked: np.ndarray) -> np.ndarray:
        """Reconstructions of checked latent vectors."""
        return self._sessions[files.DECODER_FILE].run(checked, (RECONSTRUCTION,))[RECONSTRUCTION]

    def run_classifier(self, checked: Checked) -> np.ndarray:
        """Class probabilities of checked samples or of the windows of a series, shape (n, n_classes)."""
        return self._sessions[files.CLASSIFIER_FILE].run(checked, (PROBABILITY,))[PROBABILITY]

    def run_compression(self, checked: Checked, dtypes: Collection[str]) -> dict[str, np.ndarray]:
        """Encode checked samples, and decode them from the latents packed in each dtype.

        Return `latent`, float32, and for each dtype the `mean_squares` of each sample: (n_samples,), float64.
        """
        latent = self.run_encoder(checked)
        return {LATENT: latent} | {dtype: self._decoding_error(checked, latent, dtype) for dtype in dtypes}

    def _decoding_error(self, checked: Checked, latent: np.ndarray, dtype: str) -> np.ndarray:
        """Mean squares for each sample, a block at a time: the windows of a long series are large."""
        errors = []
        for rows in slices(len(checked), self._block_rows()):
            packed = unpack(self.pack(latent[rows], dtype), dtype, self._manifest.latent_int8)
            errors.append(self.mean_squares(checked[rows], self.run_decoder(packed)))
        return np.concatenate(errors)

    # --- results ------------------------------------------------------------------------------------------

    def judge(
        self,
        samples: np.ndarray,
        outputs: Mapping[str, np.ndarray],
        *,
        alpha: float | None = None,
        fdr: float | None = None,
        explain: int | Literal["map"] | None = None,
        partial: bool = False,
    ) -> Scores:
        """Make decisions and explanations from the graph's outputs; arguments as for `Detector.score`.

        Raise `NonFiniteScore` if an output is not finite; with `partial`, that sample has no score instead,
        and counts as an anomaly.
        """
        rule = self.threshold(alpha)
        answered = blank_faulty(outputs) if partial else outputs
        if not partial:
            for name in (SCORE,) if explain is None else (SCORE, FEATURE_ERROR, RECONSTRUCTION):
                check_finite(outputs[name], self._manifest)
        score = answered[SCORE].astype(np.float64)
        p_value, is_anomaly = p_values(score, self._calibration_scores), score > rule.value
        selected = None if fdr is None else select_false_discovery(p_value, fdr)
        if answered is not outputs or self._manifest.missing in schema.GAP_RULES:
            absent = np.isnan(score)
            p_value[absent], is_anomaly[absent] = np.nan, True
            if fdr is not None:
                selected = absent.copy()
                selected[~absent] = select_false_discovery(p_value[~absent], fdr)
        return Scores(
            score=score,
            ratio=score / rule.value,
            p_value=p_value,
            is_anomaly=is_anomaly,
            threshold=rule.value,
            alpha=rule.alpha,
            expected_rate=rule.expected_rate,
            model=self._manifest.name,
            version=self._manifest.version,
            selected=selected,
            explanation=None
            if explain is None
            else explain_scores(samples, answered, explain, self._manifest),
        )

    def threshold(self, alpha: float | None = None) -> Threshold:
        """Return the decision rule for a false-alarm rate, or the model's own; raise as `threshold_at`."""
        own = self._manifest.threshold
        return own if alpha is None or alpha == own.alpha else self._threshold_at(alpha)

    def name_classes(self, probability: np.ndarray) -> Classes:
        """Name the most probable classes; None for a sample of which a probability is NaN."""
        classes = self.require_classifier().classes
        absent = np.isnan(probability).any(axis=1)
        label = np.array(classes)[np.where(absent, 0, probability.argmax(axis=1))]
        if absent.any():
            label = label.astype(object)
            label[absent] = None
        return Classes(label, probability, classes, self._manifest.name, self._manifest.version)

    def pack(self, latent: np.ndarray, dtype: str) -> np.ndarray:
        """Convert latent vectors to a dtype; values outside its range are clipped."""
        return pack(latent, dtype, self._manifest.latent_int8)

    def weigh(self, samples: np.ndarray, outputs: Mapping[str, np.ndarray], dtype: str) -> Compressed:
        """Compute ratio and error of one dtype from the outputs of `run_compression` for these samples.

        The latent of a sample may be NaN, which the error leaves out; raise `InputError` if the dtype has no
        NaN.
        """
        absent = np.isnan(outputs[LATENT]).reshape(len(outputs[LATENT]), -1).any(axis=1)
        if dtype == INT8 and absent.any():
            row = int(absent.argmax())
            sentence = f"sample {row} has no finite latent, which 8-bit integers cannot say: use {FLOAT32}"
            raise InputError(sentence, (row,))
        latent = self.pack(outputs[LATENT], dtype)
        value_bytes = 1 if self._manifest.kind == "image" else 4
        ratio = np.asarray(samples).size * value_bytes / latent.nbytes
        squares = outputs[dtype][~absent]
        return Compressed(latent, ratio, float(np.sqrt(squares.mean())) if squares.size else math.nan)

    def squares(self, samples: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
        """Squared difference between checked samples and their reconstruction, in raw units.

        A wrong category counts as 1, a missing value is NaN. Shape of `samples`, float64.
        """
        difference = samples - rebuilt.astype(np.float64)
        names = self._manifest.feature_names or ()
        for name in self._manifest.categories or ():  # any wrong category is off by one
            column = names.index(name)
            difference[:, column] = np.sign(difference[:, column])
        squares: np.ndarray = np.square(difference)
        return squares

    def mean_squares(self, samples: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
        """Mean of `squares` over the values of each sample that are not missing; 0 if all are.

        Shape (n_samples,), float64.
        """
        squares = self.squares(samples, rebuilt).reshape(len(samples), -1)
        present = ~np.isnan(squares)
        means: np.ndarray = np.nansum(squares, axis=1) / np.maximum(present.sum(axis=1), 1)
        return means

    def blank_faulty(self, outputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Return outputs with NaN for samples with a value that is not finite."""
        return blank_faulty(outputs)

    def finite(self, values: np.ndarray) -> np.ndarray:
        """Return the values; raise `NonFiniteScore` if one of them is NaN or infinite."""
        return check_finite(values, self._manifest)

    # --- golden samples -----------------------------------------------------------------------------------

    def golden_answers(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Compute the content of `golden.npz` for checked samples: all outputs of the autoencoder graphs."""
        names = [SCORE, RECONSTRUCTION, FEATURE_ERROR]
        if self._manifest.latent_shape is None:
            return self.run(samples, names)
        answers = self.run(samples, [*names, LATENT])
        return answers | {self._decoded_name(): self.run_decoder(answers[LATENT])}

    def _decoded_name(self) -> str:
        """The name of the decoded latent: it is the reconstruction, unless that comes from a memory."""
        return DECODED if self._manifest.reconstruction == schema.FROM_MEMORY else RECONSTRUCTION

    def self_test(self, golden: Mapping[str, np.ndarray]) -> None:
        """Check that the graphs give the golden samples the same answers as at export.

        Raises
        ------
        ManifestError
            If the golden samples do not fit the manifest.
        ModelError
            If an answer differs by more than the tolerance.
        """
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

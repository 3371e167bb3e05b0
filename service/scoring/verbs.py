"""The verbs: functions from a list of decoded requests to a list of results or errors, in the same order.

All requests of one list are for the same detector and run as one batch. A request that the model cannot take
gets its error, and the others get their results. A sample for which the graph answers NaN or infinity gets
NaN, and counts as an anomaly; all other samples get their results. Every server and every protocol scores
through these functions.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from detector import Classes, Compressed, Detector, DetectorError, Scores
from detector.engine.batches import Checked
from detector.engine.engine import Engine
from detector.engine.graphs import FEATURE_ERROR, PROBABILITY, RECONSTRUCTION, SCORE

Outputs = Mapping[str, np.ndarray]
Result = TypeVar("Result")


@dataclasses.dataclass(slots=True)
class Request:
    """Samples, or latent vectors for `decode`, of any real dtype, and the detector to ask."""

    detector: Detector
    samples: np.ndarray


@dataclasses.dataclass(slots=True)
class ScoreRequest(Request):
    """A request to `score`, with the options of `Detector.score`."""

    alpha: float | None = None
    fdr: float | None = None
    explain: int | Literal["map"] | None = None


@dataclasses.dataclass(slots=True)
class InferRequest(Request):
    """A request to `infer`: names of more outputs of the graph, and options of `Detector.score`."""

    outputs: tuple[str, ...] = ()
    alpha: float | None = None
    fdr: float | None = None


@dataclasses.dataclass
class Inference(Scores):
    """Scores, and outputs of the graph by name."""

    outputs: Outputs = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class LatentRequest(Request):
    """A request to `encode` or `decode`, with the dtype of the latents."""

    dtype: str = "float32"


def score(requests: Sequence[ScoreRequest]) -> list[Scores | DetectorError]:
    """Scores, decisions and explanations."""

    def run(engine: Engine, members: Sequence[ScoreRequest], parts: Sequence[Checked]) -> list[Outputs]:
        is_plain = {request.explain for request in members} == {None}
        names = (SCORE,) if is_plain else (SCORE, RECONSTRUCTION, FEATURE_ERROR)
        return engine.run_together(parts, names)

    def finish(request: ScoreRequest, outputs: Outputs) -> Scores:
        return request.detector.engine.judge(
            request.samples,
            outputs,
            alpha=request.alpha,
            fdr=request.fdr,
            explain=request.explain,
            partial=True,
        )

    return _run(requests, _check_samples, run, finish)


def infer(requests: Sequence[InferRequest]) -> list[Inference | DetectorError]:
    """Scores and decisions, and the outputs of the graph that each request names."""

    def run(engine: Engine, members: Sequence[InferRequest], parts: Sequence[Checked]) -> list[Outputs]:
        names = dict.fromkeys([SCORE, *(name for request in members for name in request.outputs)])
        return engine.run_together(parts, tuple(names))

    def finish(request: InferRequest, outputs: Outputs) -> Inference:
        engine = request.detector.engine
        outputs = engine.blank_faulty({name: outputs[name] for name in (SCORE, *request.outputs)})
        scores = engine.judge(request.samples, outputs, alpha=request.alpha, fdr=request.fdr, partial=True)
        return Inference(**vars(scores), outputs=outputs)

    return _run(requests, _check_samples, run, finish)


def denoise(requests: Sequence[Request]) -> list[np.ndarray | DetectorError]:
    """Reconstructions in raw units, float32, shape of the samples."""

    def run(engine: Engine, _: Sequence[Request], parts: Sequence[Checked]) -> list[Outputs]:
        return engine.run_together(parts, (RECONSTRUCTION,))

    def finish(request: Request, outputs: Outputs) -> np.ndarray:
        return _reconstruction(request, outputs).reshape(np.shape(request.samples))

    return _run(requests, _check_samples, run, finish)


def encode(requests: Sequence[LatentRequest]) -> list[Compressed | DetectorError]:
    """Latent vectors in the requested dtypes, for a series by window; `NoLatent` if the model has none."""

    def check(request: LatentRequest) -> Checked:
        request.detector.engine.require_latent(request.dtype)
        return request.detector.engine.check_samples(request.samples, whole=True)

    def run(engine: Engine, members: Sequence[LatentRequest], parts: Sequence[Checked]) -> list[Outputs]:
        dtypes = {request.dtype for request in members}
        return _run_as_one(lambda checked: engine.run_compression(checked, dtypes), parts)

    def finish(request: LatentRequest, outputs: Outputs) -> Compressed:
        engine = request.detector.engine
        return engine.weigh(request.samples, engine.blank_faulty(outputs), request.dtype)

    return _run(requests, check, run, finish)


def decode(requests: Sequence[LatentRequest]) -> list[np.ndarray | DetectorError]:
    """Reconstructions of latent vectors, raw units, float32; `NoLatent` if the model has none."""

    def check(request: LatentRequest) -> np.ndarray:
        return request.detector.engine.check_latent(request.samples, request.dtype)

    def run(engine: Engine, _: Sequence[LatentRequest], parts: Sequence[Checked]) -> list[Outputs]:
        return _run_as_one(lambda checked: {RECONSTRUCTION: engine.run_decoder(checked)}, parts)

    def finish(request: LatentRequest, outputs: Outputs) -> np.ndarray:
        return _reconstruction(request, outputs)

    return _run(requests, check, run, finish)


def classify(requests: Sequence[Request]) -> list[Classes | DetectorError]:
    """Classes and their probabilities, for a series by window; `NoClassifier` if the model has none."""

    def check(request: Request) -> Checked:
        request.detector.engine.require_classifier()
        return request.detector.engine.check_samples(request.samples, whole=True)

    def run(engine: Engine, _: Sequence[Request], parts: Sequence[Checked]) -> list[Outputs]:
        return _run_as_one(lambda checked: {PROBABILITY: engine.run_classifier(checked)}, parts)

    def finish(request: Request, outputs: Outputs) -> Classes:
        engine = request.detector.engine
        return engine.name_classes(engine.blank_faulty(outputs)[PROBABILITY])

    return _run(requests, check, run, finish)


def _check_samples(request: Request) -> Checked:
    return request.detector.engine.check_samples(request.samples)


def _reconstruction(request: Request, outputs: Outputs) -> np.ndarray:
    """Return the reconstruction, NaN for each sample of which a value is not finite."""
    return request.detector.engine.blank_faulty({RECONSTRUCTION: outputs[RECONSTRUCTION]})[RECONSTRUCTION]


def _run_as_one(run: Callable[[Checked], Outputs], parts: Sequence[Checked]) -> list[Outputs]:
    """Run the samples of several requests as one array, and give each request its rows of the outputs."""
    outputs = run(parts[0] if len(parts) == 1 else np.concatenate(parts))
    ends = np.cumsum([len(part) for part in parts])
    return [
        {name: values[end - len(part) : end] for name, values in outputs.items()}
        for part, end in zip(parts, ends, strict=True)
    ]


def _run(
    requests: Sequence[Request],
    check: Callable[[Request], Checked],
    run: Callable[[Engine, Sequence[Request], Sequence[Checked]], Sequence[Outputs]],
    finish: Callable[[Request, Outputs], Result],
) -> list[Result | DetectorError]:
    """Check each request, run the valid ones as one batch, and finish each with its own outputs.

    Parameters
    ----------
    requests : sequence of Request
        All for the same detector.
    check : callable
        Turns a request into the samples that the graph takes; raises DetectorError for this request alone.
    run : callable
        Takes the engine, the valid requests and their checked samples; returns the outputs of each.
    finish : callable
        Turns a request and its outputs into its result; raises DetectorError for this request alone.
    """
    results: list[Any] = list(requests)
    valid, parts = [], []
    for number, request in enumerate(requests):
        try:
            parts.append(check(request))
            valid.append(number)
        except DetectorError as error:
            results[number] = error
    if valid:
        members = [requests[number] for number in valid]
        for number, outputs in zip(valid, run(members[0].detector.engine, members, parts), strict=True):
            try:
                results[number] = finish(requests[number], outputs)
            except DetectorError as error:
                results[number] = error
    return results

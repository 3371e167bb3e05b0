"""The verbs: a list of decoded requests in, a list of results or errors out, in the same order.

Requests for the same detector run as one batch. A request that a model cannot take gets its error and leaves
its neighbours alone. There is no second way to score.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np

from detector import Classes, Compressed, Detector, DetectorError, Scores
from detector.engine.batches import Checked
from detector.engine.engine import Engine
from detector.engine.graphs import FEATURE_ERROR, PROBABILITY, RECONSTRUCTION, SCORE

Outputs = Mapping[str, np.ndarray]
Result = TypeVar("Result")


@dataclasses.dataclass(slots=True)
class Request:
    """Samples, or latent vectors for `decode`, of any real dtype, and the detector that they are for."""

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
    """A request to `infer`: outputs of the graph beside the score, and the options of `Detector.score`."""

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
    """Scores, decisions and explanations.

    Requests that differ in nothing but their samples are scored as one, and the scores dealt out.
    """
    if len(requests) == 1:
        return _score_alike(requests) or _score(requests)
    alike: dict[tuple, list[int]] = {}
    for position, request in enumerate(requests):
        alike.setdefault(_likeness(request), []).append(position)
    results: list[Scores | DetectorError | None] = [None] * len(requests)
    for positions in alike.values():
        members = [requests[position] for position in positions]
        for position, result in zip(positions, _score_alike(members) or _score(members), strict=True):
            results[position] = result
    return results


def _likeness(request: ScoreRequest) -> tuple:
    """Requests with the same one may be scored as one."""
    samples = request.samples
    return request.detector, request.alpha, request.fdr, request.explain, samples.dtype, samples.shape[1:]


def _score_alike(requests: Sequence[ScoreRequest]) -> list[Scores] | None:
    """Scores of requests of one likeness; None where they have to be looked at one by one."""
    first = requests[0]
    if first.fdr is not None or first.explain is not None or first.detector.manifest.kind == "sequence":
        return None
    samples = first.samples
    if len(requests) > 1:
        if not all(len(each.samples) for each in requests):  # together they would not be seen to be none
            return None
        samples = np.concatenate([each.samples for each in requests])
    try:
        scores = first.detector.score(samples, alpha=first.alpha)
    except DetectorError:  # of one of them; which one, and what it says, is found out one by one
        return None
    return [scores] if len(requests) == 1 else scores.split([len(each.samples) for each in requests])


def _score(requests: Sequence[ScoreRequest]) -> list[Scores | DetectorError]:
    def run(detector: Detector, members: Sequence[ScoreRequest], parts: Sequence[Checked]) -> list[Outputs]:
        explained = any(request.explain is not None for request in members)
        names = (SCORE, RECONSTRUCTION, FEATURE_ERROR) if explained else (SCORE,)
        return detector.engine.run_together(parts, names)

    def finish(request: ScoreRequest, outputs: Outputs) -> Scores:
        return request.detector.engine.judge(
            request.samples, outputs, alpha=request.alpha, fdr=request.fdr, explain=request.explain
        )

    return _together(requests, _check_samples, run, finish)


def infer(requests: Sequence[InferRequest]) -> list[Inference | DetectorError]:
    """Scores and decisions, and with them those outputs of the graph that each request names."""

    def run(detector: Detector, members: Sequence[InferRequest], parts: Sequence[Checked]) -> list[Outputs]:
        names = dict.fromkeys([SCORE, *(name for request in members for name in request.outputs)])
        return detector.engine.run_together(parts, tuple(names))

    def finish(request: InferRequest, outputs: Outputs) -> Inference:
        scores = request.detector.engine.judge(request.samples, outputs, alpha=request.alpha, fdr=request.fdr)
        own = {name: request.detector.engine.finite(outputs[name]) for name in (SCORE, *request.outputs)}
        return Inference(**vars(scores), outputs=own)

    return _together(requests, _check_samples, run, finish)


def denoise(requests: Sequence[Request]) -> list[np.ndarray | DetectorError]:
    """Reconstructions in raw units, float32, shape of the samples."""

    def run(detector: Detector, _: Sequence[Request], parts: Sequence[Checked]) -> list[Outputs]:
        return detector.engine.run_together(parts, (RECONSTRUCTION,))

    def finish(request: Request, outputs: Outputs) -> np.ndarray:
        return request.detector.engine.finite(outputs[RECONSTRUCTION]).reshape(np.shape(request.samples))

    return _together(requests, _check_samples, run, finish)


def encode(requests: Sequence[LatentRequest]) -> list[Compressed | DetectorError]:
    """Latent vectors in the dtypes asked for, of a series its windows'; `NoLatent` where there is none."""

    def check(request: LatentRequest) -> Checked:
        request.detector.engine.require_latent(request.dtype)
        return _check_samples(request)

    def run(detector: Detector, members: Sequence[LatentRequest], checked: Checked) -> Outputs:
        return detector.engine.run_compression(checked, {request.dtype for request in members})

    def finish(request: LatentRequest, outputs: Outputs) -> Compressed:
        return request.detector.engine.weigh(request.samples, outputs, request.dtype)

    return _together(requests, check, _by_rows(run), finish)


def decode(requests: Sequence[LatentRequest]) -> list[np.ndarray | DetectorError]:
    """Reconstructions of latent vectors, raw units, float32; `NoLatent` where the model has none."""

    def check(request: LatentRequest) -> np.ndarray:
        return request.detector.engine.check_latent(request.samples, request.dtype)

    return _arrays(requests, check, Engine.run_decoder)


def classify(requests: Sequence[Request]) -> list[Classes | DetectorError]:
    """Classes and their probabilities, of a series its windows'; `NoClassifier` where there is none."""

    def check(request: Request) -> Checked:
        request.detector.engine.require_classifier()
        return _check_samples(request)

    def run(detector: Detector, _: Sequence[Request], checked: Checked) -> Outputs:
        return {PROBABILITY: detector.engine.run_classifier(checked)}

    def finish(request: Request, outputs: Outputs) -> Classes:
        return request.detector.engine.name_classes(outputs[PROBABILITY])

    return _together(requests, check, _by_rows(run), finish)


def _check_samples(request: Request) -> Checked:
    return request.detector.engine.check_samples(request.samples)


def _arrays(
    requests: Sequence[Request],
    check: Callable[[Request], Checked],
    run: Callable[[Engine, Checked], np.ndarray],
) -> list[np.ndarray | DetectorError]:
    return _together(
        requests,
        check,
        _by_rows(lambda detector, _, checked: {"array": run(detector.engine, checked)}),
        lambda request, outputs: request.detector.engine.finite(outputs["array"]),
    )


RunParts = Callable[[Detector, Sequence[Request], Sequence[Checked]], list[Outputs]]


def _by_rows(run: Callable[[Detector, Sequence[Request], Checked], Outputs]) -> RunParts:
    """Run what several requests need as one array; each has its own rows of the outputs."""

    def run_parts(detector: Detector, members: Sequence[Request], parts: Sequence[Checked]) -> list[Outputs]:
        outputs = run(detector, members, parts[0] if len(parts) == 1 else np.concatenate(parts))
        ends = np.cumsum([len(part) for part in parts])
        return [
            {name: values[end - len(part) : end] for name, values in outputs.items()}
            for part, end in zip(parts, ends, strict=True)
        ]

    return run_parts


def _together(
    requests: Sequence[Request],
    check: Callable[[Request], Checked],
    run: RunParts,
    finish: Callable[[Request, Outputs], Result],
) -> list[Result | DetectorError]:
    """Check each request, run those of one detector as one batch, and finish each on its own outputs.

    Parameters
    ----------
    requests : sequence of Request
    check : callable
        A request to the samples that its graph takes; raises DetectorError for this request alone.
    run : callable
        Detector, requests and their checked samples to the outputs of each.
    finish : callable
        A request and its outputs to its result; raises DetectorError for this request alone.
    """
    results: list[Result | DetectorError | None] = [None] * len(requests)
    batches: dict[Detector, list[tuple[int, Checked]]] = {}
    for position, request in enumerate(requests):
        try:
            checked = check(request)
        except DetectorError as error:
            results[position] = error
        else:
            batches.setdefault(request.detector, []).append((position, checked))
    for detector, batch in batches.items():
        positions, parts = zip(*batch, strict=True)
        outputs = run(detector, [requests[position] for position in positions], parts)
        for position, own in zip(positions, outputs, strict=True):
            results[position] = _attempt(finish, requests[position], own)
    return results


def _attempt(
    finish: Callable[[Request, Outputs], Result], request: Request, outputs: Outputs
) -> Result | DetectorError:
    try:
        return finish(request, outputs)
    except DetectorError as error:
        return error

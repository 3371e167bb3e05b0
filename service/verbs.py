"""The verbs: a list of decoded requests in, a list of results or errors out, in the same order.

Requests for the same detector run as one batch. A request that a model cannot take gets its error and leaves
its neighbours alone. There is no second way to score.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np

from detector import Compressed, Detector, DetectorError, Scores
from detector.inference import FEATURE_ERROR, RECONSTRUCTION, SCORE

Outputs = Mapping[str, np.ndarray]
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class Request:
    """Samples, or latent vectors for `decode`, of any real dtype, and the detector that they are for."""

    detector: Detector
    samples: np.ndarray


@dataclasses.dataclass(frozen=True)
class ScoreRequest(Request):
    """A request to `score`, with the options of `Detector.score`."""

    alpha: float | None = None
    fdr: float | None = None
    explain: int | Literal["map"] | None = None


@dataclasses.dataclass(frozen=True)
class LatentRequest(Request):
    """A request to `encode` or `decode`, with the dtype of the latents."""

    dtype: str = "float32"


def score(requests: Sequence[ScoreRequest]) -> list[Scores | DetectorError]:
    """Scores, decisions and explanations."""

    def run(detector: Detector, members: Sequence[ScoreRequest], checked: np.ndarray) -> Outputs:
        explained = any(request.explain is not None for request in members)
        return detector.run(checked, (SCORE, RECONSTRUCTION, FEATURE_ERROR) if explained else (SCORE,))

    def finish(request: ScoreRequest, outputs: Outputs) -> Scores:
        return request.detector.judge(
            request.samples, outputs, alpha=request.alpha, fdr=request.fdr, explain=request.explain
        )

    return _together(requests, _check_samples, run, finish)


def denoise(requests: Sequence[Request]) -> list[np.ndarray | DetectorError]:
    """Reconstructions in raw units, float32, shape of the samples."""
    return _arrays(
        requests,
        _check_samples,
        lambda detector, checked: detector.run(checked, (RECONSTRUCTION,))[RECONSTRUCTION],
    )


def encode(requests: Sequence[LatentRequest]) -> list[Compressed | DetectorError]:
    """Latent vectors in the dtypes asked for; `NoLatent` where the model has none."""

    def check(request: LatentRequest) -> np.ndarray:
        request.detector.require_latent(request.dtype)
        return _check_samples(request)

    def run(detector: Detector, members: Sequence[LatentRequest], checked: np.ndarray) -> Outputs:
        return detector.run_compression(checked, {request.dtype for request in members})

    def finish(request: LatentRequest, outputs: Outputs) -> Compressed:
        return request.detector.weigh(request.samples, outputs, request.dtype)

    return _together(requests, check, run, finish)


def decode(requests: Sequence[LatentRequest]) -> list[np.ndarray | DetectorError]:
    """Reconstructions of latent vectors, raw units, float32; `NoLatent` where the model has none."""

    def check(request: LatentRequest) -> np.ndarray:
        return request.detector.check_latent(request.samples, request.dtype)

    return _arrays(requests, check, Detector.run_decoder)


def _check_samples(request: Request) -> np.ndarray:
    return request.detector.check_samples(request.samples)


def _arrays(
    requests: Sequence[Request],
    check: Callable[[Request], np.ndarray],
    run: Callable[[Detector, np.ndarray], np.ndarray],
) -> list[np.ndarray | DetectorError]:
    return _together(
        requests,
        check,
        lambda detector, _, checked: {"array": run(detector, checked)},
        lambda request, outputs: request.detector.finite(outputs["array"]),
    )


def _together(
    requests: Sequence[Request],
    check: Callable[[Request], np.ndarray],
    run: Callable[[Detector, Sequence[Request], np.ndarray], Outputs],
    finish: Callable[[Request, Outputs], Result],
) -> list[Result | DetectorError]:
    """Check each request, run those of one detector as one batch, and finish each on its own rows.

    Parameters
    ----------
    requests : sequence of Request
    check : callable
        A request to the samples that its graph takes; raises DetectorError for this request alone.
    run : callable
        Detector, requests and their checked samples, concatenated, to outputs of as many rows.
    finish : callable
        A request and its rows of the outputs to its result; raises DetectorError for this request alone.
    """
    results: list[Result | DetectorError | None] = [None] * len(requests)
    batches: dict[Detector, list[tuple[int, np.ndarray]]] = {}
    for position, request in enumerate(requests):
        try:
            checked = check(request)
        except DetectorError as error:
            results[position] = error
        else:
            batches.setdefault(request.detector, []).append((position, checked))
    for detector, batch in batches.items():
        positions, arrays = zip(*batch, strict=True)
        members = [requests[position] for position in positions]
        outputs = run(detector, members, arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
        start = 0
        for position, array in batch:
            rows = slice(start, start + len(array))
            start = rows.stop
            results[position] = _attempt(finish, requests[position], outputs, rows)
    return results


def _attempt(
    finish: Callable[[Request, Outputs], Result], request: Request, outputs: Outputs, rows: slice
) -> Result | DetectorError:
    try:
        return finish(request, {name: values[rows] for name, values in outputs.items()})
    except DetectorError as error:
        return error

"""How platforms ask for scores: `infer` of the Open Inference Protocol V2, and `predict` of V1.

V1 is the protocol of TensorFlow Serving and of KServe's first version. Both end in the verbs that `/score`
ends in, with the same limits, batches, counters and keys.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from detector import Detector, InputError, Scores
from service import answers, bodies
from service.answers.replies import size_of
from service.bodies import Expected, Limits, codecs
from service.bodies.encodings import inflate
from service.bodies.json.instances import decode_json
from service.endpoints import open_inference
from service.endpoints.base import Endpoint, ModelChoice, Reader, check_alpha, check_explanation, place_error
from service.endpoints.open_inference import HEADER_LENGTH
from service.endpoints.verbs import Call
from service.http.messages import Answer, Body, Head
from service.http.problems import Problem
from service.http.request_record import RequestRecord
from service.scoring import verbs

# Clients of these protocols send JSON under whatever name their library or curl gives it.
_CONTENT_TYPES = ("", bodies.JSON, bodies.RAW, "application/x-www-form-urlencoded")
PREDICTION_VALUES = 8  # what writing a prediction costs in values of an array
_PREDICT_OPTIONS = ("alpha", "fdr", "explain", "signature_name")


@dataclasses.dataclass(frozen=True)
class PlatformEndpoint:
    """`POST /v2/models/{name}/infer` or `POST /v1/models/{name}:predict`: all but the reader is the same."""

    reader: type["InferReader | PredictReader"]
    choice: ModelChoice
    limits: Limits

    def open(self, head: Head, record: RequestRecord, **path: Any) -> Reader:
        """See `Endpoint`."""
        detector = self.choice.choose(record, **path)
        _check_content_type(head)
        _refuse_query(head)
        return self.reader(detector, head.headers, self.limits)


@dataclasses.dataclass(frozen=True)
class InferReader:
    """Reads bodies of `infer` for one model."""

    detector: Detector
    headers: Mapping[str, str]
    limits: Limits

    def is_slow(self, body: Body) -> bool:
        """See `Reader`."""
        length = self.headers.get(HEADER_LENGTH.lower())
        return self.detector.manifest.kind == "image" and open_inference.may_hold_images(body, length)

    def join(self, bodies: Sequence[Body]) -> None:
        """See `Reader`."""

    def __call__(self, body: Body) -> Call:
        """See `Reader`."""
        detector, manifest = self.detector, self.detector.manifest
        content = _inflate(self.headers, body, self.limits)
        length = self.headers.get(HEADER_LENGTH.lower())
        infer = open_inference.decode(content, length, manifest, self.limits)
        samples = infer.decoded.samples
        check_alpha(detector, infer.decoded.options.get("alpha"))

        def finish(result: verbs.Inference | Exception) -> Answer:
            if isinstance(result, InputError):
                raise place_error(result, infer.decoded, manifest.feature_names) from result
            if isinstance(result, Exception):
                raise result
            answer, headers, media_type = open_inference.encode(manifest, infer, result)
            return Answer(answer, media_type, headers=headers)

        outputs = open_inference.graph_outputs(infer)
        request = verbs.InferRequest(detector, samples, outputs, **infer.decoded.options)
        return Call(verbs.infer, request, finish, len(samples))


@dataclasses.dataclass(frozen=True)
class PredictReader:
    """Reads bodies of `predict` for one model: those of `/score`, answered by an object for each instance."""

    detector: Detector
    headers: Mapping[str, str]
    limits: Limits

    def is_slow(self, body: Body) -> bool:
        """See `Reader`."""
        return False

    def join(self, bodies: Sequence[Body]) -> None:
        """See `Reader`."""

    def __call__(self, body: Body) -> Call:
        """See `Reader`."""
        detector = self.detector
        expected = Expected.samples(detector.manifest)
        content = _inflate(self.headers, body, self.limits)
        if not content:
            raise Problem("malformed-body", "the body is empty")
        decoded = decode_json(content, expected, self.limits, _PREDICT_OPTIONS)
        options = {name: value for name, value in decoded.options.items() if name != "signature_name"}
        check_alpha(detector, options.get("alpha"))
        check_explanation(detector, decoded.samples, options.get("explain"))

        def finish(result: Scores | Exception) -> Answer:
            if isinstance(result, InputError):
                raise place_error(result, decoded, expected.feature_names) from result
            if isinstance(result, Exception):
                raise result
            return Answer(_to_json(result), bodies.JSON)

        request = verbs.ScoreRequest(detector, decoded.samples, **options)
        return Call(verbs.score, request, finish, len(decoded.samples))


def platform_endpoints(choice: ModelChoice, limits: Limits) -> Iterator[tuple[str, Endpoint]]:
    """The rules of both protocols, with what answers them."""
    infer = PlatformEndpoint(InferReader, choice, limits)
    predict = PlatformEndpoint(PredictReader, choice, limits)
    for version in ("", "/versions/<version:version>"):
        yield f"/v2/models/<name>{version}/infer", infer
    for version in ("", "/versions/<version:version>", "/labels/<label>"):
        yield f"/v1/models/<name>{version}:predict", predict


def _refuse_query(head: Head) -> None:
    """Options of both protocols stand in the body: one in the query would be passed over without a word."""
    if head.query:
        codecs.decode_query(parse_qs(head.query, keep_blank_values=True), options=())


def _check_content_type(head: Head) -> None:
    media_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _CONTENT_TYPES:
        raise Problem(
            "unsupported-media-type",
            f"the Content-Type must be {bodies.JSON} or {bodies.RAW} here, got {media_type[:80]!r}",
        )


def _inflate(headers: Mapping[str, str], body: Body, limits: Limits) -> Body:
    return inflate(body, headers.get("content-encoding", ""), limits.max_bytes)


def _to_json(scores: Scores) -> bytes:
    """The answer to `predict`, some predictions at a time: other threads get their turn in between."""
    predictions = list(_predictions(scores))
    n_values = PREDICTION_VALUES * len(predictions)
    if scores.explanation is not None:
        n_values += size_of(scores.explanation)
    step = max(1, answers.SLICE_VALUES * len(predictions) // n_values)
    starts = range(0, len(predictions), step)
    parts = (codecs.to_json(predictions[start : start + step])[1:-1] for start in starts)
    return b'{"predictions":[%s]}' % b",".join(parts)


def _predictions(scores: Scores) -> Iterator[dict[str, Any]]:
    """One object for each sample, or step of a series."""
    columns = {
        "score": scores.score.tolist(),
        "ratio": scores.ratio.tolist(),
        "p_value": scores.p_value.tolist(),
        "is_anomaly": scores.is_anomaly.tolist(),
    }
    if scores.selected is not None:
        columns["selected"] = scores.selected.tolist()
    if scores.explanation is not None:
        columns["explanation"] = scores.explanation
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))

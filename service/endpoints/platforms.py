"""Scores in the protocols of other platforms: `infer` of the Open Inference Protocol V2, `predict` of V1.

V1 is the protocol of TensorFlow Serving and of KServe's first version. Both call the same verbs as `/score`,
with the same limits, batches, counters and keys.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import numpy as np

from detector import Scores
from service import answers, bodies
from service.answers.replies import size_of
from service.bodies import Decoded, Expected, Limits, codecs
from service.bodies.json.instances import decode_json
from service.endpoints import open_inference
from service.endpoints.base import Endpoint, ModelChoice, Reader, check_alpha, check_explanation
from service.endpoints.open_inference import HEADER_LENGTH, InferBody
from service.http.messages import Answer, Body, Head
from service.http.problems import Problem
from service.http.request_record import RequestRecord
from service.scoring import verbs
from service.scoring.calls import Call

# Clients of these protocols send JSON with the content type that their library or curl sets.
_CONTENT_TYPES = ("", bodies.JSON, bodies.RAW, "application/x-www-form-urlencoded")
PREDICTION_VALUES = 8  # writing a prediction costs as much as so many values of an array
_PREDICT_OPTIONS = ("alpha", "fdr", "explain", "signature_name")


@dataclasses.dataclass(frozen=True)
class PlatformEndpoint:
    """`POST /v2/models/{name}/infer` or `POST /v1/models/{name}:predict`, which differ in their readers."""

    reader: type[Reader]
    choice: ModelChoice
    limits: Limits

    def open(self, head: Head, record: RequestRecord, **path: Any) -> Reader:
        """See `Endpoint`."""
        detector = self.choice.choose(record, **path)
        _check_content_type(head)
        _refuse_query(head)
        return self.reader(detector, head.headers, self.limits)


class InferReader(Reader):
    """Reads bodies of `infer` for one model."""

    run = staticmethod(verbs.infer)

    def is_slow(self, body: Body) -> bool:
        """See `Reader`."""
        is_image = self.detector.manifest.kind == "image"
        return is_image and open_inference.may_hold_images(body, self._header_length)

    def __call__(self, body: Body) -> Call:
        """See `Reader`."""
        manifest = self.detector.manifest
        infer = open_inference.decode(self.inflate(body), self._header_length, manifest, self.limits)
        decoded = infer.decoded
        check_alpha(self.detector, decoded.options.get("alpha"))
        outputs = open_inference.graph_outputs(infer)
        options = {"outputs": outputs, **decoded.options}
        return Call((self.run, self.detector), self, decoded.samples, options, decoded, infer)

    def request(self, samples: np.ndarray, options: Mapping[str, Any]) -> verbs.InferRequest:
        """See `Asker`."""
        return verbs.InferRequest(self.detector, samples, **options)

    @property
    def _header_length(self) -> str | None:
        return self.headers.get(HEADER_LENGTH.lower())

    def respond(self, decoded: Decoded, form: InferBody, result: verbs.Inference) -> Answer:
        """See `Reader`; `form` is the decoded body."""
        body, headers, media_type = open_inference.encode(self.detector.manifest, form, result)
        return Answer(body, media_type, headers=headers)


class PredictReader(Reader):
    """Reads bodies of `predict` for one model; the answer has an object for each instance."""

    run = staticmethod(verbs.score)

    def __call__(self, body: Body) -> Call:
        """See `Reader`."""
        content = self.inflate(body)
        if not content:
            raise Problem("malformed-body", "the body is empty")
        expected = Expected.samples(self.detector.manifest)
        decoded = decode_json(content, expected, self.limits, _PREDICT_OPTIONS)
        samples = decoded.samples
        options = {name: value for name, value in decoded.options.items() if name != "signature_name"}
        check_alpha(self.detector, options.get("alpha"))
        check_explanation(self.detector, samples, options.get("explain"))
        return Call((self.run, self.detector, "explain" in options), self, samples, options, decoded, None)

    def request(self, samples: np.ndarray, options: Mapping[str, Any]) -> verbs.ScoreRequest:
        """See `Asker`."""
        return verbs.ScoreRequest(self.detector, samples, **options)

    def respond(self, decoded: Decoded, form: None, result: Scores) -> Answer:
        """See `Reader`."""
        return Answer(_to_json(result), bodies.JSON)


def platform_endpoints(choice: ModelChoice, limits: Limits) -> Iterator[tuple[str, Endpoint]]:
    """Yield the path rules of both protocols with their endpoints."""
    infer = PlatformEndpoint(InferReader, choice, limits)
    predict = PlatformEndpoint(PredictReader, choice, limits)
    for version in ("", "/versions/<version:version>"):
        yield f"/v2/models/<name>{version}/infer", infer
    for version in ("", "/versions/<version:version>", "/labels/<label>"):
        yield f"/v1/models/<name>{version}:predict", predict


def _refuse_query(head: Head) -> None:
    """Refuse options in the query, which would be ignored: both protocols have them in the body."""
    if head.query:
        codecs.decode_query(parse_qs(head.query, keep_blank_values=True), options=())


def _check_content_type(head: Head) -> None:
    media_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _CONTENT_TYPES:
        raise Problem(
            "unsupported-media-type",
            f"the Content-Type must be {bodies.JSON} or {bodies.RAW}, got {media_type[:80]!r}",
        )


def _to_json(scores: Scores) -> bytes:
    """Write the answer to `predict`, some predictions at a time, so that other threads can run in between."""
    predictions = list(_predictions(scores))
    n_values = PREDICTION_VALUES * len(predictions)
    if scores.explanation is not None:
        n_values += size_of(scores.explanation)
    step = max(1, answers.SLICE_VALUES * len(predictions) // n_values)
    starts = range(0, len(predictions), step)
    parts = (codecs.to_json(predictions[start : start + step])[1:-1] for start in starts)
    return b'{"predictions":[%s]}' % b",".join(parts)


def _predictions(scores: Scores) -> Iterator[dict[str, Any]]:
    """Yield one object for each sample, or step of a series."""
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

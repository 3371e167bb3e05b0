"""Scores in the protocols of other platforms: `infer` of V2, `predict` and `explain` of V1.

V2 is the Open Inference Protocol. V1 is the protocol of TensorFlow Serving and of KServe's first version.
Both call the same verbs as `/score`, with the same limits, batches, counters and keys.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import orjson

from detector import Scores
from detector.engine.explanations import ERROR_MAP
from service import answers, bodies
from service.answers.replies import decisions, size_of
from service.bodies import Decoded, Expected, Limits, codecs
from service.bodies.json.tensorflow import BASE64, decode_predict
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
EXPLAINED_FEATURES = 10  # that an answer to `explain` names, unless the request says otherwise
PREDICTION_VALUES = 8  # writing a prediction costs as much as so many values of an array
_PREDICT_OPTIONS = ("alpha", "fdr", "explain", "signature_name")


@dataclasses.dataclass(frozen=True)
class PlatformEndpoint:
    """`POST /v2/models/{name}/infer`, `/v1/models/{name}:predict` and so on, by their kind of reader."""

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

    def is_slow(self, body: Body) -> bool:
        """See `Reader`."""
        is_image = self.detector.manifest.kind == "image"
        return is_image and any(word in body for word in (BASE64.encode(), b"\\"))

    def __call__(self, body: Body) -> Call:
        """See `Reader`."""
        content = self.inflate(body)
        expected = Expected.samples(self.detector.manifest)
        prediction = decode_predict(content, expected, self.limits, _PREDICT_OPTIONS)
        decoded, samples = prediction.decoded, prediction.decoded.samples
        options = self.choose_options(decoded.options)
        check_alpha(self.detector, options.get("alpha"))
        check_explanation(self.detector, samples, options.get("explain"))
        key = (self.run, self.detector, "explain" in options)
        return Call(key, self, samples, options, decoded, prediction.is_column)

    def choose_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of the request to the verb."""
        return {name: value for name, value in given.items() if name != "signature_name"}

    def request(self, samples: np.ndarray, options: Mapping[str, Any]) -> verbs.ScoreRequest:
        """See `Asker`."""
        return verbs.ScoreRequest(self.detector, samples, **options)

    def respond(self, decoded: Decoded, form: bool, result: Scores) -> Answer:
        """See `Reader`; `form` is whether the samples came as a column."""
        columns = _columns(result)
        if form:
            outputs = {name: orjson.Fragment(answers.in_slices(values)) for name, values in columns.items()}
            return Answer(codecs.to_json({"outputs": outputs}), bodies.JSON)
        return Answer(b'{"predictions":%s}' % _to_rows(columns), bodies.JSON)


class ExplainReader(PredictReader):
    """Reads bodies of KServe's `explain` for one model, which are those of `predict`."""

    def choose_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """See `PredictReader`; there always is an explanation."""
        default = ERROR_MAP if self.detector.manifest.kind == "image" else EXPLAINED_FEATURES
        return {"explain": default, **super().choose_options(given)}

    def respond(self, decoded: Decoded, form: bool, result: Scores) -> Answer:
        """See `Reader`; the predictions come with the explanations."""
        columns = _columns(result)
        explanations = answers.in_slices(columns.pop("explanation"))
        return Answer(
            b'{"predictions":%s,"explanations":%s}' % (_to_rows(columns), explanations), bodies.JSON
        )


def platform_endpoints(choice: ModelChoice, limits: Limits) -> Iterator[tuple[str, Endpoint]]:
    """Yield the path rules of both protocols with their endpoints."""
    infer = PlatformEndpoint(InferReader, choice, limits)
    predict = PlatformEndpoint(PredictReader, choice, limits)
    explain = PlatformEndpoint(ExplainReader, choice, limits)
    for version in ("", "/versions/<version:version>"):
        yield f"/v2/models/<name>{version}/infer", infer
    for version in ("", "/versions/<version:version>", "/labels/<label>"):
        yield f"/v1/models/<name>{version}:predict", predict
        yield f"/v1/models/<name>{version}:explain", explain


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


def _to_rows(columns: Mapping[str, Any]) -> bytes:
    """Write an object for each sample, some at a time, so that other threads can run in between."""
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    n_values = PREDICTION_VALUES * len(rows) + size_of(columns.get("explanation", []))
    step = max(1, answers.SLICE_VALUES * len(rows) // max(1, n_values))
    parts = (codecs.to_json(rows[start : start + step])[1:-1] for start in range(0, len(rows), step))
    return b"[%s]" % b",".join(parts)


def _columns(scores: Scores) -> dict[str, Any]:
    """Return the values of each sample, or step of a series, by name."""
    columns: dict[str, Any] = {
        "score": scores.score.tolist(),
        "ratio": scores.ratio.tolist(),
        "p_value": scores.p_value.tolist(),
        "is_anomaly": scores.is_anomaly.tolist(),
    }
    if scores.selected is not None:
        columns["selected"] = scores.selected.tolist()
    if not scores.scored.all():
        columns |= decisions(scores)
    if scores.explanation is not None:
        columns["explanation"] = scores.explanation
    return columns

"""The endpoints of the verbs: turn head and body into a `Call`, and the result of the call into an answer.

`wsgi.routes` and `asgi.front` bring the requests, `scoring.runner` runs the calls.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import numpy as np

from detector import Compressed, Detector, Scores
from detector.engine.explanations import ERROR_MAP
from service import answers
from service.answers.replies import Result, reply_to
from service.bodies import JSON, NDJSON, PNG, Decoded, Expected, Limits, Timestamp, codecs
from service.bodies.encodings import check_identity
from service.endpoints.base import Endpoint, ModelChoice, Reader, check_alpha, check_explanation
from service.endpoints.lines import LineReader
from service.http.messages import Answer, Body, Head
from service.http.problems import Problem
from service.http.request_record import RequestRecord
from service.scoring import verbs
from service.scoring.calls import Call

PREFIXES = (
    "",
    "/models/<name>",
    "/models/<name>/versions/<version:version>",
    "/models/<name>/labels/<label>",
)
COMPRESSION_RATIO = "X-Compression-Ratio"
RECONSTRUCTION_ERROR = "X-Reconstruction-Error"
MAX_FORMS = 16  # cached by one reader


@dataclasses.dataclass(frozen=True)
class Verb:
    """The options, the requirements and the answer of one verb.

    Attributes
    ----------
    run : callable
        A verb of `service.scoring.verbs`.
    output : str
        The member of the answer that holds the array.
    request : type
        The class of request that `run` takes.
    options : tuple of str
        Names of the options, which are fields of the request.
    needs_latent, takes_latent : bool
        Whether the model must have a latent, and whether the instances are latent vectors.
    needs_classifier : bool
        Whether the model must have a classifier.
    steps : bool
        Whether a series is answered by step, so that its body may have time stamps.
    drawn_by : mapping of str to Any
        Options that are added if the answer is an image.
    """

    run: Callable[[list], list]
    output: str
    request: type[verbs.Request] = verbs.Request
    options: tuple[str, ...] = ()
    needs_latent: bool = False
    takes_latent: bool = False
    needs_classifier: bool = False
    steps: bool = False
    drawn_by: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def expected(self, detector: Detector) -> Expected:
        """Return the form of an instance; raise `NoLatent` or `NoClassifier` if the model lacks the verb."""
        if self.needs_classifier:
            detector.engine.require_classifier()
        latent_shape = detector.engine.require_latent() if self.needs_latent else ()
        if self.takes_latent:
            return Expected.latent(latent_shape)
        return Expected.samples(detector.manifest, timestamps=self.steps)

    def offers(self, detector: Detector, samples: np.ndarray) -> tuple[str, ...]:
        """Return the media types of the answer to these samples, the default first."""
        series = detector.engine.is_series(samples) and not self.takes_latent
        return answers.offers(self.output, detector, samples, series=series)


VERBS = {
    "score": Verb(
        verbs.score,
        "score",
        verbs.ScoreRequest,
        ("alpha", "fdr", "explain"),
        steps=True,
        drawn_by={"explain": ERROR_MAP},
    ),
    "denoise": Verb(verbs.denoise, "reconstruction", steps=True),
    "encode": Verb(verbs.encode, "latent", verbs.LatentRequest, ("dtype",), needs_latent=True),
    "decode": Verb(
        verbs.decode, "reconstruction", verbs.LatentRequest, ("dtype",), needs_latent=True, takes_latent=True
    ),
    "classify": Verb(verbs.classify, "probability", needs_classifier=True),
}


@dataclasses.dataclass(frozen=True)
class VerbEndpoint:
    """`POST /score` and the other verbs: options in the query or the body, the media type by `Accept`."""

    verb: Verb
    choice: ModelChoice
    limits: Limits

    def open(self, head: Head, record: RequestRecord, **path: Any) -> "Reader | LineReader":
        """See `Endpoint`; return a `LineReader` for a body of lines."""
        detector = self.choice.choose(record, **path)
        expected = self.verb.expected(detector)
        query = parse_qs(head.query, keep_blank_values=True) if head.query else {}
        options = codecs.decode_query(query, options=self.verb.options)
        if codecs.media_type_of(head.headers) == NDJSON:
            return self._open_lines(detector, expected, options, head.headers)
        decode = codecs.decoder(
            head.headers.get("content-type", ""), expected, self.limits, options=self.verb.options
        )
        return VerbReader(
            detector, head.headers, self.limits, self.verb, self.verb.run, expected, options, decode
        )

    def _open_lines(
        self,
        detector: Detector,
        expected: Expected,
        options: Mapping[str, Any],
        headers: Mapping[str, str],
    ) -> LineReader:
        check_identity(headers.get("content-encoding", ""))
        codecs.negotiate(headers.get("accept", ""), (NDJSON,))
        if "fdr" in options:
            raise codecs.bad_option(
                "fdr", "the option fdr needs all samples at once, but a body of lines has no end"
            )
        check_alpha(detector, options.get("alpha"))
        one = np.broadcast_to(np.float64(0), (1, *expected.shape))
        check_explanation(detector, one, options.get("explain"))
        return LineReader(
            detector, self.verb.run, self.verb.request, self.verb.output, options, expected, self.limits
        )


@dataclasses.dataclass(frozen=True, eq=False)
class VerbReader(Reader):
    """Reads bodies for a verb of one model."""

    verb: Verb
    run: Callable[[list], list]
    expected: Expected
    options: Mapping[str, Any]
    decode: Callable[[Body], Decoded]
    _forms: dict[tuple, tuple[str, str]] = dataclasses.field(default_factory=dict)

    def __call__(self, body: Body) -> Call:
        """See `Reader`."""
        detector, options = self.detector, self.options
        decoded = self.decode(self.inflate(body) if "content-encoding" in self.headers else body)
        samples = decoded.samples
        media_type, batch = self._choose_form(samples)
        if decoded.options:
            options = codecs.merge_options(options, decoded.options)
        if media_type == PNG:
            options = {**options, **self.verb.drawn_by}
        if options:
            check_alpha(detector, options.get("alpha"))
            check_explanation(detector, samples, options.get("explain"))
        if decoded.timestamps is not None:
            _check_timestamps(detector, samples, decoded.timestamps)
        if self._can_join and not options and media_type == JSON and len(samples):
            return Call(batch, self, samples, options, decoded, media_type, joins=True)
        return Call((self.run, detector, "explain" in options), self, samples, options, decoded, media_type)

    def request(self, samples: np.ndarray, options: Mapping[str, Any]) -> verbs.Request:
        """See `Asker`."""
        return self.verb.request(self.detector, samples, **options)

    def finish_joined(self, result: Scores, lengths: Sequence[int]) -> list[Answer]:
        """See `Asker`."""
        bodies = answers.write_scores(self.detector.manifest, result, lengths)
        return [Answer(body, JSON) for body in bodies]

    @functools.cached_property
    def _can_join(self) -> bool:
        return self.run is verbs.score and self.detector.manifest.kind != "sequence"

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """See `Reader`; the columns of latent vectors have none."""
        return self.expected.feature_names

    def _choose_form(self, samples: np.ndarray) -> tuple[str, str]:
        """Return the media type of the answer, and a name for the batch of samples that can be joined."""
        key = (len(samples) == 1, samples.dtype, samples.shape[1:])
        chosen = self._forms.get(key)
        if chosen is None:
            offers = self.verb.offers(self.detector, samples)
            form = codecs.negotiate(self.headers.get("accept", ""), offers)
            chosen = form, f"{id(self)} {samples.dtype} {samples.shape[1:]}"
            if len(self._forms) < MAX_FORMS:
                self._forms[key] = chosen
        return chosen

    def respond(self, decoded: Decoded, form: str, result: Result) -> Answer:
        """See `Reader`; `form` is a media type."""
        headers = {}
        if isinstance(result, Compressed):
            headers = {COMPRESSION_RATIO: f"{result.ratio:.6g}", RECONSTRUCTION_ERROR: f"{result.error:.6g}"}
        reply = reply_to(self.verb.output, self.detector, result, decoded.timestamps)
        content_type, body = answers.encode(form, reply)
        return Answer(body, content_type, headers=headers)


def verb_endpoints(choice: ModelChoice, limits: Limits) -> Iterator[tuple[str, Endpoint]]:
    """Yield the path rules of all verbs, for the default model and for named models, with their endpoints."""
    for name, verb in VERBS.items():
        endpoint = VerbEndpoint(verb, choice, limits)
        yield from ((f"{prefix}/{name}", endpoint) for prefix in PREFIXES)


def _check_timestamps(detector: Detector, samples: np.ndarray, timestamps: list[Timestamp]) -> None:
    n_steps = len(samples)
    if not detector.engine.is_series(samples):
        sentence = f"/timestamps are for the steps of a series, got an array of shape {samples.shape}"
    elif len(timestamps) != n_steps:
        got = len(timestamps)
        sentence = f"/timestamps must have one element for each of the {n_steps} steps, got {got}"
    else:
        return
    raise Problem("invalid-input", sentence, [{"detail": sentence, "pointer": "/timestamps"}])

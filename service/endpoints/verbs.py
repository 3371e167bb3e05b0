"""The verbs as requests ask for them: a head and a body to a `Call`, its result to an answer.

Neither Flask nor a server is known here: `routes` and `front` bring the requests, `runner` runs the calls.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import numpy as np

from detector import Compressed, Detector, InputError, Scores
from detector.engine.explanations import ERROR_MAP
from service import answers
from service.answers.replies import Result, reply_to
from service.bodies import JSON, NDJSON, PNG, Decoded, Expected, Limits, Timestamp, codecs
from service.bodies.encodings import check_identity, inflate
from service.endpoints.base import Endpoint, ModelChoice, Reader, check_alpha, check_explanation, place_error
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
MAX_FORMS = 16  # kept of one reader


@dataclasses.dataclass(frozen=True)
class Verb:
    """How one verb is asked and answered.

    Attributes
    ----------
    run : callable
        Of `service.scoring.verbs`.
    output : str
        The answer's member.
    request : type
        Of `service.scoring.verbs`: what `run` takes.
    options : tuple of str
        Names of the options, which are fields of the request.
    needs_latent, takes_latent : bool
        Whether the model must have a latent, and whether the instances are latent vectors.
    needs_classifier : bool
        Whether the model must have a classifier.
    steps : bool
        Whether a series is answered by step, and so may come with time stamps.
    drawn_by : mapping of str to Any
        Options without which an answer that is an image could not be drawn.
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
        """What an instance must be; `NoLatent` or `NoClassifier` where the model cannot do this."""
        if self.needs_classifier:
            detector.engine.require_classifier()
        latent_shape = detector.engine.require_latent() if self.needs_latent else ()
        if self.takes_latent:
            return Expected.latent(latent_shape)
        return Expected.samples(detector.manifest, timestamps=self.steps)

    def offers(self, detector: Detector, samples: np.ndarray) -> tuple[str, ...]:
        """Forms of the answer to these samples, the default first."""
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
    """`POST /score` and so on: options in the query or the body, the answer's form by `Accept`."""

    verb: Verb
    choice: ModelChoice
    limits: Limits

    def open(self, head: Head, record: RequestRecord, **path: Any) -> "Reader | LineReader":
        """See `Endpoint`; a `LineReader` where the body is lines."""
        detector = self.choice.choose(record, **path)
        expected = self.verb.expected(detector)
        query = parse_qs(head.query, keep_blank_values=True) if head.query else {}
        options = codecs.decode_query(query, options=self.verb.options)
        if codecs.media_type_of(head.headers) == NDJSON:
            return self._open_lines(detector, expected, options, head.headers)
        decode = codecs.decoder(
            head.headers.get("content-type", ""), expected, self.limits, options=self.verb.options
        )
        return VerbReader(detector, self.verb, head.headers, expected, options, self.limits, decode)

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
            raise codecs.bad_option("fdr", "the option fdr needs all samples at once, and lines have no end")
        check_alpha(detector, options.get("alpha"))
        one = np.broadcast_to(np.float64(0), (1, *expected.shape))
        check_explanation(detector, one, options.get("explain"))
        return LineReader(
            detector, self.verb.run, self.verb.request, self.verb.output, options, expected, self.limits
        )


@dataclasses.dataclass(frozen=True)
class VerbReader:
    """Reads bodies for a verb of one model."""

    detector: Detector
    verb: Verb
    headers: Mapping[str, str]
    expected: Expected
    options: Mapping[str, Any]
    limits: Limits
    decode: Callable[[Body], Decoded]
    _forms: dict[tuple, str] = dataclasses.field(default_factory=dict)

    def __call__(self, body: Body) -> Call:
        """See `Reader`."""
        verb, detector = self.verb, self.detector
        decoded = self.decode(inflate(body, self.headers.get("content-encoding", ""), self.limits.max_bytes))
        media_type = self._choose_form(decoded.samples)
        options = codecs.merge_options(self.options, decoded.options)
        if media_type == PNG:
            options |= verb.drawn_by
        if options:
            check_alpha(detector, options.get("alpha"))
            check_explanation(detector, decoded.samples, options.get("explain"))
        _check_timestamps(detector, decoded)

        def finish(result: Result | Exception) -> Answer:
            if isinstance(result, InputError):
                raise place_error(result, decoded, self.expected.feature_names) from result
            if isinstance(result, Exception):
                raise result
            return _respond(verb, detector, media_type, result, decoded.timestamps)

        request = verb.request(detector, decoded.samples, **options)
        return Call(verb.run, request, finish, len(decoded.samples))

    def is_slow(self, body: Body) -> bool:
        """See `Reader`."""
        return False

    @functools.cached_property
    def _can_join(self) -> bool:
        return (
            self.verb.run is verbs.score
            and not self.options
            and self.detector.manifest.kind != "sequence"
            and "content-encoding" not in self.headers
        )

    def _choose_form(self, samples: np.ndarray) -> str:
        """The media type of the answer: the same for one sample or many, but where a series is possible."""
        key = (len(samples) == 1, samples.shape[1:])
        form = self._forms.get(key)
        if form is None:
            offers = self.verb.offers(self.detector, samples)
            form = codecs.negotiate(self.headers.get("accept", ""), offers)
            if len(self._forms) < MAX_FORMS:
                self._forms[key] = form
        return form

    def join(self, bodies: Sequence[Body]) -> Call | None:
        """One call for several small bodies, which its `finish` answers by a list.

        None where they ask for more than decisions as JSON, or one of them is not in order: then each is read
        by itself, and says what it has to say.
        """
        if not self._can_join:
            return None
        samples, lengths = [], []
        try:
            for body in bodies:
                part = self.decode(body)
                if part.options or not len(part.samples) or self._choose_form(part.samples) != JSON:
                    return None
                if samples and part.samples.dtype != samples[0].dtype:
                    return None  # one of them would be rounded to the other's
                samples.append(part.samples)
                lengths.append(len(part.samples))
            together = samples[0] if len(samples) == 1 else np.concatenate(samples)
        except Exception:  # of one of them, foreseen or not: no neighbour may suffer
            return None
        manifest = self.detector.manifest

        def finish(result: Scores | Exception) -> list[Answer]:
            if isinstance(result, Exception):
                raise result
            return answers.answer_scores(manifest, result, lengths)

        return Call(verbs.score, verbs.ScoreRequest(self.detector, together), finish, len(together), lengths)


def verb_endpoints(choice: ModelChoice, limits: Limits) -> Iterator[tuple[str, Endpoint]]:
    """The rules of all verbs, for the default model and for every named one, with what answers them."""
    for name, verb in VERBS.items():
        endpoint = VerbEndpoint(verb, choice, limits)
        yield from ((f"{prefix}/{name}", endpoint) for prefix in PREFIXES)


def _check_timestamps(detector: Detector, decoded: Decoded) -> None:
    if decoded.timestamps is None:
        return
    n_steps, n_timestamps = len(decoded.samples), len(decoded.timestamps)
    if not detector.engine.is_series(decoded.samples):
        sentence = f"/timestamps are for the steps of a series, got an array of shape {decoded.samples.shape}"
    elif n_timestamps != n_steps:
        sentence = f"/timestamps must have one element for each of the {n_steps} steps, got {n_timestamps}"
    else:
        return
    raise Problem("invalid-input", sentence, [{"detail": sentence, "pointer": "/timestamps"}])


def _respond(
    verb: Verb,
    detector: Detector,
    media_type: str,
    result: Result,
    timestamps: list[Timestamp] | None,
) -> Answer:
    headers = {}
    if isinstance(result, Compressed):
        headers = {COMPRESSION_RATIO: f"{result.ratio:.6g}", RECONSTRUCTION_ERROR: f"{result.error:.6g}"}
    reply = reply_to(verb.output, detector, result, timestamps)
    content_type, body = answers.encode(media_type, reply)
    return Answer(body, content_type, headers=headers)

"""The verbs over HTTP: a route decodes one request, calls a verb with a list of one, encodes the result."""

import contextlib
import dataclasses
import functools
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from flask import Blueprint, Response, request
from werkzeug.routing import BaseConverter

from detector import Classes, Compressed, Detector, InputError, Manifest, Scores
from detector.tables import holds_cells, to_cells
from service import bodies, codecs, exchange, verbs
from service.bodies import Decoded, Expected, Limits, Timestamp
from service.encodings import inflate
from service.metrics import Metrics
from service.problems import Problem
from service.registry import Entry, ModelRegistry
from service.settings import Settings

PREFIXES = (
    "",
    "/models/<name>",
    "/models/<name>/versions/<version:version>",
    "/models/<name>/labels/<label>",
)
COMPRESSION_RATIO = "X-Compression-Ratio"
RECONSTRUCTION_ERROR = "X-Reconstruction-Error"
# Named features of one answer; a hundred thousand pictures with all their pixels would fill the memory.
MAX_CONTRIBUTIONS = 1_000_000


class VersionConverter(BaseConverter):
    """A version number in a path, as the store writes it."""

    regex = "[1-9][0-9]{0,9}"

    def to_python(self, value: str) -> int:
        """The number."""
        return int(value)


@dataclasses.dataclass(frozen=True)
class Verb:
    """How one verb is asked and answered.

    Attributes
    ----------
    run : callable
        Of `service.verbs`.
    output : str
        The answer's member.
    request : type
        Of `service.verbs`: what `run` takes.
    options : tuple of str
        Names of the options, which are fields of the request.
    needs_latent, takes_latent : bool
        Whether the model must have a latent, and whether the instances are latent vectors.
    needs_classifier : bool
        Whether the model must have a classifier.
    draws : bool
        Whether the answer to one picture may be a picture.
    steps : bool
        Whether a series is answered by step, and so may come with time stamps.
    """

    run: Callable[[list], list]
    output: str
    request: type[verbs.Request] = verbs.Request
    options: tuple[str, ...] = ()
    needs_latent: bool = False
    takes_latent: bool = False
    needs_classifier: bool = False
    draws: bool = False
    steps: bool = False

    def expected(self, detector: Detector) -> Expected:
        """What an instance must be; `NoLatent` or `NoClassifier` where the model cannot do this."""
        if self.needs_classifier:
            detector.require_classifier()
        latent_shape = detector.require_latent() if self.needs_latent else ()
        if self.takes_latent:
            return Expected.latent(latent_shape)
        return Expected.samples(detector.manifest, timestamps=self.steps)

    def offers(self, manifest: Manifest, rows: int) -> tuple[str, ...]:
        """Forms of the answer, the default first."""
        picture = self.draws and manifest.kind == "image" and rows == 1
        return (bodies.JSON, bodies.NPY, bodies.PNG) if picture else (bodies.JSON, bodies.NPY)


VERBS = {
    "score": Verb(verbs.score, "score", verbs.ScoreRequest, ("alpha", "fdr", "explain"), steps=True),
    "denoise": Verb(verbs.denoise, "reconstruction", draws=True, steps=True),
    "encode": Verb(verbs.encode, "latent", verbs.LatentRequest, ("dtype",), needs_latent=True),
    "decode": Verb(
        verbs.decode, "reconstruction", verbs.LatentRequest, ("dtype",), needs_latent=True, takes_latent=True
    ),
    "classify": Verb(verbs.classify, "probability", needs_classifier=True),
}
Result = Scores | Compressed | Classes | np.ndarray


@dataclasses.dataclass(frozen=True)
class VerbRoutes:
    """The routes of all verbs, for one application."""

    settings: Settings
    models: ModelRegistry
    default_model: str | None
    metrics: Metrics
    slots: threading.BoundedSemaphore

    def blueprint(self) -> Blueprint:
        """`POST /score` and so on, for the default model and for every named one."""
        routes = Blueprint("verbs", __name__)
        for name, verb in VERBS.items():
            view = functools.partial(self.answer, verb)
            for position, prefix in enumerate(PREFIXES):
                routes.add_url_rule(f"{prefix}/{name}", f"{name}-{position}", view, methods=["POST"])
        return routes

    def answer(
        self, verb: Verb, name: str | None = None, version: int | None = None, label: str | None = None
    ) -> Response:
        """Answer one request."""
        detector = self._choose(name, version, label).detector
        expected = verb.expected(detector)
        options = codecs.decode_query(request.args.to_dict(flat=False), options=verb.options)
        with self._slot():
            decoded = self._decode(expected, verb)
            exchange.current().rows = len(decoded.samples)
            media_type = codecs.negotiate(
                request.headers.get("Accept", ""), verb.offers(detector.manifest, len(decoded.samples))
            )
            options = codecs.merge_options(options, decoded.options)
            result = self._run(verb, detector, expected, decoded, options)
            return _respond(verb, detector.manifest, media_type, result, decoded.timestamps)

    def _choose(self, name: str | None, version: int | None, label: str | None) -> Entry:
        name = name or self.default_model
        if name is None:
            raise Problem(
                "no-default-model",
                "there is no default model: use /models/NAME/..., or start the service with "
                "RESIDUAL_DEFAULT_MODEL",
            )
        entry = self.models.entry(name, version=version, label=label)
        manifest = entry.detector.manifest
        exchange.current().model, exchange.current().version = manifest.name, str(manifest.version)
        return entry

    @contextlib.contextmanager
    def _slot(self) -> Iterator[None]:
        """One of the places for requests at work, taken before a body is read; none free is an answer too."""
        if not self.slots.acquire(blocking=False):
            raise Problem(
                "overloaded", f"{self.settings.max_concurrency} requests are at work, try again in a moment"
            )
        try:
            yield
        finally:
            self.slots.release()

    def _decode(self, expected: Expected, verb: Verb) -> Decoded:
        limits = Limits(self.settings.max_rows, self.settings.max_body_bytes)
        encoding = request.headers.get("Content-Encoding", "")
        content = inflate(self._read_body(), encoding, limits.max_bytes)
        content_type = request.headers.get("Content-Type", "")
        return codecs.decode_body(content_type, content, expected, limits, options=verb.options)

    def _read_body(self) -> bytes:
        limit = self.settings.max_body_bytes
        if request.content_length is None:  # chunked: Werkzeug would cut it off at the limit without a word
            request.max_content_length = limit + 1
        content = request.get_data(cache=False)
        if len(content) > limit:
            raise Problem("body-too-large", f"a body may have {limit} bytes")
        return content

    def _run(
        self,
        verb: Verb,
        detector: Detector,
        expected: Expected,
        decoded: Decoded,
        options: dict[str, Any],
    ) -> Result:
        _check_alpha(detector, options.get("alpha"))
        _check_explanation(detector, decoded.samples, options.get("explain"))
        _check_timestamps(detector, decoded)
        started = time.perf_counter()
        (result,) = verb.run([verb.request(detector, decoded.samples, **options)])
        seconds = time.perf_counter() - started
        if isinstance(result, InputError):
            raise _place(result, decoded, expected.feature_names) from result
        if isinstance(result, Exception):
            raise result
        self.metrics.observe_run(detector.manifest, len(decoded.samples), seconds)
        if isinstance(result, Scores):
            self.metrics.observe_scores(detector.manifest, result)
        return result


def _check_alpha(detector: Detector, alpha: float | None) -> None:
    try:
        detector.threshold(alpha)
    except InputError as error:
        raise codecs.bad_option("alpha", str(error)) from error


def _check_explanation(detector: Detector, samples: np.ndarray, explain: int | str | None) -> None:
    if not isinstance(explain, int):
        return
    shape = detector.manifest.sample_shape
    n_features = shape[-1] if detector.is_series(samples) else math.prod(shape)
    rows, wanted = len(samples), len(samples) * min(explain, n_features)
    if wanted > MAX_CONTRIBUTIONS:
        raise codecs.bad_option(
            "explain",
            f"one answer may name {MAX_CONTRIBUTIONS} contributions, explain={explain} of {rows} samples "
            f"asks for {wanted}: send fewer samples, or explain=map",
        )


def _check_timestamps(detector: Detector, decoded: Decoded) -> None:
    if decoded.timestamps is None:
        return
    n_steps, n_timestamps = len(decoded.samples), len(decoded.timestamps)
    if not detector.is_series(decoded.samples):
        sentence = f"/timestamps are for the steps of a series, got an array of shape {decoded.samples.shape}"
    elif n_timestamps != n_steps:
        sentence = f"/timestamps must have one element for each of the {n_steps} steps, got {n_timestamps}"
    else:
        return
    raise Problem("invalid-input", sentence, [{"detail": sentence, "pointer": "/timestamps"}])


def _place(error: InputError, decoded: Decoded, feature_names: tuple[str, ...] | None) -> Problem:
    """The problem of an input error, with its place in the body; a latent's columns have no names."""
    if error.index is None:
        return Problem("invalid-input", str(error))
    row, *position = error.index
    place: dict[str, Any] = {"detail": str(error), "row": row}
    if decoded.point is not None:
        place["pointer"] = decoded.point(error.index)
    if len(position) == 1:
        place["column"] = feature_names[position[0]] if feature_names else position[0]
    return Problem("invalid-input", str(error), [place])


def _respond(
    verb: Verb,
    manifest: Manifest,
    media_type: str,
    result: Result,
    timestamps: list[Timestamp] | None,
) -> Response:
    headers = {}
    if isinstance(result, Scores):
        body = codecs.encode_scores(media_type, manifest, result, timestamps)
    elif isinstance(result, Compressed):
        body = codecs.encode_array(media_type, manifest, verb.output, result.latent)
        headers = {COMPRESSION_RATIO: f"{result.ratio:.6g}", RECONSTRUCTION_ERROR: f"{result.error:.6g}"}
    elif isinstance(result, Classes):
        body = codecs.encode_classes(media_type, manifest, result)
    else:
        words = media_type == bodies.JSON and holds_cells(manifest)
        array = to_cells(result, manifest) if words else result
        body = codecs.encode_array(media_type, manifest, verb.output, array, timestamps)
    return Response(body, headers=headers, content_type=media_type)

"""The base of all endpoints: the choice of the model, readers of bodies, checks of options."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np

from detector import Detector, InputError
from service.bodies import Decoded, Limits, codecs
from service.bodies.encodings import inflate
from service.http.messages import Answer, Body, Head
from service.http.problems import Problem
from service.http.request_record import RequestRecord
from service.models.registry import ModelRegistry
from service.scoring.calls import Call

# The most named features of one answer; all pixels of 100,000 images would fill the memory.
MAX_CONTRIBUTIONS = 1_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Reader:
    """Reads the bodies of requests with one head and finishes their calls; see `service.scoring.calls.Asker`.

    Safe to use from several threads at once.

    Attributes
    ----------
    detector : Detector
        The model to ask.
    headers : mapping of str to str
        By name in lower case.
    limits : Limits
    is_slow : callable or None
        Returns whether a small body may take long to decode although its head does not say so; None if no
        body does.
    """

    is_slow: ClassVar[Callable[[Any, Body], bool] | None] = None

    detector: Detector
    headers: Mapping[str, str]
    limits: Limits

    def __call__(self, body: Body) -> Call:
        """Decode a body; raise Problem or DetectorError if it is invalid."""
        raise NotImplementedError

    def respond(self, decoded: Decoded, form: Any, result: Any) -> Answer:
        """Write a result of the verb as the answer; `form` says how."""
        raise NotImplementedError

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the columns of the body's samples."""
        return self.detector.manifest.feature_names

    def inflate(self, body: Body) -> Body:
        """Undo the content encoding of a body."""
        coding = self.headers.get("content-encoding")
        return body if coding is None else inflate(body, coding, self.limits.max_bytes)

    def finish(self, call: Call, result: Any) -> Answer:
        """See `Asker`."""
        if isinstance(result, InputError):
            raise place_error(result, call.decoded, self.feature_names) from result
        if isinstance(result, Exception):
            raise result
        return self.respond(call.decoded, call.form, result)


class Endpoint(Protocol):
    """Answers requests to some paths, under any server."""

    def open(self, head: Head, record: RequestRecord, **path: Any) -> Reader:
        """Return the reader for bodies with this head; raise Problem if the head is invalid.

        Parameters
        ----------
        head : Head
            Only its path, its query and the headers in `SHAPING_HEADERS` may decide about the reader.
        record : RequestRecord
            Gets the name and the version of the model.
        **path
            The variable parts of the path.
        """


# The only headers that an endpoint may read, so that `Readers` can cache by them.
SHAPING_HEADERS = ("content-type", "accept", "content-encoding", "inference-header-content-length")


@dataclasses.dataclass(frozen=True)
class ModelChoice:
    """Finds the detector for a path."""

    models: ModelRegistry
    default_model: str | None

    def choose(
        self,
        record: RequestRecord,
        name: str | None = None,
        version: int | None = None,
        label: str | None = None,
    ) -> Detector:
        """Return the loaded detector, and write its name and version into the record."""
        name = name or self.default_model
        if name is None:
            raise Problem(
                "no-default-model",
                "there is no default model: use /models/NAME/..., or start the service with "
                "RESIDUAL_DEFAULT_MODEL",
            )
        detector = self.models.entry(name, version=version, label=label).detector
        record.tell_model(detector.manifest.name, detector.manifest.version)
        return detector


def check_alpha(detector: Detector, alpha: float | None) -> None:
    """Refuse a rate that the model's calibration cannot guarantee, before anything runs."""
    try:
        detector.engine.threshold(alpha)
    except InputError as error:
        raise codecs.bad_option("alpha", str(error)) from error


def check_explanation(detector: Detector, samples: np.ndarray, explain: int | str | None) -> None:
    """Refuse an explanation that would fill the memory."""
    if not isinstance(explain, int):
        return
    shape = detector.manifest.sample_shape
    n_features = shape[-1] if detector.engine.is_series(samples) else math.prod(shape)
    rows, wanted = len(samples), len(samples) * min(explain, n_features)
    if wanted > MAX_CONTRIBUTIONS:
        raise codecs.bad_option(
            "explain",
            f"one answer may name {MAX_CONTRIBUTIONS} contributions, explain={explain} of {rows} samples "
            f"asks for {wanted}: send fewer samples, or explain=map",
        )


def place_error(error: InputError, decoded: Decoded, feature_names: tuple[str, ...] | None) -> Problem:
    """Return the problem of an input error, with its place in the body; columns of latents have no names."""
    if error.index is None:
        return Problem("invalid-input", str(error))
    row, *position = error.index
    place: dict[str, Any] = {"detail": str(error), "row": row}
    if decoded.point is not None:
        place["pointer"] = decoded.point(error.index)
    if len(position) == 1:
        place["column"] = feature_names[position[0]] if feature_names else position[0]
    return Problem("invalid-input", str(error), [place])

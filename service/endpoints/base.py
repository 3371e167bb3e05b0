"""What every endpoint has: the choice of the model, readers of bodies, checks of options."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from detector import Detector, InputError
from service.bodies import Decoded, codecs
from service.http.messages import Body, Head
from service.http.problems import Problem
from service.http.request_record import RequestRecord
from service.models.registry import ModelRegistry
from service.scoring.calls import Call

# Named features of one answer; a hundred thousand images with all their pixels would fill the memory.
MAX_CONTRIBUTIONS = 1_000_000


class Reader(Protocol):
    """Reads the bodies that come with one head: many, one after the other or at the same time.

    Attributes
    ----------
    detector : Detector
        The model that is asked.
    """

    detector: Detector

    def __call__(self, body: Body) -> Call:
        """The call that a body asks for; what is wrong with it is raised."""

    def is_slow(self, body: Body) -> bool:
        """Whether a small body may take long to read, though its head does not say so."""

    def join(self, bodies: Sequence[Body]) -> Call | None:
        """One call for several bodies, whose `finish` gives a list of answers; None where that cannot be."""


class Endpoint(Protocol):
    """One way to ask for a verb, whatever server brings the request."""

    def open(self, head: Head, record: RequestRecord, **path: Any) -> Reader:
        """Refuse what the head alone condemns.

        Parameters
        ----------
        head : Head
            What is returned depends on its query and on the headers of `SHAPING_HEADERS`, on nothing else.
        record : RequestRecord
            Is told the model.
        **path
            The variable parts of the path.
        """


# All that an endpoint may look at, so that readers can be kept.
SHAPING_HEADERS = ("content-type", "accept", "content-encoding", "inference-header-content-length")


@dataclasses.dataclass(frozen=True)
class ModelChoice:
    """Finds the detector that a path means."""

    models: ModelRegistry
    default_model: str | None

    def choose(
        self,
        record: RequestRecord,
        name: str | None = None,
        version: int | None = None,
        label: str | None = None,
    ) -> Detector:
        """The loaded detector; the record is told its name and version."""
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
    """Refuse, before anything is run, a rate that the model's calibration cannot promise."""
    try:
        detector.engine.threshold(alpha)
    except InputError as error:
        raise codecs.bad_option("alpha", str(error)) from error


def check_explanation(detector: Detector, samples: np.ndarray, explain: int | str | None) -> None:
    """Refuse an answer that would fill the memory."""
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

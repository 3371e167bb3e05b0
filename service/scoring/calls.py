"""A decoded request, in whatever format it arrived."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from detector import Detector
from service.scoring import verbs


class Asker(Protocol):
    """Makes requests to a verb for one detector, and answers from its results.

    Attributes
    ----------
    detector : Detector
    run : callable
        A verb of `service.scoring.verbs`: takes a list of requests, returns a list of results or errors.
    """

    detector: Detector
    run: Callable[[list], list]

    def request(self, samples: np.ndarray, options: Mapping[str, Any]) -> verbs.Request:
        """Return an element of the list that `run` takes."""

    def finish(self, call: "Call", result: Any) -> Any:
        """Return the answer for a result of `run`; raise the client's problem for its error."""

    def finish_joined(self, result: Any, lengths: Sequence[int]) -> list:
        """Return the answers of joined calls with these numbers of rows, from the one result."""


@dataclasses.dataclass(slots=True)
class Call:
    """A decoded request, ready to run.

    Attributes
    ----------
    key : hashable
        Calls with equal keys may run as one batch.
    asker : Asker
    samples : ndarray
    options : mapping of str to Any
        Options of the request to the verb.
    decoded, form : Any
        The content of the body and the format of the answer, for `Asker.finish`.
    joins : bool
        Whether the samples of all calls with this key may be joined into one request.
    """

    key: Hashable
    asker: Asker
    samples: np.ndarray
    options: Mapping[str, Any]
    decoded: Any
    form: Any
    joins: bool = False

    @property
    def rows(self) -> int:
        """Samples in the body."""
        return len(self.samples)

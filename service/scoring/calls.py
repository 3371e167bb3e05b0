"""A decoded request, whatever form it came in."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from service.scoring import verbs


@dataclasses.dataclass(slots=True)
class Call:
    """A decoded request, ready to run together with others.

    Attributes
    ----------
    run : callable
        Of `service.scoring.verbs`: requests to results or errors.
    request : verbs.Request
        What `run` takes.
    finish : callable
        The result of `run`, or its error, to the answer; raises what the client is to know.
    rows : int
        Samples in the body.
    lengths : sequence of int
        Samples in each body, where there are several.
    """

    run: Callable[[list], list]
    request: verbs.Request
    finish: Callable[[Any], Any]
    rows: int
    lengths: Sequence[int] = ()

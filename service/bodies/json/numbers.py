"""Read arrays of nothing but numbers fast; return None for any other JSON body.

simdjson writes all numbers of an array into one buffer, regardless of their nesting, and checks no types. So
this reader returns None unless it is certain that the strict reader would read the same; then the strict
reader reads the body or refuses it. See docs/decisions/0018.
"""

import math
import re
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from service.bodies import INSTANCES
from service.http.messages import Body

try:
    import simdjson
except ImportError:  # there is no wheel for this version of Python or this platform
    simdjson = None  # type: ignore[assignment]  # a module elsewhere

_BRACKET = ord("[")
_MOST_MEMBERS = 100  # each is found by a search through all
_VIEWS = (simdjson.Array, simdjson.Object) if simdjson else ()  # they point into the parser's buffers


class NumberReader(threading.local):
    """Reads bodies, or slices of one body; each thread has its own parser.

    The parser reuses its buffers for the next text, and its results point into them. So none of them leaves
    `read`.
    """

    def __init__(self) -> None:
        self._parser: Any = simdjson.Parser() if simdjson else None

    def read(self, text: Body, rank: int) -> tuple[np.ndarray, Mapping[str, Any]] | None:
        """Return the instances of a body and its other members.

        Parameters
        ----------
        text : bytes
            Must begin with a brace: simdjson would skip a byte order mark, which JSON does not allow.
        rank : int
            Number of axes of an instance.

        Returns
        -------
        ndarray of shape (n, ...), float64, with 1 + rank axes; and a mapping
            Numbers are rounded as Python rounds them; members are texts, numbers, booleans or null.
        None
            If the text is not a JSON object with instances of one shape that are all numbers; if a member is
            repeated or an integer has more than 64 bits; if in doubt; or without simdjson.
        """
        if self._parser is None:
            return None
        try:
            body = self._parser.parse(text)
            if len(body) > _MOST_MEMBERS:
                return None
            members = {name: body[name] for name in body}
            instances = members.pop(INSTANCES)
            if len(members) + 1 != len(body) or any(isinstance(value, _VIEWS) for value in members.values()):
                return None
            shape, n_arrays = _measure(instances, rank)
            if np.count_nonzero(np.frombuffer(text, np.uint8) == _BRACKET) != n_arrays:
                return None
            if not shape[0]:
                return None
            numbers = np.frombuffer(instances.as_buffer(of_type="d"))  # a copy, so it outlives the parser
            return (numbers.reshape(shape), members) if numbers.size == math.prod(shape) else None
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError):
            return None

    def read_row(self, text: Body, width: int) -> np.ndarray | None:
        """Return the single instance of a body without other members, as `read` does.

        The array has shape (1, width), float64; None if the body has another form.
        """
        # There is no other bracket between the first two and the last two, so if simdjson can make a buffer
        # of numbers, nothing else is there; and a single colon means a single member.
        opening = _ROW.match(text)
        if opening is None or text[-3:] != b"]]}" or self._parser is None:
            return None
        if text.find(b"[", opening.end()) > 0 or text.find(b":", opening.end()) > 0:
            return None
        try:
            numbers = np.frombuffer(self._parser.parse(text)[INSTANCES].as_buffer(of_type="d"))
        except (ValueError, TypeError, LookupError, AttributeError, RuntimeError):
            return None
        return numbers.reshape(1, width) if numbers.size == width else None


_ROW = re.compile(rb'\{[ \t\n\r]*"instances"[ \t\n\r]*:[ \t\n\r]*\[[ \t\n\r]*\[')


def _measure(instances: Any, rank: int) -> tuple[tuple[int, ...], int]:
    """Return the shape of nested arrays and their number; raise ValueError if lengths at one depth differ.

    A text with the same number of opening brackets has no other array. If simdjson then makes a buffer of the
    innermost elements, all of them are numbers.
    """
    shape, arrays, count = [len(instances)], [instances], 1
    for _ in range(rank):
        arrays = [element for array in arrays for element in array]
        (length,) = set(map(len, arrays))
        shape.append(length)
        count += len(arrays)
    return tuple(shape), count

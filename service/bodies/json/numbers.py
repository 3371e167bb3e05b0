"""Plain JSON bodies, arrays of nothing but numbers, read fast; any other body is not read here.

simdjson writes all numbers of an array into one buffer, whatever their nesting, and knows no type to hold
them against. So this reader says None wherever it is not certain that the strict one would read the same;
then the strict one reads, or refuses.
"""

import math
import re
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from service.bodies import INSTANCES

try:
    import simdjson
except ImportError:  # there are no wheels for this Python or this machine
    simdjson = None

_BRACKET = ord("[")
_VIEWS = (simdjson.Array, simdjson.Object) if simdjson else ()  # into the parser's buffers


class NumberReader(threading.local):
    """Reads the bodies, or the slices of one body; each thread by a parser of its own.

    The parser keeps its buffers from one text to the next, and all that it hands out lies within them. So
    nothing of it leaves `read`.
    """

    def __init__(self) -> None:
        self._parser = simdjson.Parser() if simdjson else None

    def read(self, text: bytes, rank: int) -> tuple[np.ndarray, Mapping[str, Any]] | None:
        """The instances of a body and its other members.

        Parameters
        ----------
        text : bytes
            Begins with a brace, for simdjson skips the byte order mark that JSON does not have.
        rank : int
            How many axes an instance has.

        Returns
        -------
        ndarray of shape (n, ...), float64, with 1 + rank axes; and a mapping
            The numbers rounded as Python rounds them. Of the members only texts, numbers, booleans and null
            are what they are in Python.
        None
            If the text is no JSON object, has a member twice, has no instances, or such that are not all
            numbers of one shape; if an integer has more than 64 bits; if in doubt; or without simdjson.
        """
        if self._parser is None:
            return None
        try:
            body = self._parser.parse(text)
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

    def read_row(self, text: bytes, width: int) -> np.ndarray | None:
        """The one instance of a body that has nothing else; see `read`.

        Parameters
        ----------
        text : bytes
            As for `read`.
        width : int
            How many numbers the instance shall have.

        Returns
        -------
        ndarray of shape (1, width), float64
        None
            If it is not such a body.
        """
        # Between the first two brackets and the last two there is no further one, so nothing but numbers lies
        # there, if anything makes a buffer of numbers of it; and one colon leaves room for one member.
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
    """The shape of nested arrays, and how many there are; ValueError where lengths at one depth differ.

    A text that has as many opening brackets has no further array. Where its innermost elements make a buffer
    of numbers, they are not objects, texts, booleans or null either, so they all are numbers.
    """
    shape, arrays, count = [len(instances)], [instances], 1
    for _ in range(rank):
        arrays = [element for array in arrays for element in array]
        (length,) = set(map(len, arrays))
        shape.append(length)
        count += len(arrays)
    return tuple(shape), count

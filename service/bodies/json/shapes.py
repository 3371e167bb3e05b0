"""How many axes the instances of a JSON body have, what shape they shall have, and where a value stands."""

import re
from collections.abc import Sequence

import numpy as np

from service.bodies import INSTANCES, Expected
from service.bodies.json.members import to_pointer

# Of the instances of a body: what decides how many axes each has.
OPENING = re.compile(rb"[ \t\n\r\[]*\{?")


def rank_of(opening: bytes, expected: Expected) -> int:
    """How many axes an instance has where instances open with these brackets."""
    if not expected.series:
        return len(expected.shape)
    n_axes = opening.count(b"[") + opening.count(b"{")  # an object stands for the channels of a step
    n_channels = expected.shape[-1]
    return min(max(n_axes - 1, 0 if n_channels == 1 else 1), 2)


def instance_shape(instances: Sequence, expected: Expected, rank: int) -> tuple[int, ...]:
    """The shape that instances of that rank shall have: a sample, or a step of a series."""
    window, n_channels = expected.shape if expected.series else (0, 0)
    if rank == len(expected.shape):
        return expected.shape
    if rank == 1 and n_channels == 1 and len(instances) and len(instances[0]) != 1:
        return (window,)  # windows of the one channel, without its axis
    return (n_channels,)[:rank]


def dtype_of(expected: Expected) -> type:
    """Of samples: object where there may be words among the numbers."""
    return object if expected.cells else np.float64


def point(
    feature_names: tuple[str, ...] | None,
    named: frozenset[tuple[int, ...]],
    rank: int,
    index: tuple[int, ...],
) -> str:
    """The JSON pointer of one sample's value; the channel of a series that has one may have no axis."""
    *place, last = index[: rank + 1]
    return to_pointer([INSTANCES, *place, feature_names[last] if tuple(place) in named else last])

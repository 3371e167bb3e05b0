"""Rank and shape of the instances of a JSON body, and JSON pointers to their values."""

import re
from collections.abc import Sequence

import numpy as np

from service.bodies import INSTANCES, Expected
from service.bodies.json.members import to_pointer

# Brackets before the first value of the instances; they decide the rank.
OPENING = re.compile(rb"[ \t\n\r\[]*\{?")


def rank_of(opening: bytes, expected: Expected) -> int:
    """Return the number of axes of an instance if the instances begin with these brackets."""
    if not expected.series:
        return len(expected.shape)
    n_axes = opening.count(b"[") + opening.count(b"{")  # an object has the channels of a step
    n_channels = expected.shape[-1]
    return min(max(n_axes - 1, 0 if n_channels == 1 else 1), 2)


def instance_shape(instances: Sequence, expected: Expected, rank: int) -> tuple[int, ...]:
    """Return the shape that instances of this rank must have: of a sample, or of a step of a series."""
    window, n_channels = expected.shape if expected.series else (0, 0)
    if rank == len(expected.shape):
        return expected.shape
    if rank == 1 and n_channels == 1 and len(instances) and len(instances[0]) != 1:
        return (window,)  # windows of a single channel, without its axis
    return (n_channels,)[:rank]


def dtype_of(expected: Expected) -> type:
    """Return the dtype of samples: object if rows may hold text."""
    return object if expected.cells else np.float64


def point(
    feature_names: tuple[str, ...] | None,
    named: frozenset[tuple[int, ...]],
    rank: int,
    index: tuple[int, ...],
) -> str:
    """Return the JSON pointer of one value; the body may leave out the axis of a single channel."""
    *place, last = index[: rank + 1]
    return to_pointer([INSTANCES, *place, feature_names[last] if tuple(place) in named else last])

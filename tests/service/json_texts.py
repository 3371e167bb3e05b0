"""Random JSON bodies, valid and invalid, and the outcome of decoding them."""

import dataclasses
import random

import numpy as np

from service.bodies import Decoded, Expected, Limits
from service.http.problems import Problem

LIMITS = Limits(max_rows=50, max_bytes=100)
OPTIONS = ("alpha", "fdr", "explain", "dtype")
KINDS = {
    "row": Expected((3,), ("a", "b", "c"), rows=True),
    "latent": Expected((2,)),
    "image": Expected((2, 3), value_range=(0.0, 16.0)),
    "colour": Expected((2, 2, 3), value_range=(0.0, 255.0)),
    "series": Expected((4, 2), ("a", "b"), series=True, timestamps=True),
    "pulse": Expected((4, 1), ("a",), series=True, timestamps=True),
    "cells": Expected((3,), ("a", "b", "c"), rows=True, cells=True),
}

_ODD_VALUES = """
-0 -0.0 1e400 -1e-400 1. 01 +1 NaN -Infinity null true "1" {} [] [1] {"a":1} "]" "["
18446744073709551615 18446744073709551616 -9223372036854775809
"""
_WORDS = r"""
"a" "]," "}" "{\"," "\\" "\\\"],[" "\u00e4,\n[" "ä" "" true false null 1 -0.0 1e3
"""
_MEMBERS = r"""
"alpha":0.1 "alpha":1 "alpha":1.0 "alpha":null "alpha":"0.1" "explain":2 "explain":2.0 "explain":"map"
"explain":true "fdr":1e-3 "fdr":[0.1] "fdr":{"a":1} "dtype":"int8" "beta":1 "":0
"timestamps":[1] "timestamps":["["] "timestamps":[1,2,3,4] "timestamps":[null] "timestamps":5 "timestamps":[]
"timestamps":["2026-01-01T00:00:00Z","\\",1.5,"],[1,"] "timestamps":[1,"\",\"",3,"2026-01-01",-1e3]
"instances":[] "instances":1 "inst\u0061nces":[1]
"""
ODD_VALUES, WORDS, MEMBERS = _ODD_VALUES.split(), _WORDS.split(), _MEMBERS.split()
GAPS = ("", "", "", "", " ", "\n", "\t\r\n ", "\f", "\ufeff")
SCRAPS = [bytes([code]) for code in b'[]{},:"-.e0 \\\x00\xff'] + [b"],[", b",[", b"[]", b",,", b"NaN", b""]


def draw_body(kind: str, rng: random.Random) -> bytes:
    """A body that is mostly right: of the shape or near it, with few odd values, members and mutations."""
    shape = list(KINDS[kind].shape)
    if KINDS[kind].series and rng.random() < 0.5:
        shape = shape[rng.randint(1, 2) :]
    if rng.random() < 0.05:
        shape = [rng.randint(0, 3) for _ in range(rng.randint(0, 4))]
    odd = rng.choice((0.0, 0.0, 0.02))
    gap = rng.choice(GAPS)
    draw = _Draw(kind, gap, odd, rng.choice((0.0, 0.0, 0.5)), rng)
    members = ['"instances":' + gap + draw.array([rng.randint(0, 8), *shape])]
    if rng.random() < 0.5:
        members += rng.sample(MEMBERS, rng.randint(1, 2))
        rng.shuffle(members)
    content = bytearray(("{" + f",{gap}".join(members) + "}" + gap).encode())
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        at = rng.randrange(len(content))
        content[at : at + rng.randint(0, 2)] = rng.choice(SCRAPS)
    return bytes(content)


@dataclasses.dataclass
class _Draw:
    """Values of a kind; how often they are odd, and how often rows are objects."""

    kind: str
    gap: str
    odd: float
    named: float
    rng: random.Random

    def array(self, shape: list[int]) -> str:
        """Nested arrays, the innermost perhaps objects, now and then of another length."""
        if not shape:
            return self.value()
        names = list(KINDS[self.kind].feature_names or ())
        if names and len(shape) == 1 and self.rng.random() < self.named:
            self.rng.shuffle(names)
            if self.rng.random() < self.odd:
                names[0] = "z"
            return "{" + self.joined(f'"{name}"{self.gap}:{self.value()}' for name in names) + "}"
        length = self.rng.randint(0, 4) if self.rng.random() < self.odd else shape[0]
        return "[" + self.joined(self.array(shape[1:]) for _ in range(length)) + "]"

    def joined(self, values) -> str:
        """Join values with commas."""
        return f"{self.gap},{self.gap}".join(values)

    def value(self) -> str:
        """Return a number, or text if allowed; sometimes an invalid value."""
        if self.rng.random() < self.odd:
            return self.rng.choice(ODD_VALUES)
        if KINDS[self.kind].cells and self.rng.random() < 0.3:
            return self.rng.choice(WORDS)
        number = self.rng.gauss(0, 1)
        return self.rng.choice((repr(number), f"{number:.3e}", str(self.rng.randint(0, 255)), "0.5"))


def outcome(decode, content: bytes, expected: Expected, limits: Limits = LIMITS):
    """Return the decoded content, comparable bit by bit, or the problem; None if `decode` returns None."""
    try:
        decoded = decode(content, expected, limits, OPTIONS)
    except Problem as problem:
        return problem
    return decoded and _describe(decoded)


def _describe(decoded: Decoded) -> tuple:
    samples = decoded.samples
    values = repr(samples.tolist()) if samples.dtype == object else samples.tobytes()
    places = list(np.ndindex(samples.shape))[:20] if samples.ndim > 1 else []
    pointers = [decoded.point(place) for place in places]
    return (
        samples.dtype,
        samples.shape,
        values,
        repr(sorted(decoded.options.items())),
        repr(decoded.timestamps),
        pointers,
    )


def is_same(one, other) -> bool:
    """Return whether two outcomes are equal."""
    if isinstance(one, Problem) and isinstance(other, Problem):
        return (one.type, one.detail, one.errors) == (other.type, other.detail, other.errors)
    return one == other

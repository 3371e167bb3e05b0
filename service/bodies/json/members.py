"""Refuse objects with a repeated member, of which JSON readers silently take the last; make JSON pointers."""

import json
import re
from collections.abc import Sequence
from typing import Any

from service.bodies import INSTANCES
from service.http.messages import Body
from service.http.problems import Problem

# Brackets before the first value of the instances; they decide the rank.
OPENING = re.compile(rb"[ \t\n\r\[]*\{?")
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')

Steps = tuple[str | int, ...]


def opening_of(text: Body | memoryview, at: int = 0) -> bytes:
    """Return the brackets before the first value of instances that begin at this place, possibly none."""
    return next(OPENING.finditer(text, at))[0]


def find_repeated(text: Body, n_members: int) -> tuple[Steps, str] | None:
    """Return the place of an object with a repeated member, and the member's name; None if there is none.

    Parameters
    ----------
    text : bytes
        Valid JSON.
    n_members : int
        Number of members of all objects that the reader has seen. Outside of texts each member has one colon,
        so an equal number of colons proves that no member was overwritten.

    Raises
    ------
    Problem
        If the text is nested too deep to tell.
    """
    if text.count(b":") == n_members or _TEXT.sub(b"", text).count(b":") == n_members:
        return None
    try:
        return _find(json.loads(text.decode(errors="replace"), object_pairs_hook=_to_object, parse_int=float))
    except RecursionError as error:
        raise Problem("malformed-body", "arrays or objects of the body are nested too deep") from error


def check_members(text: Body, n_members: int, place: Steps = (), first: int = 0) -> None:
    """Refuse a repeated member; arguments as for `find_repeated`.

    A text that is a slice of an array has the place of that array, and the index of its first value.
    """
    found = find_repeated(text, n_members)
    if found is None:
        return
    steps, name = found
    if place:
        steps = (*place, int(steps[0]) + first, *steps[1:])
    raise repeated(steps, name)


def repeated(steps: Sequence[str | int], name: str) -> Problem:
    """Return the problem of a repeated member of the object at this place."""
    sentence = f"{to_pointer(steps) or 'the body'} has the member {name[:80]!r} more than once"
    return Problem("malformed-body", sentence)


def to_pointer(steps: Sequence[str | int]) -> str:
    """Return a JSON pointer (RFC 6901)."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


class _Repeated(str):
    """Replaces an object with a repeated member; the text is the name of that member."""


def _to_object(members: Sequence[tuple[str, Any]]) -> dict[str, Any] | _Repeated:
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            return _Repeated(name)
        found[name] = value
    return found


def _find(value: Any) -> tuple[Steps, str] | None:
    if isinstance(value, _Repeated):
        return (), str(value)
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for step, child in children:
        if isinstance(child, dict | list | _Repeated) and (found := _find(child)):
            return (step, *found[0]), found[1]
    return None


def point(
    feature_names: tuple[str, ...] | None,
    named: frozenset[tuple[int, ...]],
    rank: int,
    index: tuple[int, ...],
) -> str:
    """Return the JSON pointer of one value; the body may leave out the axis of a single channel."""
    *place, last = index[: rank + 1]
    is_named = tuple(place) in named
    return to_pointer([INSTANCES, *place, feature_names[last] if feature_names and is_named else last])

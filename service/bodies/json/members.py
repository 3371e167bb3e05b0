"""No member twice: of two with one name a reader of JSON takes the last, and says nothing of the first."""

import json
import re
from collections.abc import Sequence
from typing import Any

from service.http.problems import Problem

_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')

Steps = tuple[str | int, ...]


def find_repeated(text: bytes, n_members: int) -> tuple[Steps, str] | None:
    """The place of an object that has a member twice, and the member's name; None where there is none.

    Parameters
    ----------
    text : bytes
        JSON, as a reader of it has found.
    n_members : int
        How many members that reader knows of, in all objects. Outside of texts there is a colon for each
        member; so where there are as many, none was passed over.

    Raises
    ------
    Problem
        If the text is too deep to tell.
    """
    if text.count(b":") == n_members or _TEXT.sub(b"", text).count(b":") == n_members:
        return None
    try:
        return _find(json.loads(text.decode(errors="replace"), object_pairs_hook=_to_object, parse_int=float))
    except RecursionError as error:
        raise Problem("malformed-body", "the body has arrays or objects within too many others") from error


def check_members(text: bytes, n_members: int) -> None:
    """Refuse a body that has a member twice; arguments as of `find_repeated`."""
    found = find_repeated(text, n_members)
    if found is not None:
        raise repeated(*found)


def repeated(steps: Sequence[str | int], name: str) -> Problem:
    """The problem of an object at this place that has a member twice."""
    sentence = f"{to_pointer(steps) or 'the body'} has the member {name[:80]!r} more than once"
    return Problem("malformed-body", sentence)


def to_pointer(steps: Sequence[str | int]) -> str:
    """RFC 6901."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


class _Repeated(str):
    """Stands for an object that has a member of this name twice."""


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

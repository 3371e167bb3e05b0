"""Read JSON bodies of any form with msgspec, and report every fault with its place in the body."""

import functools
import itertools
import operator
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import msgspec
import numpy as np

from detector.tables import MISSING_HINT
from service.bodies import INSTANCES, OPTIONS, TIMESTAMPS, Expected, Instances, Timestamp, misplaced
from service.bodies.json.members import Steps, check_members, to_pointer
from service.http.messages import Body
from service.http.problems import Problem

TRUNCATED = "Input data was truncated"  # in the problem of a text that ends too early


def read_body(
    text: Body, rank: int, expected: Expected, options: tuple[str, ...], *, byte: int = 0
) -> dict[str, Any]:
    """Return the members of a body whose instances are nested lists of this rank.

    `byte` is the offset of the text in the body, for positions in errors. Raise `Problem` if the text is not
    JSON or a value is not of its type, with the place.
    """
    form = _body_type(rank, expected.feature_names is not None, options, expected.timestamps, expected.cells)
    body = _decode(text, form, expected, form.__struct_fields__, byte=byte)
    members = {
        name: value for name in form.__struct_fields__ if (value := getattr(body, name)) is not msgspec.UNSET
    }
    if text.count(b":") != len(members):
        check_members(text, len(members) + _count_names(members[INSTANCES], rank, expected))
    return members


def read_instances(
    text: Body, place: Steps, rank: int, expected: Expected, *, first: int, byte: int
) -> list[Any]:
    """Return the instances of this rank in a slice of an array; arguments and errors as for `read_array`."""
    form = list_of(_instance_type(rank, expected.feature_names is not None, expected.cells))
    values = read_array(text, form, place, expected, first=first, byte=byte)
    if b":" in text:
        check_members(text, _count_names(values, rank, expected), place, first)
    return values


def read_array(
    text: Body, form: Any, place: Steps, expected: Expected, *, first: int, byte: int
) -> list[Any]:
    """Return the values of a JSON array that is a slice of the array at this place of the body.

    Parameters
    ----------
    text : bytes
    form : type
        The type of the array for msgspec.
    place : tuple of str or int
    expected : Expected
    first, byte : int
        The index of the first value in the array, and the offset of the text in the body, for errors.

    Raises
    ------
    Problem
        As `read_body`.
    """
    values: list[Any] = _decode(text, form, expected, place=place, first=first, byte=byte)
    return values


def _count_names(instances: list[Any], rank: int, expected: Expected) -> int:
    """Count the members of all rows, or steps, that are objects."""
    if expected.feature_names is None or rank == 0:
        return 0
    rows = instances if rank == 1 else itertools.chain.from_iterable(instances)
    return sum(len(row) for row in rows if isinstance(row, dict))


def _decode(
    text: Body,
    form: Any,
    expected: Expected,
    members: Sequence[str] = (),
    *,
    place: Steps = (),
    first: int = 0,
    byte: int = 0,
) -> Any:
    try:
        return msgspec.json.decode(text, type=form)
    except msgspec.ValidationError as error:
        raise _mistyped(str(error), text, members, expected, place, first) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        sentence = _BYTE.sub(lambda match: f"(byte {int(match[1]) + byte})", str(error))
        hint = "; JSON has no NaN and no Infinity" if b"NaN" in text or b"Infinity" in text else ""
        raise Problem("malformed-body", f"the body is not JSON: {sentence}{hint}") from error


_BYTE = re.compile(r"\(byte (\d+)\)$")  # in the errors of msgspec


def read_options(members: Mapping[str, Any], options: tuple[str, ...]) -> Mapping[str, Any]:
    """Convert options to their types; raise `msgspec.ValidationError` if one is unknown or mistyped."""
    if not members:
        return {}
    given = msgspec.convert(members, _options_type(options))
    return {name: getattr(given, name) for name in options if name in members}


# --- types --------------------------------------------------------------------------------------------------

_CELL = float | str | bool | None


@functools.cache
def _instance_type(rank: int, named: bool, cells: bool) -> Any:
    """Return the type of an instance: an array of this rank, or an object if features have names."""
    value: Any = _CELL if cells else float
    instance: Any = value
    for axis in range(rank):
        instance = list[instance] | dict[str, value] if named and axis == 0 else list[instance]
    return instance


@functools.cache
def list_of(form: Any) -> Any:
    """Return the type of an array of values of this type."""
    return list[form]


@functools.cache
def _body_type(
    rank: int, named: bool, options: tuple[str, ...], timestamps: bool, cells: bool
) -> type[msgspec.Struct]:
    """Return the type of a body."""
    fields = [(INSTANCES, list_of(_instance_type(rank, named, cells))), *_option_fields(options)]
    if timestamps:
        fields.append((TIMESTAMPS, list[Timestamp] | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct("Body", fields, forbid_unknown_fields=True)


@functools.cache
def _options_type(options: tuple[str, ...]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Options", _option_fields(options), forbid_unknown_fields=True)


def _option_fields(options: tuple[str, ...]) -> list[tuple[Any, ...]]:
    return [(name, OPTIONS[name][0] | msgspec.UnsetType, msgspec.UNSET) for name in options]


# --- faults -------------------------------------------------------------------------------------------------


def _mistyped(
    message: str,
    content: Body,
    members: Sequence[str],
    expected: Expected,
    place: Steps,
    first: int,
) -> Problem:
    """Return the problem for msgspec's "Expected `float`, got `str` - at `$.instances[3][2]`"."""
    sentence, _, path = message.partition(" - at `$")
    steps: list[Any] = [int(index) if index else name for index, name in _PATH_STEP.findall(path)]
    if steps and steps[-1] == "...":  # a value of an object: msgspec does not say which one
        steps[-1:] = _names_of_no_value(content, steps[:-1], _CELL if expected.cells else float | int)[:1]
    if place and steps:  # a slice of the array at this place
        steps = [*place, steps[0] + first, *steps[1:]]
    pointer = to_pointer(steps)
    if steps and steps[0] in OPTIONS:
        detail = f"{pointer} must be {OPTIONS[steps[0]][1]}{_got_option(content, steps[0])}"
        return Problem("invalid-option", detail, [{"detail": detail, "pointer": pointer}])
    detail = f"{pointer or 'the body'}: {reworded(sentence, members)}"
    if not steps and sentence.endswith("got `array`"):
        detail += '; put the array into an object: {"instances": [...]}'
    elif not steps and sentence.startswith("Object contains unknown"):
        detail += _wrapping_hint(content, expected)
    if expected.rows and not expected.cells and steps[:1] == [INSTANCES] and len(steps) > 2:
        detail += next((hint for end, hint in _HINTS.items() if sentence.endswith(end)), "")
    return misplaced(detail, pointer=pointer, **({"row": steps[1]} if len(steps) > 1 else {}))


def _wrapping_hint(content: Body, expected: Expected) -> str:
    """Say how to send what is a row, or a data frame as pandas writes it, instead of a body."""
    try:
        members = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    if members.keys() == {"columns", "index", "data"} or (
        members and all(bytes(memoryview(value)[:1]) == b"{" for value in members.values())
    ):
        return '; send a data frame as {"instances": frame.to_dict("records")}, or as CSV'
    if expected.feature_names and members.keys() & set(expected.feature_names):
        return '; put the row into an array: {"instances": [{...}]}'
    return ""


_PATH_STEP = re.compile(r"\[(\d+)\]|(\.\.\.|\w+)")
_MISTYPED = re.compile(r"Expected `([^`]*)`(?:, got `([^`]*)`)?")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_HINTS = {"got `null`": MISSING_HINT, "got `str`": "; categories are for models fitted with --categorical"}
_WORDS = {
    "array": "an array",
    "bool": "a boolean",
    "bool | float | str | null": "a number, text, a boolean or null",
    "float | null": "a number or null",
    "int | float | str": "text or a number",
    "float": "a number",
    "int": "an integer",
    "object": "an object",
    "object | array": "an array or an object",
    "str": "text",
}


def reworded(sentence: str, members: Sequence[str] = ()) -> str:
    """Return a sentence of msgspec in the words of JSON; `members` are the known ones."""
    if match := _MISTYPED.fullmatch(sentence):
        wanted, got = (
            _WORDS.get(word) or _WORDS.get(word.removesuffix(" | null"), word) for word in match.groups("")
        )
        return f"must be {wanted}, got {got}" if got else f"must be {wanted}"
    if sentence.startswith("Expected `int` "):  # the only integer with bounds
        return "must be text or a number of at most 64 bits"
    if sentence == "Number out of range":
        return "must be a number that float64 can hold, got one out of range"
    if match := _MISSING.fullmatch(sentence):
        return f"must have the member {match[1]!r}"
    if match := _UNKNOWN.fullmatch(sentence):
        return f"has the unknown member {match[1][:80]!r}, known are {', '.join(members)}"
    return sentence.replace("`", "")


def _got_option(content: Body, name: str) -> str:
    """Describe the value of an option; nothing if a repeated member hides it or the JSON ends early."""
    try:
        value = msgspec.json.decode(content)[name]
    except (msgspec.MsgspecError, ValueError, RecursionError, LookupError, TypeError):
        return ""
    if _is_value(value, OPTIONS[name][0]):
        return ""
    return f", got {msgspec.json.encode(value)[:80].decode(errors='ignore')}"


def _names_of_no_value(content: Body, steps: Sequence[str | int], value_type: Any) -> list[str]:
    """Return the names of members of the object at this place whose values are not of that type.

    Return no name if an untyped reader cannot see the fault: in a number beyond float64, in a member that is
    repeated later, or if a text after the fault is not UTF-8.
    """
    try:
        place = functools.reduce(operator.getitem, steps, msgspec.json.decode(content))
        return [name for name, value in place.items() if not _is_value(value, value_type)]
    except (msgspec.DecodeError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return []


def _is_value(value: Any, value_type: Any) -> bool:
    try:
        msgspec.convert(value, value_type)
    except msgspec.ValidationError:
        return False
    return True


# --- rows ---------------------------------------------------------------------------------------------------


def order_names(
    instances: list[Any],
    feature_names: tuple[str, ...] | None,
    rank: int,
    first: int = 0,
    within: tuple[int, ...] = (),
) -> tuple[list[Any], frozenset[tuple[int, ...]]]:
    """Return instances as arrays, and the places of rows or steps that were objects.

    `first` is the index of the first instance in the body, or in the instance at the place `within`. Raise
    `Problem` if a name is missing or unknown.
    """
    if feature_names is None or rank == 0:
        return instances, frozenset()
    groups: list[tuple[tuple[int, ...], int, list[Any]]] = [(within, first, instances)]
    if rank > 1:
        groups = [((*within, row), 0, window) for row, window in enumerate(instances, first)]
    named, known = set(), dict.fromkeys(feature_names).keys()
    for place, start, rows in groups:
        for position, row in enumerate(rows):
            if isinstance(row, dict):
                _check_names(row, known, (*place, start + position))
                rows[position] = [row[name] for name in feature_names]
                named.add((*place, start + position))
    return instances, frozenset(named)


def _check_names(instance: Mapping[str, float], known: Set[str], place: tuple[int, ...]) -> None:
    if instance.keys() == known:
        return
    missing = [name for name in known if name not in instance]
    unknown = [name for name in instance if name not in known]
    words = [
        f"{what} {', '.join(map(repr, names[:5]))}{' and others' if len(names) > 5 else ''}"
        for what, names in (("lacks", missing), ("has the unknown", unknown))
        if names
    ]
    where = " step ".join(map(str, place))
    sentence = f"instance {where} must have exactly the model's features: it {' and '.join(words)}"
    raise misplaced_at(sentence, [INSTANCES, *place])


def to_array(instances: list[Any], shape: tuple[int, ...], dtype: type, first: int = 0) -> np.ndarray:
    """Return nested lists as an array of float64 or object.

    Raise `Problem` if their lengths differ, with the first place that does not fit `shape`.
    """
    if not instances:
        return np.empty((0, *shape))
    try:
        array: np.ndarray = np.array(instances, dtype=dtype)
        if array.ndim != len(shape) + 1:  # lists of different lengths became objects
            raise ValueError("rows of different lengths")
        return array
    except ValueError as error:
        raise ragged(instances, shape, first) from error


def ragged(instances: Instances, shape: tuple[int, ...], first: int, within: tuple[int, ...] = ()) -> Problem:
    """Return the problem of instances that do not all have this shape; `first` as for `order_names`."""
    (row, *path), wanted, got = next(_wrong_lengths(instances, (len(instances), *shape)))
    return wrong_length([*within, first + row, *path], wanted, got)


def wrong_length(place: Sequence[int], wanted: int, got: int) -> Problem:
    """Return the problem of an instance, or a part of one, with another number of elements."""
    steps: Steps = (INSTANCES, *place)
    return misplaced_at(f"{to_pointer(steps)} must have {wanted} elements, got {got}", steps)


def _wrong_lengths(values: Instances, shape: Sequence[int]) -> Iterator[tuple[list[int], int, int]]:
    """Yield each place where nested lists do not fit a shape, the wanted and the actual length."""
    if len(values) != shape[0]:
        yield [], shape[0], len(values)
    elif len(shape) > 1:
        for position, value in enumerate(values):
            for place, wanted, got in _wrong_lengths(value, shape[1:]):
                yield [position, *place], wanted, got


def misplaced_at(sentence: str, steps: Sequence[str | int]) -> Problem:
    """Return the problem of the instance, or of a part of it, to which these steps lead."""
    return misplaced(sentence, pointer=to_pointer(steps), row=steps[1])

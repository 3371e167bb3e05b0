"""JSON bodies: instances as arrays or objects, windows or series, and faults by their place in the body."""

import functools
import operator
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from detector.tables import MISSING_HINT
from service.bodies import INSTANCES, OPTIONS, TIMESTAMPS, Decoded, Expected, Limits, Timestamp, check_rows
from service.json_numbers import NumberReader
from service.problems import Problem

WORTH_BYTES = 1000  # of a body: below, the second reader costs what it saves, some 2 microseconds


def decode_json(content: bytes, expected: Expected, limits: Limits, options: tuple[str, ...]) -> Decoded:
    """Instances, options and time stamps of a JSON body; arguments as of `codecs.decode_body`.

    Raises
    ------
    Problem
        Saying what the body must be, what it is, and where.
    """
    plain = decode_plain(content, expected, limits, options) if len(content) >= WORTH_BYTES else None
    return plain or decode_strictly(content, expected, limits, options)


def decode_strictly(content: bytes, expected: Expected, limits: Limits, options: tuple[str, ...]) -> Decoded:
    """Any body, by msgspec, whose sentence becomes the problem."""
    rank = _rank(content, expected)
    named = expected.feature_names is not None
    form = _body_type(rank, named, options, expected.timestamps, expected.cells)
    try:
        body = msgspec.json.decode(content, type=form)
    except msgspec.ValidationError as error:
        raise _mistyped(str(error), content, form.__struct_fields__, expected) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        hint = "; JSON has no NaN and no Infinity" if b"NaN" in content or b"Infinity" in content else ""
        raise Problem("malformed-body", f"the body is not JSON: {error}{hint}") from error
    check_rows(len(body.instances), limits)
    given = {
        name: value
        for name in form.__struct_fields__[1:]
        if (value := getattr(body, name)) is not msgspec.UNSET
    }
    instances, objects = _ordered(body.instances, expected.feature_names, rank)
    shape = _instance_shape(instances, expected, rank)
    samples = _to_array(instances, shape, object if expected.cells else np.float64)
    timestamps = given.pop(TIMESTAMPS, None)
    point = functools.partial(_point, expected.feature_names, objects, rank)
    return Decoded(samples, given, point, timestamps)


def decode_plain(
    content: bytes, expected: Expected, limits: Limits, options: tuple[str, ...]
) -> Decoded | None:
    """A body whose instances come first and are arrays of numbers, None where the strict reader decides."""
    head = _PLAIN.match(content)
    if head is None or expected.cells:
        return None
    rank = _rank_of(head[1], expected)
    read = NumberReader().read(content, rank)
    if read is None:
        return None
    samples, members = read
    try:
        given = _read_options(members, options)
    except msgspec.ValidationError:
        return None
    check_rows(len(samples), limits)
    return Decoded(samples, given, functools.partial(_point, expected.feature_names, frozenset(), rank))


_PLAIN = re.compile(rb'\{\s*"instances"\s*:\s*(\[[\s\[]*)[-0-9]')


def _read_options(members: Mapping[str, Any], options: tuple[str, ...]) -> Mapping[str, Any]:
    """Options as their types; ValidationError where one is unknown or is not of its type."""
    if not members:
        return {}
    given = msgspec.convert(members, _options_type(options))
    return {name: getattr(given, name) for name in options if name in members}


class _Instances(msgspec.Struct):
    instances: msgspec.Raw = msgspec.Raw(b"")


def _rank(content: bytes, expected: Expected) -> int:
    """How many axes an instance has: with series the brackets before the first value decide."""
    rank = len(expected.shape)
    if not expected.series:
        return rank
    try:
        raw = msgspec.json.decode(content, type=_Instances).instances
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return rank - 1  # not JSON, or not an object: whoever reads it as a series says so
    return _rank_of(_OPENING.match(raw)[0], expected)


_OPENING = re.compile(rb"[\s\[]*\{?")


def _rank_of(opening: bytes, expected: Expected) -> int:
    """How many axes an instance has where instances open with these brackets."""
    if not expected.series:
        return len(expected.shape)
    n_axes = opening.count(b"[") + opening.count(b"{")  # an object stands for the channels of a step
    n_channels = expected.shape[-1]
    return min(max(n_axes - 1, 0 if n_channels == 1 else 1), 2)


def _instance_shape(instances: list, expected: Expected, rank: int) -> tuple[int, ...]:
    """The shape that instances of that rank shall have: a sample, or a step of a series."""
    window, n_channels = expected.shape if expected.series else (0, 0)
    if rank == len(expected.shape):
        return expected.shape
    if rank == 1 and n_channels == 1 and instances and len(instances[0]) != 1:
        return (window,)  # windows of the one channel, without its axis
    return (n_channels,)[:rank]


_CELL = float | str | bool | None


@functools.cache
def _body_type(
    rank: int, named: bool, options: tuple[str, ...], timestamps: bool, cells: bool
) -> type[msgspec.Struct]:
    """The type of a JSON body: instances are arrays of that rank, objects where features have names."""
    value: Any = _CELL if cells else float
    instance = value
    for axis in range(rank):
        instance = list[instance] | dict[str, value] if named and axis == 0 else list[instance]
    fields: list[tuple] = [(INSTANCES, list[instance]), *_option_fields(options)]
    if timestamps:
        fields.append((TIMESTAMPS, list[Timestamp] | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct("Body", fields, forbid_unknown_fields=True)


@functools.cache
def _options_type(options: tuple[str, ...]) -> type[msgspec.Struct]:
    return msgspec.defstruct("Options", _option_fields(options), forbid_unknown_fields=True)


def _option_fields(options: tuple[str, ...]) -> list[tuple]:
    return [(name, OPTIONS[name][0] | msgspec.UnsetType, msgspec.UNSET) for name in options]


def _mistyped(message: str, content: bytes, members: Sequence[str], expected: Expected) -> Problem:
    """The problem for msgspec's "Expected `float`, got `str` - at `$.instances[3][2]`"."""
    sentence, _, path = message.partition(" - at `$")
    steps: list[str | int] = [int(index) if index else name for index, name in _PATH_STEP.findall(path)]
    if steps and steps[-1] == "...":  # some value of an object: msgspec does not say which
        steps[-1:] = _names_of_no_value(content, steps[:-1], _CELL if expected.cells else float | int)[:1]
    pointer = _to_pointer(steps)
    if steps and steps[0] in OPTIONS:
        detail = f"{pointer} must be {OPTIONS[steps[0]][1]}"
        return Problem("invalid-option", detail, [{"detail": detail, "pointer": pointer}])
    detail = f"{pointer or 'the body'}: {_reworded(sentence, members)}"
    if expected.rows and not expected.cells and steps[:1] == [INSTANCES] and len(steps) > 2:
        detail += next((hint for end, hint in _HINTS.items() if sentence.endswith(end)), "")
    place = {"detail": detail, "pointer": pointer}
    row = {"row": steps[1]} if len(steps) > 1 else {}
    return Problem("invalid-input", detail, [place | row])


_PATH_STEP = re.compile(r"\[(\d+)\]|(\.\.\.|\w+)")
_MISTYPED = re.compile(r"Expected `([^`]*)`(?:, got `([^`]*)`)?")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_HINTS = {
    "got `null`": MISSING_HINT,
    "got `str`": "; categories are for models fitted with --categorical",
}
_WORDS = {
    "array": "an array",
    "bool": "a boolean",
    "bool | float | str | null": "a number, text, a boolean or null",
    "int | float | str": "text or a number",
    "float": "a number",
    "int": "a number",
    "object": "an object",
    "object | array": "an array or an object",
    "str": "text",
}


def _reworded(sentence: str, members: Sequence[str]) -> str:
    """A sentence of msgspec in the words of JSON."""
    if match := _MISTYPED.fullmatch(sentence):
        wanted, got = (_WORDS.get(word, word) for word in match.groups())
        return f"must be {wanted}, got {got}" if got else f"must be {wanted}"
    if sentence.startswith("Expected `int` "):  # the one integer that has bounds
        return "must be text or a number of at most 64 bits"
    if match := _MISSING.fullmatch(sentence):
        return f"must have the member {match[1]!r}"
    if match := _UNKNOWN.fullmatch(sentence):
        return f"has the unknown member {match[1][:80]!r}, known are {', '.join(members)}"
    return sentence.replace("`", "")


def _names_of_no_value(content: bytes, steps: Sequence[str | int], value_type: Any) -> list[str]:
    """Members of the object at this place that are not of that type, say numbers.

    None where only a strict reader sees the fault: in a number beyond float64, or before a second member of
    the same name, which hides the first.
    """
    try:
        place = functools.reduce(operator.getitem, steps, msgspec.json.decode(content))
        return [name for name, value in place.items() if not _is_value(value, value_type)]
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError, AttributeError):
        return []


def _is_value(value: Any, value_type: Any) -> bool:
    try:
        msgspec.convert(value, value_type)
    except msgspec.ValidationError:
        return False
    return True


def _ordered(
    instances: list, feature_names: tuple[str, ...] | None, rank: int
) -> tuple[list, frozenset[tuple[int, ...]]]:
    """Instances as arrays, and the places of those rows, or steps, that were objects."""
    if feature_names is None or rank == 0:
        return instances, frozenset()
    groups = [((), instances)] if rank == 1 else [((row,), window) for row, window in enumerate(instances)]
    named, known = set(), frozenset(feature_names)
    for place, rows in groups:
        for position, row in enumerate(rows):
            if isinstance(row, dict):
                _check_names(row, known, (*place, position))
                rows[position] = [row[name] for name in feature_names]
                named.add((*place, position))
    return instances, frozenset(named)


def _check_names(instance: Mapping[str, float], known: frozenset[str], place: tuple[int, ...]) -> None:
    if instance.keys() == known:
        return
    missing, unknown = sorted(known - instance.keys()), sorted(instance.keys() - known)
    words = [
        f"{what} {', '.join(map(repr, names[:5]))}{' and others' if len(names) > 5 else ''}"
        for what, names in (("lacks", missing), ("has the unknown", unknown))
        if names
    ]
    where = " step ".join(map(str, place))
    sentence = f"instance {where} must have exactly the model's features: it {' and '.join(words)}"
    raise _misplaced(sentence, [INSTANCES, *place])


def _to_array(instances: list, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Nested lists as an array; rows of different lengths are refused where they lie."""
    if not instances:
        return np.empty((0, *shape))
    try:
        array = np.array(instances, dtype=dtype)
        if array.ndim != len(shape) + 1:  # objects may be lists as well
            raise ValueError("rows of different lengths")
        return array
    except ValueError as error:
        path, wanted, got = _first_wrong_length(instances, (len(instances), *shape))
        steps = [INSTANCES, *path]
        sentence = f"{_to_pointer(steps)} must have {wanted} elements, got {got}"
        raise _misplaced(sentence, steps) from error


def _first_wrong_length(values: list, shape: Sequence[int]) -> tuple[list[int], int, int] | None:
    """Where nested lists first leave a shape, the length wanted there and the length found."""
    if len(values) != shape[0]:
        return [], shape[0], len(values)
    if len(shape) == 1:
        return None
    for position, value in enumerate(values):
        fault = _first_wrong_length(value, shape[1:])
        if fault is not None:
            return [position, *fault[0]], *fault[1:]
    return None


def _misplaced(sentence: str, steps: Sequence[str | int]) -> Problem:
    return Problem(
        "invalid-input", sentence, [{"detail": sentence, "pointer": _to_pointer(steps), "row": steps[1]}]
    )


def _point(
    feature_names: tuple[str, ...] | None,
    named: frozenset[tuple[int, ...]],
    rank: int,
    index: tuple[int, ...],
) -> str:
    """The JSON pointer of one sample's value; the channel of a series that has one may have no axis."""
    *place, last = index[: rank + 1]
    return _to_pointer([INSTANCES, *place, feature_names[last] if tuple(place) in named else last])


def _to_pointer(steps: Sequence[str | int]) -> str:
    """RFC 6901."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)

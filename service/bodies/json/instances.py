"""Read a JSON body: instances as arrays or objects, windows or a series, with options and time stamps."""

import functools
import re

import msgspec

from service.bodies import INSTANCES, TIMESTAMPS, Decoded, Expected, Limits, check_rows
from service.bodies.encodings import mark_bytes
from service.bodies.json.cuts import BLANKS
from service.bodies.json.members import opening_of, point
from service.bodies.json.numbers import NumberReader
from service.bodies.json.slices import SLICE_BYTES, decode_slices
from service.bodies.json.strict import order_names, read_body, read_options, to_array
from service.http.messages import Body
from service.http.problems import Problem

_USUAL_STARTS = b'{"', b"{ ", b"{\n"
WORTH_BYTES = 1000  # smaller bodies of several rows save no time by trying the fast reader first


def decode_json(content: Body, expected: Expected, limits: Limits, options: tuple[str, ...]) -> Decoded:
    """Read instances, options and time stamps of a JSON body; arguments as for `codecs.decoder`.

    Raise `Problem` if the body is invalid, with the place of the fault.
    """
    if not content:
        raise Problem("malformed-body", "the body is empty")
    if not content.startswith(_USUAL_STARTS):
        content = content[mark_bytes(content) :]
    if len(content) > SLICE_BYTES:
        return decode_slices(content, expected, limits, options)
    plain = decode_row(content, expected)
    if plain is None and len(content) >= WORTH_BYTES:
        plain = decode_plain(content, expected, limits, options)
    return plain or decode_strictly(content, expected, limits, options)


def decode_strictly(content: Body, expected: Expected, limits: Limits, options: tuple[str, ...]) -> Decoded:
    """Read any body with msgspec."""
    rank = _rank(content, expected)
    members = read_body(content, rank, expected, options)
    instances = members.pop(INSTANCES)
    check_rows(len(instances), limits)
    instances, objects = order_names(instances, expected.feature_names, rank)
    samples = to_array(instances, expected.instance_shape(instances, rank), expected.dtype)
    timestamps = members.pop(TIMESTAMPS, None)
    return Decoded(
        samples, members, functools.partial(point, expected.feature_names, objects, rank), timestamps
    )


def decode_row(content: Body, expected: Expected) -> Decoded | None:
    """Read a body of one row of numbers and nothing else, as most are; None if another reader must do it."""
    if expected.cells or len(expected.shape) > 1:
        return None
    row = _NUMBERS.read_row(content, expected.shape[0])
    if row is None:
        return None
    return Decoded(row, {}, functools.partial(point, expected.feature_names, frozenset(), 1))


def decode_plain(
    content: Body, expected: Expected, limits: Limits, options: tuple[str, ...]
) -> Decoded | None:
    """Read a body whose instances come first and hold only numbers; None if the strict reader must do it."""
    head = None if expected.cells else _PLAIN.match(content)
    if head is None:
        return None
    rank = expected.rank_of(head[1])
    read = _NUMBERS.read(content, rank)
    if read is None:
        return None
    samples, members = read
    try:
        given = read_options(members, options)
    except msgspec.ValidationError:
        return None
    check_rows(len(samples), limits)
    return Decoded(samples, given, functools.partial(point, expected.feature_names, frozenset(), rank))


_NUMBERS = NumberReader()
_PLAIN = re.compile(BLANKS.join([rb"\{", rb'"instances"', b":", rb"(\[[ \t\n\r\[]*)[-0-9]"]))


class _Instances(msgspec.Struct):
    instances: msgspec.Raw = msgspec.Raw(b"")


def _rank(content: Body, expected: Expected) -> int:
    """Return the number of axes of an instance; for a series the brackets before the first value decide."""
    rank = len(expected.shape)
    if not expected.series:
        return rank
    try:
        raw = msgspec.json.decode(content, type=_Instances).instances
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return rank - 1  # not JSON, or not an object: the strict reader reports it
    return expected.rank_of(opening_of(memoryview(raw)))

"""Read the JSON of TensorFlow Serving's REST API: samples in rows or in a column, named or not, and images.

The other readers know one form, `{"instances": [...]}` with the bare samples. The further forms are rewritten
to it, slice by slice, so that no step keeps other threads waiting for long:

| form | body |
| --- | --- |
| rows | `{"instances": [[1, 2]]}`, `{"instances": [{"samples": [1, 2]}]}` |
| a column | `{"inputs": [[1, 2]]}`, `{"inputs": {"samples": [[1, 2]]}}` |
| images | `{"b64": "..."}`, the PNG or JPEG file of a sample, in the place of any sample of an image model |

References
----------
TensorFlow Serving, RESTful API: "Predict API" and "Encoding binary values".
"""

import dataclasses
import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from detector.engine.graphs import INPUT
from detector.engine.session import check_stop
from service.bodies import INSTANCES, Decoded, Expected, Limits, check_rows
from service.bodies.encodings import mark_bytes
from service.bodies.images import decode_images
from service.bodies.json.cuts import BLANKS, find_cut
from service.bodies.json.instances import decode_json
from service.bodies.json.members import find_repeated, repeated
from service.bodies.json.slices import SLICE_BYTES
from service.bodies.json.typed import MAX_BASE64_BYTES, decode_base64, decode_typed, misplaced
from service.http.messages import Body
from service.http.problems import Problem

INPUTS, BASE64 = "inputs", "b64"
_MOST_MEMBERS = 100
_PLAIN = re.compile(BLANKS.join([rb"\{", rb'"instances"', b":", rb"\[", rb"[-\[0-9]"]))
_OBJECT = re.compile(BLANKS + rb"\{")
_MEMBER = re.compile(BLANKS.join([b"", rb'"((?:[^"\\]|\\.){0,80})"', b":", b""]))
_FIRST_OBJECT = re.compile(BLANKS.join([rb"\[", rb"\{"]) + _MEMBER.pattern)
_INSTANCES = b'"instances":'
_ONLY_INPUT = f"must be an array of samples, or an object with the only member {INPUT!r}"


class _Named(msgspec.Struct, forbid_unknown_fields=True):
    samples: msgspec.Raw


class _File(msgspec.Struct, forbid_unknown_fields=True):
    b64: str


class _Array(NamedTuple):
    """The array of samples in a body of the one form, and its pointer in the body of the client."""

    text: Body
    start: int
    pointer: str


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The content of a body, and whether its samples came as a column, which the answer then has, too."""

    decoded: Decoded
    is_column: bool


def decode_predict(content: Body, expected: Expected, limits: Limits, options: tuple[str, ...]) -> Prediction:
    """Read a body in any form of the API; arguments and errors as for `codecs.decoder`."""
    if not content.startswith(b"{"):
        content = content[mark_bytes(content) :]
    array = None if _PLAIN.match(content) else _find_array(content)
    if array is None:
        return Prediction(decode_json(content, expected, limits, options), False)
    first = _FIRST_OBJECT.match(array.text, array.start)
    key = first[1].decode(errors="replace") if first else None
    is_named = key == INPUT and INPUT not in (expected.feature_names or ())
    reader = _Reader(array, f"/{INPUT}" if is_named else "", expected, limits, options)
    is_file = key == BASE64 and expected.value_range is not None
    decoded = reader.read_objects() if is_named or is_file else reader.read(array.text)
    return Prediction(decoded, array.pointer != f"/{INSTANCES}")


# --- the array ----------------------------------------------------------------------------------------------


def _find_array(content: Body) -> _Array | None:
    """Return the array of samples; None if another reader must report that there is none."""
    opening = _OBJECT.match(content)
    at = opening.end() if opening else len(content)
    with memoryview(content) as view:
        for _ in range(_MOST_MEMBERS):
            member = _MEMBER.match(view, at)
            if member is None:
                return None
            if member[1] == INSTANCES.encode():
                return _Array(content, member.end(), f"/{INSTANCES}")
            if member[1] == INPUTS.encode():
                return _rename_inputs(view, member.start(), member.end())
            at = find_cut(view, at, at) + 1
    return None


def _rename_inputs(view: memoryview, start: int, value: int) -> _Array:
    """Make the member `inputs`, which is an array or an object with the array, the member `instances`."""
    pointer, end = f"/{INPUTS}", len(view)
    after = view[end:]
    if bytes(view[value : value + 1]) == b"{":
        member = _MEMBER.match(view, value + 1)
        if member is None or member[1] != INPUT.encode():
            raise misplaced(pointer, _ONLY_INPUT)
        value, end = member.end(), find_cut(view, member.end(), member.end())
        if bytes(view[end : end + 1]) != b"}":
            raise misplaced(pointer, _ONLY_INPUT)
        pointer, after = f"{pointer}/{INPUT}", view[end + 1 :]
    text = b"".join((view[:start], _INSTANCES, view[value:end], after))
    return _Array(text, start + len(_INSTANCES), pointer)


# --- its elements -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads the samples of an array.

    Attributes
    ----------
    array : _Array
    below : str
        Pointer from an element of the array to the sample in it.
    expected, limits, options
        As for `decode_predict`.
    """

    array: _Array
    below: str
    expected: Expected
    limits: Limits
    options: tuple[str, ...]

    def read(self, text: Body) -> Decoded:
        """Read a body of the one form; places in it become places in the body of the client."""
        try:
            decoded = decode_json(text, self.expected, self.limits, self.options)
        except Problem as problem:
            raise self._renamed(problem) from problem
        point = decoded.point
        if point is None:
            return decoded
        return dataclasses.replace(decoded, point=lambda index: self._rename(point(index)))

    def read_objects(self) -> Decoded:
        """Read samples that are objects: named inputs, files, or files as named inputs."""
        before = self.array.text[: self.array.start]
        samples, after = self._split()
        if not (self.expected.value_range is not None and bytes(samples[0]).startswith(b"{")):
            return self.read(b"".join((before, b"[", b",".join(samples), b"]", after)))
        images = decode_images(
            [*map(self._read_file, samples, range(len(samples)))], self.expected, self.limits
        )
        rest = self.read(b"".join((before, b"[]", after)))
        return Decoded(images, rest.options)

    def _read_file(self, sample: msgspec.Raw, row: int) -> bytes:
        place = f"{self.array.pointer}/{row}{self.below}"
        return decode_base64(decode_typed(sample, _File, place).b64, f"{place}/{BASE64}")

    def _split(self) -> tuple[list[msgspec.Raw], Body]:
        """Return the text of each sample, without the name of the input, and the text after the array."""
        samples: list[msgspec.Raw] = []
        with memoryview(self.array.text) as view:
            at, closing = self.array.start + 1, b","
            while closing == b",":
                check_stop()
                most = at + SLICE_BYTES + MAX_BASE64_BYTES
                end = find_cut(view[:most], at, at + SLICE_BYTES)
                if end == most < len(view):
                    place = f"{self.array.pointer}/{len(samples)}"
                    raise misplaced(place, f"may have at most {MAX_BASE64_BYTES} bytes, got more")
                text, closing = b"[%b]" % bytes(view[at:end]), bytes(view[end : end + 1])
                samples += self._take(text, len(samples))
                check_rows(len(samples), self.limits)
                at = end + 1
        if closing != b"]":
            raise Problem("malformed-body", f"{self.array.pointer} is not JSON: the array has no end")
        return samples, self.array.text[at:]

    def _take(self, text: bytes, first: int) -> Iterator[msgspec.Raw]:
        """Yield the samples in a slice of the array; `first` is the index of the first one."""
        pointer = self.array.pointer
        try:
            elements = decode_typed(text, list[msgspec.Raw], pointer)
        except Problem as problem:
            raise Problem(problem.type, _BYTE.sub("", problem.detail)) from problem
        if not elements:
            raise Problem("malformed-body", f"{pointer} is not JSON: a comma is followed by no value")
        found = find_repeated(text, len(elements))
        if found:
            (row, *steps), name = found
            raise repeated((*pointer.split("/")[1:], first + int(row), *steps), name)
        if not self.below:
            yield from elements
            return
        for row, element in enumerate(elements, first):
            yield decode_typed(element, _Named, f"{pointer}/{row}").samples

    def _renamed(self, problem: Problem) -> Problem:
        """Return a problem of the one form as one of the client's body, in which bytes have other numbers."""
        errors = [
            {name: self._rename(value) if isinstance(value, str) else value for name, value in error.items()}
            for error in problem.errors
        ]
        detail = _BYTE.sub("", self._rename(problem.detail))
        return Problem(problem.type, detail, errors, problem.headers)

    def _rename(self, text: str) -> str:
        """Rename the pointer with which a text begins."""
        pointer, below = self.array.pointer, self.below
        return _PLACE.sub(lambda match: pointer + (match[1] + below if match[1] else ""), text)


_PLACE = re.compile(rf"\A/{INSTANCES}(/\d+)?")
_BYTE = re.compile(r" \(byte \d+\)")

"""Tensors of the Open Inference Protocol: convert data, as JSON or as bytes, to arrays and back."""

import functools
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from service.bodies import INSTANCES
from service.bodies.json.numbers import NumberReader
from service.bodies.json.slices import SLICE_BYTES, decode_numbers, read_elements
from service.bodies.json.typed import MAX_BASE64_BYTES, decode_base64, decode_typed, misplaced
from service.http.problems import Problem

BYTES = "BYTES"
# Little-endian, as in the binary extension. Booleans are not numbers, as in `instances`.
NUMBERS = {
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
}
_LENGTH = struct.Struct("<I")
_SPACE = b" \t\r\n"
Text = bytes | msgspec.Raw | memoryview


def datatype_of(array: np.ndarray) -> str:
    """Return the protocol's name for the dtype of an array of numbers or booleans."""
    if array.dtype.kind == "b":
        return "BOOL"
    return next(name for name, form in NUMBERS.items() if np.dtype(form) == array.dtype)


def to_bytes(array: np.ndarray) -> memoryview:
    """Return the bytes of an array of numbers or booleans, little-endian and in C order; copied if needed."""
    return memoryview(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)).cast("B")


# --- data after the JSON ------------------------------------------------------------------------------------


def numbers_from_bytes(content: memoryview, datatype: str, shape: Sequence[int], pointer: str) -> np.ndarray:
    """Return the array of these bytes; raise `Problem` if shape and datatype need another number of bytes."""
    dtype = np.dtype(NUMBERS[datatype])
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != len(content):
        raise misplaced(
            pointer, f"{datatype} of shape {list(shape)} takes {wanted} bytes of data, got {len(content)}"
        )
    return np.require(np.frombuffer(content, dtype).reshape(shape), requirements="A")


def elements_from_bytes(content: memoryview, n_elements: int, pointer: str) -> list[bytes]:
    """Return the elements of a `BYTES` tensor, each of which follows its length in 4 bytes.

    Raise `Problem` if an element is cut off, or the number of elements differs.
    """
    elements, start = [], 0
    while start < len(content) and len(elements) <= n_elements:
        begin = start + _LENGTH.size
        length = _LENGTH.unpack_from(content, start)[0] if begin <= len(content) else 0
        if begin + length > len(content):
            raise misplaced(pointer, f"element {len(elements)} is cut off at the end of the data")
        elements.append(bytes(content[begin : begin + length]))
        start = begin + length
    if len(elements) != n_elements or start != len(content):
        got = len(elements) if len(elements) < n_elements else "more"
        raise misplaced(pointer, f"the shape has {n_elements} elements, the data hold {got}")
    return elements


# --- data within the JSON -----------------------------------------------------------------------------------


def numbers_from_json(
    raw: Text, datatype: str, shape: tuple[int, ...], pointer: str, *, gaps: bool = False
) -> tuple[np.ndarray, bool]:
    """Return the array of a `data` member, flat or nested.

    Parameters
    ----------
    raw : bytes, msgspec.Raw or memoryview
        Text of the member.
    datatype : str
        One of `NUMBERS`.
    shape : tuple of int
    pointer : str
        JSON pointer of the member.
    gaps : bool
        Whether null is allowed, as a missing value.

    Returns
    -------
    array : ndarray of that shape
        float64 for all floats, else of the datatype.
    nested : bool
        Whether the data are nested.

    Raises
    ------
    Problem
        Naming the first value of another type, or the first place that does not fit the shape.
    """
    depth = _depth(raw)
    if depth not in (1, len(shape)):
        raise misplaced(pointer, f"must be flat or nested as the shape {list(shape)}")
    is_float, nested = datatype.startswith("FP"), depth == len(shape)
    wanted = shape if nested else (math.prod(shape),)
    if datatype in ("INT64", "UINT64"):  # float64 cannot represent all of them

        def to_integers(values: list, first: int) -> np.ndarray:
            part = _to_array(values, (len(values), *wanted[1:]), object, pointer, first)
            return _to_integers(part, datatype, pointer, first)

        return _read_parts(raw, int, wanted, pointer, to_integers).reshape(shape), depth > 1
    array = _read_floats(raw, wanted, pointer, gaps=gaps and is_float)
    if not is_float:
        array = _to_integers(array, datatype, pointer)
    return array.reshape(shape), depth > 1


def _read_parts(
    raw: Text,
    form: Any,
    wanted: tuple[int, ...],
    pointer: str,
    convert: Callable[[list, int], np.ndarray],
) -> np.ndarray:
    """Return values of a type of msgspec; a long text is read in slices, so that other threads need not wait.

    `convert` makes an array of some elements and the index of the first one.
    """
    text = memoryview(raw)
    parts: list[np.ndarray] = []
    if len(text) > SLICE_BYTES and text[:1] == b"[":
        n_values = _read_slices(text, form, wanted, pointer, lambda *part: parts.append(convert(*part)))
    else:
        values = decode_typed(raw, _nested_type(len(wanted), form), pointer)
        n_values = len(values)
        parts.append(convert(values, 0))
    _check_length(n_values, wanted[0], pointer)
    return np.concatenate(parts)


def _read_slices(
    text: memoryview,
    form: Any,
    wanted: tuple[int, ...],
    pointer: str,
    keep: Callable[[list, int], object],
    max_bytes: int = 0,
) -> int:
    """Call `read_elements` for the data at a place of the body; `form` is the type of a value."""
    place, rank = tuple(pointer.split("/")[1:]), len(wanted) - 1
    try:
        return read_elements(text, _nested_type(rank, form), place, rank, wanted[0], keep, max_bytes)
    except Problem as problem:
        raise _renamed(problem, pointer) from problem


def _read_floats(raw: Text, wanted: tuple[int, ...], pointer: str, *, gaps: bool) -> np.ndarray:
    """Return the numbers as float64."""
    text = memoryview(raw)
    if gaps:

        def to_floats(values: list, first: int) -> np.ndarray:
            return _to_array(values, (len(values), *wanted[1:]), np.float64, pointer, first)

        return _read_parts(raw, float | None, wanted, pointer, to_floats)
    if len(text) > SLICE_BYTES and text[:1] == b"[":
        try:
            array = decode_numbers(text, wanted)
        except Problem as problem:
            if problem.type == "too-many-rows":
                raise misplaced(pointer, f"must have {wanted[0]} elements, got more") from problem
            raise _renamed(problem, pointer) from problem
        if array.shape != wanted:
            _check_lengths(array, wanted, pointer)
        return array
    read = NumberReader().read(b'{"%b":%b}' % (INSTANCES.encode(), raw), len(wanted) - 1)
    if read is not None and read[0].shape == wanted:
        return read[0]
    values = decode_typed(raw, _nested_type(len(wanted), float), pointer)
    return _to_array(values, wanted, np.float64, pointer)


def _renamed(problem: Problem, pointer: str) -> Problem:
    """Return a problem of instances as the problem of the data at this place."""
    detail = problem.detail.replace(f"/{INSTANCES}", pointer, 1).replace("the body", pointer, 1)
    places = [
        {"detail": detail, "pointer": error["pointer"].replace(f"/{INSTANCES}", pointer, 1)}
        for error in problem.errors
    ]
    return Problem(problem.type, detail, places)


def _to_array(values: list, wanted: tuple[int, ...], dtype: Any, pointer: str, first: int = 0) -> np.ndarray:
    _check_lengths(values, wanted, pointer, first)
    return np.array(values, dtype)


def _to_integers(array: np.ndarray, datatype: str, pointer: str, first: int = 0) -> np.ndarray:
    """Convert numbers to integers of a datatype; `first` is the index of the first element."""
    limits, is_float = np.iinfo(NUMBERS[datatype]), array.dtype == np.float64
    broken = array != np.floor(array) if is_float else np.zeros(array.shape, bool)
    outside = (array < limits.min) | (array > limits.max)
    for faulty, words in ((broken, "an integer"), (outside, f"from {limits.min} to {limits.max}")):
        if faulty.any():
            index = tuple(map(int, np.argwhere(faulty)[0]))
            place = "/".join((pointer, str(first + index[0]), *map(str, index[1:])))
            got = f"{array[index]:g}" if is_float else str(array[index])[:80]
            raise misplaced(place, f"{datatype} must be {words}, got {got}")
    return array.astype(NUMBERS[datatype])


def elements_from_json(raw: Text, n_elements: int, pointer: str) -> list[bytes]:
    """Return the elements of a `BYTES` tensor of one axis, from their base64 text in JSON.

    Raise `Problem`, naming the first element that is not base64, or if the number of elements differs.
    """
    elements: list[bytes] = []

    def keep(texts: list[str], first: int) -> None:
        elements.extend(
            decode_base64(text, f"{pointer}/{position}") for position, text in enumerate(texts, first)
        )

    text = memoryview(raw)
    if len(text) > SLICE_BYTES and text[:1] == b"[":
        _read_slices(text, str, (n_elements,), pointer, keep, MAX_BASE64_BYTES)
    else:
        texts = decode_typed(raw, list[str], pointer)
        _check_length(len(texts), n_elements, pointer)
        keep(texts, 0)
    _check_length(len(elements), n_elements, pointer)
    return elements


def _depth(raw: Text) -> int:
    """Count the brackets before the first value."""
    depth = 0
    for byte in memoryview(raw)[:64]:
        if byte == 0x5B:
            depth += 1
        elif byte not in _SPACE:
            break
    return max(depth, 1)  # reading it as an array reports a value that is none


@functools.cache
def _nested_type(depth: int, value: Any) -> Any:
    form: Any = value
    for _ in range(depth):
        form = list[form]
    return form


def _check_lengths(values: Any, shape: Sequence[int], pointer: str, first: int = 0) -> None:
    """Check that nested lists have exactly this shape; `first` is the index of the first element."""
    _check_length(len(values), shape[0], pointer)
    for position, value in enumerate(values if len(shape) > 1 else (), first):
        _check_lengths(value, shape[1:], f"{pointer}/{position}")


def _check_length(got: int, wanted: int, pointer: str) -> None:
    if got != wanted:
        raise misplaced(pointer, f"must have {wanted} elements, got {got}")

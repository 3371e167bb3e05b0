"""Arrays as bytes: `.npy` files, and raw tensors described by their media type."""

import ast
import functools
import math
import struct
import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from service.bodies import Expected, Limits, check_rows
from service.http.messages import Body
from service.http.problems import Problem

Order = Literal["C", "F"]

# --- .npy ---------------------------------------------------------------------------------------------------

# Not np.load: it allocates memory for the declared shape, and raises SyntaxError and TokenError.
_MAGIC = b"\x93NUMPY"
_HEADER_BYTES = 1024  # limits the time to parse it; NumPy writes 118 bytes
_DTYPES = ("<f4", "<f8", "<f2", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8")
_BIG_ENDIAN = tuple(descr.replace("<", ">") for descr in _DTYPES if descr.startswith("<"))
_HEADER_MEMBERS = {"descr", "fortran_order", "shape"}
_MAX_AXES = 5


def decode_npy(content: Body, limits: Limits) -> np.ndarray:
    """Return the array of a `.npy` body, in C order: format 1 or 2, real numbers, exact size.

    NumPy writes a transposed array, such as that of a data frame, in Fortran order.

    Raise `Problem` if the body is not such a file, or has too many rows.
    """
    header, start = _npy_header(content)
    descr, shape = header["descr"], header["shape"]
    if descr not in (*_DTYPES, *_BIG_ENDIAN):
        raise Problem("invalid-input", f"the .npy dtype must be one of {', '.join(_DTYPES)}, got {descr!r}")
    if type(header["fortran_order"]) is not bool:
        raise Problem("malformed-body", f"fortran_order must be a bool, got {header['fortran_order']!r:.80}")
    well_formed = type(shape) is tuple and all(type(size) is int and size >= 0 for size in shape)
    if not well_formed or not 1 <= len(shape) <= _MAX_AXES:
        raise Problem("malformed-body", f"the .npy shape must be 1 to 5 sizes, got {str(shape)[:80]}")
    dtype = np.dtype(descr)
    wanted, got = math.prod(shape) * dtype.itemsize, len(content) - start
    if wanted != got:
        raise Problem("malformed-body", f"the .npy shape {shape} needs {wanted} bytes of data, got {got}")
    check_rows(shape[0], limits)
    order: Order = "F" if header["fortran_order"] else "C"
    array = _shaped(np.frombuffer(content, dtype, offset=start), shape, order)
    return np.require(array, dtype.newbyteorder("="), requirements=["A", "C"])


def _shaped(values: np.ndarray, shape: tuple[int, ...], order: Order = "C") -> np.ndarray:
    """Give values a shape of as many; NumPy refuses sizes beyond its memory, even if one of them is 0."""
    try:
        return values.reshape(shape, order=order)
    except ValueError as error:
        words = f"an array of shape {shape} cannot exist, even without values"
        raise Problem("malformed-body", words[:200]) from error


def _npy_header(content: Body) -> tuple[Mapping[str, Any], int]:
    """Return the members of the header and the offset of the data."""
    if content[:6] != _MAGIC or content[6:8] not in (b"\1\0", b"\2\0"):
        raise Problem("malformed-body", "the body is not a .npy file of format 1 or 2")
    length_form = struct.Struct("<H" if content[6] == 1 else "<I")
    begin = 8 + length_form.size
    if len(content) < begin:
        raise Problem("malformed-body", "the .npy file ends within its header")
    (length,) = length_form.unpack_from(content, 8)
    if length > _HEADER_BYTES or begin + length > len(content):
        raise Problem(
            "malformed-body", f"the .npy header must be whole and at most {_HEADER_BYTES} bytes, got {length}"
        )
    return _parse_npy_header(bytes(content[begin : begin + length])), begin + length


@functools.lru_cache(maxsize=256)
def _parse_npy_header(text: bytes) -> Mapping[str, Any]:
    """Return the members of the header; cached, since parsing takes longer than a row."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's compiler warns of odd literals
            header = ast.literal_eval(text.decode("latin-1").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise Problem("malformed-body", "the .npy header is not a Python literal") from error
    if not isinstance(header, dict) or header.keys() != _HEADER_MEMBERS:
        raise Problem("malformed-body", f"the .npy header must have the keys {sorted(_HEADER_MEMBERS)}")
    return header


# --- raw tensors --------------------------------------------------------------------------------------------

RAW_DTYPES = {np.dtype(descr).name: np.dtype(descr) for descr in _DTYPES}
_SHAPE, _DTYPE = "shape", "dtype"
_MAX_DIGITS = 12  # for one size of a shape


def decode_raw(content: Body, content_type: str, expected: Expected, limits: Limits) -> np.ndarray:
    """Return a little-endian tensor in C order; `application/octet-stream; dtype=float32; shape=2x784`.

    Parameters
    ----------
    content : bytes
    content_type : str
        With the parameters `dtype`, by default float32, and `shape`, sizes joined by x. Without a shape the
        body holds samples of the model's shape, windows for a sequence model.
    expected : Expected
    limits : Limits

    Raises
    ------
    Problem
        If a parameter is unknown or invalid, or the number of bytes does not match.
    """
    dtype, shape = _read_type(content_type)
    if shape is None:
        sample_bytes = math.prod(expected.shape) * dtype.itemsize
        rows, rest = divmod(len(content), sample_bytes)
        if rest:
            raise Problem(
                "malformed-body",
                f"the body must be a multiple of the {sample_bytes} bytes of a sample, {dtype.name} of shape "
                f"{expected.shape}, got {len(content)}",
            )
        shape = (rows, *expected.shape)
    wanted = math.prod(shape) * dtype.itemsize
    if wanted != len(content):
        words = "x".join(map(str, shape))
        sentence = f"{dtype.name} values of shape {words} have {wanted} bytes, got {len(content)}"
        raise Problem("malformed-body", sentence)
    check_rows(shape[0], limits)
    return _shaped(np.frombuffer(content, dtype), shape)


@functools.lru_cache(maxsize=256)
def _read_type(content_type: str) -> tuple[np.dtype, tuple[int, ...] | None]:
    """Return the dtype and the shape that a media type names, None for a shape that it does not name."""
    parameters = _parameters(content_type)
    dtype = RAW_DTYPES.get(parameters.get(_DTYPE, "float32"))
    if dtype is None:
        raise _unread(f"must have one of the dtypes {', '.join(RAW_DTYPES)}, got {parameters[_DTYPE][:80]!r}")
    if _SHAPE not in parameters:
        return dtype, None
    text = parameters[_SHAPE]
    sizes = text.split("x")
    whole = all(size.isascii() and size.isdecimal() and len(size) <= _MAX_DIGITS for size in sizes)
    if not whole or len(sizes) > _MAX_AXES:
        raise _unread(f"must have a shape such as 2x28x28, at most {_MAX_AXES} sizes, got {text[:80]!r}")
    return dtype, tuple(map(int, sizes))


def _parameters(content_type: str) -> dict[str, str]:
    """Return the parameters of a raw tensor; Werkzeug would silently drop invalid ones."""
    found: dict[str, str] = {}
    for parameter in filter(str.strip, content_type.split(";")[1:]):
        name, _, value = (part.strip() for part in parameter.partition("="))
        if name.lower() not in {_DTYPE, _SHAPE} - found.keys():
            raise _unread(f"can have the parameters {_DTYPE} and {_SHAPE}, each once, got {name[:80]!r}")
        found[name.lower()] = value.strip('"')
    return found


def _unread(words: str) -> Problem:
    return Problem("unsupported-media-type", f"application/octet-stream {words}")


def raw_type(array: np.ndarray) -> str:
    """Return the media type of the bytes of an array, with the parameters that `decode_raw` reads."""
    shape = "x".join(map(str, array.shape))
    return f"application/octet-stream; {_DTYPE}={array.dtype.name}; {_SHAPE}={shape}"

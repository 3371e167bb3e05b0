"""Request bodies to arrays, results to response bodies: one small function for each media type."""

import ast
import contextlib
import io
import math
import struct
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson
from werkzeug.http import parse_accept_header, parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from detector import Classes, InputError, Manifest, Scores
from detector.images import decode_image, encode_image
from service.bodies import JPEG, JSON, NPY, OPTIONS, PNG, Decoded, Expected, Limits, Timestamp, check_rows
from service.json_bodies import decode_json
from service.problems import Problem


def decode_body(
    content_type: str, content: bytes, expected: Expected, limits: Limits, *, options: tuple[str, ...]
) -> Decoded:
    """Read a request body.

    Parameters
    ----------
    content_type : str
        The header's value.
    content : bytes
    expected : Expected
    limits : Limits
    options : tuple of str
        Names of the options that a JSON body may hold, out of `OPTIONS`.

    Raises
    ------
    Problem
        Saying what the body must be, what it is, and where.
    InputError
        If a picture does not fit the model.
    """
    media_type, parameters = parse_options_header(content_type)
    media_type = media_type.lower()
    if media_type not in expected.media_types():
        raise Problem(
            "unsupported-media-type",
            f"the Content-Type must be one of {', '.join(expected.media_types())} here, "
            f"got {repr(media_type[:80]) if media_type else 'none'}",
        )
    if not content:
        raise Problem("malformed-body", "the body is empty")
    if media_type == JSON:
        return decode_json(content, expected, limits, options)
    if media_type == NPY:
        return Decoded(_decode_npy(content, limits))
    pictures = [content] if media_type in (PNG, JPEG) else _parts(content, parameters.get("boundary", ""))
    return Decoded(_decode_pictures(pictures, expected, limits))


# --- .npy ---------------------------------------------------------------------------------------------------

# Read by hand: np.load allocates by the declared shape, and leaks SyntaxError and TokenError.
_MAGIC = b"\x93NUMPY"
_HEADER_BYTES = 1024  # parsing a header takes time that grows with it; NumPy writes 118 bytes
_DTYPES = ("<f4", "<f8", "<f2", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8")
_HEADER_MEMBERS = {"descr", "fortran_order", "shape"}


def _decode_npy(content: bytes, limits: Limits) -> np.ndarray:
    """The array of a `.npy` body: format 1 or 2, little-endian real numbers, C order, exact size."""
    header, start = _npy_header(content)
    descr, shape = header["descr"], header["shape"]
    if descr not in _DTYPES:
        raise Problem("invalid-input", f"the .npy dtype must be one of {', '.join(_DTYPES)}, got {descr!r}")
    if header["fortran_order"] is not False:
        raise Problem("invalid-input", "the .npy array must be in C order, got Fortran order")
    well_formed = type(shape) is tuple and all(type(size) is int and size >= 0 for size in shape)
    if not well_formed or not 1 <= len(shape) <= 5:
        raise Problem("malformed-body", f"the .npy shape must be 1 to 5 sizes, got {str(shape)[:80]}")
    dtype = np.dtype(descr)
    wanted, got = math.prod(shape) * dtype.itemsize, len(content) - start
    if wanted != got:
        raise Problem("malformed-body", f"the .npy shape {shape} needs {wanted} bytes of data, got {got}")
    check_rows(shape[0], limits)
    return np.require(np.frombuffer(content, dtype, offset=start).reshape(shape), requirements="A")


def _npy_header(content: bytes) -> tuple[dict[str, Any], int]:
    """The header's members and where the data begin."""
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
    try:
        header = ast.literal_eval(content[begin : begin + length].decode("latin-1").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise Problem("malformed-body", "the .npy header is not a Python literal") from error
    if not isinstance(header, dict) or header.keys() != _HEADER_MEMBERS:
        raise Problem("malformed-body", f"the .npy header must have the keys {sorted(_HEADER_MEMBERS)}")
    return header, begin + length


# --- pictures -----------------------------------------------------------------------------------------------


def _decode_pictures(pictures: Sequence[bytes], expected: Expected, limits: Limits) -> np.ndarray:
    """One sample for each picture, in order."""
    check_rows(len(pictures), limits)
    pixel_bytes = len(pictures) * math.prod(expected.shape)
    if pixel_bytes > limits.max_pixel_bytes:
        raise Problem(
            "body-too-large",
            f"the pictures of a body may have {limits.max_pixel_bytes} bytes of pixels, got {pixel_bytes}",
        )
    samples = np.empty((len(pictures), *expected.shape), dtype=np.float32)
    for row, picture in enumerate(pictures):
        try:
            samples[row] = decode_image(picture, expected.shape, expected.value_range)
        except InputError as error:
            sentence = f"picture {row}: {error}"
            raise Problem("invalid-input", sentence, [{"detail": sentence, "row": row}]) from error
    return samples


def _parts(content: bytes, boundary: str) -> list[bytes]:
    """The files of a multipart body, in order, kept in memory."""
    decoder = MultipartDecoder(boundary.encode())
    files: list[bytearray] = []
    try:
        decoder.receive_data(content)
        decoder.receive_data(None)
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            if isinstance(event, Field):
                raise Problem(
                    "invalid-input",
                    f"every part must be a file with a picture, got the field {event.name!r}; "
                    "options are query parameters",
                )
            if isinstance(event, File):
                files.append(bytearray())
            if isinstance(event, Data):
                files[-1] += event.data
    except ValueError as error:
        raise Problem("malformed-body", f"the multipart body cannot be parsed: {error}") from error
    if not files:
        raise Problem("malformed-body", "the multipart body holds no file")
    return [bytes(file) for file in files]


# --- options in the query -----------------------------------------------------------------------------------


def decode_query(query: Mapping[str, Sequence[str]], *, options: tuple[str, ...]) -> dict[str, Any]:
    """The options of a query string.

    Parameters
    ----------
    query : mapping of str to list of str
        Every value of every parameter.
    options : tuple of str
        Names of those that are known here, out of `OPTIONS`.

    Raises
    ------
    Problem
        If a parameter is unknown, given twice, or not of its type.
    """
    return {name: _read_option(name, values, options) for name, values in query.items()}


def _read_option(name: str, values: Sequence[str], known: Collection[str]) -> Any:
    if name not in known:
        words = f"only {', '.join(known)} are known" if known else "none is known here"
        raise bad_option(name, f"the option {name[:80]!r} is unknown, {words}")
    if len(values) != 1:
        raise bad_option(name, f"the option {name} must be given once, got {len(values)} values")
    form, words = OPTIONS[name]
    try:
        return msgspec.convert(_number_or_text(values[0]), form)
    except msgspec.ValidationError as error:
        raise bad_option(name, f"the option {name} must be {words}, got {values[0][:80]!r}") from error


def _number_or_text(text: str) -> float | int | str:
    for read in (int, float):
        with contextlib.suppress(ValueError):
            return read(text)
    return text


def merge_options(query: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the query and of the body together.

    Raises
    ------
    Problem
        If one stands in both.
    """
    for name in query.keys() & body.keys():
        raise bad_option(name, f"the option {name} must be given once, got it in the query and in the body")
    return {**query, **body}


def bad_option(name: str, sentence: str) -> Problem:
    """The problem of one option."""
    return Problem("invalid-option", sentence, [{"detail": sentence, "parameter": name[:80]}])


# --- answers ------------------------------------------------------------------------------------------------


def negotiate(accept: str, offers: Sequence[str]) -> str:
    """The offered media type that an Accept header likes best; the first one where it has no preference.

    Raises
    ------
    Problem
        If it accepts none of them.

    References
    ----------
    RFC 9110, section 12.5.1: the most specific range that matches an offer decides its quality.
    """
    ranges = {value.partition(";")[0].strip(): quality for value, quality in parse_accept_header(accept)}
    if not ranges:
        return offers[0]

    def quality(offer: str) -> float:
        for candidate in (offer, f"{offer.partition('/')[0]}/*", "*/*"):
            if candidate in ranges:
                return ranges[candidate]
        return 0.0

    best = max(offers, key=quality)
    if quality(best) <= 0:
        raise Problem(
            "not-acceptable",
            f"this answer comes as {', '.join(offers)}, the Accept header is {accept[:200]!r}",
        )
    return best


def encode_scores(
    media_type: str, manifest: Manifest, scores: Scores, timestamps: list[Timestamp] | None = None
) -> bytes:
    """The answer of `/score`: every decision as JSON, or the float64 scores as `.npy`."""
    if media_type == NPY:
        return _to_npy(scores.score)
    document = {
        "model": manifest.name,
        "version": manifest.version,
        "alpha": scores.alpha,
        "expected_rate": scores.expected_rate,
        "threshold": scores.threshold,
        "score": scores.score,
        "ratio": scores.ratio,
        "p_value": scores.p_value,
        "is_anomaly": scores.is_anomaly,
    }
    optional = {"timestamp": timestamps, "selected": scores.selected, "explanation": scores.explanation}
    return to_json(document | {name: value for name, value in optional.items() if value is not None})


def encode_classes(media_type: str, manifest: Manifest, result: Classes) -> bytes:
    """The answer of `/classify`: labels and probabilities as JSON, or the probabilities as `.npy`."""
    if media_type == NPY:
        return _to_npy(result.probability)
    document = {"model": manifest.name, "version": manifest.version, "classes": result.classes}
    return to_json(document | {"label": result.label.tolist(), "probability": result.probability})


def encode_array(
    media_type: str,
    manifest: Manifest,
    name: str,
    array: np.ndarray | list,
    timestamps: list[Timestamp] | None = None,
) -> bytes:
    """The answer of the other verbs: the array as the member `name` of JSON, as `.npy`, or one picture.

    Rows with words in them are lists, for JSON.
    """
    if media_type == NPY:
        return _to_npy(array)
    if media_type == PNG:
        return encode_image(array[0], manifest.value_range)
    stamped = {} if timestamps is None else {"timestamp": timestamps}
    return to_json({"model": manifest.name, "version": manifest.version, **stamped, name: array})


def to_json(document: Any) -> bytes:
    """JSON, arrays included; float32 values with as many digits as a float32 has."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _to_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()

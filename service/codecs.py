"""Request bodies to arrays, results to response bodies: one small function for each media type."""

import ast
import contextlib
import dataclasses
import functools
import io
import math
import operator
import re
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import orjson
from werkzeug.http import parse_accept_header, parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from detector import Classes, InputError, Manifest, Scores
from detector.images import decode_image, encode_image
from service.problems import Problem

JSON = "application/json"
NPY = "application/x-npy"
PNG = "image/png"
JPEG = "image/jpeg"
MULTIPART = "multipart/form-data"

INSTANCES = "instances"
TIMESTAMPS = "timestamps"

_Rate = Annotated[float, msgspec.Meta(gt=0, lt=1)]
# The options of verbs, the same in a query and in a JSON body: type, and the words for it.
OPTIONS: Mapping[str, tuple[Any, str]] = {
    "alpha": (_Rate, "a number between 0 and 1"),
    "fdr": (_Rate, "a number between 0 and 1"),
    "explain": (Annotated[int, msgspec.Meta(ge=1)] | Literal["map"], "a positive integer or map"),
    "dtype": (Literal["float32", "float16", "int8"], "one of float32, float16, int8"),
}

_Timestamp = str | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | float

# --- what a body may hold -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Expected:
    """What one instance of a body must be.

    Attributes
    ----------
    shape : tuple of int
    feature_names : tuple of str, or None
        Names by which a row, or a step of a sequence, may be an object.
    value_range : tuple of float, or None
        Raw values of black and white; None where pictures are not read.
    series : bool
        Whether the instances may be the steps of a series instead of windows of `shape`.
    timestamps : bool
        Whether a series may come with time stamps.
    """

    shape: tuple[int, ...]
    feature_names: tuple[str, ...] | None = None
    value_range: tuple[float, float] | None = None
    series: bool = False
    timestamps: bool = False

    @classmethod
    def samples(cls, manifest: Manifest, *, timestamps: bool = False) -> "Expected":
        """Samples of a model; `timestamps` where its answer has a place for them."""
        series = manifest.kind == "sequence"
        return cls(
            manifest.sample_shape,
            manifest.feature_names,
            manifest.value_range if manifest.kind == "image" else None,
            series,
            series and timestamps,
        )

    @classmethod
    def latent(cls, shape: tuple[int, ...]) -> "Expected":
        """Latent vectors."""
        return cls(shape)

    def media_types(self) -> tuple[str, ...]:
        """Forms of body that are read, the first the one to recommend."""
        return (JSON, NPY) if self.value_range is None else (JSON, NPY, PNG, JPEG, MULTIPART)


@dataclasses.dataclass(frozen=True)
class Limits:
    """The most that one body may hold: samples, or steps of a series, and bytes of decoded pixels."""

    max_rows: int
    max_pixel_bytes: int


@dataclasses.dataclass(frozen=True)
class Decoded:
    """A body's content.

    Attributes
    ----------
    samples : ndarray of any real dtype
        Not yet held against the model's shape.
    options : mapping
        Members beside `instances` and `timestamps`.
    point : callable or None
        Index within the samples to a JSON pointer into the body; None where the body is not JSON.
    timestamps : list of str, int or float, or None
        Of the steps of a series, in order.
    """

    samples: np.ndarray
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    point: Callable[[tuple[int, ...]], str] | None = None
    timestamps: list[str | int | float] | None = None


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
        return _decode_json(content, expected, limits, options)
    if media_type == NPY:
        return Decoded(_decode_npy(content, limits))
    pictures = [content] if media_type in (PNG, JPEG) else _parts(content, parameters.get("boundary", ""))
    return Decoded(_decode_pictures(pictures, expected, limits))


def _check_rows(rows: int, limits: Limits) -> None:
    if rows > limits.max_rows:
        raise Problem("too-many-rows", f"a body may hold {limits.max_rows} samples, got {rows}")


# --- JSON ---------------------------------------------------------------------------------------------------


def _decode_json(content: bytes, expected: Expected, limits: Limits, options: tuple[str, ...]) -> Decoded:
    rank = _rank(content, expected)
    form = _body_type(rank, expected.feature_names is not None, options, expected.timestamps)
    try:
        body = msgspec.json.decode(content, type=form)
    except msgspec.ValidationError as error:
        raise _mistyped(str(error), content, form.__struct_fields__) from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        hint = "; JSON has no NaN and no Infinity" if b"NaN" in content or b"Infinity" in content else ""
        raise Problem("malformed-body", f"the body is not JSON: {error}{hint}") from error
    _check_rows(len(body.instances), limits)
    given = {
        name: value
        for name in form.__struct_fields__[1:]
        if (value := getattr(body, name)) is not msgspec.UNSET
    }
    instances, named = _ordered(body.instances, expected.feature_names, rank)
    samples = _to_array(instances, _instance_shape(instances, expected, rank))
    timestamps = given.pop(TIMESTAMPS, None)
    point = functools.partial(_point, expected.feature_names, named, rank)
    return Decoded(samples, given, point, timestamps)


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
    opening = _OPENING.match(raw)[0]
    n_axes = opening.count(b"[") + opening.count(b"{")  # an object stands for the channels of a step
    n_channels = expected.shape[-1]
    return min(max(n_axes - 1, 0 if n_channels == 1 else 1), 2)


_OPENING = re.compile(rb"[\s\[]*\{?")


def _instance_shape(instances: list, expected: Expected, rank: int) -> tuple[int, ...]:
    """The shape that instances of that rank shall have: a sample, or a step of a series."""
    window, n_channels = expected.shape if expected.series else (0, 0)
    if rank == len(expected.shape):
        return expected.shape
    if rank == 1 and n_channels == 1 and instances and len(instances[0]) != 1:
        return (window,)  # windows of the one channel, without its axis
    return (n_channels,)[:rank]


@functools.cache
def _body_type(rank: int, named: bool, options: tuple[str, ...], timestamps: bool) -> type[msgspec.Struct]:
    """The type of a JSON body: instances are arrays of that rank, objects where features have names."""
    instance: Any = float
    for axis in range(rank):
        instance = list[instance] | dict[str, float] if named and axis == 0 else list[instance]
    fields: list[tuple] = [(INSTANCES, list[instance])]
    fields += [(name, OPTIONS[name][0] | msgspec.UnsetType, msgspec.UNSET) for name in options]
    if timestamps:
        fields.append((TIMESTAMPS, list[_Timestamp] | msgspec.UnsetType, msgspec.UNSET))
    return msgspec.defstruct("Body", fields, forbid_unknown_fields=True)


def _mistyped(message: str, content: bytes, members: Sequence[str]) -> Problem:
    """The problem for msgspec's "Expected `float`, got `str` - at `$.instances[3][2]`"."""
    sentence, _, path = message.partition(" - at `$")
    steps: list[str | int] = [int(index) if index else name for index, name in _PATH_STEP.findall(path)]
    if steps and steps[-1] == "...":  # some value of an object: msgspec does not say which
        steps[-1:] = _names_of_no_number(content, steps[:-1])[:1]
    pointer = _to_pointer(steps)
    if steps and steps[0] in OPTIONS:
        detail = f"{pointer} must be {OPTIONS[steps[0]][1]}"
        return Problem("invalid-option", detail, [{"detail": detail, "pointer": pointer}])
    detail = f"{pointer or 'the body'}: {_reworded(sentence, members)}"
    place = {"detail": detail, "pointer": pointer}
    row = {"row": steps[1]} if len(steps) > 1 else {}
    return Problem("invalid-input", detail, [place | row])


_PATH_STEP = re.compile(r"\[(\d+)\]|(\.\.\.|\w+)")
_MISTYPED = re.compile(r"Expected `([^`]*)`(?:, got `([^`]*)`)?")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_WORDS = {
    "array": "an array",
    "bool": "a boolean",
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


def _names_of_no_number(content: bytes, steps: Sequence[str | int]) -> list[str]:
    """Members of the object at this place that are not numbers.

    None where only a strict reader sees the fault: in a number beyond float64, or before a second member of
    the same name, which hides the first.
    """
    try:
        place = functools.reduce(operator.getitem, steps, msgspec.json.decode(content))
        return [name for name, value in place.items() if type(value) not in (int, float)]
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError, AttributeError):
        return []


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


def _to_array(instances: list, shape: tuple[int, ...]) -> np.ndarray:
    """Nested lists of floats as float64; rows of different lengths are refused where they lie."""
    if not instances:
        return np.empty((0, *shape))
    try:
        return np.array(instances, dtype=np.float64)
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
    _check_rows(shape[0], limits)
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
    _check_rows(len(pictures), limits)
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
    media_type: str, manifest: Manifest, scores: Scores, timestamps: list[str | int | float] | None = None
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
    array: np.ndarray,
    timestamps: list[str | int | float] | None = None,
) -> bytes:
    """The answer of the other verbs: the array as the member `name` of JSON, as `.npy`, or one picture."""
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

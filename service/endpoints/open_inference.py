"""Read requests and write answers of the Open Inference Protocol V2, without knowing HTTP.

The tensors are the outputs of `model.onnx` and the values that the service derives from the score, so a
client can use the service or Triton with the same folder.

References
----------
`inference_rest.md` of the protocol, and Triton's binary tensor data extension.
"""

import contextlib
import dataclasses
import functools
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson

from detector import Manifest
from detector.engine.graphs import FEATURE_ERROR, INPUT, LATENT, RECONSTRUCTION
from service import answers, bodies
from service.bodies import OPTIONS, Decoded, Expected, Limits, check_rows, codecs
from service.bodies.encodings import mark_bytes
from service.bodies.images import decode_images
from service.bodies.json.cuts import BLANKS, end_of_text, find_cut, guess_end, skip_blanks
from service.bodies.json.members import check_members, to_pointer
from service.bodies.json.slices import SLICE_BYTES
from service.bodies.json.strict import TRUNCATED
from service.bodies.json.typed import decode_typed, misplaced
from service.endpoints import tensors
from service.endpoints.model_metadata import IS_ANOMALY, P_VALUE, RATIO, output_tensors
from service.http.messages import Body
from service.http.problems import Problem
from service.scoring.verbs import Inference

HEADER_LENGTH = "Inference-Header-Content-Length"
SELECTED = "selected"
# Parameters of a request that are options here.
PARAMETERS = ("alpha", "fdr")
# Parameters of Triton and of MLServer's clients that affect no value here.
_RESERVED = {"sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers"}
_RESERVED |= {"binary_data_output", "content_type"}
_RESERVED_PREFIX = "triton_"
# Parameters that would change the meaning of a tensor and are not supported.
_REFUSED = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "classification")


@dataclasses.dataclass(frozen=True)
class Output:
    """One requested output; `binary` if its data must follow the JSON."""

    name: str
    binary: bool


@dataclasses.dataclass(frozen=True)
class InferBody:
    """Content of a request.

    Attributes
    ----------
    id : str or None
        Returned with the answer.
    decoded : Decoded
        The samples, and the options from the parameters.
    outputs : tuple of Output
        The requested outputs in the order of the answer.
    """

    id: str | None
    decoded: Decoded
    outputs: tuple[Output, ...]


# --- requests -----------------------------------------------------------------------------------------------

_Parameters = dict[str, Any] | None
_NO_DATA = msgspec.Raw(b"null")


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: _Parameters = None
    data: msgspec.Raw = _NO_DATA


class _RequestedOutput(msgspec.Struct):
    name: str
    parameters: _Parameters = None


class _InferJson(msgspec.Struct):
    inputs: list[_Input]
    outputs: list[_RequestedOutput] | None = None
    id: str | None = None
    parameters: _Parameters = None


def decode(content: Body, header_length: str | None, manifest: Manifest, limits: Limits) -> InferBody:
    """Read the body of a request to `infer`.

    Parameters
    ----------
    content : bytes or bytearray
    header_length : str or None
        Value of the header `Inference-Header-Content-Length`: how many bytes of the body are JSON. 0 means
        that the body holds only the FP32 values of samples.
    manifest : Manifest
    limits : Limits

    Raises
    ------
    Problem
        If the body is invalid, with the place of the fault.
    """
    if not content:
        raise Problem("malformed-body", "the body is empty")
    n_json = _json_bytes(header_length, len(content))
    if n_json == 0:
        return _decode_raw(content, manifest, limits)
    body = _read_json(memoryview(content)[mark_bytes(content) : n_json])
    options = _options(body.parameters or {})
    outputs = _outputs(body, manifest, options)
    data = None if header_length is None else memoryview(content)[n_json:]
    samples, point = _samples(_only_input(body.inputs), data, manifest, limits)
    return InferBody(body.id, Decoded(samples, options, point), outputs)


def may_hold_images(content: Body, header_length: str | None) -> bool:
    """Tell whether the JSON may name the datatype of images; arguments as for `decode`."""
    with contextlib.suppress(Problem):
        n_json = _json_bytes(header_length, len(content))
        return any(content.find(word, 0, n_json) >= 0 for word in (tensors.BYTES.encode(), b"\\"))
    return False


def _json_bytes(header_length: str | None, n_bytes: int) -> int:
    if header_length is None:
        return n_bytes
    if not re.fullmatch("[0-9]{1,18}", header_length.strip()) or int(header_length) > n_bytes:
        raise Problem(
            "malformed-body",
            f"{HEADER_LENGTH} must be a number of bytes, at most the {n_bytes} of the body, "
            f"got {header_length[:80]!r}",
        )
    return int(header_length)


def _decode_raw(content: Body, manifest: Manifest, limits: Limits) -> InferBody:
    """Read a body without JSON: FP32 samples, answered with every output as binary data."""
    shape = manifest.sample_shape
    row_bytes = 4 * int(np.prod(shape))
    rows, rest = divmod(len(content), row_bytes)
    if rest:
        raise Problem(
            "malformed-body",
            f"a body without JSON must hold FP32 samples of {row_bytes} bytes each, got {len(content)} bytes",
        )
    check_rows(rows, limits)
    samples = np.frombuffer(content, "<f4").reshape(rows, *shape)
    return InferBody(None, Decoded(samples), tuple(Output(name, True) for name in output_tensors(manifest)))


# The data of a long body are cut out; the text before and after them is short.
_DATA = re.compile(BLANKS.join([rb'"data"', b":", rb"\["]))
_MOST_AROUND = 64 * 2**10
_MOST_OPENINGS = 4  # places that are tried: parameters may look like data
_HOLE = b'["cut out"]'


def _read_json(content: memoryview) -> _InferJson:
    """Read the JSON of a request; the data of a long one are not read yet.

    Reading all of it would block other threads for long. The data are cut out, from the bracket after
    `"data":` to the one that closes it, and replaced by a text that occurs nowhere else. If the rest is a
    valid request whose input has this text as its data, any other JSON value could be there, too. So the
    whole request is valid if the data are a JSON array, which reading them will check.
    """
    if len(content) <= SLICE_BYTES:
        return _decode_json(content)
    content = content[skip_blanks(content, 0) : end_of_text(content)]
    problem = None
    for opening in itertools.islice(_DATA.finditer(content, 0, _MOST_AROUND), _MOST_OPENINGS):
        begin = opening.end() - 1
        for find_end in (_guess_end, _find_end):
            try:
                body = _read_around(content, begin, find_end(content, begin))
            except Problem as found:
                problem = found
                continue
            if body is not None:
                return body
    raise problem or _too_much_around(content)


def _guess_end(content: memoryview, begin: int) -> int:
    """Return the place behind the last bracket before members that may follow the data; mostly right."""
    behind = max(begin + 1, len(content) - _MOST_AROUND)
    length = guess_end(bytes(content[behind:]))
    return len(content) if length is None else behind + length + 1


def _find_end(content: memoryview, begin: int) -> int:
    """Return the place behind the bracket that ends the array that begins here."""
    return min(find_cut(content, begin + 1, len(content)) + 1, len(content))


def _read_around(content: memoryview, begin: int, end: int) -> _InferJson | None:
    """Read a request whose data, between these places, are not read yet; None if they are no data."""
    before, after = bytes(content[:begin]), bytes(content[end : end + 2 * _MOST_AROUND])
    text = b"".join((before, _HOLE, after))
    if len(after) > _MOST_AROUND or _HOLE in before or _HOLE in after:
        raise _too_much_around(text)
    body = _decode_json(text)
    if len(body.inputs) == 1 and memoryview(body.inputs[0].data) != _HOLE:
        return None
    for each in body.inputs:
        each.data = content[begin:end]
    return body


def _too_much_around(text: memoryview | bytes) -> Problem:
    """Return the problem of a request that is long without its data; its first fault, if it has one."""
    try:
        _decode_json(text[:_MOST_AROUND])
    except Problem as problem:
        if TRUNCATED not in problem.detail:
            return problem
    return Problem(
        "malformed-body",
        f"the JSON of a long request must have the member data, an array, and at most {_MOST_AROUND} bytes "
        "before it and after it",
    )


def _decode_json(content: memoryview | bytes) -> _InferJson:
    body = decode_typed(content, _InferJson)
    check_members(bytes(content), _count_members(body))
    return body


def _count_members(body: _InferJson) -> int:
    """Count the known members of a body."""
    count = 1 + (body.outputs is not None) + (body.id is not None) + _count_parameters(body.parameters)
    for given in body.inputs:
        count += 3 + (given.data is not _NO_DATA) + _count_parameters(given.parameters)
    for wanted in body.outputs or ():
        count += 1 + _count_parameters(wanted.parameters)
    return count


def _count_parameters(parameters: _Parameters) -> int:
    return 0 if parameters is None else 1 + len(parameters)


def _options(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options from the parameters of a request."""
    options = {}
    for name, value in parameters.items():
        if name in PARAMETERS:
            options[name] = _read_option(name, value)
        elif name not in _RESERVED and not name.startswith(_RESERVED_PREFIX):
            known = ", ".join(PARAMETERS)
            raise _bad_parameter(name, f"the parameter {name[:80]!r} is unknown, only {known} are known")
    return options


def _read_option(name: str, value: Any) -> Any:
    form, words = OPTIONS[name]
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        raise _bad_parameter(name, f"the parameter {name} must be {words}, got {str(value)[:80]}") from error


def _bad_parameter(name: str, sentence: str) -> Problem:
    pointer = to_pointer(("parameters", name[:80]))
    return Problem("invalid-option", sentence, [{"detail": sentence, "pointer": pointer}])


def _outputs(body: _InferJson, manifest: Manifest, options: Mapping[str, Any]) -> tuple[Output, ...]:
    """Return the requested outputs, by default all of the model; the option `fdr` adds `selected`."""
    known = [*output_tensors(manifest), *([SELECTED] if "fdr" in options else [])]
    binary = _flag(body.parameters, "binary_data_output", "/parameters", default=False)
    if not body.outputs:
        return tuple(Output(name, binary) for name in known)
    outputs = []
    for position, requested in enumerate(body.outputs):
        place = f"/outputs/{position}"
        if requested.name not in known:
            hint = f"; {SELECTED} needs the parameter fdr" if requested.name == SELECTED else ""
            raise misplaced(
                f"{place}/name", f"must be one of {', '.join(known)}, got {requested.name[:80]!r}{hint}"
            )
        if any(output.name == requested.name for output in outputs):
            raise misplaced(f"{place}/name", f"the output {requested.name} must be named once")
        _refuse(requested.parameters, f"{place}/parameters")
        own = _flag(requested.parameters, "binary_data", f"{place}/parameters", default=binary)
        outputs.append(Output(requested.name, own))
    return tuple(outputs)


def _flag(parameters: _Parameters, name: str, place: str, *, default: bool) -> bool:
    value = (parameters or {}).get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise misplaced(f"{place}/{name}", f"must be a boolean, got {str(value)[:80]}")
    return value


def _refuse(parameters: _Parameters, place: str) -> None:
    """Refuse parameters that would change the meaning of a tensor."""
    for name in _REFUSED:
        if name in (parameters or {}):
            raise misplaced(f"{place}/{name}", "is not supported here")


def _only_input(inputs: Sequence[_Input]) -> _Input:
    """Return the single input."""
    for position, given in enumerate(inputs):
        if given.name != INPUT:
            raise misplaced(f"/inputs/{position}/name", f"must be {INPUT}, got {given.name[:80]!r}")
    if len(inputs) != 1:
        raise misplaced("/inputs", f"must hold the input {INPUT} once, got {len(inputs)} inputs")
    _refuse(inputs[0].parameters, "/inputs/0/parameters")
    return inputs[0]


def _samples(
    given: _Input, data: memoryview | None, manifest: Manifest, limits: Limits
) -> tuple[np.ndarray, Any]:
    """Return the samples, and the function that makes pointers to their values."""
    place, shape = "/inputs/0", tuple(given.shape)
    images = given.datatype == tensors.BYTES and manifest.kind == "image"
    if not images and given.datatype not in tensors.NUMBERS:
        words = [*tensors.NUMBERS, *([tensors.BYTES] if manifest.kind == "image" else [])]
        raise misplaced(
            f"{place}/datatype", f"must be one of {', '.join(words)} here, got {given.datatype[:80]!r}"
        )
    _check_shape(shape, manifest, images)
    check_rows(shape[0], limits)
    binary = _binary_data(given, data)
    pointer = f"{place}/data"
    expected = Expected.samples(manifest)
    if images:
        elements = (
            tensors.elements_from_json(given.data, shape[0], pointer)
            if binary is None
            else tensors.elements_from_bytes(binary, shape[0], place)
        )
        return decode_images(elements, expected, limits), None
    if binary is not None:
        return tensors.numbers_from_bytes(binary, given.datatype, shape, place), None
    samples, nested = tensors.numbers_from_json(
        given.data, given.datatype, shape, pointer, gaps=expected.cells
    )
    return samples, functools.partial(_point, pointer, shape, nested)


def _check_shape(shape: tuple[int, ...], manifest: Manifest, images: bool) -> None:
    """Check the shape before memory is allocated for it."""
    fits = shape[1:] in ((), (1,)) if images else shape[1:] == manifest.sample_shape
    if not shape or shape[0] < 0 or not fits:
        wanted = "[n] for images" if images else f"[n, {', '.join(map(str, manifest.sample_shape))}]"
        raise misplaced("/inputs/0/shape", f"must be {wanted}, got {str(list(shape))[:80]}")


def _binary_data(given: _Input, data: memoryview | None) -> memoryview | None:
    """Return the bytes after the JSON, all of which belong to the input; None if the input has `data`."""
    place, has_data = "/inputs/0/parameters/binary_data_size", memoryview(given.data) != b"null"
    size = (given.parameters or {}).get("binary_data_size")
    if size is None:
        if data:
            raise Problem(
                "malformed-body", f"{len(data)} bytes follow the JSON, but no input has binary_data_size"
            )
        if not has_data:
            raise misplaced("/inputs/0", "must have the member data, or the parameter binary_data_size")
        return None
    if has_data:
        raise misplaced("/inputs/0", "must have either the member data or the parameter binary_data_size")
    if data is None:
        raise Problem("malformed-body", f"binary data need the header {HEADER_LENGTH}")
    if type(size) is not int or size != len(data):
        raise misplaced(place, f"must be the {len(data)} bytes that follow the JSON, got {str(size)[:80]}")
    return data


def _point(pointer: str, shape: tuple[int, ...], nested: bool, index: tuple[int, ...]) -> str:
    """Return the JSON pointer of one value."""
    steps = index if nested else (int(np.ravel_multi_index(index, shape)),)
    return "/".join((pointer, *map(str, steps)))


# --- answers ------------------------------------------------------------------------------------------------


def graph_outputs(body: InferBody) -> tuple[str, ...]:
    """Return the outputs of the graph that a request needs in addition to the score."""
    return tuple(
        output.name for output in body.outputs if output.name in (RECONSTRUCTION, FEATURE_ERROR, LATENT)
    )


def encode(manifest: Manifest, body: InferBody, result: Inference) -> tuple[bytes, dict[str, str], str]:
    """Return the body, the extra headers and the media type of an answer."""
    arrays = {
        RATIO: result.ratio,
        P_VALUE: result.p_value,
        IS_ANOMALY: result.is_anomaly,
        SELECTED: result.selected,
        **result.outputs,
    }
    outputs, binaries = [], []
    for wanted in body.outputs:
        array = arrays[wanted.name]
        output = {"name": wanted.name, "datatype": tensors.datatype_of(array), "shape": array.shape}
        if wanted.binary:
            binaries.append(tensors.to_bytes(array))
            output["parameters"] = {"binary_data_size": len(binaries[-1])}
        else:
            output["data"] = orjson.Fragment(answers.in_slices(np.ascontiguousarray(array).reshape(-1)))
        outputs.append(output)
    rule = {"alpha": result.alpha, "expected_rate": result.expected_rate, "threshold": result.threshold}
    if not result.scored.all():
        rule["unscored"] = int(np.count_nonzero(~result.scored))
    document = {
        "model_name": manifest.name,
        "model_version": str(manifest.version),
        **({} if body.id is None else {"id": body.id}),
        "parameters": rule,
        "outputs": outputs,
    }
    head = codecs.to_json(document)
    if not binaries:
        return head, {}, bodies.JSON
    return b"".join([head, *binaries]), {HEADER_LENGTH: str(len(head))}, bodies.RAW

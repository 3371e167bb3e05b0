"""The Open Inference Protocol V2 over HTTP, pure: a request's body to samples, tensors to an answer's body.

The tensors are those of `model.onnx` and what the service makes of the score, so that a client may talk to
Triton with the same folder, or to the service. References: the protocol's `inference_rest.md`, and Triton's
binary tensor data extension.
"""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import orjson

from detector import Manifest
from detector.engine.graphs import FEATURE_ERROR, INPUT, LATENT, RECONSTRUCTION, SCORE
from service import answers, bodies
from service.bodies import OPTIONS, Decoded, Expected, Limits, check_rows, codecs
from service.bodies.images import decode_images
from service.bodies.json.cuts import BLANKS, guess_end
from service.bodies.json.members import check_members
from service.bodies.json.slices import SLICE_BYTES
from service.endpoints import tensors
from service.endpoints.tensors import misplaced
from service.http.messages import Body
from service.http.problems import Problem
from service.scoring.verbs import Inference

HEADER_LENGTH = "Inference-Header-Content-Length"
PLATFORM = "onnx_onnxv1"
EXTENSIONS = ("binary_tensor_data", "model_repository", "statistics", "parameters")

RATIO, P_VALUE, IS_ANOMALY, SELECTED = "ratio", "p_value", "is_anomaly", "selected"
# Names of the options that may stand among a request's parameters.
PARAMETERS = ("alpha", "fdr")
# Those of Triton, and the codec of MLServer's clients: they speak of things that change no value here.
_RESERVED = {"sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "headers"}
_RESERVED |= {"binary_data_output", "content_type"}
_RESERVED_PREFIX = "triton_"
# What would change the meaning of a tensor, and is not there.
_REFUSED = ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "classification")


@dataclasses.dataclass(frozen=True)
class Output:
    """One output that is asked for; `binary` where its data shall follow the JSON."""

    name: str
    binary: bool


@dataclasses.dataclass(frozen=True)
class InferBody:
    """What a request holds.

    Attributes
    ----------
    id : str or None
        Given back where it was given.
    decoded : Decoded
        The samples and the options among the parameters.
    outputs : tuple of Output
        In the order of the answer.
    """

    id: str | None
    decoded: Decoded
    outputs: tuple[Output, ...]


def output_tensors(manifest: Manifest) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Datatype and shape, the batch left out, of every output of a model, by name."""
    shape = manifest.sample_shape
    outputs: dict[str, tuple[str, tuple[int, ...]]] = {
        SCORE: ("FP32", ()),
        RATIO: ("FP64", ()),
        P_VALUE: ("FP64", ()),
        IS_ANOMALY: ("BOOL", ()),
        RECONSTRUCTION: ("FP32", shape),
        FEATURE_ERROR: ("FP32", shape),
    }
    if manifest.latent_shape is not None:
        outputs[LATENT] = ("FP32", manifest.latent_shape)
    return outputs


def describe_model(manifest: Manifest, versions: Sequence[int]) -> dict[str, Any]:
    """The metadata of a model: its versions that serve, and its tensors, the batch as -1."""
    outputs = output_tensors(manifest)
    return {
        "name": manifest.name,
        "versions": [str(version) for version in versions],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, *manifest.sample_shape]}],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": [-1, *shape]}
            for name, (datatype, shape) in outputs.items()
        ],
    }


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
        Of the header `Inference-Header-Content-Length`: how much of the body is JSON. 0 means none at all,
        only the FP32 values of samples.
    manifest : Manifest
    limits : Limits

    Raises
    ------
    Problem
        Saying what the body must be, what it is, and where.
    """
    if not content:
        raise Problem("malformed-body", "the body is empty")
    n_json = _json_bytes(header_length, len(content))
    if n_json == 0:
        return _decode_raw(content, manifest, limits)
    body = _read_json(memoryview(content)[:n_json])
    options = _options(body.parameters or {})
    outputs = _outputs(body, manifest, options)
    (sample_input,) = _check_inputs(body.inputs)
    data = None if header_length is None else memoryview(content)[n_json:]
    samples, point = _samples(sample_input, data, manifest, limits)
    return InferBody(body.id, Decoded(samples, options, point), outputs)


def may_hold_images(content: Body, header_length: str | None) -> bool:
    """Whether the datatype of images may stand in the JSON, perhaps escaped; arguments as of `decode`."""
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
    """A body without JSON: FP32 samples, answered with every output as binary data."""
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


# Of a long body the numbers of the input are cut out, between what is short before and after them.
_DATA = re.compile(BLANKS.join([rb'"data"', b":", rb"\["]))
_MOST_AROUND = 64 * 2**10
_HOLE = b'["cut out"]'


def _read_json(content: memoryview) -> _InferJson:
    """The JSON of a request; of a long one without its numbers, which are put back unread.

    A reader of it all would hold the interpreter for long. The numbers are cut out from the bracket after
    `"data":` to the last bracket before the next quote or brace, and a hole is put there that occurs nowhere
    else. If what is left is a request, and the hole is its input's data, then any value might stand there; so
    it is the whole request if what was cut out is one, which whoever reads it as numbers will see.
    """
    cut = _cut(content) if len(content) > SLICE_BYTES else None
    if cut is not None:
        before, numbers, after = cut
        with contextlib.suppress(Problem):
            body = _decode_json(before + _HOLE + after)
            if len(body.inputs) == 1 and memoryview(body.inputs[0].data) == _HOLE:
                body.inputs[0].data = numbers
                return body
    return _decode_json(content)


def _cut(content: memoryview) -> tuple[bytes, memoryview, bytes] | None:
    """What stands before the numbers, they, and what stands after them; None where they are not found."""
    opening = _DATA.search(content, 0, _MOST_AROUND)
    if opening is None:
        return None
    start, behind = opening.end() - 1, len(content) - _MOST_AROUND
    length = guess_end(bytes(content[behind:]))
    if length is None:
        return None
    end = behind + length + 1
    before, after = bytes(content[:start]), bytes(content[end:])
    return None if _HOLE in before or _HOLE in after else (before, content[start:end], after)


def _decode_json(content: memoryview | bytes) -> _InferJson:
    body = tensors.decode_json(content, _InferJson)
    check_members(bytes(content), _count_members(body))
    return body


def _count_members(body: _InferJson) -> int:
    """How many members a body has, as far as they are known here."""
    count = 1 + (body.outputs is not None) + (body.id is not None) + _count_parameters(body.parameters)
    for given in body.inputs:
        count += 3 + (given.data is not _NO_DATA) + _count_parameters(given.parameters)
    for wanted in body.outputs or ():
        count += 1 + _count_parameters(wanted.parameters)
    return count


def _count_parameters(parameters: _Parameters) -> int:
    return 0 if parameters is None else 1 + len(parameters)


def _options(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The options among the parameters of a request."""
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
    escaped = name[:80].replace("~", "~0").replace("/", "~1")
    return Problem("invalid-option", sentence, [{"detail": sentence, "pointer": f"/parameters/{escaped}"}])


def _outputs(body: _InferJson, manifest: Manifest, options: Mapping[str, Any]) -> tuple[Output, ...]:
    """The outputs asked for, all of the model where none is named; `selected` comes with the option `fdr`."""
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
    """Parameters that would change the meaning of a tensor: to pass over them would answer something else."""
    for name in _REFUSED:
        if name in (parameters or {}):
            raise misplaced(f"{place}/{name}", "is not served here")


def _check_inputs(inputs: Sequence[_Input]) -> Sequence[_Input]:
    """The one input."""
    for position, given in enumerate(inputs):
        if given.name != INPUT:
            raise misplaced(f"/inputs/{position}/name", f"must be {INPUT}, got {given.name[:80]!r}")
    if len(inputs) != 1:
        raise misplaced("/inputs", f"must hold the input {INPUT} once, got {len(inputs)} inputs")
    _refuse(inputs[0].parameters, "/inputs/0/parameters")
    return inputs


def _samples(
    given: _Input, data: memoryview | None, manifest: Manifest, limits: Limits
) -> tuple[np.ndarray, Any]:
    """The samples, and how a place within them is a place within the body."""
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
    if images and binary is not None:
        return _images(tensors.elements_from_bytes(binary, shape[0], place), manifest, limits), None
    if images:
        return _images(tensors.elements_from_json(given.data, shape[0], pointer), manifest, limits), None
    if binary is not None:
        return tensors.numbers_from_bytes(binary, given.datatype, shape, place), None
    samples, nested = tensors.numbers_from_json(
        given.data, given.datatype, shape, pointer, gaps=Expected.samples(manifest).cells
    )
    return samples, functools.partial(_point, pointer, shape, nested)


def _check_shape(shape: tuple[int, ...], manifest: Manifest, images: bool) -> None:
    """Before a byte is allocated by it."""
    fits = shape[1:] in ((), (1,)) if images else shape[1:] == manifest.sample_shape
    if not shape or shape[0] < 0 or not fits:
        wanted = "[n] for images" if images else f"[n, {', '.join(map(str, manifest.sample_shape))}]"
        raise misplaced("/inputs/0/shape", f"must be {wanted}, got {str(list(shape))[:80]}")


def _binary_data(given: _Input, data: memoryview | None) -> memoryview | None:
    """The bytes behind the JSON that belong to the input, which are all of them; None where it has `data`."""
    place, has_data = "/inputs/0/parameters/binary_data_size", memoryview(given.data) != b"null"
    size = (given.parameters or {}).get("binary_data_size")
    if size is None:
        if data:
            raise Problem("malformed-body", f"{len(data)} bytes follow the JSON, and no input has its size")
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


def _images(images: Sequence[bytes], manifest: Manifest, limits: Limits) -> np.ndarray:
    return decode_images(images, Expected.samples(manifest), limits)


def _point(pointer: str, shape: tuple[int, ...], nested: bool, index: tuple[int, ...]) -> str:
    """The JSON pointer of one value."""
    steps = index if nested else (int(np.ravel_multi_index(index, shape)),)
    return "/".join((pointer, *map(str, steps)))


# --- answers ------------------------------------------------------------------------------------------------


def graph_outputs(body: InferBody) -> tuple[str, ...]:
    """Those outputs of the graph that a request needs beside the score."""
    return tuple(
        output.name for output in body.outputs if output.name in (RECONSTRUCTION, FEATURE_ERROR, LATENT)
    )


def encode(manifest: Manifest, body: InferBody, result: Inference) -> tuple[bytes, dict[str, str], str]:
    """The answer to a request: body, headers beside those of every answer, and media type."""
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

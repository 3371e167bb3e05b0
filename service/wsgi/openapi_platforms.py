"""JSON schemas of the platforms' protocols, V2 and V1, for the OpenAPI description."""

from collections.abc import Mapping
from typing import Any

from detector.engine.graphs import INPUT
from service.endpoints import tensors

_PARAMETERS = {
    "description": "Values by name; alpha and fdr are options of a request, those of Triton are ignored.",
    "type": "object",
    "additionalProperties": True,
}
_DATATYPES = {"type": "string", "enum": [*tensors.NUMBERS, tensors.BYTES]}


def _object(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


def reference(schema: str) -> dict[str, str]:
    """Return a reference to a schema of the description."""
    return {"$ref": f"#/components/schemas/{schema}"}


def array(items: Mapping[str, Any], **limits: int) -> dict[str, Any]:
    """Return the schema of an array."""
    return {"type": "array", "items": items, **limits}


_DATA = {
    "description": "Flat or nested, row by row; base64 text for BYTES.",
    **array(reference("Value")),
}
_SHAPE, _NAMES = array({"type": "integer", "minimum": 0}), array({"type": "string"})
_STRING, _FLAG = {"type": "string"}, {"type": "boolean"}
_TENSOR = _object(
    ("name", "datatype", "shape"), name=_STRING, datatype=_STRING, shape=array({"type": "integer"})
)
_CONFIG_TENSOR = _object(
    ("name", "data_type", "dims"),
    name=_STRING,
    data_type=_STRING,
    dims=array({"type": "integer"}),
    reshape=_object(("shape",), shape=array({"type": "integer"})),
)
_LONG = {"type": "integer", "format": "int64"}  # clients have 32 bits for other integers
_DURATION = _object(("count", "ns"), count=_LONG, ns=_LONG)
_STATISTICS = _object(
    (
        "name",
        "version",
        "last_inference",
        "inference_count",
        "execution_count",
        "inference_stats",
        "batch_stats",
    ),
    name=_STRING,
    version=_STRING,
    last_inference={"description": "Milliseconds since 1970.", **_LONG},
    inference_count=_LONG,
    execution_count=_LONG,
    inference_stats={"type": "object", "additionalProperties": _DURATION},
    batch_stats=array(reference("Value")),
)
_VERSION_STATUS = _object(
    ("version", "state", "status"),
    version=_STRING,
    state=_STRING,
    status=_object(("error_code", "error_message"), error_code=_STRING, error_message=_STRING),
)

SCHEMAS: dict[str, Any] = {
    "ServerMetadata": _object(
        ("name", "version", "extensions"), name=_STRING, version=_STRING, extensions=_NAMES
    ),
    "Live": _object(("live",), live=_FLAG),
    "Ready": _object(("ready", "live"), ready=_FLAG, live=_FLAG),
    "ModelNames": _object(("models",), models=_NAMES),
    "ModelReady": _object(("name", "ready"), name=_STRING, ready=_FLAG),
    "ModelMetadata": _object(
        ("name", "versions", "platform", "inputs", "outputs"),
        name=_STRING,
        versions=_NAMES,
        platform=_STRING,
        inputs=array(_TENSOR),
        outputs=array(_TENSOR),
    ),
    "ModelConfig": _object(
        ("name", "platform", "version_policy", "max_batch_size", "input", "output", "dynamic_batching"),
        name=_STRING,
        platform=_STRING,
        version_policy=_object(("specific",), specific=_object(("versions",), versions=_NAMES)),
        max_batch_size={"type": "integer"},
        input=array(_CONFIG_TENSOR),
        output=array(_CONFIG_TENSOR),
        dynamic_batching=_object(()),
    ),
    "Signature": _object(
        ("model_spec", "metadata"),
        model_spec=_object(
            ("name", "signature_name", "version"), name=_STRING, signature_name=_STRING, version=_STRING
        ),
        metadata=_object(("signature_def",), signature_def={"type": "object", "additionalProperties": True}),
    ),
    "ModelStatus": _object(
        ("name", "ready", "model_version_status"),
        name=_STRING,
        ready=_FLAG,
        model_version_status=array(_VERSION_STATUS),
    ),
    "InferInput": _object(
        ("name", "shape", "datatype"),
        name={"type": "string", "const": INPUT},
        shape=_SHAPE,
        datatype=_DATATYPES,
        parameters=_PARAMETERS,
        data=_DATA,
    ),
    "RequestedOutput": _object(("name",), name=_STRING, parameters=_PARAMETERS),
    "InferRequest": _object(
        ("inputs",),
        id=_STRING,
        parameters=_PARAMETERS,
        inputs=array(reference("InferInput"), minItems=1, maxItems=1),
        outputs=array(reference("RequestedOutput")),
    ),
    "InferOutput": _object(
        ("name", "shape", "datatype"),
        name=_STRING,
        shape=_SHAPE,
        datatype=_STRING,
        parameters=_PARAMETERS,
        data=array(reference("Value")),
    ),
    "InferResponse": _object(
        ("model_name", "model_version", "outputs"),
        model_name=_STRING,
        model_version=_STRING,
        id=_STRING,
        parameters=_PARAMETERS,
        outputs=array(reference("InferOutput")),
    ),
    "IndexRequest": _object((), ready=_FLAG),
    "Index": array(
        _object(
            ("name", "version", "state", "reason"),
            name=_STRING,
            version=_STRING,
            state={"type": "string", "enum": ["READY", "UNAVAILABLE"]},
            reason=_STRING,
        )
    ),
    "Statistics": _object(("model_stats",), model_stats=array(_STATISTICS)),
}

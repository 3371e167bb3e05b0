"""The OpenAPI 3.1 description of every route, generated from one table."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Blueprint, Response

from detector.engine.graphs import INPUT
from detector.latents import DTYPES
from service import answers, bodies
from service.bodies import codecs
from service.endpoints.open_inference import HEADER_LENGTH
from service.endpoints.verbs import VERBS
from service.http import problems
from service.version import VERSION
from service.wsgi import openapi_platforms as platform_schemas
from service.wsgi.openapi_platforms import array

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_NAME = {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"}
_PARAMETERS: Mapping[str, dict[str, Any]] = {
    "name": {"description": "Model name.", "schema": _NAME},
    "label": {"description": "Label of a version, such as `stable`.", "schema": _NAME},
    "version": {
        "description": "Version number.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 9_999_999_999},
    },
}
_RATE = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
_OPTIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "alpha": ("False-alarm rate to use instead of the model's own.", _RATE),
    "fdr": ("False-discovery rate of a Benjamini-Hochberg selection over the batch.", _RATE),
    "explain": (
        "How many features to name for each sample, or `map` for the whole error map.",
        {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "map"}]},
    ),
    "dtype": (
        "Dtype of latent vectors; `int8` uses the offset and scale of the manifest.",
        {"enum": list(DTYPES), "default": DTYPES[0]},
    ),
    "signature_name": (
        "Sent by clients of TensorFlow Serving; there is only one.",
        {"enum": ["serving_default", ""]},
    ),
}
_REQUESTS = {
    "score": "ScoreRequest",
    "denoise": "DenoiseRequest",
    "encode": "LatentRequest",
    "decode": "LatentRequest",
}
_HEADER_LENGTH = {
    "name": HEADER_LENGTH,
    "in": "header",
    "description": "Bytes of JSON, if tensors follow it; 0 if the body holds only FP32 samples.",
    "schema": {"type": "integer", "minimum": 0},
}
_BINARY: dict[str, Any] = {}  # OpenAPI 3.1: a media type without a schema is bytes

# Status codes of problems that a route can return; all routes can return 401, 405 and 500, too.
_VERB_STATUSES = (400, 404, 406, 413, 415, 422, 503)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One route with one method."""

    path: str
    method: str
    summary: str
    answer: str = "application/json"
    statuses: tuple[int, ...] = ()
    verb: str | None = None
    request: str | None = None  # schema of the JSON body
    schema: str | None = None  # schema of the JSON answer


_VERBS = {
    "score": (
        "Score, ratio, p-value and decision for each sample, or step of a series.",
        "Scores",
        _VERB_STATUSES,
    ),
    "denoise": ("The reconstruction of each sample, in raw units.", "Reconstruction", _VERB_STATUSES),
    "encode": ("The latent vector of each sample.", "Latent", (*_VERB_STATUSES, 409)),
    "decode": ("The reconstruction of each latent vector.", "Reconstruction", (*_VERB_STATUSES, 409)),
    "classify": (
        "The class of each sample, for models with a classifier.",
        "Classes",
        (*_VERB_STATUSES, 409),
    ),
}
_PREFIXES = ("", "/models/{name}", "/models/{name}/versions/{version}", "/models/{name}/labels/{label}")
_V2 = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
_V1 = ("/v1/models/{name}", "/v1/models/{name}/versions/{version}")
_PLATFORM_STATUSES = (400, 404, 413, 415, 422, 503)


def _platform_routes() -> Iterator[Operation]:
    """Yield the routes of the Open Inference Protocol V2, and of V1 of KServe and TensorFlow Serving."""
    for path in ("/v2", "/v2/"):
        yield Operation(path, "get", "Name, version and extensions of the server.", schema="ServerMetadata")
    yield Operation("/v2/health/live", "get", "Whether the process answers.", schema="Live")
    yield Operation(
        "/v2/health/ready", "get", "Whether every required model is loaded.", statuses=(503,), schema="Ready"
    )
    yield Operation("/v2/models", "get", "Names of the models that serve.", schema="ModelNames")
    yield Operation("/v2/models/stats", "get", "Statistics of all loaded versions.", schema="Statistics")
    for path in _V2:
        yield Operation(path, "get", "Tensors of a model.", statuses=(404,), schema="ModelMetadata")
        yield Operation(
            f"{path}/config",
            "get",
            "Configuration of a model in the form of Triton.",
            statuses=(404,),
            schema="ModelConfig",
        )
        yield Operation(
            f"{path}/ready", "get", "Whether a model serves.", statuses=(404, 503), schema="ModelReady"
        )
        yield Operation(
            f"{path}/stats", "get", "Statistics of a model.", statuses=(404,), schema="Statistics"
        )
        yield Operation(
            f"{path}/infer",
            "post",
            "Scores and other tensors of samples.",
            statuses=_PLATFORM_STATUSES,
            request="InferRequest",
            schema="InferResponse",
        )
    yield Operation(
        "/v2/repository/index",
        "post",
        "Every version of the store and its state.",
        statuses=(400, 413, 422),
        request="IndexRequest",
        schema="Index",
    )
    for word in ("load", "unload"):
        path = f"/v2/repository/models/{{name}}/{word}"
        yield Operation(path, "post", "Refused: models are loaded from the store.", statuses=(409,))
    yield Operation("/v1/models", "get", "Names of the models that serve.", schema="ModelNames")
    for path in _V1:
        yield Operation(path, "get", "Whether a model serves.", statuses=(404, 503), schema="ModelStatus")
    for path in (*_V1, "/v1/models/{name}/labels/{label}"):
        yield Operation(
            f"{path}:predict",
            "post",
            "A prediction for each instance.",
            statuses=_PLATFORM_STATUSES,
            request="PredictRequest",
            schema="Predictions",
        )
        yield Operation(
            f"{path}:explain",
            "post",
            "A prediction and an explanation for each instance.",
            statuses=_PLATFORM_STATUSES,
            request="PredictRequest",
            schema="Explanations",
        )
        yield Operation(
            f"{path}/metadata",
            "get",
            "Signature of a model in the form of TensorFlow Serving.",
            statuses=(404,),
            schema="Signature",
        )


ROUTES = (
    *(
        Operation(f"{prefix}/{verb}", "post", summary, statuses=statuses, verb=verb)
        for prefix in _PREFIXES
        for verb, (summary, _, statuses) in _VERBS.items()
    ),
    Operation(
        "/models", "get", "Every model of the store: loaded versions, and refused ones with the reason."
    ),
    Operation("/models/{name}", "get", "One model.", statuses=(404,)),
    Operation("/models/{name}/versions/{version}", "get", "One version, with its manifest.", statuses=(404,)),
    Operation("/models/{name}/versions/{version}/report", "get", "The HTML report.", "text/html", (404,)),
    *_platform_routes(),
    Operation("/livez", "get", "Whether the process answers; needs no key."),
    Operation("/readyz", "get", "Whether every required model is loaded; needs no key.", statuses=(503,)),
    Operation("/metrics", "get", "Prometheus metrics.", "text/plain"),
    Operation("/openapi.json", "get", "This description."),
)


def blueprint(*, with_keys: bool) -> Blueprint:
    """`GET /openapi.json`."""
    routes = Blueprint("openapi", __name__)
    content = codecs.to_json(describe(with_keys=with_keys))

    @routes.get("/openapi.json")
    def description() -> Response:
        return Response(content, content_type=bodies.JSON)

    return routes


def describe(*, with_keys: bool) -> dict[str, Any]:
    """Return the whole description; `with_keys` if clients must send a key."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "residual",
            "version": VERSION,
            "summary": "Anomaly detection by reconstruction error.",
        },
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }
    if with_keys:
        document["security"] = [{"bearer": []}, {"key": []}]
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    return document


def _operation(route: Operation) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method} {route.path}",
        "parameters": [
            {"name": name, "in": "path", "required": True, **parameter}
            for name, parameter in _PARAMETERS.items()
            if f"{{{name}}}" in route.path
        ],
        "responses": {"200": _success(route)}
        | {str(status): _failure(status) for status in sorted({401, 405, 500, *route.statuses})},
    }
    if route.verb:
        operation["requestBody"] = {"required": True, "content": _bodies(route.verb)}
    if route.request:
        content: dict[str, Any] = {bodies.JSON: {"schema": _reference(route.request)}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.request == "InferRequest":
        content[bodies.RAW] = _BINARY
        operation["parameters"].append(_HEADER_LENGTH)
    for name in VERBS[route.verb].options if route.verb else ():
        text, schema = _OPTIONS[name]
        operation["parameters"].append({"name": name, "in": "query", "description": text, "schema": schema})
    return operation


def _success(route: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {route.answer: {}}
    if route.schema:
        content = {bodies.JSON: {"schema": _reference(route.schema)}}
    if route.schema == "InferResponse":
        content[bodies.RAW] = _BINARY
    if route.verb:
        content = dict.fromkeys(answers.forms(VERBS[route.verb].output), _BINARY)
        content[bodies.JSON] = {"schema": _reference(_VERBS[route.verb][1])}
    return {"description": "Answered.", "headers": _headers(route), "content": content}


def _headers(route: Operation) -> dict[str, Any]:
    names = ["X-Request-Id", "X-Model-Version"] if route.verb else ["X-Request-Id"]
    if route.verb == "encode":
        names += ["X-Compression-Ratio", "X-Reconstruction-Error"]
    return {name: {"schema": {"type": "string"}} for name in names}


def _failure(status: int) -> dict[str, Any]:
    words = [word for word, kind in problems.TYPES.items() if kind.status == status]
    return {"description": " or ".join(words), "content": {problems.MEDIA_TYPE: {"schema": _PROBLEM}}}


def _bodies(verb: str) -> dict[str, Any]:
    """Return the media types of the body; images cannot hold latent vectors."""
    schema = _REQUESTS.get(verb, "Request")
    read = (form for form in codecs.DECODERS if not bodies.lacks_pyarrow(form))
    forms = {bodies.JSON: {"schema": _reference(schema)}} | dict.fromkeys(read, _BINARY)
    forms[bodies.MULTIPART] = {"schema": {"type": "object", "additionalProperties": {"format": "binary"}}}
    forms[bodies.NDJSON] = {
        "schema": {"description": "A JSON instance on each line, answered line by line.", "type": "string"}
    }
    images = bodies.IMAGES if VERBS[verb].takes_latent else ()
    return {form: content for form, content in forms.items() if form not in images}


def _reference(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _object(properties: Mapping[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


_TENSOR = {"type": "array", "items": {"anyOf": [{"type": "number"}, {"$ref": "#/components/schemas/Tensor"}]}}
_CELL = {
    "description": "A number; also text or a boolean if the manifest has `categories` for the feature, and "
    "null if its `missing` is `median`.",
    "type": ["number", "string", "boolean", "null"],
}
_ROW = array(_CELL)
_NAMED = {"type": "object", "additionalProperties": _CELL}
_INSTANCE = {
    "description": "An array of the sample's shape, or an object with a value for each feature name. For a "
    "sequence model a window of such steps, or one step of a series; a number if there is one channel.",
    "anyOf": [{"$ref": "#/components/schemas/Tensor"}, _ROW, _NAMED, array(_NAMED), {"type": "number"}],
}
_INSTANCES = array(_INSTANCE, minItems=1)
_TIMESTAMP = {"anyOf": [{"type": "string"}, {"type": "number"}]}
_TIMESTAMPS = {
    "description": "One for each step of a series, returned as `timestamp`.",
    "type": "array",
    "items": _TIMESTAMP,
}


def _request(options: tuple[str, ...], *, timestamps: bool = False) -> dict[str, Any]:
    """Return the schema of a JSON body with instances and these options."""
    members = {"instances": _INSTANCES, **{name: _OPTIONS[name][1] for name in options}}
    return _object(members | ({"timestamps": _TIMESTAMPS} if timestamps else {}), ("instances",))


_MODEL = {"model": {"type": "string"}, "version": {"type": "integer"}}

_CONTRIBUTION = _object(
    {
        "feature": {"type": "string"},
        "index": array({"type": "integer"}),
        "contribution": {"type": "number", "minimum": 0, "maximum": 1},
        "actual": _CELL,
        "expected": {"type": ["number", "string"]},
    },
    ("feature", "index", "contribution", "actual", "expected"),
)
_SCORES: dict[str, Any] = {
    **_MODEL,
    "alpha": _RATE,
    "expected_rate": _RATE,
    "threshold": {"type": "number", "exclusiveMinimum": 0},
    "score": array({"type": "number", "minimum": 0}),
    "ratio": array({"type": "number", "minimum": 0}),
    "p_value": array({"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
    "is_anomaly": array({"type": "boolean"}),
}
_DECISIONS = ("score", "ratio", "p_value", "is_anomaly")
_CLASSES = {
    **_MODEL,
    "classes": array({"type": "string"}),
    "label": array({"type": "string"}),
    "probability": array(array({"type": "number", "minimum": 0, "maximum": 1})),
}
_RECONSTRUCTION = {"anyOf": [_TENSOR, array(array({"type": ["number", "string"]}))]}
_PREDICTION = _object(
    {
        **{name: _SCORES[name]["items"] for name in _DECISIONS},
        "selected": {"type": "boolean"},
        "explanation": {"anyOf": [array(_CONTRIBUTION), {"$ref": "#/components/schemas/Tensor"}]},
    },
    _DECISIONS,
)
_OUTPUTS = {
    **{name: _SCORES[name] for name in _DECISIONS},
    "selected": array({"type": "boolean"}),
    "explanation": _reference("Explanation"),
}
_EXPLANATION = {"anyOf": [array(array(_CONTRIBUTION)), {"$ref": "#/components/schemas/Tensor"}]}

_COLUMN = _object({"outputs": _object(_OUTPUTS, _DECISIONS)}, ("outputs",))
_PREDICT_REQUEST = _object(
    {
        "instances": _INSTANCES,
        "inputs": {
            "description": "The samples as a column, instead of instances; the answer has outputs.",
            "anyOf": [_INSTANCES, _object({INPUT: _INSTANCES}, (INPUT,))],
        },
        **{name: _OPTIONS[name][1] for name in (*VERBS["score"].options, "signature_name")},
    },
    (),
)

_SCHEMAS: dict[str, Any] = {
    "Tensor": _TENSOR,
    "Explanation": _EXPLANATION,
    "Request": _request(()),
    "ScoreRequest": _request(VERBS["score"].options, timestamps=True),
    "DenoiseRequest": _request((), timestamps=True),
    "LatentRequest": _request(VERBS["encode"].options),
    "Scores": _object(
        {
            **_SCORES,
            "timestamp": array(_TIMESTAMP),
            "selected": array({"type": "boolean"}),
            "explanation": _reference("Explanation"),
        },
        tuple(_SCORES),
    ),
    "Reconstruction": _object(
        {**_MODEL, "timestamp": array(_TIMESTAMP), "reconstruction": _RECONSTRUCTION},
        (*_MODEL, "reconstruction"),
    ),
    "Latent": _object({**_MODEL, "latent": _TENSOR}, (*_MODEL, "latent")),
    "Classes": _object(_CLASSES, tuple(_CLASSES)),
    "PredictRequest": _PREDICT_REQUEST,
    "Predictions": {"anyOf": [_object({"predictions": array(_PREDICTION)}, ("predictions",)), _COLUMN]},
    "Explanations": _object(
        {"predictions": array(_PREDICTION), "explanations": _reference("Explanation")},
        ("predictions", "explanations"),
    ),
    **platform_schemas.SCHEMAS,
    "Problem": _object(
        {
            "type": {"enum": list(problems.TYPES)},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "instance": {"type": "string", "description": "The request id."},
            "errors": array(
                _object(
                    {
                        "detail": {"type": "string"},
                        "pointer": {"type": "string", "description": "JSON pointer into the body."},
                        "row": {"type": "integer", "minimum": 0},
                        "column": {"type": ["string", "integer"]},
                        "parameter": {"type": "string"},
                    },
                    ("detail",),
                )
            ),
            "error": {"type": "string", "description": "The detail again, on the paths of V1 and V2."},
        },
        ("type", "title", "status", "detail", "instance"),
    ),
}

"""The OpenAPI 3.1 description, generated from the table of routes and the schemas."""

from typing import Any

from flask import Blueprint, Response

from service import answers, bodies
from service.bodies import codecs
from service.endpoints.open_inference import HEADER_LENGTH
from service.endpoints.verbs import COMPRESSION_RATIO, RECONSTRUCTION_ERROR, VERBS
from service.http import problems
from service.version import VERSION
from service.wsgi import openapi_schemas as schemas
from service.wsgi.openapi_platforms import reference
from service.wsgi.openapi_routes import OPEN, ROUTES, TAGS, Operation

_PARAMETERS = {
    "name": {"description": "Model name.", "schema": schemas.NAME},
    "label": {"description": "Label of a version, such as `stable`.", "schema": schemas.NAME},
    "version": {"description": "Version number.", "schema": schemas.VERSION},
}
_HEADER_LENGTH = {
    "name": HEADER_LENGTH,
    "in": "header",
    "description": "Bytes of JSON, if tensors follow it; 0 if the body holds only FP32 samples.",
    "schema": {"type": "integer", "minimum": 0},
}
_CHOICES = {
    "{version}": "Of one version of a named model.",
    "{label}": "Of the version of a named model that a label names.",
    "{name}": "Of a named model: the version with the label `stable`, or the highest one that loads.",
}
_TEXT = {"schema": {"type": "string"}}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_TEXTS = (bodies.CSV, bodies.NDJSON)
_LINES = {"description": "A JSON instance on each line, answered line by line.", "type": "string"}


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
        paths.setdefault(route.path, {})[route.method] = _operation(route, with_keys=with_keys)
    components: dict[str, Any] = {"schemas": schemas.SCHEMAS}
    if with_keys:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "residual",
            "version": VERSION,
            "summary": "Anomaly detection by reconstruction error.",
            "description": "Scores samples with models of the store. Every error is a problem document.",
            "contact": {"name": "The residual authors"},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The server that this description comes from."}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "security": [{"bearer": []}, {"key": []}] if with_keys else [],
        "paths": paths,
        "components": components,
    }


def _operation(route: Operation, *, with_keys: bool) -> dict[str, Any]:
    choice = next((text for word, text in _CHOICES.items() if word in route.path), "")
    operation: dict[str, Any] = {
        "operationId": route.id,
        "tags": [route.tag],
        "summary": route.summary,
        "description": f"{route.summary} {choice}".strip(),
        "parameters": [
            {"name": name, "in": "path", "required": True, **parameter}
            for name, parameter in _PARAMETERS.items()
            if f"{{{name}}}" in route.path
        ],
        "responses": {"200": _success(route)}
        | {str(status): _failure(status) for status in sorted({401, 405, 500, *route.statuses})},
    }
    if with_keys and route.path in OPEN:
        operation["security"] = []
    if route.request:
        content: dict[str, Any] = {bodies.JSON: {"schema": reference(route.request)}}
        if route.verb:
            content |= _bodies(route.verb)
        if route.request == "InferRequest":
            content[bodies.RAW] = _BINARY
            operation["parameters"].append(_HEADER_LENGTH)
        operation["requestBody"] = {"required": True, "content": content}
    for name in VERBS[route.verb].options if route.verb else ():
        text, schema = schemas.OPTIONS[name]
        operation["parameters"].append({"name": name, "in": "query", "description": text, "schema": schema})
    return operation


def _success(route: Operation) -> dict[str, Any]:
    if route.schema is None:
        return {"description": "Never."}
    content: dict[str, Any] = {route.answer: {"schema": reference(route.schema)}}
    if route.verb:
        forms = answers.forms(VERBS[route.verb].output)
        content |= {form: _form(form) for form in forms if form != bodies.JSON}
    if route.schema == "InferResponse":
        content[bodies.RAW] = _BINARY
    return {"description": "Answered.", "headers": _headers(route), "content": content}


def _headers(route: Operation) -> dict[str, Any]:
    names = ["X-Request-Id", "X-Model-Version"] if route.verb else ["X-Request-Id"]
    if route.verb == "encode":
        names += [COMPRESSION_RATIO, RECONSTRUCTION_ERROR]
    return dict.fromkeys(names, _TEXT)


def _failure(status: int) -> dict[str, Any]:
    words = [word for word, kind in problems.TYPES.items() if kind.status == status]
    content = {problems.MEDIA_TYPE: {"schema": reference("Problem")}}
    return {"description": " or ".join(words), "content": content}


def _bodies(verb: str) -> dict[str, Any]:
    """Return the media types of the body besides JSON; images cannot hold latent vectors."""
    forms = {form: _form(form) for form in codecs.DECODERS if not bodies.lacks_pyarrow(form)}
    forms[bodies.MULTIPART] = {"schema": {"type": "object", "additionalProperties": _BINARY["schema"]}}
    forms[bodies.NDJSON] = {"schema": _LINES}
    images = bodies.IMAGES if VERBS[verb].takes_latent else ()
    return {form: content for form, content in forms.items() if form not in images}


def _form(media_type: str) -> dict[str, Any]:
    return _TEXT if media_type in _TEXTS else _BINARY

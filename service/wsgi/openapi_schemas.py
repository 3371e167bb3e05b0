"""JSON schemas of requests and answers, for the OpenAPI description; those of V2 and V1 are elsewhere.

Generated clients shape their types by the form of a schema: every type is named in `type`, and every array
has `items`. openapi-generator makes a class of every choice, which its users must fill, except of `Value`: so
requests have `Value` where several types are possible, and a description says which.
"""

from collections.abc import Mapping
from typing import Any

from detector.engine.graphs import INPUT
from detector.latents import DTYPES
from service.endpoints.verbs import VERBS
from service.http import problems
from service.wsgi import openapi_platforms
from service.wsgi.openapi_platforms import array, reference

RATE = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
OPTIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "alpha": ("False-alarm rate to use instead of the model's own.", RATE),
    "fdr": ("False-discovery rate of a Benjamini-Hochberg selection over the batch.", RATE),
    "explain": (
        "How many features to name for each sample, or `map` for the whole error map.",
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "enum": ["map"]}]},
    ),
    "dtype": (
        "Dtype of latent vectors; `int8` uses the offset and scale of the manifest.",
        {"type": "string", "enum": list(DTYPES), "default": DTYPES[0]},
    ),
    "signature_name": (
        "Sent by clients of TensorFlow Serving; there is only one.",
        {"type": "string", "enum": ["serving_default", ""]},
    ),
}
NAME = {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"}
VERSION = {"type": "integer", "format": "int64", "minimum": 1, "maximum": 9_999_999_999}

_MOST_NESTED = 4  # a batch of images with channels
_TEXT, _FLAG, _NUMBER, _INTEGER = ({"type": name} for name in ("string", "boolean", "number", "integer"))


def _object(properties: Mapping[str, Any], required: tuple[str, ...]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _or_null(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


def _values() -> dict[str, Any]:
    """Return the schemas of values by name: `Value`, which names `Value3` for what is within it, and so on.

    A schema that names itself becomes a type that TypeScript refuses.
    """
    scalars = [{"type": name} for name in ("number", "integer", "string", "boolean", "null")]
    schemas: dict[str, Any] = {"Value0": {"type": ["number", "string", "boolean", "null"]}}
    for depth, inner in enumerate(tuple(f"Value{depth}" for depth in range(_MOST_NESTED)), 1):
        name = f"Value{depth}" if depth < _MOST_NESTED else "Value"
        nested = {"type": "object", "additionalProperties": reference(inner)}
        schemas[name] = {
            "description": f"A value as JSON has it, or an array or object, nested at most {depth} deep.",
            "anyOf": [*scalars, array(reference(inner)), nested],
        }
    return schemas


_VALUES = _values()
_INSTANCES = {
    "description": "An array of the sample's shape for each sample, or an object with a value for each "
    "feature name. For a sequence model windows of such steps, or the steps of one series; numbers if there "
    "is one channel. A value is a number; also text or a boolean if the manifest has `categories` for the "
    "feature, and null unless its `missing` is `refuse`.",
    **array(reference("Value"), minItems=1),
}
_TIMESTAMPS = {
    "description": "A text or a number for each step of a series, returned as `timestamp`.",
    **array(reference("Value")),
}


def _members(options: tuple[str, ...]) -> dict[str, Any]:
    """Return the schemas of options in a body; a choice of types is a `Value`."""
    return {
        name: {"description": text, **(reference("Value") if "anyOf" in schema else schema)}
        for name, (text, schema) in OPTIONS.items()
        if name in options
    }


def _request(options: tuple[str, ...], *, timestamps: bool = False) -> dict[str, Any]:
    """Return the schema of a JSON body with instances and these options."""
    members = {"instances": _INSTANCES, **_members(options)}
    return _object(members | ({"timestamps": _TIMESTAMPS} if timestamps else {}), ("instances",))


_MODEL = {"model": _TEXT, "version": VERSION}
_CONTRIBUTION = _object(
    {
        "feature": _TEXT,
        "index": array(_INTEGER),
        "contribution": {"type": "number", "minimum": 0, "maximum": 1},
        "actual": reference("Value"),
        "expected": reference("Value"),
    },
    ("feature", "index", "contribution", "actual", "expected"),
)
_COLUMNS: dict[str, Any] = {
    "score": array(_or_null({"type": "number", "minimum": 0})),
    "ratio": array(_or_null({"type": "number", "minimum": 0})),
    "p_value": array(_or_null({"type": "number", "exclusiveMinimum": 0, "maximum": 1})),
    "is_anomaly": array(_or_null(_FLAG)),
}
_ASKED_COLUMNS = {"selected": array(_or_null(_FLAG)), "explanation": reference("Explanation")}
_UNSCORED = {
    "description": "How many elements are null, and why: the series lacks a value in their windows.",
    **_object({"count": {"type": "integer", "minimum": 1}, "reason": _TEXT}, ("count", "reason")),
}
_RULE = {"alpha": RATE, "expected_rate": RATE, "threshold": {"type": "number", "exclusiveMinimum": 0}}
_CLASSES = {
    **_MODEL,
    "classes": array(_TEXT),
    "label": array(_TEXT),
    "probability": array(array({"type": "number", "minimum": 0, "maximum": 1})),
}
_PREDICTION = _object(
    {
        **{name: schema["items"] for name, schema in _COLUMNS.items()},
        "selected": _or_null(_FLAG),
        "explanation": array(reference("Value")),
    },
    tuple(_COLUMNS),
)
_VERSION_PROPERTIES = {
    "version": VERSION,
    "state": _TEXT,
    "reason": _or_null(_TEXT),
    "kind": _TEXT,
    "verbs": array(_TEXT),
    "sample_shape": array(_INTEGER),
    "digest": _TEXT,
    "loaded_at": {"type": "string", "format": "date-time"},
}
_PLACE = _object(
    {
        "detail": _TEXT,
        "pointer": {"type": "string", "description": "JSON pointer into the body."},
        "row": {"type": "integer", "minimum": 0},
        "column": {"anyOf": [_TEXT, _INTEGER]},
        "parameter": _TEXT,
    },
    ("detail",),
)

SCHEMAS: dict[str, Any] = {
    **_VALUES,
    "Timestamp": {"anyOf": [_TEXT, _NUMBER]},
    "Request": _request(()),
    "ScoreRequest": _request(VERBS["score"].options, timestamps=True),
    "DenoiseRequest": _request((), timestamps=True),
    "LatentRequest": _request(VERBS["encode"].options),
    "Contribution": _CONTRIBUTION,
    "ErrorMap": {
        "description": "The error of every feature, in the shape of the sample; null without a score.",
        # Never null as a whole: generators for Go make no name for a choice of nullable elements.
        "anyOf": [each for each in _VALUES["Value"]["anyOf"] if each.get("type") != "null"],
    },
    "Explanation": {
        "description": "Contributions to the score of each sample, or the error of every feature.",
        "anyOf": [array(array(reference("Contribution"))), array(reference("ErrorMap"))],
    },
    "Scores": _object(
        {
            **_MODEL,
            **_RULE,
            "timestamp": array(reference("Timestamp")),
            **_COLUMNS,
            **_ASKED_COLUMNS,
            "unscored": _UNSCORED,
        },
        (*_MODEL, *_RULE, *_COLUMNS),
    ),
    "Reconstruction": _object(
        {**_MODEL, "timestamp": array(reference("Timestamp")), "reconstruction": array(reference("Value"))},
        (*_MODEL, "reconstruction"),
    ),
    "Latent": _object({**_MODEL, "latent": array(reference("Value"))}, (*_MODEL, "latent")),
    "Classes": _object(_CLASSES, tuple(_CLASSES)),
    "PredictRequest": _object(
        {
            "instances": _INSTANCES,
            "inputs": {
                "description": f"The samples as a column, or an object with the column as `{INPUT}`, instead "
                "of instances; the answer then has outputs.",
                **reference("Value"),
            },
            **_members((*VERBS["score"].options, "signature_name")),
        },
        (),
    ),
    "Prediction": _PREDICTION,
    "Outputs": _object({**_COLUMNS, **_ASKED_COLUMNS}, tuple(_COLUMNS)),
    "Predictions": _object(
        {"predictions": array(reference("Prediction")), "outputs": reference("Outputs")}, ()
    ),
    "Explanations": _object(
        {"predictions": array(reference("Prediction")), "explanations": reference("Explanation")},
        ("predictions", "explanations"),
    ),
    "Models": _object(
        {"default_model": _or_null(_TEXT), "models": array(reference("Model"))}, ("default_model", "models")
    ),
    "Model": _object(
        {
            "name": _TEXT,
            "version": {"description": "The one that the bare name means.", **_or_null(VERSION)},
            "labels": {"type": "object", "additionalProperties": VERSION},
            "versions": array(reference("VersionState")),
        },
        ("name", "version", "labels", "versions"),
    ),
    "VersionState": _object(_VERSION_PROPERTIES, ("version", "state", "reason")),
    "Version": _object(
        {
            "model": _TEXT,
            **_VERSION_PROPERTIES,
            "manifest": {
                "description": "`manifest.json`; null if the version was refused.",
                "type": ["object", "null"],
                "additionalProperties": True,
            },
        },
        ("model", "version", "state", "reason", "manifest"),
    ),
    "Status": _object({"status": _TEXT, "warnings": array(_TEXT)}, ("status",)),
    "Text": _TEXT,
    "Description": {"type": "object", "additionalProperties": True},
    "Place": _PLACE,
    "Problem": _object(
        {
            "type": {"type": "string", "enum": list(problems.TYPES)},
            "title": _TEXT,
            "status": _INTEGER,
            "detail": _TEXT,
            "instance": {"type": "string", "description": "The request id."},
            "errors": array(reference("Place")),
            "error": {"type": "string", "description": "The detail again, on the paths of V1 and V2."},
        },
        ("type", "title", "status", "detail", "instance"),
    ),
    **openapi_platforms.SCHEMAS,
}

"""Every route of the service, for the OpenAPI description: what it does, takes and answers."""

import dataclasses
from collections.abc import Iterator, Mapping

JSON = "application/json"
# Paths of V2 that are answered like another one, by which the description knows them.
ALIASES = {"/v2/": "/v2"}
TAGS: Mapping[str, str] = {
    "Scoring": "Scores, reconstructions, latents and classes of samples.",
    "Models": "The models of the store, their versions and reports.",
    "V2": "The Open Inference Protocol, as of KServe and Triton.",
    "V1": "The protocol of TensorFlow Serving and of KServe's first version.",
    "Service": "Probes, metrics and this description.",
}
OPEN = ("/livez", "/readyz")  # need no key


@dataclasses.dataclass(frozen=True)
class Operation:
    """One route with one method.

    Attributes
    ----------
    path, method : str
    id : str
        Unique; generated clients name their functions by it.
    tag : str
        One of `TAGS`.
    summary : str
    answer : str
        Media type of the answer.
    statuses : tuple of int
        Status codes of problems, besides those of all routes.
    verb : str or None
    request, schema : str or None
        Names of the schemas of the JSON body and of the answer.
    """

    path: str
    method: str
    id: str
    tag: str
    summary: str
    answer: str = JSON
    statuses: tuple[int, ...] = ()
    verb: str | None = None
    request: str | None = None
    schema: str | None = None


_VERB_STATUSES = (400, 404, 406, 413, 415, 422, 503)
_PLATFORM_STATUSES = (400, 404, 413, 415, 422, 503)
_VERBS = {
    "score": ("Score, ratio, p-value and decision for each sample, or step of a series.", "Scores", ()),
    "denoise": ("The reconstruction of each sample, in raw units.", "Reconstruction", ()),
    "encode": ("The latent vector of each sample.", "Latent", (409,)),
    "decode": ("The reconstruction of each latent vector.", "Reconstruction", (409,)),
    "classify": ("The class of each sample, for models with a classifier.", "Classes", (409,)),
}
_REQUESTS = {
    "score": "ScoreRequest",
    "denoise": "DenoiseRequest",
    "encode": "LatentRequest",
    "decode": "LatentRequest",
    "classify": "Request",
}
# The end of a path that chooses the model, and the word for it in the names of operations.
_MODEL, _VERSION, _LABEL = ("", "Model"), ("/versions/{version}", "Version"), ("/labels/{label}", "Label")


def _scoring() -> Iterator[Operation]:
    """Yield the verbs: of the default model and of named ones."""
    for choice, word in (
        ("", ""),
        *((f"/models/{{name}}{end}", word) for end, word in (_MODEL, _VERSION, _LABEL)),
    ):
        for verb, (summary, schema, more) in _VERBS.items():
            yield Operation(
                f"{choice}/{verb}",
                "post",
                f"{verb}{word}",
                "Scoring",
                summary,
                statuses=(*_VERB_STATUSES, *more),
                verb=verb,
                request=_REQUESTS[verb],
                schema=schema,
            )


def _models() -> Iterator[Operation]:
    def get(path: str, id: str, summary: str, schema: str, answer: str = JSON) -> Operation:  # noqa: A002
        statuses = (404,) if "{" in path else ()
        return Operation(path, "get", id, "Models", summary, answer, statuses, schema=schema)

    version = "/models/{name}/versions/{version}"
    yield get("/models", "listModels", "Every model of the store, and why versions were refused.", "Models")
    yield get("/models/{name}", "getModel", "One model.", "Model")
    yield get(version, "getVersion", "One version, with its manifest.", "Version")
    yield get(f"{version}/report", "getReport", "The HTML report of a version.", "Text", "text/html")


def _v2() -> Iterator[Operation]:
    """Yield the routes of the Open Inference Protocol."""

    def get(path: str, id: str, summary: str, schema: str, *statuses: int) -> Operation:  # noqa: A002
        return Operation(path, "get", id, "V2", summary, statuses=statuses, schema=schema)

    yield get("/v2", "getServer", "Name, version and extensions of the server.", "ServerMetadata")
    yield get("/v2/health/live", "isServerLive", "Whether the process answers.", "Live")
    yield get("/v2/health/ready", "isServerReady", "Whether every required model is loaded.", "Ready", 503)
    yield get("/v2/models", "listServedModels", "Names of the models that serve.", "ModelNames")
    yield get("/v2/models/stats", "getStatistics", "Statistics of all loaded versions.", "Statistics")
    for end, word in (_MODEL, _VERSION):
        path = f"/v2/models/{{name}}{end}"
        yield get(path, f"get{word}Metadata", "Tensors of a model.", "ModelMetadata", 404)
        yield get(f"{path}/config", f"get{word}Config", "Configuration as of Triton.", "ModelConfig", 404)
        yield get(f"{path}/ready", f"is{word}Ready", "Whether a model serves.", "ModelReady", 404, 503)
        yield get(f"{path}/stats", f"get{word}Statistics", "Statistics of a model.", "Statistics", 404)
        yield Operation(
            f"{path}/infer",
            "post",
            f"infer{word}",
            "V2",
            "Scores and other tensors of samples.",
            statuses=_PLATFORM_STATUSES,
            request="InferRequest",
            schema="InferResponse",
        )
    yield Operation(
        "/v2/repository/index",
        "post",
        "listRepository",
        "V2",
        "Every version of the store and its state.",
        statuses=(400, 413, 422),
        request="IndexRequest",
        schema="Index",
    )
    for word in ("load", "unload"):
        path, summary = f"/v2/repository/models/{{name}}/{word}", "Refused: the content of the store decides."
        yield Operation(path, "post", f"{word}Model", "V2", summary, statuses=(409,))


def _v1() -> Iterator[Operation]:
    """Yield the routes of TensorFlow Serving and KServe."""
    summary = "Names of the models that serve."
    yield Operation("/v1/models", "get", "listV1Models", "V1", summary, schema="ModelNames")
    for end, word in (_MODEL, _VERSION, _LABEL):
        path = f"/v1/models/{{name}}{end}"
        if word != "Label":
            summary = "Whether a model serves."
            yield Operation(
                path, "get", f"get{word}Status", "V1", summary, statuses=(404, 503), schema="ModelStatus"
            )
        summary = "Signature of a model, as of TensorFlow Serving."
        yield Operation(
            f"{path}/metadata",
            "get",
            f"get{word}Signature",
            "V1",
            summary,
            statuses=(404,),
            schema="Signature",
        )
        for verb, summary, schema in (
            ("predict", "A prediction for each instance.", "Predictions"),
            ("explain", "A prediction and an explanation for each instance.", "Explanations"),
        ):
            yield Operation(
                f"{path}:{verb}",
                "post",
                f"{verb}{word}",
                "V1",
                summary,
                statuses=_PLATFORM_STATUSES,
                request="PredictRequest",
                schema=schema,
            )


def _service() -> Iterator[Operation]:
    def get(path: str, id: str, summary: str, schema: str, answer: str = JSON, *statuses: int) -> Operation:  # noqa: A002
        return Operation(path, "get", id, "Service", summary, answer, statuses, schema=schema)

    yield get("/livez", "isLive", "Whether the process answers; needs no key.", "Status")
    summary = "Whether every required model is loaded; needs no key."
    yield get("/readyz", "isReady", summary, "Status", JSON, 503)
    yield get("/metrics", "getMetrics", "Prometheus metrics.", "Text", "text/plain")
    yield get("/openapi.json", "getDescription", "This description.", "Description")


ROUTES = (*_scoring(), *_models(), *_v2(), *_v1(), *_service())

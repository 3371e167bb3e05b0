"""Routes of V2 and V1 other than scoring: metadata, readiness, index and statistics."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from flask import Blueprint, Response

from detector import Manifest
from service.bodies.encodings import mark_bytes
from service.bodies.json.members import check_members
from service.bodies.json.typed import decode_typed
from service.endpoints.model_metadata import (
    EXTENSIONS,
    configure_model,
    describe_model,
    describe_signature,
)
from service.http.messages import MAX_BODY_BYTES
from service.http.problems import Problem
from service.models.policy import AVAILABLE, REFUSED, Model
from service.models.registry import ModelRegistry, check_ready
from service.serving import Serving
from service.version import VERSION
from service.watching.metrics import Metrics
from service.wsgi.routes import json_response, read_body
from service.wsgi.statistics import describe_statistics

VERSIONS = ("", "/versions/<version:version>")


def blueprint(serving: Serving) -> Blueprint:
    """Return the routes of both protocols that are not endpoints."""
    routes, models = Blueprint("platforms", __name__), serving.models
    _add_server_routes(routes, models, serving.needed_models)
    _add_model_routes(routes, models, serving.settings.max_rows)
    _add_repository_routes(routes, models)
    _add_statistics(routes, models, serving.metrics)
    _add_v1_routes(routes, models)
    return routes


def _add_server_routes(routes: Blueprint, models: ModelRegistry, needed: Sequence[str]) -> None:
    @routes.get("/v2")
    @routes.get("/v2/")
    def server() -> Response:
        return json_response({"name": "residual", "version": VERSION, "extensions": EXTENSIONS})

    @routes.get("/v2/health/live")
    def live() -> Response:
        return json_response({"live": True})

    @routes.get("/v2/health/ready")
    def ready() -> Response:
        check_ready(models, needed)
        return json_response({"ready": True, "live": True})


def _add_model_routes(routes: Blueprint, models: ModelRegistry, max_rows: int) -> None:
    @routes.get("/v1/models")
    @routes.get("/v2/models")
    def names() -> Response:
        return json_response({"models": [name for name in models.models if models.serves(name)]})

    def find(name: str, version: int | None) -> tuple[Manifest, list[int]]:
        manifest = models.manifest(name, version)
        return manifest, list(models.model(name).usable) if version is None else [version]

    def metadata(name: str, version: int | None = None) -> Response:
        return json_response(describe_model(*find(name, version)))

    def config(name: str, version: int | None = None) -> Response:
        return json_response(configure_model(*find(name, version), max_rows))

    def ready(name: str, version: int | None = None) -> Response:
        _check_ready(models, name, version)
        return json_response({"name": name, "ready": True})

    for view, path in ((metadata, ""), (config, "/config"), (ready, "/ready")):
        for position, version in enumerate(VERSIONS):
            routes.add_url_rule(f"/v2/models/<name>{version}{path}", f"{view.__name__}-{position}", view)


def _check_ready(models: ModelRegistry, name: str, version: int | None = None) -> None:
    """Raise a problem if no version can answer; StoreError if the store has no such model or version."""
    known = models.model(name)
    found = known.versions.keys() if version is None else {version} & known.versions.keys()
    if found and not found & known.usable.keys():
        which = f"model {name!r}" if version is None else f"version {version} of model {name!r}"
        raise Problem("not-ready", f"{which} could not be loaded, see /models/{name} for the reason")
    known.choose(version=version)


def _add_repository_routes(routes: Blueprint, models: ModelRegistry) -> None:
    @routes.post("/v2/repository/index")
    def index() -> Response:
        content = read_body(MAX_BODY_BYTES)
        content = content[mark_bytes(content) :] or b"{}"
        only_ready = decode_typed(content, _IndexBody).ready
        check_members(content, int(only_ready))
        entries = [entry for model in models.models.values() for entry in _index(model)]
        return json_response([entry for entry in entries if entry["state"] == "READY" or not only_ready])

    @routes.post("/v2/repository/models/<name>/load")
    @routes.post("/v2/repository/models/<name>/unload")
    def refuse(name: str) -> Response:
        raise Problem(
            "store-decides",
            "models are loaded and unloaded by changing the store, not by request: publish or remove a "
            f"version of {name[:80]!r} in the store",
        )


class _IndexBody(msgspec.Struct):
    ready: bool = False


def _index(model: Model) -> Iterator[dict[str, str]]:
    for version, entry in model.versions.items():
        yield {
            "name": model.name,
            "version": str(version),
            "state": "UNAVAILABLE" if entry.state == REFUSED else "READY",
            "reason": "a request for it loads it" if entry.state == AVAILABLE else entry.reason or "",
        }


def _add_statistics(routes: Blueprint, models: ModelRegistry, metrics: Metrics) -> None:
    def statistics(name: str | None = None, version: int | None = None) -> Response:
        if name is None:
            manifests = [entry.detector.manifest for entry in models.loaded()]
        else:
            versions = models.model(name).loaded if version is None else [version]
            manifests = [models.manifest(name, each) for each in versions]
        return json_response({"model_stats": describe_statistics(manifests, metrics.samples())})

    for position, path in enumerate(("", *(f"/<name>{version}" for version in VERSIONS))):
        routes.add_url_rule(f"/v2/models{path}/stats", f"statistics-{position}", statistics)


def _add_v1_routes(routes: Blueprint, models: ModelRegistry) -> None:
    def status(name: str, version: int | None = None) -> Response:
        _check_ready(models, name, version)
        model = models.model(name)
        found = model.versions if version is None else [version]
        return json_response(
            {
                "name": name,
                "ready": True,
                "model_version_status": [
                    _version_status(each, each in model.usable) for each in sorted(found, reverse=True)
                ],
            }
        )

    def metadata(name: str, version: int | None = None, label: str | None = None) -> Response:
        entry = models.entry(name, version=version, label=label)
        return json_response(describe_signature(entry.detector.manifest))

    for position, version in enumerate(VERSIONS):
        routes.add_url_rule(f"/v1/models/<plain:name>{version}", f"status-{position}", status)
    for position, version in enumerate((*VERSIONS, "/labels/<label>")):
        path = f"/v1/models/<plain:name>{version}/metadata"
        routes.add_url_rule(path, f"signature-{position}", metadata)


def _version_status(version: int, usable: bool) -> dict[str, Any]:
    """Return the status of one version as TensorFlow Serving does."""
    fault = {"error_code": "FAILED_PRECONDITION", "error_message": "not loaded, see /models for the reason"}
    return {
        "version": str(version),
        "state": "AVAILABLE" if usable else "END",
        "status": {"error_code": "OK", "error_message": ""} if usable else fault,
    }

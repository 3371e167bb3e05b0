"""Routes for liveness, readiness, and the list of models."""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response

from detector import StoreError
from service.models.policy import REFUSED, Entry, Loaded, Model
from service.models.registry import ModelRegistry, check_ready
from service.wsgi.routes import json_response

# Reports come with a model folder: allow no script, no request, no form, and no access to this origin.
REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"


def blueprint(models: ModelRegistry, default_model: str | None, needed: Sequence[str]) -> Blueprint:
    """Return the routes for probes and the models; `needed` must serve before the service is ready."""
    routes = Blueprint("health", __name__)

    @routes.get("/livez")
    def live() -> Response:
        return json_response({"status": "alive"})

    @routes.get("/readyz")
    def ready() -> Response:
        check_ready(models, needed)
        warnings = list(models.faults.values())
        return json_response({"status": "ready", "warnings": warnings} if warnings else {"status": "ready"})

    @routes.get("/models")
    def all_models() -> Response:
        listed = [describe_model(model) for model in models.models.values()]
        return json_response({"default_model": default_model, "models": listed})

    @routes.get("/models/<name>")
    def one_model(name: str) -> Response:
        return json_response(describe_model(models.model(name)))

    @routes.get("/models/<name>/versions/<version:version>")
    def one_version(name: str, version: int) -> Response:
        entry = models.model(name).versions.get(version)
        if entry is None:
            raise StoreError(f"model {name!r} has no version {version}")
        manifest = None if entry.state == REFUSED else dataclasses.asdict(models.manifest(name, version))
        return json_response({"model": name, **describe_version(version, entry), "manifest": manifest})

    @routes.get("/models/<name>/versions/<version:version>/report")
    def report(name: str, version: int) -> Response:
        response = Response(models.report(name, version), content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = REPORT_POLICY
        return response

    return routes


def describe_model(model: Model) -> dict[str, Any]:
    """Return a model as `/models` lists it; `version` is the one that the bare name means, or None."""
    return {
        "name": model.name,
        "version": model.serving_version,
        "labels": dict(model.labels),
        "versions": [describe_version(version, entry) for version, entry in model.versions.items()],
    }


def describe_version(version: int, entry: Entry) -> dict[str, Any]:
    """Return one version; `reason` tells why the last attempt to load it failed."""
    described: dict[str, Any] = {
        "version": version,
        "state": entry.state,
        "reason": entry.reason,
    }
    if isinstance(entry, Loaded):
        manifest = entry.detector.manifest
        described |= {
            "kind": manifest.kind,
            "verbs": manifest.verbs,
            "sample_shape": manifest.sample_shape,
            "digest": entry.detector.digest,
            "loaded_at": datetime.datetime.fromtimestamp(entry.loaded_at, datetime.UTC).isoformat(),
        }
    return described

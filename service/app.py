"""The Flask application: open the store, put everything together."""

import os
import threading

from flask import Flask

from detector import ModelStore
from service import access, exchange, health, metrics, openapi, problems
from service.endpoints import VerbRoutes, VersionConverter
from service.metrics import Metrics
from service.registry import ModelRegistry
from service.settings import Settings

EXTENSION = "residual.models"


def from_environ() -> Flask:
    """The application that the environment describes, for `gunicorn "service.app:from_environ()"`."""
    return create_app(Settings.from_environ(os.environ))


def create_app(settings: Settings) -> Flask:
    """The application, every model of the store loaded and followed from now on.

    Runs under any WSGI server. `app.extensions["residual.models"]` is its `ModelRegistry`.
    """
    counted = Metrics()
    models = ModelRegistry(ModelStore(settings.store), counted.count_reload)
    counted.watch(models)
    models.poll()
    app = _bare_app(settings)
    app.extensions[EXTENSION] = models
    exchange.register(app, counted)
    access.register(app, settings.api_keys_sha256)
    problems.register(app)
    default_model = settings.default_model or _only(list(models.models))
    slots = threading.BoundedSemaphore(settings.max_concurrency)
    app.register_blueprint(VerbRoutes(settings, models, default_model, counted, slots).blueprint())
    app.register_blueprint(health.blueprint(models, default_model, settings.required_models))
    app.register_blueprint(metrics.blueprint(counted))
    app.register_blueprint(openapi.blueprint(with_keys=bool(settings.api_keys_sha256)))
    models.start(settings.poll_seconds)
    return app


def _bare_app(settings: Settings) -> Flask:
    """Flask with nothing that answers by itself: no files, no OPTIONS, no redirects."""
    app = Flask("service", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.url_map.converters["version"] = VersionConverter
    return app


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None

"""Build the Flask application."""

import os

from flask import Flask

from service.serving import Serving, open_store
from service.settings import Settings
from service.wsgi import metrics, models, openapi, routes
from service.wsgi import platforms as platform_routes

EXTENSION = "residual"


def from_environ() -> Flask:
    """Return the application configured by the environment, for any WSGI server."""
    return create_app(Settings.from_environ(os.environ))


def create_app(settings: Settings) -> Flask:
    """Load every model of the store, keep following the store, and return the application.

    `app.extensions["residual"]` is its `Serving`.
    """
    return build_app(open_store(settings))


def build_app(serving: Serving) -> Flask:
    """Return the application for models that are already loaded."""
    settings = serving.settings
    app = Flask("service", static_folder=None)  # it answers nothing by itself: no OPTIONS, no redirects
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False
    app.url_map.merge_slashes = False
    app.url_map.converters |= {"version": routes.VersionConverter, "plain": routes.PlainNameConverter}
    app.extensions[EXTENSION] = serving
    routes.register(app, serving)
    app.register_blueprint(routes.blueprint(serving))
    app.register_blueprint(models.blueprint(serving.models, serving.default_model, serving.needed_models))
    app.register_blueprint(platform_routes.blueprint(serving))
    app.register_blueprint(metrics.blueprint(serving.metrics))
    app.register_blueprint(openapi.blueprint(with_keys=bool(settings.api_keys_sha256)))
    return app

"""A store with the hand-made models, and the application that serves it."""

import dataclasses

import pytest
from flask import Flask
from flask.testing import FlaskClient

from detector import ModelStore
from service.asgi.front import Front, create_front
from service.models.registry import ModelRegistry
from service.settings import Settings
from service.wsgi.app import EXTENSION, create_app
from tests.model_folder import CLASSIFIER, LATENT_INT8, publish_model


@pytest.fixture
def store(tmp_path) -> ModelStore:
    """`tiny`: three named features, 8-bit latents, classes; `images`: 4 x 5 grey; `flat`: no latent."""
    store = ModelStore(tmp_path / "models")
    publish_model(store, "tiny", latent_int8=LATENT_INT8, classifier=CLASSIFIER)
    publish_model(store, "images", sample_shape=(4, 5))
    publish_model(store, "flat", latent_shape=None)
    return store


@pytest.fixture
def settings(store) -> Settings:
    """`tiny` is the default model; polls happen when a test asks for one, without a trial in a process."""
    return Settings.from_environ(
        {
            "RESIDUAL_STORE": str(store.root),
            "RESIDUAL_DEFAULT_MODEL": "tiny",
            "RESIDUAL_POLL_SECONDS": "3600",
            "RESIDUAL_TRIAL_SECONDS": "0",
            "RESIDUAL_MAX_BODY_BYTES": "20000",
            "RESIDUAL_MAX_ROWS": "50",
        }
    )


@pytest.fixture
def make_app():
    """Applications whose polling ends with the test."""
    apps = []

    def make(settings: Settings) -> Flask:
        apps.append(create_app(settings))
        return apps[-1]

    yield make
    for app in apps:
        app.extensions[EXTENSION].models.stop()


@pytest.fixture
def app(settings, make_app) -> Flask:
    """The application."""
    return make_app(settings)


@pytest.fixture
def client(app) -> FlaskClient:
    """A client of it."""
    return app.test_client()


@pytest.fixture
def registry(app) -> ModelRegistry:
    """Its models."""
    return app.extensions[EXTENSION].models


@pytest.fixture
def make_front(settings):
    """Fronts whose polling and threads end with the test."""
    fronts = []

    def make(**changes: object) -> Front:
        fronts.append(create_front(dataclasses.replace(settings, **changes)))
        return fronts[-1]

    yield make
    for front in fronts:
        front.close()


@pytest.fixture
def front(make_front) -> Front:
    """A front of the usual models."""
    return make_front()

"""The description, and whether the service keeps to it."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from detector import ModelStore
from service.settings import Settings
from service.wsgi.app import create_app
from service.wsgi.openapi import ROUTES, describe
from tests.model_folder import publish_model


def test_table_lists_every_route_and_no_other(app):
    """A route cannot be forgotten here."""
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD"}
    }

    assert {(route.path, route.method) for route in ROUTES} == served


def test_description_is_served(client):
    """The description is JSON of OpenAPI 3.1."""
    answer = client.get("/openapi.json").json

    assert answer["openapi"] == "3.1.0"
    assert answer == describe(with_keys=False)


def test_description_has_the_version_of_the_project():
    """The release has one number."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]

    assert describe(with_keys=False)["info"]["version"] == project["version"]


def test_description_asks_for_a_key_where_there_are_keys(settings, make_app):
    """Both headers are described."""
    app = make_app(dataclasses.replace(settings, api_keys_sha256=(bytes(32),)))

    assert describe(with_keys=True)["security"] == [{"bearer": []}, {"key": []}]
    assert app.test_client().get("/openapi.json").status_code == 401


@pytest.fixture(scope="module")
def described_app(tmp_path_factory):
    """A service of its own for the generated requests."""
    store = ModelStore(tmp_path_factory.mktemp("described"))
    publish_model(store, "tiny")
    app = create_app(
        Settings.from_environ({"RESIDUAL_STORE": str(store.root), "RESIDUAL_POLL_SECONDS": "3600"})
    )
    yield app
    app.extensions["residual"].models.stop()


@pytest.fixture(scope="module")
def api(described_app):
    """Its description, read by schemathesis."""
    return schemathesis.openapi.from_wsgi("/openapi.json", described_app)


MODES = [(route, GenerationMode.POSITIVE) for route in ROUTES] + [
    (route, GenerationMode.NEGATIVE) for route in ROUTES if route.verb or "{" in route.path
]


@pytest.mark.parametrize(("route", "mode"), MODES, ids=lambda value: getattr(value, "path", value))
def test_generated_requests_get_documented_answers(api, route, mode):
    """Every status, header and body is one that the description names.

    What the description allows may still not fit the model's shape, which it does not know.
    """
    operation = api[route.path][route.method.upper()]

    @settings(max_examples=6, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @seed(0)
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case):
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    check()

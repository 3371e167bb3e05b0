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
from service.wsgi.openapi import describe
from service.wsgi.openapi_routes import ALIASES, ROUTES
from tests.model_folder import publish_model


def test_table_lists_every_route_and_no_other(app):
    """A route cannot be forgotten here."""
    served = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD"}
    }

    described = {(route.path, route.method) for route in ROUTES}
    assert described | {(path, "get") for path in ALIASES} == served
    assert {(path, "get") for path in ALIASES.values()} <= described


def test_description_is_served(client):
    """The description is JSON of OpenAPI 3.1."""
    answer = client.get("/openapi.json").json

    assert answer["openapi"] == "3.1.0"
    assert answer == describe(with_keys=False)


def test_description_has_the_version_of_the_project():
    """The release has one number."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]

    assert describe(with_keys=False)["info"]["version"] == project["version"]


def schemas_in(part):
    """Yield every schema of a part of the description."""
    for name, inner in part.items() if isinstance(part, dict) else enumerate(part):
        if name in ("schema", "items", "additionalProperties") and isinstance(inner, dict):
            yield inner
        elif name in ("schemas", "properties"):
            yield from inner.values()
        if isinstance(inner, dict | list) and name not in ("enum", "required", "example"):
            yield from schemas_in(inner)


def test_every_type_is_named():
    """A generated client has no unknown types, and knows every schema that it is referred to."""
    document = describe(with_keys=True)
    found = list(schemas_in(document))

    assert len(found) > 300
    for schema in found:
        assert {"type", "anyOf", "$ref"} & schema.keys(), schema
        assert schema.get("type") != "array" or schema["items"], schema
    referred = {schema["$ref"].rpartition("/")[2] for schema in found if "$ref" in schema}
    assert referred == set(document["components"]["schemas"])


def test_operations_are_named_for_clients():
    """A generated client has a function for each, in a class for each tag."""
    document = describe(with_keys=False)
    operations = [each for methods in document["paths"].values() for each in methods.values()]
    names = [operation["operationId"] for operation in operations]

    assert len(set(names)) == len(names) == len(ROUTES)
    assert all(re.fullmatch("[a-z]+([A-Z][a-z0-9]*)*", name) for name in names)
    assert {"score", "scoreModel", "scoreVersion", "scoreLabel", "predictModel", "inferVersion"} <= set(names)
    assert {tag for each in operations for tag in each["tags"]} == {tag["name"] for tag in document["tags"]}
    assert all(each["summary"] and each["description"] for each in operations)
    assert document["servers"][0]["url"] == "/"


def test_description_asks_for_a_key_where_there_are_keys(settings, make_app):
    """Both headers are described."""
    app = make_app(dataclasses.replace(settings, api_keys_sha256=(bytes(32),)))

    described = describe(with_keys=True)
    assert described["security"] == [{"bearer": []}, {"key": []}]
    assert described["paths"]["/livez"]["get"]["security"] == []
    assert "security" not in described["paths"]["/score"]["post"]
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
        # Over WSGI schemathesis asks for gzip and does not read it.
        plain = {"Accept-Encoding": "identity"}
        case.call_and_validate(excluded_checks=[positive_data_acceptance], headers=plain)

    check()

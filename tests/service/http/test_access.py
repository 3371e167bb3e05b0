"""API keys."""

import asyncio
import dataclasses
import hashlib

import pytest

from service.http.access import is_known
from service.wsgi.openapi_routes import ROUTES
from tests.asgi_client import AsgiRequest
from tests.service.responses import assert_problem

DIGESTS = tuple(hashlib.sha256(key).digest() for key in (b"first", b"second"))
CLOSED = sorted({route.path for route in ROUTES} - {"/livez", "/readyz"})


@pytest.fixture
def client(settings, make_app):
    """A client of a service with two keys."""
    return make_app(dataclasses.replace(settings, api_keys_sha256=DIGESTS)).test_client()


@pytest.mark.parametrize("key", ["first", "second"])
@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_every_key_opens_by_either_header(client, key, header):
    """Several keys are valid at once, so that one can be replaced."""
    value = f"Bearer {key}" if header == "Authorization" else key

    assert client.get("/models", headers={header: value}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": "third"},
        {"X-API-Key": DIGESTS[0].hex()},
        {"X-API-Key": "fir\xe9"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic first"},
        {"Authorization": "first"},
    ],
)
def test_no_other_key_opens(client, headers):
    """A digest, another scheme and text that is not ASCII are refused."""
    response = client.get("/models", headers=headers)

    assert_problem(response, 401, "unauthorized")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", [*CLOSED, "/unknown"])
def test_everything_but_the_probes_needs_a_key(client, path):
    """Metrics, descriptions and paths that do not exist too."""
    assert_problem(client.get(path.replace("{version}", "1")), 401, "unauthorized")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_need_no_key(client, path):
    """An orchestrator has none."""
    assert client.get(path).status_code == 200


def test_is_known_compares_bytes():
    """A key that is not ASCII is compared as the client sent it."""
    digest = hashlib.sha256("ключ".encode()).digest()

    assert is_known("ключ".encode().decode("latin-1"), [digest])
    assert not is_known("ключ", [digest])
    assert not is_known("", [digest])


@pytest.mark.parametrize("name", ["x_api_key", "X_API_Key", "x-api_key"])
def test_field_with_an_underscore_is_no_key(make_front, name):
    """WSGI would take it for `X-API-Key`, which a proxy may have checked or removed."""
    front = make_front(api_keys_sha256=DIGESTS)

    async def ask(path: str, **headers: str) -> int:
        return (await AsgiRequest(path, b"{}", headers).send_to(front)).status

    for path in ("/v2/repository/index", "/score"):
        assert asyncio.run(ask(path, **{name: "first"})) == 401
    assert asyncio.run(ask("/v2/repository/index", **{"x-api-key": "first", name: "other"})) == 200

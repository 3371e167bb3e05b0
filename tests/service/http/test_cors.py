"""Requests of pages of other origins, as browsers send them, to both servers."""

import asyncio
import dataclasses
import hashlib
import json

import pytest

from service.settings import Settings, SettingsError
from tests.asgi_client import AsgiRequest, post_together
from tests.raw_http import request
from tests.service.asgi.test_known_heads import JSON, talk
from tests.service.responses import assert_problem

PAGE, OTHER = "https://app.example.com", "http://localhost:3000"
FOREIGN = "https://evil.example.com"
BODY = {"instances": [[1, 2, 30]]}
KEY = hashlib.sha256(b"secret").digest()
ALLOWED = {"access-control-allow-origin": PAGE, "access-control-expose-headers": "*", "vary": "origin"}


def cors_of(headers):
    """Return the header fields about origins by their names in lower case."""
    fields = {name.lower(): value for name, value in headers.items()}
    return {name: fields[name] for name in fields if name.startswith("access-control-") or name == "vary"}


@pytest.fixture(params=["front", "flask"])
def post(request, settings, make_app, make_front):
    """A function that posts to a service with these allowed origins and keys; returns status and headers."""

    def send(origins, headers, path="/score", keys=(), body=BODY):
        changes = {"cors_origins": origins, "api_keys_sha256": keys}
        if request.param == "front":
            asked = AsgiRequest(path, json.dumps(body).encode(), headers)
            (answer,) = asyncio.run(post_together(make_front(**changes), [asked]))
            return answer.status, cors_of(answer.headers)
        client = make_app(dataclasses.replace(settings, **changes)).test_client()
        answer = client.post(path, json=body, headers=headers)
        return answer.status_code, cors_of(answer.headers)

    return send


def test_answers_name_the_page_that_may_read_them(post):
    """Only an allowed origin, in exactly its spelling; caches must tell the answers apart."""
    assert post((PAGE, OTHER), {"origin": PAGE}) == (200, ALLOWED)
    assert post((PAGE, OTHER), {"origin": OTHER}) == (200, ALLOWED | {"access-control-allow-origin": OTHER})
    for origin in (FOREIGN, f"{PAGE}:8443", f"{PAGE}.evil.com", "null", PAGE.upper()):
        assert post((PAGE, OTHER), {"origin": origin}) == (200, {"vary": "origin"})
    assert post((PAGE, OTHER), {}) == (200, {"vary": "origin"})


def test_wildcard_names_no_page(post):
    """The answers are the same for everybody, so that a cache need not tell them apart."""
    anybody = {"access-control-allow-origin": "*", "access-control-expose-headers": "*"}

    assert post(("*",), {"origin": FOREIGN}) == (200, anybody)
    assert post(("*",), {"origin": "null"}) == (200, anybody)
    assert post(("*",), {}) == (200, anybody)


def test_no_page_may_read_by_default(post):
    """There is no header about it."""
    assert post((), {"origin": PAGE}) == (200, {})


@pytest.mark.parametrize(
    ("status", "path", "headers", "body"),
    [
        (401, "/score", {}, BODY),
        (404, "/models/none/score", {"x-api-key": "secret"}, BODY),
        (404, "/unknown", {"x-api-key": "secret"}, BODY),
        (415, "/score", {"x-api-key": "secret", "content-type": "text/plain"}, BODY),
        (422, "/score", {"x-api-key": "secret"}, {"instances": [["text", 2, 3]]}),
        (409, "/v2/repository/models/tiny/load", {"x-api-key": "secret"}, BODY),
        (405, "/models", {"x-api-key": "secret"}, BODY),
    ],
)
def test_page_can_read_every_refusal(post, status, path, headers, body):
    """A page without a key learns that it needs one."""
    assert post((PAGE,), {"origin": PAGE, **headers}, path, (KEY,), body) == (status, ALLOWED)


def test_caches_tell_compressed_answers_apart_as_well(settings, make_app):
    """The description is long enough to be compressed."""
    client = make_app(dataclasses.replace(settings, cors_origins=(PAGE,))).test_client()

    answer = client.get("/openapi.json", headers={"Origin": PAGE, "Accept-Encoding": "gzip"})

    assert answer.headers["Content-Encoding"] == "gzip"
    assert {name.strip().lower() for name in answer.headers["Vary"].split(",")} == {
        "origin",
        "accept-encoding",
    }
    assert answer.headers["Access-Control-Allow-Origin"] == PAGE


def announce(client, path="/score", **headers):
    """Send what a browser sends before a POST of JSON with a key."""
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-api-key",
        **headers,
    }
    return client.options(path, headers={name: value for name, value in asked.items() if value})


def test_preflight_needs_no_key(settings, make_app):
    """A browser sends none; the request that follows does. Unknown paths are refused then."""
    app = make_app(dataclasses.replace(settings, cors_origins=(PAGE,), api_keys_sha256=(KEY,)))
    client = app.test_client()

    for path in ("/score", "/models/tiny/versions/1/score", "/v1/models/tiny:predict", "/v2", "/unknown"):
        answer = announce(client, path)
        assert (answer.status_code, answer.data) == (204, b"")
        assert cors_of(answer.headers) == ALLOWED | {
            "access-control-allow-methods": "GET, POST",
            "access-control-allow-headers": "content-type,x-api-key",
            "access-control-max-age": "7200",
        }
        assert "X-Request-Id" in answer.headers
        assert "Content-Length" not in answer.headers


def test_anything_else_with_options_is_refused(settings, make_app):
    """Another page, no page, and a request that announces nothing."""
    keyed = dataclasses.replace(settings, cors_origins=(PAGE,), api_keys_sha256=(KEY,))
    client, closed = make_app(keyed).test_client(), make_app(settings).test_client()

    for header in ("Origin", "Access-Control-Request-Method"):
        assert_problem(announce(client, **{header: ""}), 401, "unauthorized")
    foreign = announce(client, Origin=FOREIGN)
    assert_problem(foreign, 401, "unauthorized")
    assert cors_of(foreign.headers) == {"vary": "origin"}
    without = announce(closed)
    assert_problem(without, 405, "method-not-allowed")
    assert cors_of(without.headers) == {}


def test_known_heads_are_of_one_page(make_front):
    """A repeated head has the answer of its own origin; a request that is no HTTP can be read as well."""
    front = make_front(cors_origins=(PAGE, OTHER))
    body = json.dumps(BODY).encode()

    async def conversation(client):
        for _ in range(3):
            for origin in (PAGE, OTHER, FOREIGN):
                answer = await client.ask(request("/score", body, headers=[JSON, ("Origin", origin)]))
                assert answer.status == 200
                assert answer.fields.get("access-control-allow-origin") == (
                    None if origin == FOREIGN else origin
                )
                assert answer.fields["vary"] == "origin"
        long = ("X-Long", "x" * 9000)
        refused = await client.ask(request("/score", body, headers=[JSON, ("Origin", PAGE), long]))
        assert (refused.status, refused.fields["access-control-allow-origin"]) == (431, PAGE)

    talk(front, conversation)


def test_lines_can_be_read_by_the_page(post):
    """The head of an answer of lines is written in another place."""
    headers = {"origin": PAGE, "content-type": "application/x-ndjson"}

    assert post((PAGE,), headers, body=[1, 2, 30]) == (200, ALLOWED)


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("", ()),
        ("*", ("*",)),
        ("https://App.example.com, http://localhost:3000", (PAGE, OTHER)),
        ("http://[::1]:8080,capacitor://localhost", ("http://[::1]:8080", "capacitor://localhost")),
        ("http://localhost:8080", ("http://localhost:8080",)),
    ],
)
def test_setting_takes_origins(text, origins):
    """They are compared in lower case, as browsers send them."""
    assert Settings.from_environ({"RESIDUAL_CORS_ORIGINS": text}).cors_origins == origins


@pytest.mark.parametrize(
    "text",
    [
        "app.example.com",
        "https://app.example.com/",
        "https://app.example.com/page",
        "https://*.example.com",
        "*, https://app.example.com",
        "https://app.example.com:443",
        "http://localhost:80",
        "null",
        "https://app.example.com https://b.example.com",
        "https://user@app.example.com",
    ],
)
def test_setting_refuses_what_no_browser_sends(text):
    """Such an origin would never match."""
    with pytest.raises(SettingsError, match="RESIDUAL_CORS_ORIGINS must be origins as browsers send them"):
        Settings.from_environ({"RESIDUAL_CORS_ORIGINS": text})

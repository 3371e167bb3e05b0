"""The client behind proxies, in a function and in the log of both servers."""

import asyncio
import dataclasses
import logging

import pytest

from service.http.forwarding import find_client
from service.settings import Settings
from tests.asgi_client import AsgiRequest
from tests.raw_http import request
from tests.service.asgi.test_known_heads import JSON, Client, talk

TRUSTED = Settings.from_environ(
    {"RESIDUAL_TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.1, fd00::/8"}
).trusted_proxies
AT_SOCKET = Settings.from_environ({"RESIDUAL_TRUSTED_PROXIES": "unix"}).trusted_proxies
BODY = b'{"instances": [[1, 2, 3]]}'


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "client"),
    [
        ("10.1.2.3", "203.0.113.9", TRUSTED, "203.0.113.9"),
        ("10.1.2.3", "203.0.113.9, 10.7.7.7", TRUSTED, "203.0.113.9"),
        ("10.1.2.3", "1.1.1.1, 203.0.113.9", TRUSTED, "203.0.113.9"),
        ("10.1.2.3", "10.9.9.9", TRUSTED, "10.9.9.9"),
        ("203.0.113.1", "198.51.100.1", TRUSTED, "203.0.113.1"),
        ("10.1.2.3", "", TRUSTED, "10.1.2.3"),
        ("10.1.2.3", "unknown, 10.0.0.1", TRUSTED, "10.0.0.1"),
        ("10.1.2.3", "a\nb", TRUSTED, "10.1.2.3"),
        ("10.1.2.3", "203.0.113.9:4711", TRUSTED, "203.0.113.9"),
        ("10.1.2.3", "[2001:db8::1]:4711", TRUSTED, "2001:db8::1"),
        ("10.1.2.3", "2001:db8::1", TRUSTED, "2001:db8::1"),
        ("::ffff:10.1.2.3", "203.0.113.9", TRUSTED, "203.0.113.9"),
        ("fd00::1", "203.0.113.9", TRUSTED, "203.0.113.9"),
        (None, "203.0.113.9", TRUSTED, None),
        (None, "203.0.113.9", AT_SOCKET, "203.0.113.9"),
        (None, "203.0.113.8, 203.0.113.9", AT_SOCKET, "203.0.113.9"),
        ("10.1.2.3", "203.0.113.9", AT_SOCKET, "10.1.2.3"),
    ],
)
def test_client_is_the_first_that_is_no_trusted_proxy(peer, forwarded, trusted, client):
    """Read from the end; what a client wrote itself comes before that."""
    assert find_client(peer, forwarded, trusted) == client


@pytest.fixture
def clients(caplog):
    """The clients in the log so far."""
    caplog.set_level(logging.INFO, logger="service.access")
    return lambda: [
        fields["client"]
        for record in caplog.records
        if record.name == "service.access"
        for fields in record.fields
    ]


def test_log_of_the_front_has_the_client(make_front, clients):
    """By every way: a verb, a head that came before, and Flask."""
    front = make_front(trusted_proxies=TRUSTED)
    headers = {"x-forwarded-for": "198.51.100.1, 203.0.113.9"}

    async def ask() -> None:
        for path in ("/score", "/v2/repository/index"):
            await AsgiRequest(path, BODY, headers).send_to(front)

    asyncio.run(ask())
    front.serving.pending.write()

    assert clients() == ["203.0.113.9"] * 2


def test_known_heads_have_the_client(make_front, clients):
    """Their peer is a Unix socket here."""
    front = make_front(trusted_proxies=AT_SOCKET)

    async def conversation(client: Client) -> None:
        for address in ("203.0.113.9", "203.0.113.7", "203.0.113.9"):
            assert (
                await client.ask(request("/score", BODY, headers=[JSON, ("X-Forwarded-For", address)]))
            ).status == 200
        assert len(client.parsed) == 2

    talk(front, conversation)
    front.serving.pending.write()

    assert clients() == ["203.0.113.9", "203.0.113.7", "203.0.113.9"]


@pytest.mark.parametrize(("trusted", "client"), [(TRUSTED, "203.0.113.9"), ((), "127.0.0.1")])
def test_log_of_flask_has_the_client(settings, make_app, clients, trusted, client):
    """Without trusted proxies it is the peer."""
    app = make_app(dataclasses.replace(settings, trusted_proxies=trusted))

    app.test_client().get("/nowhere", headers={"X-Forwarded-For": "203.0.113.9"})

    assert clients() == [client]

"""Answers to GET by gzip."""

import gzip

import pytest

MODEL = "/models/tiny/versions/1"


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", MODEL])
@pytest.mark.parametrize("accepted", ["gzip", "gzip, deflate, br", "br;q=1, gzip;q=0.5, *;q=0", "*"])
def test_large_texts_are_compressed(client, path, accepted):
    """The client that asks for gzip gets the same text; HEAD has the same head."""
    plain = client.get(path)
    packed = client.get(path, headers={"Accept-Encoding": accepted})
    head = client.head(path, headers={"Accept-Encoding": accepted})

    assert packed.headers["Content-Encoding"] == head.headers["Content-Encoding"] == "gzip"
    assert int(packed.headers["Content-Length"]) == len(packed.data) < 0.6 * len(plain.data)
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert packed.content_type == plain.content_type
    text = gzip.decompress(packed.data)
    assert text.startswith(plain.data[:40])
    assert path == "/metrics" or text == plain.data


@pytest.mark.parametrize(
    ("path", "accepted"),
    [("/openapi.json", "gzip;q=0"), ("/openapi.json", "br"), ("/openapi.json", ""), ("/livez", "gzip")],
)
def test_others_stay(client, path, accepted):
    """Small ones, and those for clients that do not take gzip."""
    answer = client.get(path, headers={"Accept-Encoding": accepted})

    assert "Content-Encoding" not in answer.headers
    assert answer.json


def test_answers_of_verbs_stay(client):
    """Their clients wait for them."""
    body = {"instances": [[1, 2, 3]] * 50}

    answer = client.post("/score", json=body, headers={"Accept-Encoding": "gzip"})

    assert len(answer.data) > 1024
    assert "Content-Encoding" not in answer.headers

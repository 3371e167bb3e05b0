"""Inflating request bodies, its limits, and byte order marks."""

import gzip
import json
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bodies.encodings import MAX_MEMBERS, inflate, mark_bytes
from service.http.problems import Problem

TEXT = b'{"instances": [[1, 2, 3]]}'


def refusal(content: bytes, encoding: str = "gzip", max_bytes: int = 1000) -> Problem:
    """Return the problem with which an encoded body is refused."""
    with pytest.raises(Problem) as caught:
        inflate(content, encoding, max_bytes)
    return caught.value


@pytest.mark.parametrize("encoding", ["", "identity", " Identity "])
def test_bodies_without_encoding_stay(encoding):
    """Content does not matter without the header."""
    assert inflate(TEXT, encoding, 1) is TEXT


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
def test_gzip_is_inflated(encoding):
    """Both names of the encoding are accepted."""
    assert inflate(gzip.compress(TEXT), encoding, len(TEXT)) == TEXT


def deflated(content: bytes, window: int) -> bytes:
    """Return a zlib stream, or with a negative window one without header and checksum."""
    stream = zlib.compressobj(wbits=window)
    return stream.compress(content) + stream.flush()


@pytest.mark.parametrize("window", [15, 9, -15, -9])
def test_deflate_is_inflated(window):
    """With the header of zlib, as the standard wants it, and without, as many programs send it."""
    assert inflate(deflated(TEXT, window), "Deflate", len(TEXT)) == TEXT
    assert refusal(deflated(TEXT, window), "deflate", len(TEXT) - 1).type == "body-too-large"


@pytest.mark.parametrize("window", [15, -15])
@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda body: body[:-6], "is cut off"), (lambda body: body + b"xy", "2 bytes follow the end")],
)
def test_broken_deflate_is_malformed(window, change, words):
    """Cut off, or with something behind its end."""
    problem = refusal(change(deflated(TEXT, window)), "deflate")

    assert problem.type == "malformed-body"
    assert words in problem.detail


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("utf-16", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-16-le", "UTF-16 or UTF-32"),
        ("utf-16-be", "UTF-16 or UTF-32"),
        ("utf-32-be", "UTF-16 or UTF-32"),
    ],
)
def test_text_in_other_encodings_is_named(encoding, name):
    """With a byte order mark and without."""
    with pytest.raises(Problem, match=f"^the body must be UTF-8, got {name}$"):
        mark_bytes(TEXT.decode().encode(encoding))


def test_mark_of_utf_8_is_skipped():
    """Programs on Windows write it."""
    assert [mark_bytes(text) for text in (b"\xef\xbb\xbf{}", b"{}", b"", b"\xef")] == [3, 0, 0, 0]


V2 = {"inputs": [{"name": "samples", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 30]}]}


@pytest.mark.parametrize(
    ("path", "media_type", "text"),
    [
        ("/score", "application/json", '{"instances": [[1, 2, 30]]}'),
        ("/score", "application/json", '{"instances": [' + ", ".join(["[1.000, 2.000, 30.000]"] * 50) + "]}"),
        ("/score", "text/csv", "a,b,c\n1,2,30\n"),
        ("/score", "application/x-ndjson", "[1, 2, 30]\n[1, 2, 0]\n"),
        ("/v1/models/tiny:predict", "application/json", '{"instances": [[1, 2, 30]]}'),
        ("/v2/models/tiny/infer", "application/json", json.dumps(V2)),
        ("/v2/repository/index", "application/json", '{"ready": true}'),
    ],
    ids=["row", "rows", "csv", "lines", "predict", "infer", "index"],
)
def test_every_text_body_may_begin_with_a_mark(client, path, media_type, text):
    """That of UTF-8 is skipped, and UTF-16 is named."""
    plain, marked, wide = (
        client.post(path, data=text.encode(encoding), content_type=media_type)
        for encoding in ("utf-8", "utf-8-sig", "utf-16")
    )

    assert plain.status_code == 200
    assert (marked.status_code, marked.data) == (200, plain.data)
    assert wide.status_code == 400
    assert wide.json["detail"] == "the body must be UTF-8, got UTF-16"


def test_members_are_joined():
    """Members may be written by `cat a.gz b.gz` or bgzip."""
    content = b"".join(gzip.compress(TEXT[at : at + 5]) for at in range(0, len(TEXT), 5))

    assert inflate(content, "gzip", len(TEXT)) == TEXT


def test_body_longer_than_one_piece_is_inflated():
    """Members may end anywhere in a piece."""
    members = [bytes(range(256)) * 400 + bytes([number]) for number in range(5)]
    content = b"".join(gzip.compress(member, compresslevel=0) for member in members)

    assert inflate(content, "gzip", 10**6) == b"".join(members)


@pytest.mark.parametrize("members", [1, 3])
def test_body_above_the_limit_is_refused(members):
    """The limit is exact, and counts all members."""
    content = b"".join(gzip.compress(bytes(1000)) for _ in range(members))

    assert refusal(content, max_bytes=1000 * members - 1).type == "body-too-large"
    assert len(inflate(content, "gzip", 1000 * members)) == 1000 * members


def test_bomb_takes_no_memory():
    """100 MB of zeros in 100 KB are not inflated to be counted."""
    bomb = gzip.compress(bytes(100_000_000), compresslevel=1)
    tracemalloc.start()

    problem = refusal(bomb, max_bytes=10_000)

    assert problem.type == "body-too-large"
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_bomb_of_empty_members_is_refused():
    """They would cost time without ever reaching the limit of bytes."""
    problem = refusal(gzip.compress(b"") * (MAX_MEMBERS + 1))

    assert problem.detail == f"a gzip body may have at most {MAX_MEMBERS} members"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TEXT, "incorrect header check"),
        (gzip.compress(TEXT, mtime=0)[:-1], "is cut off"),
        (gzip.compress(TEXT, mtime=0)[:12], "is cut off"),
        (gzip.compress(TEXT, mtime=0)[:-8] + bytes(8), "incorrect data check"),
        (gzip.compress(TEXT, mtime=0) + b"more", "incorrect header check"),
        (gzip.compress(TEXT, mtime=0) + bytes(8), "incorrect header check"),
        (b"", "is cut off"),
    ],
    ids=["plain", "cut", "cut-early", "checksum", "garbage", "padding", "empty"],
)
def test_broken_gzip_is_malformed(content, words):
    """Cut off, damaged, or with something behind its end, zeros included."""
    problem = refusal(content)

    assert problem.type == "malformed-body"
    assert words in problem.detail


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "identity, gzip", "gzip, deflate"])
def test_other_encodings_are_refused_with_those_that_are_read(encoding):
    """RFC 9110 wants `Accept-Encoding` in this answer."""
    problem = refusal(gzip.compress(TEXT), encoding)

    assert problem.type == "unsupported-media-type"
    assert problem.headers == {"Accept-Encoding": "gzip, deflate, identity"}


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 45), value=st.integers(0, 255))
def test_any_byte_changed_is_read_or_refused(position, value):
    """Only problems are raised."""
    content = bytearray(gzip.compress(TEXT, mtime=0))
    content[position % len(content)] = value
    try:
        assert inflate(bytes(content), "gzip", 1000) == TEXT
    except Problem as problem:
        assert problem.type in ("malformed-body", "body-too-large")  # noqa: PT017

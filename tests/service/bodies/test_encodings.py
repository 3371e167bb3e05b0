"""Inflating request bodies, and its limits."""

import gzip
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bodies.encodings import MAX_MEMBERS, inflate
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
        (gzip.compress(TEXT)[:-1], "ends within a member"),
        (gzip.compress(TEXT)[:12], "ends within a member"),
        (gzip.compress(TEXT)[:-8] + bytes(8), "incorrect data check"),
        (gzip.compress(TEXT) + b"more", "incorrect header check"),
        (gzip.compress(TEXT) + bytes(8), "incorrect header check"),
        (b"", "ends within a member"),
    ],
    ids=["plain", "cut", "cut-early", "checksum", "garbage", "padding", "empty"],
)
def test_broken_gzip_is_malformed(content, words):
    """Cut off, damaged, or with something behind its end, zeros included."""
    problem = refusal(content)

    assert problem.type == "malformed-body"
    assert words in problem.detail


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "identity, gzip"])
def test_other_encodings_are_refused_with_those_that_are_read(encoding):
    """RFC 9110 wants `Accept-Encoding` in this answer."""
    problem = refusal(gzip.compress(TEXT), encoding)

    assert problem.type == "unsupported-media-type"
    assert problem.headers == {"Accept-Encoding": "gzip, identity"}


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

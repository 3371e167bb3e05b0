"""`Content-Encoding` of request bodies: gzip with a bound on what it inflates to."""

import zlib

from service.http.problems import Problem

IDENTITY = "identity"
GZIP = "gzip"
# Of bgzip, whose members hold 64 KB, twice as many fit into 64 MiB; tiny ones would cost time, not memory.
MAX_MEMBERS = 10_000
_PIECE_BYTES = 2**16  # what is handed to zlib at a time; it copies what a member leaves over
_GZIP_WINDOW = 31  # zlib's word for a gzip header, the largest window and a checked trailer


def inflate(content: bytes, encoding: str, max_bytes: int) -> bytes:
    """A body without its content encoding.

    Parameters
    ----------
    content : bytes
        As it came.
    encoding : str
        The header's value; empty where there is none.
    max_bytes : int
        The most that it may inflate to.

    Raises
    ------
    Problem
        If the encoding is another one, the body is broken or cut off, something stands behind it, or it is
        larger than it may be; no more than one byte beyond `max_bytes` is ever inflated.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", IDENTITY):
        return content
    if encoding not in (GZIP, "x-gzip"):  # RFC 9110, section 8.4.1.3: the same
        raise Problem(
            "unsupported-media-type",
            f"the Content-Encoding must be {GZIP} or {IDENTITY}, got {encoding[:80]!r}",
            headers={"Accept-Encoding": f"{GZIP}, {IDENTITY}"},
        )
    try:
        return _inflate_members(content, max_bytes)
    except zlib.error as error:
        raise Problem("malformed-body", f"the gzip body cannot be inflated: {error}") from error


def check_identity(encoding: str) -> None:
    """Refuse any encoding of a body that is answered while it comes."""
    if encoding.strip().lower() not in ("", IDENTITY):
        raise Problem(
            "unsupported-media-type",
            f"lines come without a Content-Encoding, got {encoding[:80]!r}",
            headers={"Accept-Encoding": IDENTITY},
        )


def _inflate_members(content: bytes, max_bytes: int) -> bytes:
    """The members of a gzip body, one behind the other as RFC 1952 has them."""
    rest, pieces, room = memoryview(content), [], max_bytes
    for _ in range(MAX_MEMBERS):
        member = zlib.decompressobj(_GZIP_WINDOW)
        while not member.eof:
            if not rest:
                raise Problem("malformed-body", "the gzip body ends within a member")
            fed = rest[:_PIECE_BYTES]
            pieces.append(member.decompress(fed, room + 1))
            room -= len(pieces[-1])
            if room < 0:
                raise Problem("body-too-large", f"a body may have {max_bytes} bytes, got more from gzip")
            rest = rest[len(fed) - len(member.unused_data) :]
        if not rest:
            return b"".join(pieces)
    raise Problem("malformed-body", f"a gzip body may have {MAX_MEMBERS} members")

"""`Content-Encoding` of request bodies: gzip with a limit on the inflated size."""

import zlib

from service.http.problems import Problem

IDENTITY = "identity"
GZIP = "gzip"
# Limits the time for tiny members. bgzip writes members of 64 KB, so 640 MB fit.
MAX_MEMBERS = 10_000
_PIECE_BYTES = 2**16  # bytes given to zlib at a time; it copies the bytes that follow the end of a member
_GZIP_WINDOW = 31  # zlib's code for a gzip header, the largest window and a checked trailer


def inflate(content: bytes, encoding: str, max_bytes: int) -> bytes:
    """Remove the content encoding of a body; `encoding` is the value of the header, empty if there is none.

    Raise `Problem` if the encoding is not gzip, the body is invalid, cut off or followed by other bytes, or
    its inflated size exceeds the limit; at most `max_bytes` + 1 bytes are ever inflated.
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
    """Refuse any encoding of a body that is answered line by line as it arrives."""
    if encoding.strip().lower() not in ("", IDENTITY):
        raise Problem(
            "unsupported-media-type",
            f"lines must have no Content-Encoding, got {encoding[:80]!r}",
            headers={"Accept-Encoding": IDENTITY},
        )


def _inflate_members(content: bytes, max_bytes: int) -> bytes:
    """Inflate the consecutive members of a gzip body (RFC 1952)."""
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
                raise Problem(
                    "body-too-large",
                    f"a body may have at most {max_bytes} bytes, got more after inflating it",
                )
            rest = rest[len(fed) - len(member.unused_data) :]
        if not rest:
            return b"".join(pieces)
    raise Problem("malformed-body", f"a gzip body may have at most {MAX_MEMBERS} members")

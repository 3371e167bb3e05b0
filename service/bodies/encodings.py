"""Encodings of request bodies: `Content-Encoding` with a limit on the inflated size, byte order marks."""

import codecs
import zlib

from detector.engine.session import check_stop
from service.http.messages import Body
from service.http.problems import Problem

IDENTITY = "identity"
GZIP, DEFLATE = "gzip", "deflate"
# Limits the time for tiny members. bgzip writes members of 64 KB, so 640 MB fit.
MAX_MEMBERS = 10_000
# Bytes given to zlib at a time, of which it makes at most a thousand times as many; it copies the bytes that
# follow the end of a member.
_PIECE_BYTES = 2**14
# Codes of zlib for the header of a format, each with the largest window.
_GZIP_WINDOW, _ZLIB_WINDOW, _RAW_WINDOW = 31, 15, -15
# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def inflate(content: bytes, encoding: str, max_bytes: int) -> bytes:
    """Remove the content encoding of a body; `encoding` is the value of the header, empty if there is none.

    Raise `Problem` if the encoding is neither gzip nor deflate, the body is invalid, cut off or followed by
    other bytes, or its inflated size exceeds the limit; at most `max_bytes` + 1 bytes are ever inflated.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", IDENTITY):
        return content
    if encoding not in (GZIP, "x-gzip", DEFLATE):  # RFC 9110, section 8.4.1.3: the first two are the same
        raise Problem(
            "unsupported-media-type",
            f"the Content-Encoding must be {GZIP}, {DEFLATE} or {IDENTITY}, got {encoding[:80]!r}",
            headers={"Accept-Encoding": f"{GZIP}, {DEFLATE}, {IDENTITY}"},
        )
    window = _deflate_window(content) if encoding == DEFLATE else _GZIP_WINDOW
    try:
        return _inflate_members(content, max_bytes, window)
    except zlib.error as error:
        raise Problem("malformed-body", f"the {encoding} body cannot be inflated: {error}") from error


def _deflate_window(content: bytes) -> int:
    """Return the window for a zlib stream, or for one without its header, which many programs send."""
    has_header = len(content) > 1 and content[0] & 0x0F == 8 and int.from_bytes(content[:2], "big") % 31 == 0
    return _ZLIB_WINDOW if has_header else _RAW_WINDOW


def check_identity(encoding: str) -> None:
    """Refuse any encoding of a body that is answered line by line as it arrives."""
    if encoding.strip().lower() not in ("", IDENTITY):
        raise Problem(
            "unsupported-media-type",
            f"lines must have no Content-Encoding, got {encoding[:80]!r}",
            headers={"Accept-Encoding": IDENTITY},
        )


def _inflate_members(content: bytes, max_bytes: int, window: int) -> bytes:
    """Inflate the consecutive members of a gzip body (RFC 1952), or the single stream of another format."""
    rest, pieces, room = memoryview(content), [], max_bytes
    max_members = MAX_MEMBERS if window == _GZIP_WINDOW else 1
    for _ in range(max_members):
        member = zlib.decompressobj(window)
        while not member.eof:
            if not rest:
                raise Problem("malformed-body", "the compressed body is cut off")
            check_stop()
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
    if max_members == 1:
        raise Problem("malformed-body", f"{len(rest)} bytes follow the end of the compressed body")
    raise Problem("malformed-body", f"a gzip body may have at most {MAX_MEMBERS} members")


# --- characters ---------------------------------------------------------------------------------------------


def mark_bytes(text: Body | memoryview) -> int:
    """Return the length of the byte order mark at the start of a text in UTF-8, 0 if there is none.

    Raise `Problem`, naming the encoding, if the text is in UTF-16 or UTF-32, with or without a mark.
    """
    start = bytes(text[:4])
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            raise Problem("malformed-body", f"the body must be UTF-8, got {name}")
    if b"\0" in start:  # of each character in ASCII some bytes are 0
        raise Problem("malformed-body", "the body must be UTF-8, got UTF-16 or UTF-32")
    return len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0

"""Cross-origin requests of browsers (CORS): which pages may read answers, and what their browsers are told.

Credentials are never allowed: the service knows no cookies, and a page sends its key as a header, which needs
none. So a wildcard is safe wherever the Fetch standard defines it.

References
----------
The Fetch standard, sections 3.3.3 (headers of answers) and 3.3.5 (why answers vary):
https://fetch.spec.whatwg.org.
"""

from collections.abc import Mapping, Sequence

ANY = "*"
MAX_AGE_SECONDS = 7200  # the most that Chromium keeps the answer to a preflight
_METHODS = "GET, POST"

Fields = tuple[tuple[bytes, bytes], ...]

_EXPOSED = (b"access-control-expose-headers", b"*")
_VARY = (b"vary", b"origin")


def allow_origin(origins: Sequence[str], origin: str | None) -> Fields:
    """Return the header fields of an answer to a page, names in lower case.

    Parameters
    ----------
    origins : sequence of str
        The allowed origins; `*` alone for all of them.
    origin : str or None
        Value of the request's header `Origin`.
    """
    if not origins:
        return ()
    if ANY in origins:
        return (b"access-control-allow-origin", ANY.encode()), _EXPOSED
    if origin is None or origin not in origins:
        return (_VARY,)
    return (b"access-control-allow-origin", origin.encode()), _EXPOSED, _VARY


def answer_preflight(
    method: str, headers: Mapping[str, str], origins: Sequence[str]
) -> dict[str, str] | None:
    """Return the header fields that allow the request a browser announces, in addition to `allow_origin`.

    None if this is no such announcement, or its page is not allowed. Any header is allowed, because the
    service ignores those that it does not know.
    """
    if method != "OPTIONS" or not {"origin", "access-control-request-method"} <= headers.keys():
        return None
    if not {ANY, headers["origin"]} & set(origins):
        return None
    return {
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": headers.get("access-control-request-headers", ""),
        "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
    }

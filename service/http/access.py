"""Who may use the service: API keys, of which only digests are known here."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from service.http.problems import Problem

OPEN_PATHS = frozenset({"/livez", "/readyz"})
CHALLENGE = 'Bearer realm="residual"'


def check_key(path: str, headers: Mapping[str, str], digests: Sequence[bytes]) -> None:
    """Ask every request but the probes for a key, where there are digests of any.

    Parameters
    ----------
    path : str
    headers : mapping of str to str
        By name in lower case.
    digests : sequence of bytes
        SHA-256 of the known keys.

    Raises
    ------
    Problem
        Without a known key.
    """
    if digests and path not in OPEN_PATHS and not is_known(_sent_key(headers), digests):
        raise Problem(
            "unauthorized",
            "a known key must come as Authorization: Bearer KEY or X-API-Key: KEY",
            headers={"WWW-Authenticate": CHALLENGE},
        )


def is_known(key: str, digests: Sequence[bytes]) -> bool:
    """Whether a key's SHA-256 is among the digests, in a time that does not tell how much of it fits."""
    # The header's very bytes, as WSGI decodes them: text that is not ASCII must be refused, not fail.
    digest = hashlib.sha256(key.encode("latin-1", "replace")).digest()
    found = 0
    for known in digests:  # with all of them, whichever fits
        found += hmac.compare_digest(digest, known)
    return found > 0


def _sent_key(headers: Mapping[str, str]) -> str:
    if "authorization" in headers:
        scheme, _, token = headers["authorization"].partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
    return headers.get("x-api-key", "")


def check_host(headers: Mapping[str, str], protocol: str) -> None:
    """Refuse a request of HTTP/1.1 without Host, which servers let through (RFC 9112, section 3.2)."""
    if "host" not in headers and protocol.endswith("1.1"):
        raise Problem("bad-request", "a request of HTTP/1.1 must have a Host header, got none")

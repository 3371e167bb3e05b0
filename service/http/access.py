"""API keys, known by their digests only, and the Host header."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from service.http.problems import Problem

OPEN_PATHS = frozenset({"/livez", "/readyz"})
CHALLENGE = 'Bearer realm="residual"'


def check_key(path: str, headers: Mapping[str, str], digests: Sequence[bytes]) -> None:
    """Refuse a request without a known key, except probes; accept all if there are no digests.

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
        `unauthorized`.
    """
    if digests and path not in OPEN_PATHS and not is_known(_sent_key(headers), digests):
        raise Problem(
            "unauthorized",
            "a known key must be sent as Authorization: Bearer KEY or X-API-Key: KEY",
            headers={"WWW-Authenticate": CHALLENGE},
        )


def is_known(key: str, digests: Sequence[bytes]) -> bool:
    """Whether a key's SHA-256 is among the digests; the time taken does not reveal how much of it matches."""
    # WSGI decodes headers as latin-1; a key that is not ASCII must be refused, not raise.
    digest = hashlib.sha256(key.encode("latin-1", "replace")).digest()
    found = 0
    for known in digests:  # compare with all of them, even after a match
        found += hmac.compare_digest(digest, known)
    return found > 0


def _sent_key(headers: Mapping[str, str]) -> str:
    if "authorization" in headers:
        scheme, _, token = headers["authorization"].partition(" ")
        if scheme.lower() == "bearer":
            return token.strip()
    return headers.get("x-api-key", "")


def check_host(headers: Mapping[str, str], protocol: str) -> None:
    """Refuse a request of HTTP/1.1 without Host, as RFC 9112, section 3.2, demands and servers do not."""
    if "host" not in headers and protocol.endswith("1.1"):
        raise Problem("bad-request", "a request of HTTP/1.1 must have a Host header, got none")

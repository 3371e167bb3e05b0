"""Compress answers to GET: descriptions, lists, metrics.

Those of verbs are left to a proxy, since their clients wait for them, often on the same machine.
"""

import gzip

from flask import Request, Response

LEAST_BYTES = 1024  # a packet holds more
LEVEL = 4  # a few milliseconds for the metrics of a hundred versions
_TEXTS = ("application/json", "text/")


def compress(request: Request, response: Response) -> None:
    """Compress the body of an answer by gzip if it is a text that is worth it, and the client takes it."""
    if request.method not in ("GET", "HEAD") or response.is_streamed:
        return
    if not (response.content_type or "").startswith(_TEXTS) or len(response.data) < LEAST_BYTES:
        return
    response.vary.add("Accept-Encoding")
    if request.accept_encodings["gzip"] > 0:
        response.data = gzip.compress(response.data, LEVEL, mtime=0)
        response.content_encoding = "gzip"

"""The record of a request: its id, the headers of its answer, and the data for metrics and the access log."""

import dataclasses
import functools
import random
import re
import time
from collections.abc import Sequence

import numpy as np

from detector import Manifest
from service.http.cors import Fields
from service.http.messages import Answer

REQUEST_ID = b"x-request-id"
MODEL_VERSION = b"x-model-version"
NO_SNIFF = (b"x-content-type-options", b"nosniff")
_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclasses.dataclass(slots=True)
class RequestRecord:
    """Data of one request, filled in while it is answered.

    Attributes
    ----------
    request_id : str
    method : str
    client : str or None
        Its IP address.
    path : str
    template : str
        The route as OpenAPI writes it, `/models/{name}`; empty if no route matches.
    started : float
        Seconds of `time.perf_counter`.
    model, version : str
        The detector that answers; empty until it is chosen, so that unknown names create no time series.
    rows : int or None
        Samples in the body.
    problem : str or None
        The problem type of the answer, or of the last line of an answer of lines.
    status : int
        Status code of the answer; 0 until there is one.
    seconds : float
        From the head of the request to the end of its answer.
    latency : float or None
        Of an answer of lines, which ends when the client likes: seconds from the first lines to their answer.
    ended : float
        Time of the answer, in seconds since 1970.
    cors : tuple of (bytes, bytes)
        Header fields of the answer for the browser of a page of another origin.
    """

    request_id: str
    method: str
    path: str = ""
    client: str | None = None
    template: str = ""
    started: float = dataclasses.field(default_factory=time.perf_counter)
    model: str = dataclasses.field(default="", init=False)
    version: str = dataclasses.field(default="", init=False)
    rows: int | None = dataclasses.field(default=None, init=False)
    problem: str | None = dataclasses.field(default=None, init=False)
    status: int = dataclasses.field(default=0, init=False)
    seconds: float = dataclasses.field(default=0.0, init=False)
    latency: float | None = dataclasses.field(default=None, init=False)
    ended: float = dataclasses.field(default=0.0, init=False)
    cors: Fields = dataclasses.field(default=(), init=False)

    def tell_model(self, name: str, version: int) -> None:
        """Note the model that answers."""
        self.model, self.version = name, str(version)

    def again(self, request_id: str | None, client: str | None) -> "RequestRecord":
        """Return the record of another request with the same head, which has just arrived."""
        record = RequestRecord(request_id or make_id(), self.method, self.path, client, self.template)
        record.model, record.version, record.cors = self.model, self.version, self.cors
        return record

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the header fields of every answer, names in lower case."""
        headers = [(REQUEST_ID, self.request_id.encode()), NO_SNIFF, *self.cors]
        if self.version:
            headers.append((MODEL_VERSION, self.version.encode()))
        return headers

    def fields(self, answer: Answer) -> list[tuple[bytes, bytes]]:
        """Return all header fields of an answer with a complete body, names in lower case."""
        fields = [
            (b"content-type", answer.content_type.encode("latin-1")),
            (b"content-length", b"%d" % len(answer.body)),  # type: ignore[arg-type]  # it is complete
        ]
        if answer.headers:
            fields += [(_lower(name), value.encode("latin-1")) for name, value in answer.headers.items()]
        return fields + self.headers()


@functools.cache  # there are few names
def _lower(name: str) -> bytes:
    return name.lower().encode("latin-1")


def open_record(
    method: str, path: str, sent_id: str | None, client: str | None, template: str = ""
) -> RequestRecord:
    """Return the record of a request that has just arrived, with the client's id if that is valid."""
    request_id = sent_id if sent_id and is_id(sent_id) else make_id()
    return RequestRecord(request_id, method, path, client, template)


def is_id(text: str) -> bool:
    """Whether a client may use this id for its request."""
    return _CLIENT_ID.fullmatch(text) is not None


def make_id() -> str:
    """Return a unique id, which is no secret; every process seeds its generator anew."""
    return f"{random.getrandbits(128):032x}"


@dataclasses.dataclass(slots=True)
class Run:
    """One run of a verb.

    Attributes
    ----------
    manifest : Manifest
    rows : int
    seconds : float
    scores : sequence of ndarray of shape (n,), float64
        Scores of each request in the run; empty for verbs that do not score.
    """

    manifest: Manifest
    rows: int
    seconds: float
    scores: Sequence[np.ndarray]

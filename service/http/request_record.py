"""One request and its answer: the id, the headers, and what metrics and the access log say of it."""

import dataclasses
import random
import re
import time

import numpy as np

from detector import Manifest

REQUEST_ID = b"x-request-id"
MODEL_VERSION = b"x-model-version"
NO_SNIFF = (b"x-content-type-options", b"nosniff")
_CLIENT_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclasses.dataclass(slots=True)
class RequestRecord:
    """What becomes known of a request while it is answered.

    Attributes
    ----------
    request_id : str
    method : str
    client : str or None
        Its address.
    path : str
    template : str
        The route as OpenAPI writes it, `/models/{name}`; empty where no route matches.
    started : float
        Seconds of `time.perf_counter`.
    model, version : str
        Of the detector that answers; empty until one is chosen, so that unknown names make no series.
    rows : int or None
        Samples in the body.
    problem : str or None
        The problem type of the answer, or of what ended an answer of lines that had begun.
    status : int
        Of the answer; 0 until it is made.
    seconds : float
        From the head of the request to its answer.
    ended : float
        When the answer was made, in seconds since 1970.
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
    ended: float = dataclasses.field(default=0.0, init=False)

    def tell_model(self, name: str, version: int) -> None:
        """Note which model answers."""
        self.model, self.version = name, str(version)

    def again(self, request_id: str | None, client: str | None) -> "RequestRecord":
        """The record of another request with the same head, which has just come."""
        record = RequestRecord(request_id or make_id(), self.method, self.path, client, self.template)
        record.model, record.version = self.model, self.version
        return record

    def close(self, status: int) -> None:
        """The answer is made."""
        self.status = status
        self.seconds = time.perf_counter() - self.started
        self.ended = time.time()

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What every answer carries, names in lower case."""
        headers = [(REQUEST_ID, self.request_id.encode()), NO_SNIFF]
        if self.version:
            headers.append((MODEL_VERSION, self.version.encode()))
        return headers


def open_record(
    method: str, path: str, sent_id: str | None, client: str | None, template: str = ""
) -> RequestRecord:
    """The record of a request that has just come, under the id that its client sent where it is one."""
    request_id = sent_id if sent_id and is_id(sent_id) else make_id()
    return RequestRecord(request_id, method, path, client, template)


def is_id(text: str) -> bool:
    """Whether a client may call its request so."""
    return _CLIENT_ID.fullmatch(text) is not None


def make_id() -> str:
    """An id that no other request has; no secret. Python seeds the generator anew in every process."""
    return f"{random.getrandbits(128):032x}"


@dataclasses.dataclass(slots=True)
class Run:
    """One run of a verb.

    Attributes
    ----------
    manifest : Manifest
    rows : int
    seconds : float
    scores : ndarray of shape (rows,), float64, or None
        Where it scored.
    """

    manifest: Manifest
    rows: int
    seconds: float
    scores: np.ndarray | None

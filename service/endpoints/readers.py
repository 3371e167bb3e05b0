"""Cache the readers of request bodies by what they depend on."""

from collections.abc import Mapping
from typing import Any

from service.endpoints.base import SHAPING_HEADERS, Endpoint, Reader
from service.http.messages import Head
from service.http.request_record import RequestRecord
from service.models.registry import ModelRegistry

MAX_READERS = 1000


class Readers:
    """Readers of the heads that came lately, for as long as the same models are loaded."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models
        self._snapshot = models.models
        self._kept: dict[tuple, tuple[Reader, str, str]] = {}

    def find(
        self, path: str, query: bytes, headers: Mapping[str, str], record: RequestRecord
    ) -> Reader | None:
        """The reader that is kept for a head; the record is told its model."""
        if self._models.models is not self._snapshot or len(self._kept) > MAX_READERS:
            self._snapshot, self._kept = self._models.models, {}
        kept = self._kept.get((path, query, *map(headers.get, SHAPING_HEADERS)))
        if kept is None:
            return None
        reader, record.model, record.version = kept
        return reader

    def open(self, endpoint: Endpoint, head: Head, record: RequestRecord, path: Mapping[str, Any]) -> Reader:
        """The reader for a head, kept from now on; arguments and errors as of `Endpoint.open`."""
        kept = self._kept
        reader = endpoint.open(head, record, **path)
        key = (head.path, head.query.encode("latin-1"), *map(head.headers.get, SHAPING_HEADERS))
        kept[key] = (reader, record.model, record.version)
        return reader

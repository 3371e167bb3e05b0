"""Caches the readers of request bodies."""

from collections.abc import Mapping
from typing import Any

from service.endpoints.base import SHAPING_HEADERS, Endpoint, Reader
from service.http.messages import Head
from service.http.request_record import RequestRecord
from service.models.registry import ModelRegistry

MAX_READERS = 1000


class Readers:
    """Readers by path, query and `SHAPING_HEADERS`, for as long as the same models are loaded."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models
        self._snapshot = models.models
        self._kept: dict[tuple, tuple[Reader, str, str]] = {}
        models.on_swap(self._forget)

    def open(self, endpoint: Endpoint, head: Head, record: RequestRecord, path: Mapping[str, Any]) -> Reader:
        """Return the reader for a head; arguments and errors as for `Endpoint.open`."""
        if self._models.models is not self._snapshot or len(self._kept) > MAX_READERS:
            self._forget()
        kept, key = self._kept, (head.path, head.query, *map(head.headers.get, SHAPING_HEADERS))
        if key in kept:
            reader, record.model, record.version = kept[key]
        else:
            reader = endpoint.open(head, record, **path)
            kept[key] = (reader, record.model, record.version)
        return reader

    def _forget(self) -> None:
        self._snapshot, self._kept = self._models.models, {}

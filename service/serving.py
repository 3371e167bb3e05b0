"""What one process serves with: models, endpoints, limits and counters, whatever server brings requests."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from detector import ModelStore
from detector.session import Stop
from service.admission import Admission, Ticket
from service.bodies import Limits
from service.endpoints import SHAPING_HEADERS, Call, Endpoint, ModelChoice, Reader, verb_endpoints
from service.exchange import Exchange
from service.ledger import Ledger
from service.messages import Answer, Head
from service.metrics import Metrics
from service.platform_endpoints import platform_endpoints
from service.registry import ModelRegistry
from service.runner import Runner
from service.settings import Settings

MAX_READERS = 1000


@dataclasses.dataclass(frozen=True)
class Serving:
    """Everything that requests share.

    Attributes
    ----------
    endpoints : mapping of str to Endpoint
        By the rule of their path, as Werkzeug writes it; all are asked by POST.
    default_model : str or None
        Fixed from the start.
    """

    settings: Settings
    models: ModelRegistry
    metrics: Metrics
    ledger: Ledger
    default_model: str | None
    endpoints: Mapping[str, Endpoint]
    admission: Admission
    runner: Runner
    readers: "Readers"

    @property
    def needed_models(self) -> tuple[str, ...]:
        """Models without which the service is not ready."""
        default = [self.default_model] if self.default_model else []
        return tuple(dict.fromkeys([*default, *self.settings.required_models]))

    def answer(self, call: Call, ticket: Ticket, stop: Stop, started: float) -> Answer:
        """Run a call that takes long, or comes alone; arguments and errors as of `Runner.run_alone`."""
        ticket.add(rows=call.rows)
        return self.runner.run_alone(call, stop, started)


class Readers:
    """Readers of the heads that came lately, for as long as the same models are loaded.

    Clients ask the same again and again, so most requests find theirs here.
    """

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models
        self._snapshot = models.models
        self._kept: dict[tuple, tuple[Reader, str, str]] = {}

    def find(self, path: str, query: bytes, headers: Mapping[str, str], exchange: Exchange) -> Reader | None:
        """The reader that is kept for a head; the exchange is told its model."""
        if self._models.models is not self._snapshot or len(self._kept) > MAX_READERS:
            self._snapshot, self._kept = self._models.models, {}
        kept = self._kept.get((path, query, *map(headers.get, SHAPING_HEADERS)))
        if kept is None:
            return None
        reader, exchange.model, exchange.version = kept
        return reader

    def open(self, endpoint: Endpoint, head: Head, exchange: Exchange, path: Mapping[str, Any]) -> Reader:
        """The reader for a head, kept from now on; arguments and errors as of `Endpoint.open`."""
        kept = self._kept
        reader = endpoint.open(head, exchange, **path)
        key = (head.path, head.query.encode("latin-1"), *map(head.headers.get, SHAPING_HEADERS))
        kept[key] = (reader, exchange.model, exchange.version)
        return reader


def open_store(settings: Settings) -> Serving:
    """Load every model of the store and follow it from now on."""
    metrics = Metrics()
    models = ModelRegistry(ModelStore(settings.store), metrics.count_reload)
    metrics.watch(models)
    ledger = Ledger(metrics)
    metrics.read_after(ledger.write)
    models.poll()
    default_model = settings.default_model or _only(list(models.models))
    limits = Limits(settings.max_rows, settings.max_body_bytes)
    choice = ModelChoice(models, default_model)
    serving = Serving(
        settings,
        models,
        metrics,
        ledger,
        default_model,
        {**dict(verb_endpoints(choice, limits)), **dict(platform_endpoints(choice, limits))},
        Admission(settings, settings.pool_threads),
        Runner(ledger, settings.deadline_seconds),
        Readers(models),
    )
    models.start(settings.poll_seconds)
    return serving


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None

"""The objects that one process serves with, under any server: models, endpoints, limits and counters."""

import dataclasses
from collections.abc import Mapping

from detector import ModelStore
from detector.engine.session import Stop
from service.bodies import Limits
from service.endpoints.base import Endpoint, ModelChoice
from service.endpoints.platforms import platform_endpoints
from service.endpoints.readers import Readers
from service.endpoints.verbs import verb_endpoints
from service.http.messages import Answer
from service.models.policy import Policy
from service.models.registry import ModelRegistry
from service.models.trial import Trial
from service.scoring.admission import Admission, Ticket
from service.scoring.calls import Call
from service.scoring.runner import Runner
from service.settings import Settings
from service.watching.metrics import Metrics
from service.watching.pending import Pending

# Gunicorn ends a worker that has not started after 30 seconds. Later models are loaded while it serves.
START_SECONDS = 20


@dataclasses.dataclass(frozen=True)
class Serving:
    """The objects that all requests share.

    Attributes
    ----------
    endpoints : mapping of str to Endpoint
        By the rule of their path, in the syntax of Werkzeug; all take POST.
    default_model : str or None
        Fixed at start.
    """

    settings: Settings
    models: ModelRegistry
    metrics: Metrics
    pending: Pending
    default_model: str | None
    endpoints: Mapping[str, Endpoint]
    admission: Admission
    runner: Runner
    readers: Readers

    @property
    def needed_models(self) -> tuple[str, ...]:
        """Models without which the service is not ready."""
        default = [self.default_model] if self.default_model else []
        return tuple(dict.fromkeys([*default, *self.settings.required_models]))

    def answer(self, call: Call, ticket: Ticket, stop: Stop | None, started: float) -> Answer:
        """Admit and run one call outside of rounds; arguments and errors as for `Runner.run_alone`."""
        ticket.add(rows=call.rows)
        return self.runner.run_alone(call, stop, started)


def open_store(settings: Settings) -> Serving:
    """Start to poll the store, and wait for the models that serve.

    Raise `StoreError` if the folder is within a store or only holds one.
    """
    store = ModelStore(settings.store)
    store.check_place()
    metrics = Metrics()
    models = ModelRegistry(
        store,
        metrics,
        Policy(settings.newest_versions, settings.other_versions),
        Trial(settings.trial_seconds, settings.trial_memory_bytes) if settings.trial_seconds else None,
    )
    metrics.watch(models)
    pending = Pending(metrics)
    metrics.read_after(pending.write)
    models.start(settings.poll_seconds)
    models.wait(START_SECONDS)
    default_model = settings.default_model or _only(list(models.models))
    limits = Limits(settings.max_rows, settings.max_body_bytes)
    choice = ModelChoice(models, default_model)
    return Serving(
        settings,
        models,
        metrics,
        pending,
        default_model,
        {**dict(verb_endpoints(choice, limits)), **dict(platform_endpoints(choice, limits))},
        Admission(settings, settings.pool_threads),
        Runner(pending, settings.deadline_seconds),
        Readers(models),
    )


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None

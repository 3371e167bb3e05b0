"""The protocols of `quality.py`, by name: a new one is a module with `PROTOCOLS` and a line here."""

from benchmarks.protocols import (
    contamination,
    denoising,
    images,
    parity,
    promise,
    streams,
    tabular,
    telemetry,
)
from benchmarks.protocols.base import Protocol

PROTOCOLS: dict[str, Protocol] = {
    **tabular.PROTOCOLS,
    **promise.PROTOCOLS,
    **parity.PROTOCOLS,
    **contamination.PROTOCOLS,
    **images.PROTOCOLS,
    **denoising.PROTOCOLS,
    **telemetry.PROTOCOLS,
    **streams.PROTOCOLS,
}

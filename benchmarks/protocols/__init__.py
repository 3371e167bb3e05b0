"""The protocols of `quality.py`, by name: a new one is a module with `PROTOCOLS` and a line here."""

from benchmarks.protocol import Protocol
from benchmarks.protocols import (
    contamination,
    denoising,
    parity,
    pictures,
    promise,
    streams,
    tabular,
    telemetry,
)

PROTOCOLS: dict[str, Protocol] = {
    **tabular.PROTOCOLS,
    **promise.PROTOCOLS,
    **parity.PROTOCOLS,
    **contamination.PROTOCOLS,
    **pictures.PROTOCOLS,
    **denoising.PROTOCOLS,
    **telemetry.PROTOCOLS,
    **streams.PROTOCOLS,
}

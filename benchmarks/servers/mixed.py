"""How long single rows wait while requests of many rows are posted without a pause."""

import time
from typing import Any

from benchmarks.servers import usage, wrk
from benchmarks.servers.server import Server

SINGLE_BODY = "json"
LEAD_SECONDS = 2  # until the bulk requests are under way
BULK_CONNECTIONS = 1


def measure(
    server: Server, bulk_body: str, bulk_rows: int, concurrency: int, seconds: float
) -> dict[str, Any]:
    """Measure the single rows, and the rate of the bulk requests."""
    with usage.Meter(server.processes) as meter:
        bulk = wrk.start(server.target(bulk_body, bulk_rows), BULK_CONNECTIONS, 3600)
        try:
            time.sleep(LEAD_SECONDS)
            singles = server.drive(SINGLE_BODY, 1, concurrency, seconds)
        finally:
            bulk_load = wrk.stop(bulk, BULK_CONNECTIONS)
    return {
        "requests_per_second": round(singles.requests_per_second, 2),
        "p50_ms": singles.p50_ms,
        "p99_ms": singles.p99_ms,
        "bulk_requests_per_second": round(bulk_load.requests_per_second, 3),
        "bulk_p50_ms": bulk_load.p50_ms,
        "memory_mb": round(usage.memory_mb(server.processes()), 1),
        "client_cpu": round(meter.client, 3),
        "foreign_cpu": round(meter.foreign, 3),
        "errors": singles.errors + bulk_load.errors,
    }

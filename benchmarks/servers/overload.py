"""Overload: offer five times the capacity of a server for half a minute, note answers and refusals."""

import json
import subprocess
import sys
from typing import Any

from benchmarks.environments import ROOT
from benchmarks.errors import BenchmarkError
from benchmarks.rows import OURS
from benchmarks.servers import open_loop, probes, usage
from benchmarks.servers.server import Server
from service.settings import Settings

BODY, ROWS = "npy", 32
TIMES, SECONDS = 5, 30
PEAK_CONCURRENCY, PEAK_SECONDS = (2, 4, 8), 10  # the best of short measurements would be the luckiest


def measure(server: Server, seconds: float) -> dict[str, Any]:
    """Measure the peak rate, at least `seconds` for each concurrency, then one run of overload."""
    seconds = max(seconds, PEAK_SECONDS)
    rates = [_accepted_per_second(server, concurrency, seconds) for concurrency in PEAK_CONCURRENCY]
    peak = max(rates)
    is_ours = server.contender.name == OURS
    paths = probes.PATHS if is_ours else ("/openapi.json",)
    usage.wait_until_idle(server.processes)
    form = server.contender.formats[BODY]
    headers = server.headers(form, ROWS)
    offered = TIMES * peak
    arguments = [server.port, form.path, form.file(server.work, ROWS), offered, SECONDS, json.dumps(headers)]
    asked = [server.port, SECONDS, json.dumps(dict(server.contender.headers)), *paths]
    with usage.Meter(server.processes) as meter:
        prober = _start(probes, asked)
        client = _start(open_loop, arguments)
        outcome, probed = _result(client), _result(prober)
    return {
        "looks_per_second": [round(rate, 1) for rate in rates],
        "peak_per_second": round(peak, 1),
        "offered_per_second": round(offered, 1),
        **outcome,
        "of_peak": round(outcome["accepted_per_second"] / peak, 3),
        "deadline_ms": Settings.from_environ({}).deadline_seconds * 1e3 if is_ours else None,
        "probes": probed,
        "memory_mb": round(usage.memory_mb(server.processes()), 1),
        "client_cpu": round(meter.client, 3),
        "foreign_cpu": round(meter.foreign, 3),
    }


def _accepted_per_second(server: Server, concurrency: int, seconds: float) -> float:
    load = server.drive(BODY, ROWS, concurrency, seconds)
    return load.requests_per_second * (1 - load.errors / load.requests) if load.requests else 0.0


def _start(module: Any, arguments: list[Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module.__name__, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _result(process: subprocess.Popen[str]) -> dict[str, Any]:
    try:
        output, errors = process.communicate()
    finally:
        process.kill()  # if this process is ended first
    if process.returncode:
        raise BenchmarkError(f"a client of the overload benchmark failed: {errors.strip()[-300:]}")
    return json.loads(output)

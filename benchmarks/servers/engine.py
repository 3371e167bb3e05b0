"""ONNX Runtime without a server, in processes of one thread each: the highest rate a server could reach.

  python -m benchmarks.servers.engine MODEL SHAPE ROWS SECONDS

waits for a line feed, runs the model, prints how often it ran and how long a run took.
"""

import json
import os
import subprocess
import sys
import time
from typing import Any

import numpy as np

from benchmarks.environments import ROOT
from benchmarks.errors import BenchmarkError
from benchmarks.servers import usage
from benchmarks.servers.work import Work

ENGINE = "engine"
BODY = "array"
# 10,000 images at once would take 2 GB in each process.
BATCHES = {"dense": (1, 32, 256, 1024, 10_000), "conv": (1, 32, 256, 1024)}
WARM_UP_SECONDS = 0.5


def measure(work: Work, n_rows: int, processes: int, seconds: float) -> dict[str, Any]:
    """Measure one run with so many processes; the figures have the same names as a server's."""
    command = [sys.executable, "-m", "benchmarks.servers.engine", str(work.folder / "model.onnx")]
    command += [",".join(map(str, work.shape)), str(n_rows), str(seconds)]
    running = [_start(command) for _ in range(processes)]
    try:
        own = [process.pid for process in running]
        for process in running:
            process.stdout.readline()  # ready
        usage.wait_until_quiet(lambda: own, limit_seconds=8)
        memory = usage.memory_mb(own)
        with usage.Meter(lambda: own) as meter:
            for process in running:
                process.stdin.write("\n")
                process.stdin.flush()
            lines = [process.stdout.readline() for process in running]
        results = [json.loads(line) for line in lines if line]
    finally:
        for process in running:
            process.communicate()
    if len(results) < processes:
        raise BenchmarkError(f"the engine of {work.name} ended without a result")
    return _figures(results, memory, meter)


def _figures(results: list[dict[str, Any]], memory: float, meter: usage.Meter) -> dict[str, Any]:
    rate = sum(result["runs"] / result["seconds"] for result in results)
    runs = sum(result["runs"] for result in results)
    return {
        "requests_per_second": round(rate, 2),
        "p50_ms": max(result["p50_ms"] for result in results),
        "p99_ms": max(result["p99_ms"] for result in results),
        "cpu_us_per_request": round(meter.cpu_seconds / runs * 1e6, 1),
        "memory_mb": round(memory, 1),
        "cold_start_seconds": None,
        "foreign_cpu": round(meter.foreign, 3),
        "errors": 0,
    }


def _start(command: list[str]) -> subprocess.Popen[str]:
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def main(model: str, shape: str, n_rows: str, seconds: str) -> None:
    """Run the model on the same batch for so many seconds."""
    os.environ |= {
        "SERVING_MODEL": model,
        "SERVING_SHAPE": shape,
        "SERVING_THRESHOLD": "0",
        "SERVING_PORT": "0",
        "SERVING_BULK": "",
    }
    from benchmarks.peers import scoring

    session = scoring.open_session()
    samples = np.random.default_rng(0).random((int(n_rows), *scoring.SHAPE[1:]), dtype=np.float32)
    _times(lambda: scoring.run(session, samples), WARM_UP_SECONDS)
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.perf_counter()
    times = _times(lambda: scoring.run(session, samples), float(seconds))
    p50, p99 = (round(float(value) * 1e3, 4) for value in np.percentile(times, (50, 99)))
    result = {"runs": len(times), "seconds": time.perf_counter() - start, "p50_ms": p50, "p99_ms": p99}
    print(json.dumps(result), flush=True)


def _times(run: Any, seconds: float) -> list[float]:
    """Return how long each run took; run for so many seconds, at least once."""
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main(*sys.argv[1:])

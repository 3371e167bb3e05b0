"""Who is measured: how each is started on a model, and which bodies it can read.

Peers are set up for throughput with what their documents offer, two processes where they have processes. All
run `model.onnx` with the options of `benchmarks/peers/scoring.py`, which are those of our own service.
"""

import dataclasses
import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.environments import ROOT, environment
from benchmarks.servers.formats import (
    JSON,
    NPY,
    RAW,
    Format,
    encode_instances,
    encode_npy,
    encode_raw,
    score_member,
)
from benchmarks.servers.work import Work

PROCESSES = 2
PEERS = ROOT / "benchmarks" / "peers"
OURS, REFERENCE = "residual", "fastapi-tuned"
API_KEY = "key-of-the-benchmark"


@dataclasses.dataclass(frozen=True)
class Start:
    """What a contender is told: a model, a port, and whether requests hold one row or many.

    `folder` is empty, and its own while it runs.
    """

    work: Work
    port: int
    bulk: bool
    folder: Path


@dataclasses.dataclass(frozen=True)
class Contender:
    """One server.

    Attributes
    ----------
    name : str
    words : str
        What it is, for the table of docs/serving.md.
    formats : mapping of body to Format
        The bodies that it can read.
    prepare : callable
        From a start to the command; writes its files, and is not part of the cold start.
    environ : callable
        Variables beside those of this process.
    headers : mapping
        Sent with every request.
    has_environment : bool
        Whether it runs in an environment of its own.
    """

    name: str
    words: str
    formats: Mapping[str, Format]
    prepare: Callable[[Start], list[str]]
    environ: Callable[[Start], dict[str, str]]
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    has_environment: bool = True

    def make(self) -> None:
        """Make its environment where it is missing; raises QualityError where that fails."""
        if self.has_environment:
            environment(self.name)


def script_environ(start: Start) -> dict[str, str]:
    """What the scripts of `benchmarks/peers/` read."""
    return {
        "PYTHONPATH": str(PEERS),
        "SERVING_MODEL": str(start.work.folder / "model.onnx"),
        "SERVING_SHAPE": ",".join(map(str, start.work.shape)),
        "SERVING_THRESHOLD": str(start.work.detector().manifest.threshold.value),
        "SERVING_PORT": str(start.port),
        "SERVING_BULK": "1" if start.bulk else "",
    }


def _program(name: str, program: str) -> str:
    return str(environment(name).with_name(program))


# --- ours ---------------------------------------------------------------------------------------------------


def _residual(start: Start) -> list[str]:
    return [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "deploy" / "gunicorn.conf.py")]


def _residual_environ(start: Start) -> dict[str, str]:
    return {
        "RESIDUAL_STORE": str(start.work.store),
        "RESIDUAL_DEFAULT_MODEL": start.work.name,
        "RESIDUAL_BIND": f"127.0.0.1:{start.port}",
        "RESIDUAL_WORKERS": str(PROCESSES),
        "RESIDUAL_API_KEYS_SHA256": hashlib.sha256(API_KEY.encode()).hexdigest(),
    }


RESIDUAL = Contender(
    OURS,
    "this service as it is deployed, with keys, metrics, request ids, limits and logs",
    {
        "json": Format("/score", JSON, "instances.json", encode_instances, score_member),
        "npy": Format("/score", NPY, "npy", encode_npy, score_member),
        "raw": Format("/score", RAW, "raw", encode_raw, score_member),
    },
    _residual,
    _residual_environ,
    {"Authorization": f"Bearer {API_KEY}"},
    has_environment=False,
)

# --- FastAPI ------------------------------------------------------------------------------------------------


def _uvicorn(name: str, application: str, *options: str) -> Callable[[Start], list[str]]:
    def command(start: Start) -> list[str]:
        listen = ["--host", "127.0.0.1", "--port", str(start.port), "--workers", str(PROCESSES)]
        return [_program(name, "uvicorn"), *listen, *options, application]

    return command


TUNED = Contender(
    REFERENCE,
    "two processes of uvicorn with uvloop and httptools, orjson, the model run in the event loop, no logs",
    {
        "json": Format("/score", JSON, "instances.json", encode_instances, score_member),
        "npy": Format("/npy", NPY, "npy", encode_npy, score_member),
        "raw": Format("/raw", RAW, "raw", encode_raw, score_member),
    },
    _uvicorn(
        REFERENCE,
        "fastapi_tuned:app",
        *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
    ),
    script_environ,
)

CONTENDERS = {contender.name: contender for contender in (RESIDUAL, TUNED)}


def clean_environ() -> dict[str, str]:
    """Variables of this process without our service's own, which a user may have set."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RESIDUAL_")}

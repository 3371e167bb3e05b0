"""Who is measured: how each is started on a model, and which bodies it can read.

Peers are set up for throughput with what their documents offer, two processes where they have processes. All
run `model.onnx` with the options of `benchmarks/peers/scoring.py`, which are those of our own service.
"""

import dataclasses
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.environments import ROOT, environment
from benchmarks.errors import ServingError
from benchmarks.servers.formats import (
    JSON,
    NPY,
    RAW,
    Format,
    bentoml_scores,
    encode_inputs,
    encode_instances,
    encode_npy,
    encode_raw,
    encode_v2,
    encode_v2_binary,
    encode_x,
    mlflow_scores,
    score_member,
    v2_binary_headers,
    v2_scores,
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


def peer_environ(name: str) -> Callable[[Start], dict[str, str]]:
    """What the scripts of `benchmarks/peers/` read, and nobody's telemetry."""

    def environ(start: Start) -> dict[str, str]:
        programs = environment(name).parent
        return {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(PEERS),
            "SERVING_MODEL": str(start.work.folder / "model.onnx"),
            "SERVING_SHAPE": ",".join(map(str, start.work.shape)),
            "SERVING_THRESHOLD": str(start.work.detector().manifest.threshold.value),
            "SERVING_PORT": str(start.port),
            "SERVING_GRPC_PORT": str(free_port()),
            "SERVING_BULK": "1" if start.bulk else "",
            "BENTOML_HOME": str(start.folder),
            "BENTOML_DO_NOT_TRACK": "True",
            "DO_NOT_TRACK": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    return environ


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


QUIET = ("--no-access-log", "--log-level", "warning")

TUNED = Contender(
    REFERENCE,
    "two processes of uvicorn with uvloop and httptools, orjson, the model run in the event loop, no logs",
    {
        "json": Format("/score", JSON, "instances.json", encode_instances, score_member),
        "npy": Format("/npy", NPY, "npy", encode_npy, score_member),
        "raw": Format("/raw", RAW, "raw", encode_raw, score_member),
    },
    _uvicorn(REFERENCE, "fastapi_tuned:app", "--loop", "uvloop", "--http", "httptools", *QUIET),
    peer_environ(REFERENCE),
)
DOCUMENTED = Contender(
    "fastapi",
    "as its documents show it: models of pydantic, a plain function; two processes of uvicorn, no logs",
    {"json": Format("/score", JSON, "instances.json", encode_instances, score_member)},
    _uvicorn("fastapi", "fastapi_documented:app", *QUIET),
    peer_environ("fastapi"),
)

# --- servers of models --------------------------------------------------------------------------------------


def _mlserver(start: Start) -> list[str]:
    """Without parallel workers, which cost more than they bring; adaptive batching for single rows."""
    model = {"name": "scorer", "implementation": "mlserver_runtime.Scorer"}
    if not start.bulk:
        model |= {"max_batch_size": 32, "max_batch_time": 0.001}
    ports = {"http_port": start.port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"debug": False, "host": "127.0.0.1", **ports, "parallel_workers": 0, "metrics_endpoint": None}
    (start.folder / "model-settings.json").write_text(json.dumps(model))
    (start.folder / "settings.json").write_text(json.dumps(settings))
    return [_program("mlserver", "mlserver"), "start", str(start.folder)]


def _bentoml(start: Start) -> list[str]:
    listen = ["--host", "127.0.0.1", "--port", str(start.port)]
    return [
        _program("bentoml", "bentoml"),
        "serve",
        "bentoml_service:Scorer",
        "--working-dir",
        str(PEERS),
        *listen,
    ]


def _mlflow(start: Start) -> list[str]:
    model = str(start.folder / "model")
    environ = clean_environ() | MLFLOW.environ(start)
    save = [str(environment("mlflow")), str(PEERS / "mlflow_model.py"), model]
    finished = subprocess.run(save, env=environ, cwd=start.folder, capture_output=True, text=True)
    if finished.returncode:
        raise ServingError(f"mlflow cannot save the model: {finished.stderr.strip()[-300:]}")
    listen = ["--host", "127.0.0.1", "--port", str(start.port), "--workers", str(PROCESSES)]
    return [_program("mlflow", "mlflow"), "models", "serve", "-m", model, "--env-manager", "local", *listen]


def _script(name: str, script: str) -> Callable[[Start], list[str]]:
    return lambda start: [str(environment(name)), str(PEERS / script)]


V2_PATH = "/v2/models/scorer/infer"

MLSERVER = Contender(
    "mlserver",
    "a custom runtime of MLServer, adaptive batching of 32 rows in 1 ms, V2 JSON",
    {"json": Format(V2_PATH, JSON, "v2.json", encode_v2, v2_scores)},
    _mlserver,
    peer_environ("mlserver"),
)
BENTOML = Contender(
    "bentoml",
    "a service of BentoML, two workers, adaptive batching of 64 rows, JSON",
    {"json": Format("/score", JSON, "x.json", encode_x, bentoml_scores)},
    _bentoml,
    peer_environ("bentoml"),
)
LITSERVE = Contender(
    "litserve",
    "a server of LitServe, batching of 32 rows in 1 ms, or two workers for bulk, JSON",
    {"json": Format("/predict", JSON, "x.json", encode_x, score_member)},
    _script("litserve", "litserve_server.py"),
    peer_environ("litserve"),
)
MLFLOW = Contender(
    "mlflow",
    "`mlflow models serve` with two workers, a Python function, JSON",
    {"json": Format("/invocations", JSON, "inputs.json", encode_inputs, mlflow_scores)},
    _mlflow,
    peer_environ("mlflow"),
)
TRITON = Contender(
    "triton",
    "Triton by pytriton: its Python backend, two instances, dynamic batching; V2 JSON and binary tensors",
    {
        "json": Format(V2_PATH, JSON, "v2.json", encode_v2, v2_scores),
        "raw": Format(V2_PATH, RAW, "v2.bin", encode_v2_binary, v2_scores, v2_binary_headers),
    },
    _script("triton", "triton_server.py"),
    peer_environ("triton"),
)

CONTENDERS = {
    contender.name: contender
    for contender in (RESIDUAL, TUNED, DOCUMENTED, MLSERVER, BENTOML, LITSERVE, MLFLOW, TRITON)
}


def clean_environ() -> dict[str, str]:
    """Variables of this process without our service's own, which a user may have set."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RESIDUAL_")}

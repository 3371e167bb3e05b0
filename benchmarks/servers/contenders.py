"""The servers that are compared: how each is started on a model, and which bodies it can read.

Peers are set up for throughput as their documentation describes, with two processes if they have processes.
All run `model.onnx` with the options of `benchmarks/peers/scoring.py`, the same as in our own service.
"""

import dataclasses
import functools
import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.environments import ROOT, environment
from benchmarks.errors import BenchmarkError
from benchmarks.rows import OURS
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
from benchmarks.servers.processes import SERVICE_COMMAND, clean_environ, free_port
from benchmarks.servers.work import Work

PROCESSES = 2
PEERS = ROOT / "benchmarks" / "peers"
REFERENCE = "fastapi-tuned"
API_KEY = "key-of-the-benchmark"


@dataclasses.dataclass(frozen=True)
class Start:
    """The conditions that a contender is started in.

    Attributes
    ----------
    work : Work
        The model.
    port : int
    bulk : bool
        Whether requests hold many rows.
    folder : Path
        An empty folder for the contender alone, removed when it has ended.
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
        Description in the table of docs/serving.md.
    formats : mapping of body to Format
        The bodies that it can read.
    prepare : callable
        Takes a `Start`, writes the files of the contender, returns its command; not part of the cold start.
    environ : callable
        Takes a `Start`, returns further environment variables.
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
        """Make its environment if it is missing; raise BenchmarkError if that fails."""
        if self.has_environment:
            environment(self.name)


def _peer_environ(name: str, start: Start) -> dict[str, str]:
    """Return the variables that the scripts of `benchmarks/peers/` read, with telemetry switched off."""
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


def _peer(
    name: str, words: str, formats: Mapping[str, Format], prepare: Callable[[Start], list[str]]
) -> Contender:
    return Contender(name, words, formats, prepare, functools.partial(_peer_environ, name))


def _address(start: Start) -> list[str]:
    return ["--host", "127.0.0.1", "--port", str(start.port)]


def _program(name: str, program: str) -> str:
    return str(environment(name).with_name(program))


# --- ours ---------------------------------------------------------------------------------------------------


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
    lambda start: SERVICE_COMMAND,
    _residual_environ,
    {"Authorization": f"Bearer {API_KEY}"},
    has_environment=False,
)

# --- FastAPI ------------------------------------------------------------------------------------------------


def _uvicorn(name: str, application: str, *options: str) -> Callable[[Start], list[str]]:
    def command(start: Start) -> list[str]:
        workers = ["--workers", str(PROCESSES)]
        return [_program(name, "uvicorn"), *_address(start), *workers, *options, application]

    return command


QUIET = ("--no-access-log", "--log-level", "warning")

TUNED = _peer(
    REFERENCE,
    "two processes of uvicorn with uvloop and httptools, orjson, the model run in the event loop, no logs",
    {
        "json": Format("/score", JSON, "instances.json", encode_instances, score_member),
        "npy": Format("/npy", NPY, "npy", encode_npy, score_member),
        "raw": Format("/raw", RAW, "raw", encode_raw, score_member),
    },
    _uvicorn(REFERENCE, "fastapi_tuned:app", "--loop", "uvloop", "--http", "httptools", *QUIET),
)
DOCUMENTED = _peer(
    "fastapi",
    "as its documents show it: models of pydantic, a plain function; two processes of uvicorn, no logs",
    {"json": Format("/score", JSON, "instances.json", encode_instances, score_member)},
    _uvicorn("fastapi", "fastapi_documented:app", *QUIET),
)

# --- servers of models --------------------------------------------------------------------------------------


def _mlserver(start: Start) -> list[str]:
    """Start it without parallel workers, which make it slower; with adaptive batching for single rows."""
    model = {"name": "scorer", "implementation": "mlserver_runtime.Scorer"}
    if not start.bulk:
        model |= {"max_batch_size": 32, "max_batch_time": 0.001}
    ports = {"http_port": start.port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"debug": False, "host": "127.0.0.1", **ports, "parallel_workers": 0, "metrics_endpoint": None}
    (start.folder / "model-settings.json").write_text(json.dumps(model))
    (start.folder / "settings.json").write_text(json.dumps(settings))
    return [_program("mlserver", "mlserver"), "start", str(start.folder)]


def _bentoml(start: Start) -> list[str]:
    serve = [_program("bentoml", "bentoml"), "serve", "bentoml_service:Scorer"]
    return [*serve, "--working-dir", str(PEERS), *_address(start)]


def _mlflow(start: Start) -> list[str]:
    model = str(start.folder / "model")
    environ = clean_environ() | MLFLOW.environ(start)
    save = [str(environment("mlflow")), str(PEERS / "mlflow_model.py"), model]
    finished = subprocess.run(save, env=environ, cwd=start.folder, capture_output=True, text=True)
    if finished.returncode:
        raise BenchmarkError(f"mlflow cannot save the model: {finished.stderr.strip()[-300:]}")
    serve = [_program("mlflow", "mlflow"), "models", "serve", "-m", model, "--env-manager", "local"]
    return [*serve, *_address(start), "--workers", str(PROCESSES)]


def _script(name: str, script: str) -> Callable[[Start], list[str]]:
    return lambda start: [str(environment(name)), str(PEERS / script)]


V2_PATH = "/v2/models/scorer/infer"

MLSERVER = _peer(
    "mlserver",
    "a custom runtime of MLServer, adaptive batching of 32 rows in 1 ms, V2 JSON",
    {"json": Format(V2_PATH, JSON, "v2.json", encode_v2, v2_scores)},
    _mlserver,
)
BENTOML = _peer(
    "bentoml",
    "a service of BentoML, two workers, adaptive batching of 64 rows, JSON",
    {"json": Format("/score", JSON, "x.json", encode_x, bentoml_scores)},
    _bentoml,
)
LITSERVE = _peer(
    "litserve",
    "a server of LitServe, batching of 32 rows in 1 ms, or two workers for bulk, JSON",
    {"json": Format("/predict", JSON, "x.json", encode_x, score_member)},
    _script("litserve", "litserve_server.py"),
)
MLFLOW = _peer(
    "mlflow",
    "`mlflow models serve` with two workers, a Python function, JSON",
    {"json": Format("/invocations", JSON, "inputs.json", encode_inputs, mlflow_scores)},
    _mlflow,
)
TRITON = _peer(
    "triton",
    "Triton by pytriton: its Python backend, two instances, dynamic batching; V2 JSON and binary tensors",
    {
        "json": Format(V2_PATH, JSON, "v2.json", encode_v2, v2_scores),
        "raw": Format(V2_PATH, RAW, "v2.bin", encode_v2_binary, v2_scores, v2_binary_headers),
    },
    _script("triton", "triton_server.py"),
)

CONTENDERS = {
    contender.name: contender
    for contender in (RESIDUAL, TUNED, DOCUMENTED, MLSERVER, BENTOML, LITSERVE, MLFLOW, TRITON)
}

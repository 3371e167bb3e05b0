"""Settings of the service: environment variables with one prefix, read once, from one table."""

import dataclasses
import difflib
import fnmatch
import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from detector.errors import StoreError
from detector.store import check_name

PREFIX = "RESIDUAL_"
# What Kubernetes injects into every container of a namespace with a Service named `residual`.
FOREIGN = (f"{PREFIX}*SERVICE_*", f"{PREFIX}*PORT*")
NO_AUTH = "none"
MOST_POOL_THREADS = 4


class SettingsError(ValueError):
    """The environment does not configure a service; the text says which variable, and what it must be."""


@dataclasses.dataclass(frozen=True)
class Variable:
    """One environment variable.

    Attributes
    ----------
    name : str
    default : str
        As it would stand in the environment; an empty value counts as not set.
    help : str
        One sentence for the table of the README.
    parse : callable
        Text to value; raises ValueError saying what the text must be.
    """

    name: str
    default: str
    help: str
    parse: Callable[[str], Any]

    @property
    def field(self) -> str:
        """The attribute of `Settings`."""
        return self.name.removeprefix(PREFIX).lower()

    def read(self, environ: Mapping[str, str]) -> Any:
        """The value in an environment.

        Raises
        ------
        SettingsError
            Naming the variable, what it must be and what it is.
        """
        text = environ.get(self.name, "").strip() or self.default
        try:
            return self.parse(text)
        except ValueError as error:
            raise SettingsError(f"{self.name} must be {error}, got {text!r}") from error


def allowed_cpus(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """CPUs that this process may use: its affinity, cut to the quota of its control group.

    Parameters
    ----------
    cpu_max : Path
        "quota period" in microseconds, or "max period"; cgroup v2.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
    except (OSError, ValueError):
        return affinity
    return affinity if quota == "max" else max(1, min(affinity, math.ceil(int(quota) / int(period))))


def _positive_int(text: str) -> int:
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) == 0:
        raise ValueError("a positive integer")
    return int(text)


def _workers(text: str) -> int:
    return _positive_int(text) if text else allowed_cpus()


def _pool_threads(text: str) -> int:
    return _positive_int(text) if text else min(allowed_cpus(), MOST_POOL_THREADS)


def _positive_float(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or float(text) == 0:
        raise ValueError("a positive number of seconds")
    return float(text)


def _name(text: str) -> str | None:
    return _names(text)[0] if text else None


def _names(text: str) -> tuple[str, ...]:
    try:
        return tuple(check_name(name) for name in _split(text))
    except StoreError as error:
        raise ValueError(f"made of model names ({error})") from error


def _bind(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 65536) and not text.startswith("unix:/"):
        raise ValueError("HOST:PORT or unix:/PATH")
    return text


def _auth(text: str) -> str | None:
    if text not in ("", NO_AUTH):
        raise ValueError(f"{NO_AUTH!r} or not set")
    return text or None


def _flag(text: str) -> bool:
    if text not in ("", "0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


def _digests(text: str) -> tuple[bytes, ...]:
    digests = _split(text.lower())
    if not all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests):
        raise ValueError("SHA-256 digests of 64 hex digits each, comma separated")
    return tuple(map(bytes.fromhex, digests))


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


VARIABLES = (
    Variable("RESIDUAL_STORE", "models", "Folder of the model store.", Path),
    Variable(
        "RESIDUAL_DEFAULT_MODEL",
        "",
        "Model of the short paths such as `/score`; when not set, the only model in the store at start.",
        _name,
    ),
    Variable(
        "RESIDUAL_REQUIRED_MODELS",
        "",
        "Models, comma separated, without which the service is not ready; the default model always is one.",
        _names,
    ),
    Variable("RESIDUAL_BIND", "127.0.0.1:8000", "Address to listen on: `HOST:PORT` or `unix:/PATH`.", _bind),
    Variable(
        "RESIDUAL_REUSE_PORT",
        "",
        "`1` gives each process a listening socket of its own: even connections, but a reload may lose one.",
        _flag,
    ),
    Variable("RESIDUAL_WORKERS", "", "Processes; when not set, the CPUs that the service may use.", _workers),
    Variable(
        "RESIDUAL_THREADS",
        "32",
        "Threads of a process under `-k gthread`, one a connection.",
        _positive_int,
    ),
    Variable(
        "RESIDUAL_MAX_CONCURRENCY",
        "24",
        "Requests that one process works on at a time under `-k gthread`, fewer than its threads.",
        _positive_int,
    ),
    Variable(
        "RESIDUAL_POOL_THREADS",
        "",
        "Requests that one process works on at a time, where they are too large to be answered at once; "
        f"when not set, the CPUs that the service may use, at most {MOST_POOL_THREADS}.",
        _pool_threads,
    ),
    Variable(
        "RESIDUAL_MAX_QUEUED_ROWS",
        "200000",
        "Samples of all requests at work in one process; a request beyond it is answered 503.",
        _positive_int,
    ),
    Variable(
        "RESIDUAL_MAX_QUEUED_BYTES",
        str(512 * 2**20),
        "Bytes of all bodies at work in one process; a request beyond it is answered 503.",
        _positive_int,
    ),
    Variable(
        "RESIDUAL_MAX_WAIT_SECONDS",
        "1",
        "A request that would wait longer than about this for those before it is answered 503 at once.",
        _positive_float,
    ),
    Variable(
        "RESIDUAL_DEADLINE_SECONDS",
        "60",
        "The longest that a request is worked on, from its head to its answer; then it is answered 503.",
        _positive_float,
    ),
    Variable(
        "RESIDUAL_MAX_CONNECTIONS",
        "1000",
        "Connections that one process keeps open; one more is answered 503 and closed.",
        _positive_int,
    ),
    Variable(
        "RESIDUAL_HEAD_SECONDS",
        "10",
        "Time for the whole head of a request; then it is answered 408, an empty connection just closed.",
        _positive_float,
    ),
    Variable(
        "RESIDUAL_BODY_SECONDS",
        "15",
        "The longest pause within a body; then a request is answered 408, an answer not taken is cut off.",
        _positive_float,
    ),
    Variable(
        "RESIDUAL_IDLE_SECONDS",
        "75",
        "Seconds until an idle connection is closed; more than a proxy in front keeps one.",
        _positive_int,
    ),
    Variable("RESIDUAL_POLL_SECONDS", "2", "Seconds between two looks into the store.", _positive_float),
    Variable(
        "RESIDUAL_MAX_BODY_BYTES",
        str(128 * 2**20),
        "Largest request body, and largest sum of pixels of the images in one, in bytes.",
        _positive_int,
    ),
    Variable(
        "RESIDUAL_MAX_ROWS", "100000", "Most samples, or steps of a series, in one request.", _positive_int
    ),
    Variable(
        "RESIDUAL_AUTH", "", "`none` lets everybody in who reaches the address; needed off loopback.", _auth
    ),
    Variable(
        "RESIDUAL_API_KEYS_SHA256",
        "",
        "SHA-256 digests of the keys that clients may send, hex, comma separated.",
        _digests,
    ),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything the service can be told; `VARIABLES` says what each means."""

    store: Path
    default_model: str | None
    required_models: tuple[str, ...]
    bind: str
    reuse_port: bool
    workers: int
    threads: int
    max_concurrency: int
    pool_threads: int
    max_queued_rows: int
    max_queued_bytes: int
    max_wait_seconds: float
    deadline_seconds: float
    max_connections: int
    head_seconds: float
    body_seconds: float
    idle_seconds: int
    poll_seconds: float
    max_body_bytes: int
    max_rows: int
    auth: str | None
    api_keys_sha256: tuple[bytes, ...]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables of an environment.

        Raises
        ------
        SettingsError
            If a variable with our prefix is unknown or has a value it cannot have, if other machines could
            reach the service and nobody decided who may use it, or if no thread is left to refuse requests.
        """
        _refuse_unknown(environ)
        settings = cls(**{variable.field: variable.read(environ) for variable in VARIABLES})
        _check_access(settings)
        _check_reuse_port(settings)
        _check_concurrency(settings)
        return settings


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = [variable.name for variable in VARIABLES]
    for name in environ:
        foreign = any(fnmatch.fnmatchcase(name, pattern) for pattern in FOREIGN)
        if name.startswith(PREFIX) and name not in known and not foreign:
            close = difflib.get_close_matches(name, known, n=1)
            raise SettingsError(f"{name} is not a setting" + (f", did you mean {close[0]}?" if close else ""))


def _check_access(settings: Settings) -> None:
    if settings.auth and settings.api_keys_sha256:
        raise SettingsError(
            f"RESIDUAL_AUTH={settings.auth} and RESIDUAL_API_KEYS_SHA256 contradict each other: set one"
        )
    if not (settings.auth or settings.api_keys_sha256 or _is_local(settings.bind)):
        raise SettingsError(
            f"RESIDUAL_BIND={settings.bind} can be reached by other machines: set RESIDUAL_API_KEYS_SHA256 "
            "to let in those with a key, or RESIDUAL_AUTH=none to let in everybody"
        )


def _check_reuse_port(settings: Settings) -> None:
    if settings.reuse_port and settings.bind.startswith("unix:"):
        raise SettingsError(
            f"RESIDUAL_REUSE_PORT=1 needs RESIDUAL_BIND=HOST:PORT, got {settings.bind}: each process would "
            "take the path from the one before"
        )


def _check_concurrency(settings: Settings) -> None:
    """A request that every thread is too busy to refuse would wait without a bound."""
    if settings.max_concurrency >= settings.threads:
        raise SettingsError(
            "RESIDUAL_MAX_CONCURRENCY must be less than RESIDUAL_THREADS, so that probes and refusals find a "
            f"thread, got {settings.max_concurrency} and {settings.threads}"
        )


def _is_local(bind: str) -> bool:
    host = bind.rpartition(":")[0].strip("[]")
    if bind.startswith("unix:") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name, whatever it resolves to
        return False

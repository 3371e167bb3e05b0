"""Settings of the service, read once from environment variables with the prefix `RESIDUAL_`."""

import dataclasses
import difflib
import fnmatch
import functools
import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from detector.errors import StoreError
from detector.store import check_name
from service.http.forwarding import UNIX, Network

PREFIX = "RESIDUAL_"
# Kubernetes sets these in every container of a namespace that has a Service named `residual`.
FOREIGN = (f"{PREFIX}*SERVICE_*", f"{PREFIX}*PORT*")
NO_AUTH = "none"
MOST_POOL_THREADS = 4


class SettingsError(ValueError):
    """The settings are invalid; the text names the variable and its valid values."""


@dataclasses.dataclass(frozen=True)
class Variable:
    """One environment variable.

    Attributes
    ----------
    name : str
    default : str
        The text used when the variable is not set or empty.
    parse : callable
        Converts the text; raises ValueError with the expected form.
    help : str
        One sentence, for the table in the README.
    """

    name: str
    default: str
    parse: Callable[[str], Any]
    help: str

    def read(self, environ: Mapping[str, str]) -> Any:
        """Return the value of the variable in an environment.

        Raise `SettingsError` if the text cannot be parsed.
        """
        text = environ.get(self.name, "").strip() or self.default
        try:
            return self.parse(text)
        except ValueError as error:
            raise SettingsError(f"{self.name} must be {error}, got {text!r}") from error


def allowed_cpus(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Count the CPUs that this process may use: its affinity, limited by the quota of its control group.

    Parameters
    ----------
    cpu_max : Path
        The file of cgroup v2 that holds "QUOTA PERIOD" in microseconds, or "max PERIOD".
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


def _positive_seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) or float(text) == 0:
        raise ValueError("a positive number of seconds")
    return float(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise ValueError("a number of seconds, 0 or more")
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


_USUAL_PORT = r"http://.*:80|https://.*:443"
_ORIGIN = re.compile(
    rf"(?!(?:{_USUAL_PORT})$)[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?"
)


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(_split(text.lower()))
    if origins != ("*",) and not all(map(_ORIGIN.fullmatch, origins)):
        raise ValueError(
            "origins as browsers send them, comma separated, such as https://app.example.com or "
            "http://localhost:3000, without a path or the usual port; or * alone"
        )
    return origins


def _proxies(text: str) -> tuple[Network | str, ...]:
    try:
        return tuple(part if part == UNIX else ipaddress.ip_network(part) for part in _split(text))
    except ValueError as error:
        raise ValueError(f"addresses, networks such as 10.0.0.0/8, or {UNIX} ({error})") from error


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _setting(parse: Callable[[str], Any], default: str, words: str) -> Any:
    """One field of `Settings`: its parser, its default as text, and its sentence for the README."""
    return dataclasses.field(metadata={"default": default, "parse": parse, "help": words})


_count = functools.partial(_setting, _positive_int)
_duration = functools.partial(_setting, _positive_seconds)


@dataclasses.dataclass(frozen=True)
class Settings:
    """The configuration of a service, one field for each variable; `VARIABLES` lists the variables."""

    store: Path = _setting(Path, "models", "Folder of the model store.")  # noqa: RUF009 - a field
    default_model: str | None = _setting(
        _name,
        "",
        "Model of the short paths such as `/score`; when not set, the only model in the store at start.",
    )
    required_models: tuple[str, ...] = _setting(
        _names,
        "",
        "Comma-separated models that must be loaded before the service is ready, besides the default model.",
    )
    bind: str = _setting(_bind, "127.0.0.1:8000", "Address to listen on: `HOST:PORT` or `unix:/PATH`.")
    reuse_port: bool = _setting(
        _flag,
        "",
        "`1` gives each process its own listening socket: connections spread evenly, a reload may lose one.",
    )
    workers: int = _setting(_workers, "", "Processes; when not set, the CPUs that the service may use.")
    threads: int = _count("32", "Threads of a process under `-k gthread`, one per connection.")
    max_concurrency: int = _count(
        "24",
        "Requests that one process answers at a time under `-k gthread`; must be fewer than its threads.",
    )
    pool_threads: int = _setting(
        _pool_threads,
        "",
        "Large requests that one process answers at a time; when not set, the CPUs that the service may use, "
        f"at most {MOST_POOL_THREADS}.",
    )
    max_queued_rows: int = _count(
        "200000", "Samples of all requests in progress in one process; a request beyond it is answered 503."
    )
    max_queued_bytes: int = _count(
        str(512 * 2**20),
        "Bytes of all bodies in progress in one process; a request beyond it is answered 503.",
    )
    max_wait_seconds: float = _duration(
        "1", "A request that would wait longer than about this for earlier ones is answered 503 at once."
    )
    deadline_seconds: float = _duration(
        "60", "Longest time from the head of a request to its answer; then it is answered 503."
    )
    max_connections: int = _count(
        "1000", "Connections that one process keeps open; one more is answered 503 and closed."
    )
    head_seconds: float = _duration(
        "10",
        "Time for the whole head of a request; then it is answered 408, an empty connection just closed.",
    )
    body_seconds: float = _duration(
        "15", "Longest pause of a client while it sends a body, then 408, or reads an answer, then cut off."
    )
    idle_seconds: int = _count(
        "75", "Seconds until an idle connection is closed; longer than a proxy in front keeps one."
    )
    poll_seconds: float = _duration("2", "Seconds between two polls of the store.")
    newest_versions: int = _count(
        "2",
        "Newest versions of each model that are loaded, besides the one that serves and those with a label.",
    )
    other_versions: int = _count(
        "4", "Other versions that one process keeps loaded because requests asked for them, the latest used."
    )
    trial_seconds: float = _setting(
        _seconds,
        "20",
        "Processor time in which a version must load and pass its self-test in a child process before a "
        "worker loads it; `0` loads it without a trial.",
    )
    trial_memory_bytes: int = _count(str(2 * 2**30), "RAM of that child process, in bytes.")
    max_body_bytes: int = _count(
        str(128 * 2**20), "Largest request body, and largest sum of pixels of its images, in bytes."
    )
    max_rows: int = _count("100000", "Most samples, or steps of a series, in one request.")
    auth: str | None = _setting(
        _auth, "", "`none` gives access without a key; off loopback, this or keys are required."
    )
    api_keys_sha256: tuple[bytes, ...] = _setting(
        _digests, "", "SHA-256 digests of the keys that clients may send, hex, comma separated."
    )
    cors_origins: tuple[str, ...] = _setting(
        _origins,
        "",
        "Origins of the pages whose browsers may read answers, comma separated, such as "
        "`https://app.example.com`; `*` for all.",
    )

    trusted_proxies: tuple[Network | str, ...] = _setting(
        _proxies,
        "",
        "Addresses and networks of proxies, comma separated, whose `X-Forwarded-For` names the client in the "
        "log; `unix` for those at a Unix socket.",
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from an environment.

        Raise `SettingsError` if a variable with our prefix is unknown or invalid, if other machines can reach
        the service and access is not configured, or if no thread is left to refuse requests.
        """
        _refuse_unknown(environ)
        settings = cls(*(variable.read(environ) for variable in VARIABLES))
        _refuse_contradictions(settings)
        return settings


VARIABLES = tuple(
    Variable(PREFIX + field.name.upper(), **field.metadata) for field in dataclasses.fields(Settings)
)


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    known = [variable.name for variable in VARIABLES]
    for name in environ:
        foreign = any(fnmatch.fnmatchcase(name, pattern) for pattern in FOREIGN)
        if name.startswith(PREFIX) and name not in known and not foreign:
            close = difflib.get_close_matches(name, known, n=1)
            raise SettingsError(f"{name} is not a setting" + (f", did you mean {close[0]}?" if close else ""))


def _refuse_contradictions(settings: Settings) -> None:
    if settings.auth and settings.api_keys_sha256:
        raise SettingsError(
            f"RESIDUAL_AUTH={settings.auth} and RESIDUAL_API_KEYS_SHA256 contradict each other: set one"
        )
    if not (settings.auth or settings.api_keys_sha256 or _is_local(settings.bind)):
        raise SettingsError(
            f"RESIDUAL_BIND={settings.bind} can be reached by other machines: set RESIDUAL_API_KEYS_SHA256 "
            "to require a key, or RESIDUAL_AUTH=none to let in everybody"
        )
    if settings.reuse_port and settings.bind.startswith("unix:"):
        raise SettingsError(
            f"RESIDUAL_REUSE_PORT=1 needs RESIDUAL_BIND=HOST:PORT, got {settings.bind}: each process would "
            "take the path from the previous one"
        )
    # With every thread busy, a request would wait without a bound.
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
    except ValueError:  # a host name, which may resolve to any address
        return False

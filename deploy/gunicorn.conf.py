"""Configuration of gunicorn: `gunicorn -c deploy/gunicorn.conf.py` needs no other option.

An installed wheel carries this file as a module: `gunicorn -c python:service.gunicorn_conf`.
Operators change `RESIDUAL_` variables only; docs/operations.md gives the reasons for the other values.
"""

import errno
import os
import queue
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

# Set before the libraries are imported: no telemetry, and one thread each, because processes share the cores.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from detector import ModelStore, StoreError
from service.settings import Settings, SettingsError
from service.watching import stdout
from service.watching.logs import log_faults, logging_config

# Variables with which a process gets sockets from another one: from an older master, from systemd.
INHERITED = {"GUNICORN_FD", "LISTEN_FDS"}
READY_SECONDS = 120  # after that a reload ends the old workers even if the new ones do not answer yet
METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"


def read_settings() -> Settings:
    """Read the settings from the environment; an invalid one ends the program without a traceback."""
    try:
        settings = Settings.from_environ(os.environ)
        pin_default_model(settings)
        check_metrics_dir(os.environ.get(METRICS_DIR))
    except (SettingsError, StoreError) as error:
        raise SystemExit(f"error: {error}") from None
    return settings


def pin_default_model(settings: Settings) -> None:
    """Name the only model of the store in the environment, so that later workers agree with the first."""
    store = ModelStore(settings.store)
    store.check_place()
    names = store.names()
    if settings.default_model is None and len(names) == 1:
        os.environ["RESIDUAL_DEFAULT_MODEL"] = names[0]


def on_starting(server: Any) -> None:
    """Refuse to start where that could not work; log warnings and faults of Python like everything else."""
    log_faults()
    for fault in (find_wrong_option(server.cfg), find_wrong_address(server.cfg)):
        if fault:
            raise SystemExit(f"error: {fault}")


def find_wrong_option(cfg: Any) -> str | None:
    """Describe an option of gunicorn that contradicts this file."""
    if cfg.preload_app:
        return (
            "--preload does not work: threads that follow the store would not be in the workers; leave it out"
        )
    if cfg.bind != [settings.bind]:
        return f"--bind {', '.join(cfg.bind)} is not checked for access: set RESIDUAL_BIND instead"
    return None


def find_wrong_address(cfg: Any) -> str | None:
    """Describe why the address cannot be bound; gunicorn would try five times, with several lines each."""
    if INHERITED & os.environ.keys():
        return None
    for address in cfg.address:
        try:
            bind_once(address)
        except OSError as error:
            return f"RESIDUAL_BIND={settings.bind} cannot be listened on: {error.strerror}"
    return None


def bind_once(address: Any) -> None:
    """Bind an address of gunicorn, HOST and PORT or a path, and release it."""
    if isinstance(address, str):
        if not os.access(Path(address).parent, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "the folder of the socket does not exist or cannot be written")
        return
    family, kind, protocol, _, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.reuse_port:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(place)


def check_metrics_dir(folder: str | None) -> None:
    """Refuse a folder in which the workers could not write."""
    if folder and not (Path(folder).is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise SettingsError(f"{METRICS_DIR} must be a folder that can be written, got {folder!r}: create it")


def when_ready(server: Any) -> None:
    """Give the workers' metrics an empty folder.

    The address is bound and no worker runs yet. A reload does not call this, so counters survive it.
    """
    if METRICS_DIR in os.environ:
        for left_over in Path(os.environ[METRICS_DIR]).glob("*.db"):
            left_over.unlink()
    else:
        server.own_metrics_dir = os.environ[METRICS_DIR] = tempfile.mkdtemp(prefix="residual-metrics-")


def post_fork(server: Any, worker: Any) -> None:
    """Log in a thread: a worker does not fork, and must not wait for the reader of its log."""
    stdout.writer.start()


def on_reload(server: Any) -> None:
    """Start the new workers, and wait until they answer; gunicorn then ends the old ones.

    By itself it would end them at once, and all clients would wait until the new ones have loaded the models.
    """
    fresh = [server.WORKERS[server.spawn_worker()] for _ in range(server.cfg.workers)]
    unborn = [worker.tmp.last_update() for worker in fresh]
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and not is_interrupted(server):
        server.reap_workers()
        running = server.WORKERS.values()
        waiting = [worker for worker in fresh if worker in running]
        if not any(worker.tmp.last_update() in unborn for worker in waiting):  # each has sent a heartbeat
            break
        time.sleep(0.05)
    # After this hook gunicorn starts as many workers as its setting says, here none, and waits for the end of
    # those that are not younger than the last one that it knows. It reads the setting again at each reload.
    server.cfg.set("workers", 0)
    for number, worker in enumerate(fresh, 1):
        worker.age = server.worker_age + number


def is_interrupted(server: Any) -> bool:
    """Return whether the master got a signal, other than that of a worker that has ended."""
    try:
        received = server.SIG_QUEUE.get_nowait()
    except queue.Empty:
        return False
    if received != signal.SIGCHLD:
        server.SIG_QUEUE.put_nowait(received)
    return bool(received != signal.SIGCHLD)


def on_exit(server: Any) -> None:
    """Remove the folder that `when_ready` made."""
    if hasattr(server, "own_metrics_dir"):
        shutil.rmtree(server.own_metrics_dir, ignore_errors=True)


def child_exit(server: Any, worker: Any) -> None:
    """Merge the metrics of a worker that has ended into those of earlier ones."""
    # Imported late: prometheus_client reads the folder's variable when it is imported.
    from service.watching.ended_workers import merge_ended

    merge_ended(Path(os.environ[METRICS_DIR]), server.WORKERS.keys())


settings = read_settings()

wsgi_app = "service.asgi.front:from_environ()"
worker_class = "service.asgi.worker.Worker"
bind = settings.bind
reuse_port = settings.reuse_port
workers = settings.workers
# For `-k gthread "service.app:from_environ()"`: the Flask application alone gives the same answers.
threads = settings.threads
# Each process has its own sessions and metrics. HUP loads new code, except modules that the master has
# imported.
preload_app = False
# Longer than nginx keeps an idle connection, by default 60 s, so that nginx never uses a closed one.
keepalive = settings.idle_seconds
graceful_timeout = 30
# Heartbeat files: on a slow disk, gunicorn would kill healthy workers.
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
worker_tmp_dir = str(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None
control_socket_disable = True
logconfig_dict = logging_config()

"""Configuration of gunicorn: `gunicorn -c deploy/gunicorn.conf.py` needs no other option.

An installed wheel carries this file as a module: `gunicorn -c python:service.gunicorn_conf`.
Operators change `RESIDUAL_` variables only; docs/operations.md gives the reasons for the other values.
"""

import os
import shutil
import tempfile
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

METRICS_DIR = "PROMETHEUS_MULTIPROC_DIR"


def read_settings() -> Settings:
    """Read the settings from the environment; an invalid one ends the program without a traceback."""
    try:
        settings = Settings.from_environ(os.environ)
        pin_default_model(settings)
    except (SettingsError, StoreError) as error:
        raise SystemExit(f"error: {error}") from None
    return settings


def pin_default_model(settings: Settings) -> None:
    """Name the only model of the store in the environment, so that later workers agree with the first."""
    names = ModelStore(settings.store).names()
    if settings.default_model is None and len(names) == 1:
        os.environ["RESIDUAL_DEFAULT_MODEL"] = names[0]


def on_starting(server: Any) -> None:
    """Log warnings and unhandled exceptions like everything else."""
    log_faults()


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


def on_exit(server: Any) -> None:
    """Remove the folder that `when_ready` made."""
    if hasattr(server, "own_metrics_dir"):
        shutil.rmtree(server.own_metrics_dir, ignore_errors=True)


def child_exit(server: Any, worker: Any) -> None:
    """Drop the gauges of a worker that has ended."""
    # Imported late: prometheus_client reads the folder's variable when it is imported.
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)


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

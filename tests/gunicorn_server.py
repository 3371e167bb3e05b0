"""The service as it is run: gunicorn with the configuration that ships."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import requests

from detector import ModelStore
from tests.service.responses import read_metrics

ROOT = Path(__file__).parents[1]
SECONDS = 20


# The Flask application alone, under a worker class of gunicorn's own.
GTHREAD = ("-k", "gthread", "service.app:from_environ()")


class GunicornServer:
    """A gunicorn on a free port of 127.0.0.1.

    Parameters
    ----------
    store : ModelStore
    log : Path
        File for its output.
    arguments : sequence of str
        Arguments of gunicorn, in addition to the shipped configuration.
    versions : int or None
        How many versions every worker loads; all of the store if not given.
    **settings : str
        `RESIDUAL_` variables by their fields; by default two workers, a short poll, and no trial of versions.
    """

    def __init__(
        self,
        store: ModelStore,
        log: Path,
        arguments: Sequence[str] = (),
        versions: int | None = None,
        **settings: object,
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            bind = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url, self.log = f"http://{bind}", log
        self.address = ("127.0.0.1", int(bind.rpartition(":")[2]))
        settings = {"workers": 2, "poll_seconds": 0.1, "trial_seconds": 0, **settings}
        versions = versions or sum(len(store.versions(name)) for name in store.names())
        self._loads = settings["workers"] * versions
        environ = {name: value for name, value in os.environ.items() if not name.startswith("RESIDUAL_")}
        environ |= {
            "RESIDUAL_STORE": str(store.root),
            "RESIDUAL_BIND": bind,
            "TMPDIR": str(log.parent),
            **{f"RESIDUAL_{field.upper()}": str(value) for field, value in settings.items()},
        }
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py", *arguments],
                cwd=ROOT,
                env=environ,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self.is_ready, self.lines)
        except BaseException:
            self.stop()
            raise

    def is_ready(self) -> bool:
        """Return whether all workers have loaded the store and one of them says so."""
        with contextlib.suppress(requests.ConnectionError):
            ready = self.get("/readyz").status_code == 200
            return ready and self.lines().count('"message":"loaded"') == self._loads
        return False

    def get(self, path: str) -> requests.Response:
        """Send a GET on a new connection, so that any worker may answer."""
        return requests.get(self.url + path, timeout=SECONDS)

    def post(self, path: str, **body: object) -> requests.Response:
        """Send a POST on a new connection, with the arguments of `requests.post`."""
        return requests.post(self.url + path, timeout=SECONDS, **body)

    def metrics(self) -> dict[tuple, float]:
        """Return every series, as any worker tells it."""
        return read_metrics(self.get("/metrics").text)

    def lines(self) -> str:
        """Everything that was logged so far."""
        return self.log.read_text()

    def stop(self) -> int:
        """Stop the server as an orchestrator does, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(SECONDS)
        finally:
            self.process.kill()


def wait_until(holds: Callable[[], bool], context: Callable[[], str] = lambda: "") -> None:
    """Wait for a condition, with a bound."""
    end = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < end, f"waited in vain\n{context()}"
        time.sleep(0.05)

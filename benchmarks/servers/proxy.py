"""nginx in front of a server, with the file of the compose set-up: other addresses, all else the same."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environments import ROOT
from benchmarks.errors import ServingError
from benchmarks.servers import usage

CONFIGURATION = ROOT / "deploy" / "nginx" / "nginx.conf"
STOP_SECONDS = 5


def program(named: str) -> str:
    """The nginx to run; raises ServingError where there is none."""
    found = shutil.which(named)
    if found is None:
        raise ServingError(f"{named} must be an nginx to measure through a proxy, and is not there")
    return found


def configuration(text: str, port: int, upstream: int, folder: Path) -> str:
    """The compose file's configuration for this machine's loopback.

    Raises
    ------
    ServingError
        If it has no line for an address any more.
    """
    changes = [
        (r"\bserver service:8000\b", f"server 127.0.0.1:{upstream}"),
        (r"\blisten 8080;", f"listen 127.0.0.1:{port};"),
        (r"(?<=\s)/tmp/", f"{folder}/"),
    ]
    for pattern, replacement in changes:
        text, n_changes = re.subn(pattern, replacement, text)
        if not n_changes:
            raise ServingError(f"{CONFIGURATION} must have {pattern!r}, and has not")
    return text


@contextlib.contextmanager
def started(nginx: str, port: int, upstream: int, mark: str) -> Iterator[subprocess.Popen[bytes]]:
    """A proxy on a port in front of another port."""
    with tempfile.TemporaryDirectory(prefix="nginx-") as folder:
        file = Path(folder) / "nginx.conf"
        file.write_text(configuration(CONFIGURATION.read_text(), port, upstream, Path(folder)))
        command = [nginx, "-p", folder, "-c", str(file), "-g", "daemon off;"]
        process = subprocess.Popen(
            command,
            env={**os.environ, usage.MARK: mark},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            end = time.monotonic() + STOP_SECONDS
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.05)
            process.kill()
            process.wait()

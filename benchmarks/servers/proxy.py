"""nginx in front of a server, configured as in the compose set-up except for addresses and folders."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.environments import ROOT
from benchmarks.errors import BenchmarkError
from benchmarks.servers import processes, usage

CONFIGURATION = ROOT / "deploy" / "nginx" / "nginx.conf"
STOP_SECONDS = 5


def program(named: str) -> str:
    """Return the path of nginx; raise BenchmarkError if there is none."""
    found = shutil.which(named)
    if found is None:
        raise BenchmarkError(f"{named} must be an nginx to measure through a proxy, and was not found")
    return found


def configuration(text: str, port: int, upstream: int, folder: Path) -> str:
    """Change addresses and folders of the compose set-up's configuration for this machine's loopback.

    Raises
    ------
    BenchmarkError
        If a line that must change is missing.
    """
    changes = [
        (r"\bserver service:8000\b", f"server 127.0.0.1:{upstream}"),
        (r"\blisten 8080;", f"listen 127.0.0.1:{port};"),
        (r"(?<=\s)/tmp/", f"{folder}/"),
    ]
    for pattern, replacement in changes:
        text, n_changes = re.subn(pattern, replacement, text)
        if not n_changes:
            raise BenchmarkError(f"{CONFIGURATION} must have a match for {pattern!r}, got none")
    return text


@contextlib.contextmanager
def started(nginx: str, port: int, upstream: int, mark: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a proxy that listens on one port and forwards to another."""
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
            processes.stop(process, STOP_SECONDS)

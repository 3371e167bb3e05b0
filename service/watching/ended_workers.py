"""Files of metrics whose worker has ended: merged, so that scrapes take no longer with every reload.

prometheus_client writes some files for each process and sums over all of them. Here the files of ended
workers become one of each kind. A lock keeps scrapes from reading a value in both, or in neither.
"""

import contextlib
import fcntl
import logging
import math
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

LOCK = ".lock"
LOCK_SECONDS = 1.0
ENDED = "ended"  # in place of a process id
MERGED: dict[str, Callable[[float, float], float]] = {
    "counter": lambda one, other: one + other,
    "histogram": lambda one, other: one + other,
    "gauge_max": max,
}
LIVE = "gauge_live"  # gauges that only running workers have
_BLOCK_BYTES = 2**16
_ENTRY_BYTES = 64  # more than an entry takes besides its key

_MmapedDict: Any = MmapedDict  # it has no types

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Keep files from being merged meanwhile."""
    with (folder / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def merge_ended(folder: Path, running: Collection[int]) -> None:
    """Merge the files of all workers but the running ones; if that fails, the next call tries again.

    Parameters
    ----------
    folder : Path
    running : collection of int
        Process ids.
    """
    try:
        with _writing(folder):
            for kind, paths in _of_ended(folder, running).items():
                if kind.startswith(LIVE):
                    for path in paths:
                        path.unlink()
                elif kind in MERGED:
                    _merge(folder / f"{kind}_{ENDED}.db", paths, MERGED[kind])
    except (OSError, RuntimeError, struct.error):  # the master must go on
        logger.exception("the metrics of ended workers cannot be merged")


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Wait for scrapes, but not for one that never ends: a stopped process must not stop the master."""
    with (folder / LOCK).open("a") as lock:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
        yield


def _of_ended(folder: Path, running: Collection[int]) -> dict[str, list[Path]]:
    """Return files by kind, without those of running workers."""
    found = defaultdict(list)
    for path in folder.glob("*.db"):
        kind, _, process = path.stem.rpartition("_")
        if not process.isdecimal() or int(process) not in running:
            found[kind].append(path)
    return found


def _merge(merged: Path, paths: list[Path], join: Callable[[float, float], float]) -> None:
    if paths == [merged]:
        return
    values: dict[str, tuple[float, float]] = {}
    for path in paths:
        for key, value, moment in _read(path):
            before, moment_before = values.get(key, (None, 0.0))
            values[key] = value if before is None else join(before, value), max(moment, moment_before)
    beside = merged.with_suffix(".tmp")
    _write(beside, values)
    beside.replace(merged)
    for path in paths:
        if path != merged:
            path.unlink()


def _read(path: Path) -> Iterable[tuple[str, float, float]]:
    """Yield the keys of a file with value and time stamp; none if its worker ended before it had written."""
    if path.stat().st_size == 0:
        return
    for key, value, moment, _ in _MmapedDict.read_all_values_from_file(str(path)):
        yield key, value, moment


def _write(path: Path, values: dict[str, tuple[float, float]]) -> None:
    """Write a file for prometheus_client, in space that is taken first.

    In a full file system that raises OSError, where writing to mapped memory would kill the process.
    """
    n_bytes = sum(len(key.encode()) + _ENTRY_BYTES for key in values)
    path.write_bytes(bytes(_BLOCK_BYTES * max(1, math.ceil(n_bytes / _BLOCK_BYTES))))
    written = _MmapedDict(str(path))
    for key, (value, moment) in values.items():
        written.write_value(key, value, moment)
    written.close()

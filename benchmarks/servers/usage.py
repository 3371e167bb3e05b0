"""CPU and memory of a tree of processes, ended children included, and CPU of all others; from /proc."""

import os
import resource
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Self

TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
PROC = Path("/proc")
MARK = "SERVING_BENCHMARK"  # environment variable of all processes of a contender
# If others use a share f of the machine, a server that could fill it loses about f of its throughput. Repeats
# differ by about 5 % anyway, and the smallest ratio that matters is 1.2.
DIRTY_SHARE = 0.05
DIRTY_TRIES = 3
QUIET_SECONDS = 0.5


def tree(root: int, mark: str) -> list[int]:
    """Return `root` and the processes that it started, that share its session, or that have the mark."""
    parents, members = {}, {root}
    for process, fields in _stats():
        parents[process] = int(fields[1])
        if int(fields[3]) == root or _is_marked(process, mark):
            members.add(process)
    while young := {child for child, parent in parents.items() if parent in members} - members:
        members |= young
    return sorted(members & parents.keys())


def cpu_seconds(processes: Collection[int]) -> float:
    """Return user and system time of processes and of their children that have ended."""
    wanted = set(processes)
    return sum(_ticks(fields[11:15]) for process, fields in _stats() if process in wanted)


def memory_mb(processes: Collection[int]) -> float:
    """Return the proportional set size, which counts memory that processes share once."""
    total = 0
    for process in processes:
        try:
            lines = (PROC / str(process) / "smaps_rollup").read_text().splitlines()
        except OSError:
            continue  # it has ended
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def machine_seconds() -> float:
    """Return CPU time of all processes since the machine started, and time taken by other virtual machines.

    Interrupts are left out, because the load itself causes them on the loopback device.
    """
    user, nice, system, _idle, _wait, _irq, _softirq, steal = map(
        int, (PROC / "stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + steal) / TICKS


def foreign_share(all_seconds: float, own_seconds: float, wall_seconds: float, n_cpus: int) -> float:
    """Return the share of the machine, in [0, 1], that neither the contender nor its load used."""
    return min(1.0, max(0.0, all_seconds - own_seconds) / (wall_seconds * n_cpus))


class Meter:
    """Measure CPU of a contender and of all others between entering and leaving.

    This process and its children that have ended by then (wrk) count as neither: `client` is their share of
    the machine.
    """

    def __init__(self, processes: Callable[[], Collection[int]]) -> None:
        self._processes = processes

    def __enter__(self) -> Self:
        self._start = self._read()
        return self

    def __exit__(self, *error: object) -> None:
        wall, everybody, own, ours = (
            after - before for before, after in zip(self._start, self._read(), strict=True)
        )
        n_cpus = os.cpu_count() or 1
        self.wall_seconds, self.cpu_seconds = wall, own
        self.client = ours / (wall * n_cpus)
        self.foreign = foreign_share(everybody, own + ours, wall, n_cpus)

    def _read(self) -> tuple[float, float, float, float]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        ours = time.process_time() + children.ru_utime + children.ru_stime
        return time.monotonic(), machine_seconds(), cpu_seconds(self._processes()), ours


def cleanly(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Measure, at most three times until `foreign_cpu` is low enough; return the least disturbed attempt.

    Its `dirty` tells whether it was disturbed too much all the same, `attempts` how many there were.
    """
    attempts = []
    for _ in range(DIRTY_TRIES):
        attempts.append(measure())
        if attempts[-1]["foreign_cpu"] < DIRTY_SHARE:
            break
    best = min(attempts, key=lambda attempt: attempt["foreign_cpu"])
    return best | {"dirty": best["foreign_cpu"] >= DIRTY_SHARE, "attempts": len(attempts)}


def wait_until_quiet(processes: Callable[[], Collection[int]], limit_seconds: float) -> None:
    """Wait until the foreign share is below `DIRTY_SHARE`, but not longer than the limit."""
    end = time.monotonic() + limit_seconds
    while True:
        with Meter(processes) as meter:
            time.sleep(QUIET_SECONDS)
        if meter.foreign < DIRTY_SHARE or time.monotonic() > end:
            return


def wait_until_idle(processes: Callable[[], Collection[int]], limit_seconds: float = 20.0) -> None:
    """Wait until processes have finished requests whose client has gone."""
    end, before = time.monotonic() + limit_seconds, cpu_seconds(processes())
    while time.monotonic() < end:
        time.sleep(QUIET_SECONDS)
        now = cpu_seconds(processes())
        if now - before < 0.1 * QUIET_SECONDS:
            return
        before = now


def _stats() -> list[tuple[int, list[str]]]:
    """Return each process with the fields of /proc/PID/stat that follow its name (a name may have spaces)."""
    found = []
    for entry in os.listdir(PROC):  # noqa: PTH208 - a thousand times a run
        if entry.isdigit():
            try:
                text = (PROC / entry / "stat").read_text()
            except OSError:
                continue  # it has ended
            found.append((int(entry), text.rpartition(")")[2].split()))
    return found


def _ticks(fields: list[str]) -> float:
    return sum(map(int, fields)) / TICKS


def _is_marked(process: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in (PROC / str(process) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False

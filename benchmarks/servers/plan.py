"""The cases of each mode: the members of a row that tell it from other rows."""

import argparse
from collections.abc import Iterator, Sequence

from benchmarks.rows import OURS, Row
from benchmarks.servers import engine, mixed, overload
from benchmarks.servers.contenders import CONTENDERS, REFERENCE

BODIES = ("json", "npy", "raw")
PLAIN, PROXY, NEW_HEADS, MIXED, OVERLOAD = "plain", "proxy", "new-heads", "mixed", "overload"
DEFAULTS = {
    PLAIN: (*CONTENDERS, engine.ENGINE),
    PROXY: (OURS,),
    NEW_HEADS: (OURS, REFERENCE),
    MIXED: (OURS, REFERENCE),
    OVERLOAD: (OURS,),
}
WORK_OF_OVERLOAD = "conv"
ENGINE_PROCESSES = (1, 2)
OPEN_LOOP = 0  # a concurrency without a limit on connections


class ServingPlan:
    """The cases that a command line asks for."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self.mode = arguments.mode
        self.contenders = arguments.contenders or list(DEFAULTS[self.mode])
        self.works = [WORK_OF_OVERLOAD] if self.mode == OVERLOAD else arguments.work

    def cases(self, name: str, work: str, repeat: int) -> list[Row]:
        """Return the cases of one contender on one work, in the order in which they are measured."""
        return [
            {
                "contender": name,
                "mode": self.mode,
                "work": work,
                "body": body,
                "rows": n_rows,
                "concurrency": concurrency,
                "repeat": repeat,
            }
            for body, n_rows, concurrency in self._loads(name, work)
        ]

    def all_cases(self) -> Iterator[Row]:
        """Yield the cases of all repeats, contenders and works."""
        for repeat in range(self._arguments.repeats):
            for name in self.contenders:
                for work in self.works:
                    yield from self.cases(name, work, repeat)

    def _loads(self, name: str, work: str) -> Iterator[tuple[str, int, int]]:
        """Yield body, rows and concurrency of each case."""
        if name == engine.ENGINE:
            yield from ((engine.BODY, n_rows, c) for n_rows in engine.BATCHES[work] for c in ENGINE_PROCESSES)
            return
        readable = CONTENDERS[name].formats
        if self.mode == OVERLOAD:
            yield from [(overload.BODY, overload.ROWS, OPEN_LOOP)] if overload.BODY in readable else []
            return
        for n_rows in self._arguments.rows:
            for body in self._arguments.bodies:
                if body in readable:
                    yield from ((body, n_rows, c) for c in self._concurrency(n_rows))

    def _concurrency(self, n_rows: int) -> Sequence[int]:
        """Return the numbers of connections; in mixed cases these are connections for single rows."""
        if self.mode == MIXED:
            return self._arguments.concurrency if n_rows > 1 else ()
        return self._arguments.concurrency if n_rows == 1 else self._arguments.bulk_concurrency


def needed_bodies(case: Row) -> list[tuple[str, int]]:
    """Return the bodies and rows whose scores are checked before a case is timed."""
    bodies = [(case["body"], case["rows"])]
    return [*bodies, (mixed.SINGLE_BODY, 1)] if case["mode"] == MIXED else bodies

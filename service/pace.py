"""How long work takes, learned from the work done."""

import threading
from collections import OrderedDict
from collections.abc import Hashable

OVERHEAD_SECONDS = 2e-4  # of a piece of work, whatever its size
MEMORY = 0.9  # share of what is known that the next observation leaves
MAX_KINDS = 4096  # versions come and go; the one not seen for longest is forgotten


class Pace:
    """Seconds for each unit of work of one kind: the mean of late pieces, each weighted by its size.

    Parameters
    ----------
    guess : float
        Seconds for a unit, until there is an observation.
    """

    def __init__(self, guess: float) -> None:
        self._guess = guess
        self._known: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def estimate(self, kind: Hashable, units: int) -> float:
        """Seconds that a piece of work will take."""
        seconds, observed = self._known.get(kind, (self._guess, 1))
        return OVERHEAD_SECONDS + units * seconds / observed

    def learn(self, kind: Hashable, units: int, seconds: float) -> None:
        """A piece of work of so many units, at least one, took so long."""
        with self._lock:
            old_seconds, old_units = self._known.get(kind, (0.0, 0.0))
            self._known[kind] = (
                MEMORY * old_seconds + max(seconds - OVERHEAD_SECONDS, 0.0),
                MEMORY * old_units + units,
            )
            self._known.move_to_end(kind)
            if len(self._known) > MAX_KINDS:
                self._known.popitem(last=False)

"""How long work takes, learned from the work done."""

from collections.abc import Hashable

OVERHEAD_SECONDS = 2e-4  # of a piece of work, whatever its size
MEMORY = 0.9  # share of what is known that the next observation leaves
MAX_KINDS = 4096  # versions come and go; beyond, all are learned anew


class Pace:
    """Seconds for each unit of work of one kind: the mean of late pieces, each weighted by its size.

    Two threads that learn at once lose one of the two observations, which is no loss.

    Parameters
    ----------
    guess : float
        Seconds for a unit, until there is an observation.
    """

    def __init__(self, guess: float) -> None:
        self._guess = guess
        self._known: dict[Hashable, tuple[float, float]] = {}

    def estimate(self, kind: Hashable, units: int) -> float:
        """Seconds that a piece of work will take."""
        seconds, observed = self._known.get(kind, (self._guess, 1))
        return OVERHEAD_SECONDS + units * seconds / observed

    def learn(self, kind: Hashable, units: int, seconds: float) -> None:
        """A piece of work of so many units, at least one, took so long."""
        old_seconds, old_units = self._known.get(kind, (0.0, 0.0))
        rest = seconds - OVERHEAD_SECONDS
        self._known[kind] = (
            MEMORY * old_seconds + (rest if rest > 0 else 0.0),
            MEMORY * old_units + units,
        )
        if len(self._known) > MAX_KINDS:
            self._known = {}

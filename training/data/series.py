"""Series: what is known of their steps, and windows of them that are cut when they are asked for."""

import dataclasses
import itertools
from typing import Any

import numpy as np

GAP = 10  # usual steps in time; after a longer one a new stretch begins


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Whose steps and of when: the steps of an entity stand together, in order of time.

    Attributes
    ----------
    entities : ndarray of shape (n_steps,), int
        Positions in `names`, ascending.
    names : tuple of str
        Of the entities; one empty name where there is only one series.
    times : ndarray of shape (n_steps,), datetime64[us] in UTC, int64 or float64; or None
        Never going back within an entity.
    time_column, entity_column : str or None
        Where both came from.
    """

    entities: np.ndarray
    names: tuple[str, ...] = ("",)
    times: np.ndarray | None = None
    time_column: str | None = None
    entity_column: str | None = None

    @classmethod
    def of_one_series(cls, n_steps: int) -> "Timeline":
        """Steps of which nothing is known but their order."""
        return cls(np.zeros(n_steps, dtype=np.int64))

    @property
    def usual_step(self) -> float | None:
        """The median time from step to step, seconds or the time column's unit; None without times."""
        within = self._intervals()[np.diff(self.entities) == 0]
        return float(np.median(within)) if self.times is not None and within.size else None

    def gaps(self) -> np.ndarray:
        """The times from step to step within an entity that are longer than `GAP` usual ones."""
        return self._intervals()[self.gap_after()]

    def n_repeated_times(self) -> int:
        """How many steps have the time of the step before, within an entity."""
        if self.times is None:
            return 0
        return int(((np.diff(self.entities) == 0) & (self._intervals() == 0)).sum())

    def stretches(self) -> list[slice]:
        """Steps without a gap or a change of the entity between them."""
        breaks = (np.diff(self.entities) != 0) | self.gap_after()
        return runs(np.cumsum(np.concatenate([[False], breaks])))

    def time_text(self, step: int) -> str | None:
        """The time of a step as text; None without times."""
        return None if self.times is None else time_text(self.times[step])

    def describe(self) -> dict[str, Any]:
        """For the manifest: how many, from when to when, how far apart."""
        gaps = self.gaps()
        first, last = (None, None) if self.times is None else (self.times.min(), self.times.max())
        return {
            "n_steps": len(self.entities),
            "n_entities": len(self.names),
            "time_column": self.time_column,
            "entity_column": self.entity_column,
            "first_time": None if first is None else time_text(first),
            "last_time": None if last is None else time_text(last),
            "usual_step": self.usual_step,
            "n_gaps": gaps.size,
            "largest_gap": float(gaps.max()) if gaps.size else None,
        }

    def _intervals(self) -> np.ndarray:
        """From each step to the next, the last one left out; zeros without times."""
        if self.times is None:
            return np.zeros(len(self.entities) - 1)
        intervals = np.diff(self.times)
        unit = np.timedelta64(1, "s") if intervals.dtype.kind == "m" else 1.0
        return intervals / unit

    def gap_after(self) -> np.ndarray:
        """Of each step but the last, whether a gap follows."""
        usual, within = self.usual_step, np.diff(self.entities) == 0
        if not usual:  # no times, or most steps at one time
            return np.zeros_like(within)
        return within & (self._intervals() > GAP * usual)


def time_text(time: np.generic) -> str:
    """A time as text: ISO 8601 as short as it is exact, or a number."""
    if time.dtype.kind == "M":
        return str(time.astype("datetime64[s]") if time == time.astype("datetime64[s]") else time)
    return f"{time:.15g}" if time.dtype.kind == "f" else str(time)


def runs(keys: np.ndarray) -> list[slice]:
    """Longest slices of equal keys, in order."""
    edges = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist(), len(keys)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def describe_windows(
    is_anomaly: np.ndarray, labels: np.ndarray | None, starts: np.ndarray, window: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Whether a step of each window is anomalous, and the label of its first such step, else of its first."""
    within = np.lib.stride_tricks.sliding_window_view(is_anomaly, window)[starts]
    return within.any(axis=1), None if labels is None else labels[starts + within.argmax(axis=1)]

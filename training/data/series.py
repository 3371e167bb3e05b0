"""Series: times, entities and gaps of their steps, and labels of their windows."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from detector.windows import fill_gaps

GAP = 10  # times the usual time between steps; a longer one begins a new stretch


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Entity and time of each step; the steps of an entity are contiguous and in order of time.

    Attributes
    ----------
    entities : ndarray of shape (n_steps,), int
        Positions in `names`, ascending.
    names : tuple of str
        Names of the entities; one empty name if there is only one series.
    times : ndarray of shape (n_steps,), datetime64[us] in UTC, int64 or float64; or None
        Never decreasing within an entity.
    is_missing : ndarray of shape (n_steps,), bool, or None
        Steps with a missing value; None if there are none.
    time_column, entity_column : str or None
        Columns of the table that they came from; times of two columns are `date,time`.
    """

    entities: np.ndarray
    names: tuple[str, ...] = ("",)
    times: np.ndarray | None = None
    time_column: str | None = None
    entity_column: str | None = None
    is_missing: np.ndarray | None = None

    @property
    def usual_step(self) -> float | None:
        """Median of the times between steps that differ, in seconds or the time column's unit.

        None without times, or if all are the same.
        """
        within = self._intervals()[np.diff(self.entities) == 0]
        positive = within[within > 0]
        return float(np.median(positive)) if positive.size else None

    def gaps(self) -> np.ndarray:
        """Times between steps of an entity that are longer than `GAP` usual ones."""
        return self._intervals()[self.gap_after()]

    def n_repeated_times(self) -> int:
        """Number of steps with the same time as the step before, within an entity."""
        if self.times is None:
            return 0
        return int(((np.diff(self.entities) == 0) & (self._intervals() == 0)).sum())

    def with_missing(
        self, samples: np.ndarray, names: Sequence[str], max_gap: int | None
    ) -> tuple[np.ndarray, Self, tuple[str, ...]]:
        """Fill short runs of missing values, and mark the steps that still lack one.

        Parameters
        ----------
        samples : ndarray of shape (n_steps, n_channels), float32
            NaN is a missing value.
        names : sequence of str
            Names of the channels.
        max_gap : int or None
            The longest run that is filled; None to fill none. No run is filled across a gap or an entity.

        Returns
        -------
        tuple of ndarray, Timeline and tuple of str
            The filled samples, and notes.
        """
        absent = np.isnan(samples)
        if not absent.any():
            return samples, self, ()
        if max_gap is not None:
            samples = np.concatenate([fill_gaps(samples[part], max_gap) for part in self.stretches()])
        left = np.isnan(samples)
        counts = [f"{name} {count}" for name, count in zip(names, left.sum(axis=0), strict=True) if count]
        notes = []
        if max_gap is not None:
            n_filled = int((absent & ~left).sum())
            notes.append(f"{n_filled} missing values were interpolated, in runs of at most {max_gap} steps")
        if counts:
            n_steps = int(left.any(axis=1).sum())
            notes.append(
                f"{n_steps} of {len(samples)} steps have a missing value ({', '.join(counts)}): every window "
                "that holds one was left out; when served, its steps have no score"
            )
        return samples, dataclasses.replace(self, is_missing=left.any(axis=1)), tuple(notes)

    def stretches(self) -> list[slice]:
        """Stretches of steps without a gap or a change of entity."""
        breaks = (np.diff(self.entities) != 0) | self.gap_after()
        return runs(np.cumsum(np.concatenate([[False], breaks])))

    def time_text(self, step: int) -> str | None:
        """The time of a step as text; None without times."""
        return None if self.times is None else time_text(self.times[step])

    def describe(self) -> dict[str, Any]:
        """Describe number, time span and intervals of the steps, for the manifest."""
        gaps, ends = self.gaps(), (None, None)
        if self.times is not None:
            ends = (time_text(self.times.min()), time_text(self.times.max()))
        return {
            "n_steps": len(self.entities),
            "n_entities": len(self.names),
            "time_column": self.time_column,
            "entity_column": self.entity_column,
            "first_time": ends[0],
            "last_time": ends[1],
            "usual_step": self.usual_step,
            "n_gaps": gaps.size,
            "largest_gap": float(gaps.max()) if gaps.size else None,
            "n_missing_steps": 0 if self.is_missing is None else int(self.is_missing.sum()),
        }

    def _intervals(self) -> np.ndarray:
        """Time from each step but the last to the next; zeros without times."""
        if self.times is None:
            return np.zeros(len(self.entities) - 1)
        return np.diff(self.times) / (np.timedelta64(1, "s") if self.times.dtype.kind == "M" else 1.0)

    def gap_after(self) -> np.ndarray:
        """Whether a gap follows each step but the last."""
        usual, within = self.usual_step, np.diff(self.entities) == 0
        if usual is None:
            return np.zeros_like(within)
        return within & (self._intervals() > GAP * usual)


def time_text(time: np.generic) -> str:
    """Write a time as the shortest exact ISO 8601, or as a number."""
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
    """Whether each window has an anomalous step; the label of its first such step, or of its first step."""
    within = np.lib.stride_tricks.sliding_window_view(is_anomaly, window)[starts]
    return within.any(axis=1), None if labels is None else labels[starts + within.argmax(axis=1)]

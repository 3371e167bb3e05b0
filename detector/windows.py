"""Pure: cut a series into windows, and put what windows say back onto the steps of the series."""

import numpy as np

from detector.errors import InputError
from detector.schema import MEAN_OF_WINDOWS, MERGE_RULES

__all__ = [
    "MERGE_RULES",
    "Merger",
    "SeriesWindows",
    "cut_windows",
    "is_series",
    "merge_scores",
    "merge_steps",
    "window_starts",
]


def is_series(shape: tuple[int, ...], sample_shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is one series for a model of windows, and not windows.

    Parameters
    ----------
    shape : tuple of int
    sample_shape : tuple of int
        (window, n_channels). With one channel the last axis of a series may be left out.
    """
    n_channels = sample_shape[-1]
    return shape[1:] == (n_channels,) or (n_channels == 1 and len(shape) == 1)


def window_starts(n_steps: int, window: int, stride: int) -> np.ndarray:
    """First steps of the windows of a series: every `stride` steps, and one window that ends with the series.

    Parameters
    ----------
    n_steps : int
        Length of the series.
    window, stride : int
        At least 1; a stride above the window leaves steps out.

    Returns
    -------
    ndarray of shape (n_windows,), int64
        Strictly ascending, from 0 to `n_steps - window`.

    Raises
    ------
    InputError
        If the series is shorter than one window.
    """
    if n_steps < window:
        raise InputError(f"a series must have at least the {window} steps of one window, got {n_steps}")
    last = n_steps - window
    starts = np.arange(0, last + 1, stride)
    return starts if starts[-1] == last else np.append(starts, last)


def cut_windows(series: np.ndarray, window: int, starts: np.ndarray) -> np.ndarray:
    """The windows that begin at `starts`, as a copy.

    Parameters
    ----------
    series : ndarray of shape (n_steps, n_channels)
    window : int
    starts : ndarray of shape (n_windows,), int
        As `window_starts` gives them.

    Returns
    -------
    ndarray of shape (n_windows, window, n_channels), dtype of `series`
    """
    views = np.lib.stride_tricks.sliding_window_view(series, window, axis=0)  # (n, n_channels, window)
    return np.ascontiguousarray(views[starts].swapaxes(1, 2))


class SeriesWindows:
    """The windows of a series, cut when they are asked for: length, shape and slices as of their array.

    With a stride of 1 the array would be larger than the series by the length of a window.

    Attributes
    ----------
    series : ndarray of shape (n_steps, n_channels)
    starts : ndarray of shape (n_windows,), int64
    shape : tuple of int
        (n_windows, window, n_channels).

    Raises
    ------
    InputError
        If the series is shorter than one window.
    """

    def __init__(self, series: np.ndarray, window: int, stride: int) -> None:
        self.series = series
        self.starts = window_starts(len(series), window, stride)
        self.shape = (len(self.starts), window, series.shape[1])

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return cut_windows(self.series, self.shape[1], self.starts[rows])

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


class Merger:
    """Puts values of windows onto the steps of their series, a few windows at a time.

    `last`: a step has the value of the first window, in order of time, in whose newest part it lies, which
    are the steps after the end of the window before; all steps of the first window are its own. With stride 1
    a step so has the value of the window that ends with it: nothing of its future, and a score with the
    distribution of a calibration window's.

    `mean`: a step has the mean of the values of all windows that cover it, summed in order of time.

    Parameters
    ----------
    n_steps, window : int
    rule : str
        One of `MERGE_RULES`.
    shape : tuple of int
        Of the value of one step.

    Notes
    -----
    Every step must lie in a window: a stride is at most the window.
    """

    def __init__(self, n_steps: int, window: int, rule: str, shape: tuple[int, ...] = ()) -> None:
        self._window = window
        self._rule = rule
        self._values = np.zeros((n_steps, *shape))
        self._n_windows = np.zeros((n_steps,) + (1,) * len(shape), dtype=np.int64)
        self._end = 0  # of the window added last

    def add(self, values: np.ndarray, starts: np.ndarray) -> None:
        """Add the next windows.

        Parameters
        ----------
        values : ndarray of shape (n_windows, window, *shape), or (n_windows,)
            For each step of each window, or one value that all steps of a window share.
        starts : ndarray of shape (n_windows,), int
            Ascending, and above all those added before.
        """
        if values.ndim == 1:
            values = np.broadcast_to(values[:, None], (len(values), self._window))
        if self._rule == MEAN_OF_WINDOWS:
            self._add_all(values, starts)
        else:
            self._take_newest(values, starts)

    def merged(self) -> np.ndarray:
        """What the steps have, shape (n_steps, *shape), float64; all windows must have been added."""
        if self._rule == MEAN_OF_WINDOWS:
            return self._values / self._n_windows
        return self._values

    def _take_newest(self, values: np.ndarray, starts: np.ndarray) -> None:
        ends = starts + self._window
        steps = np.arange(self._end, ends[-1])
        owner = np.searchsorted(ends, steps, side="right")
        self._values[steps] = values[owner, steps - starts[owner]]
        self._end = int(ends[-1])

    def _add_all(self, values: np.ndarray, starts: np.ndarray) -> None:
        for offset in reversed(range(self._window)):  # a step's oldest window first, however many a call has
            self._values[starts + offset] += values[:, offset]
            self._n_windows[starts + offset] += 1


def merge_steps(values: np.ndarray, starts: np.ndarray, n_steps: int, rule: str) -> np.ndarray:
    """Values for each step of each window, merged to values for each step of the series.

    Parameters
    ----------
    values : ndarray of shape (n_windows, window, ...)
    starts : ndarray of shape (n_windows,), int
        As `window_starts` gives them, with a stride of at most the window.
    n_steps : int
    rule : str
        One of `MERGE_RULES`, see `Merger`.

    Returns
    -------
    ndarray of shape (n_steps, ...), float64
    """
    merger = Merger(n_steps, values.shape[1], rule, values.shape[2:])
    merger.add(values, starts)
    return merger.merged()


def merge_scores(scores: np.ndarray, starts: np.ndarray, n_steps: int, window: int, rule: str) -> np.ndarray:
    """The same for one value of each window: (n_windows,) to (n_steps,), float64."""
    merger = Merger(n_steps, window, rule)
    merger.add(scores, starts)
    return merger.merged()

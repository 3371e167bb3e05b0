"""Cut a series into windows, and merge the values of windows to values of the steps. Pure."""

import numpy as np

from detector.errors import InputError
from detector.schema import MEAN_OF_WINDOWS


def is_series(shape: tuple[int, ...], sample_shape: tuple[int, ...]) -> bool:
    """Whether an array is one series for a model of windows, and not windows of shape (window, n_channels).

    With one channel the last axis of a series may be left out.
    """
    n_channels = sample_shape[-1]
    return shape[1:] == (n_channels,) or (n_channels == 1 and len(shape) == 1)


def window_starts(n_steps: int, window: int, stride: int) -> np.ndarray:
    """Return the first step of each window: every `stride` steps, and a last window that ends the series.

    Parameters
    ----------
    n_steps : int
        Length of the series.
    window, stride : int
        At least 1; a stride larger than the window skips steps.

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
    """Copy the windows that begin at `starts`: (n_steps, n_channels) to (n_windows, window, n_channels)."""
    views = np.lib.stride_tricks.sliding_window_view(series, window, axis=0)  # (n, n_channels, window)
    return np.ascontiguousarray(views[starts].swapaxes(1, 2))


def fill_gaps(series: np.ndarray, most: int) -> np.ndarray:
    """Interpolate runs of at most `most` missing values between two present values of a channel.

    Parameters
    ----------
    series : ndarray of shape (n_steps, n_channels), float
        NaN is a missing value.
    most : int

    Returns
    -------
    ndarray of shape (n_steps, n_channels)
        A copy of the same dtype; longer runs, and runs at either end, are still NaN.
    """
    filled = series.copy()
    steps = np.arange(len(series))
    for channel in filled.T:  # views
        present = np.flatnonzero(~np.isnan(channel))
        after = np.searchsorted(present, steps)
        inside = np.isnan(channel) & (after > 0) & (after < present.size)
        ends = present[after[inside]], present[after[inside] - 1]
        short = steps[inside][ends[0] - ends[1] - 1 <= most]
        channel[short] = np.interp(short, present, channel[present])
    return filled


class SeriesWindows:
    """Windows of a series that are cut on access, with the length, shape, dtype and indexing of their array.

    With a stride of 1 that array would take as many times the memory of the series as a window has steps.

    Attributes
    ----------
    series : ndarray of shape (n_steps, n_channels)
    starts : ndarray of shape (n_windows,), int64
        First step of each window.
    shape : tuple of int
        (n_windows, window, n_channels).
    dtype : dtype
        The dtype of the series.
    """

    def __init__(self, series: np.ndarray, window: int, starts: np.ndarray) -> None:
        self.series = series
        self.starts = starts
        self.shape = (len(starts), window, series.shape[1])
        self.dtype = series.dtype

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        chosen = self.starts[rows]
        windows = cut_windows(self.series, self.shape[1], np.atleast_1d(chosen))
        return windows if np.ndim(chosen) else windows[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)


class Merger:
    """Merges the values of windows to values of the steps of their series, a few windows at a time.

    `last`: each step takes the value of the first window that ends at or after it. With stride 1 that is the
    window that ends with the step: the value depends on nothing later, and a score has the distribution of
    the calibration windows' scores.

    `mean`: each step takes the mean of the values of all windows that cover it, summed in order of time.

    Parameters
    ----------
    n_steps, window : int
    rule : str or None
        One of `detector.schema.MERGE_RULES`.
    shape : tuple of int
        Shape of the value of one step.

    Notes
    -----
    Every step must lie in a window, so the stride must be at most the window.
    """

    def __init__(self, n_steps: int, window: int, rule: str | None, shape: tuple[int, ...] = ()) -> None:
        self._window = window
        self._rule = rule
        self._values = np.zeros((n_steps, *shape))
        self._n_windows = np.zeros((n_steps,) + (1,) * len(shape), dtype=np.int64)
        self._end = 0  # end of the last window added

    def add(self, values: np.ndarray, starts: np.ndarray) -> None:
        """Add the next windows.

        Parameters
        ----------
        values : ndarray of shape (n_windows, window, *shape), or (n_windows,)
            A value for each step of each window, or one value for all steps of a window.
        starts : ndarray of shape (n_windows,), int
            Ascending, and larger than all added before.
        """
        if values.ndim == 1:
            values = np.broadcast_to(values[:, None], (len(values), self._window))
        if self._rule == MEAN_OF_WINDOWS:
            for offset in reversed(range(self._window)):  # oldest window first, however many a call adds
                self._values[starts + offset] += values[:, offset]
                self._n_windows[starts + offset] += 1
            return
        ends = starts + self._window
        steps = np.arange(self._end, ends[-1])
        owner = np.searchsorted(ends, steps, side="right")
        self._values[steps] = values[owner, steps - starts[owner]]
        self._end = int(ends[-1])

    def merged(self) -> np.ndarray:
        """Return the values of the steps, shape (n_steps, *shape), float64, once all windows were added."""
        if self._rule == MEAN_OF_WINDOWS:
            return self._values / self._n_windows
        return self._values


def merge_steps(values: np.ndarray, starts: np.ndarray, n_steps: int, rule: str) -> np.ndarray:
    """Merge values for each step of each window: (n_windows, window, ...) to (n_steps, ...), float64."""
    merger = Merger(n_steps, values.shape[1], rule, values.shape[2:])
    merger.add(values, starts)
    return merger.merged()


def merge_scores(scores: np.ndarray, starts: np.ndarray, n_steps: int, window: int, rule: str) -> np.ndarray:
    """Merge one value for each window to one for each step: (n_windows,) to (n_steps,), float64."""
    merger = Merger(n_steps, window, rule)
    merger.add(scores, starts)
    return merger.merged()

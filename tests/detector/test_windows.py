"""Windows of a series and the way back to its steps, each held against a naive loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.errors import InputError
from detector.schema import MERGE_RULES
from detector.windows import Merger, cut_windows, merge_scores, merge_steps, window_starts


@st.composite
def cuts(draw) -> tuple[int, int, int]:
    """Length of a series, window and stride, the stride at most the window."""
    window = draw(st.integers(1, 12))
    return draw(st.integers(window, 60)), window, draw(st.integers(1, window))


def naive_starts(n_steps: int, window: int, stride: int) -> list[int]:
    """Return a start every stride steps while the window fits, and the start of the last window."""
    starts = [start for start in range(0, n_steps, stride) if start + window <= n_steps]
    return starts if starts[-1] + window == n_steps else [*starts, n_steps - window]


def naive_merge(values: np.ndarray, starts: np.ndarray, n_steps: int, rule: str) -> np.ndarray:
    """Merge windows by definition, one step after another."""
    window, merged = values.shape[1], []
    for step in range(n_steps):
        covering = [row for row, start in enumerate(starts) if start <= step < start + window]
        if rule == "last":
            newest = [row for row in covering if row == 0 or step >= starts[row - 1] + window]
            covering = newest[:1]
        merged.append(sum(values[row, step - starts[row]] for row in covering) / len(covering))
    return np.array(merged)


@given(cuts())
def test_window_starts_equal_the_loop(cut):
    """Every stride steps, and the end of the series is always covered."""
    assert window_starts(*cut).tolist() == naive_starts(*cut)


def test_window_starts_refuse_a_series_shorter_than_a_window():
    """The sentence has both lengths."""
    with pytest.raises(InputError, match=r"^a series must have at least the 20 steps of one window, got 19$"):
        window_starts(19, 20, 5)


@given(cuts(), st.integers(1, 3))
def test_cut_windows_equal_slices(cut, n_channels):
    """A window is the slice of the series that begins at its start."""
    n_steps, window, _ = cut
    series = np.arange(n_steps * n_channels, dtype=np.float32).reshape(n_steps, n_channels)
    starts = window_starts(*cut)

    windows = cut_windows(series, window, starts)

    assert windows.dtype == np.float32
    np.testing.assert_array_equal(windows, [series[start : start + window] for start in starts])


@pytest.mark.parametrize("rule", MERGE_RULES)
@given(cut=cuts(), seed=st.integers(0, 99))
def test_merge_equals_the_loop(cut, seed, rule):
    """Scores and values of steps, with one axis more or without."""
    n_steps, window, _ = cut
    starts, rng = window_starts(*cut), np.random.default_rng(seed)
    scores, values = rng.normal(size=len(starts)), rng.normal(size=(len(starts), window, 2))
    repeated = np.repeat(scores[:, None], window, axis=1)

    np.testing.assert_allclose(
        merge_scores(scores, starts, n_steps, window, rule), naive_merge(repeated, starts, n_steps, rule)
    )
    np.testing.assert_allclose(
        merge_steps(values, starts, n_steps, rule), naive_merge(values, starts, n_steps, rule)
    )


@pytest.mark.parametrize("rule", MERGE_RULES)
@given(cut=cuts(), seed=st.integers(0, 99), n_parts=st.integers(1, 5))
def test_merger_has_the_same_bits_however_windows_are_split(cut, seed, rule, n_parts):
    """A series scores the same in one run and in many."""
    n_steps, window, _ = cut
    starts = window_starts(*cut)
    values = np.random.default_rng(seed).normal(size=(len(starts), window, 2))
    merger = Merger(n_steps, window, rule, (2,))
    for rows in np.array_split(np.arange(len(starts)), min(n_parts, len(starts))):
        merger.add(values[rows], starts[rows])

    np.testing.assert_array_equal(merger.merged(), merge_steps(values, starts, n_steps, rule))


@given(st.integers(1, 12), st.integers(0, 40))
def test_last_with_stride_1_is_causal(window, more):
    """A step has the score of the window that ends with it; the first window's steps have the first score."""
    starts = window_starts(window + more, window, 1)
    scores = np.arange(len(starts), dtype=np.float64)

    merged = merge_scores(scores, starts, window + more, window, "last")

    assert merged.tolist() == [0.0] * (window - 1) + scores.tolist()

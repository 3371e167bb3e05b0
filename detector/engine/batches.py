"""Run the samples and series of several requests as one batch, and give each request its outputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from detector.engine.checks import Checked
from detector.engine.graphs import FEATURE_ERROR, SCORE
from detector.windows import Merger, SeriesWindows

# An output for series only, not of the graph: the error of the windows that the score of a step comes from.
WINDOW_ERROR = "window_error"


def run_batches(
    run: Callable[[np.ndarray], dict[str, np.ndarray]],
    parts: Sequence[Checked],
    names: Sequence[str],
    merge: str | None,
    n_rows: int,
) -> list[dict[str, np.ndarray]]:
    """Run all parts, the checked samples of one request each, as one batch; return the outputs of each.

    The windows of a series are cut, run and merged a block at a time, so a long series needs little memory.
    Its outputs have one value for each step, or for each channel of each step, and with `feature_error` also
    `window_error`, the sum over the windows of the step.

    Parameters
    ----------
    run : callable
        From samples of shape (n, *sample_shape) to the outputs of these names, each of length n.
    parts : sequence of ndarray or SeriesWindows
    names : sequence of str
        Outputs that have one value for a sample, or one for each of its values.
    merge : str or None
        One of `detector.schema.MERGE_RULES`; may be None if no part is a series.
    n_rows : int
        At most this many windows of a series run at a time.
    """
    collectors = [
        _Steps(part, names, merge) if isinstance(part, SeriesWindows) else _Whole() for part in parts
    ]
    for batch in _batches(parts, n_rows):
        arrays = [parts[position][rows] for position, rows in batch]
        outputs = run(arrays[0] if len(arrays) == 1 else np.concatenate(arrays))
        start = 0
        for (position, rows), array in zip(batch, arrays, strict=True):
            end = start + len(array)
            collectors[position].add({name: values[start:end] for name, values in outputs.items()}, rows)
            start = end
    return [collector.collected() for collector in collectors]


def run_present(
    run: Callable[[np.ndarray], dict[str, np.ndarray]],
    windows: np.ndarray,
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, np.ndarray]:
    """Run the windows that lack no value; the outputs of the others are NaN.

    Parameters
    ----------
    run : callable
        As for `run_batches`.
    windows : ndarray of shape (n, window, n_channels), float32
        NaN is a missing value.
    shapes : mapping of str to tuple of int
        Name and shape, without the batch, of every output.
    """
    present = ~np.isnan(windows).any(axis=(1, 2))
    if present.all():
        return _without_nan(run(windows))
    outputs = {name: np.full((len(windows), *shape), np.nan, np.float32) for name, shape in shapes.items()}
    if present.any():
        for name, values in _without_nan(run(windows[present])).items():
            outputs[name][present] = values
    return outputs


def _without_nan(outputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Make a NaN that a graph answered an infinity: NaN says that there is no answer."""
    return {name: np.where(np.isnan(values), np.inf, values) for name, values in outputs.items()}


class _Whole:
    """Keep the outputs of samples that run in one piece."""

    def add(self, outputs: dict[str, np.ndarray], rows: slice) -> None:
        self._outputs = outputs

    def collected(self) -> dict[str, np.ndarray]:
        return self._outputs


class _Steps:
    """Collect the outputs of the windows of a series, merged to its steps block by block."""

    def __init__(self, windows: SeriesWindows, names: Sequence[str], rule: str | None) -> None:
        n_steps, n_channels = windows.series.shape
        shapes = {name: () if name == SCORE else (n_channels,) for name in names}
        if FEATURE_ERROR in names:
            shapes[WINDOW_ERROR] = ()
        self._windows = windows
        self._mergers = {
            name: Merger(n_steps, windows.shape[1], rule, shape) for name, shape in shapes.items()
        }

    def add(self, outputs: dict[str, np.ndarray], rows: slice) -> None:
        if FEATURE_ERROR in outputs:
            outputs[WINDOW_ERROR] = outputs[FEATURE_ERROR].sum(axis=(1, 2), dtype=np.float64)
        for name, merger in self._mergers.items():
            merger.add(outputs[name], self._windows.starts[rows])

    def collected(self) -> dict[str, np.ndarray]:
        merged = {name: merger.merged() for name, merger in self._mergers.items()}
        return {
            name: values.astype(np.float32) if values.ndim > 1 else values for name, values in merged.items()
        }


def slices(n_rows: int, block: int) -> Iterator[slice]:
    """Cut rows into slices of at most `block`."""
    for start in range(0, n_rows, block):
        yield slice(start, min(start + block, n_rows))


def _batches(parts: Sequence[Checked], n_rows: int) -> Iterator[list[tuple[int, slice]]]:
    """Choose which rows of which parts run together: arrays whole, series in blocks of `n_rows` windows."""
    batch: list[tuple[int, slice]] = []
    room = n_rows
    for position, part in enumerate(parts):
        block = n_rows if isinstance(part, SeriesWindows) else len(part)
        for rows in slices(len(part), block):
            if batch and rows.stop - rows.start > room:
                yield batch
                batch, room = [], n_rows
            batch.append((position, rows))
            room -= rows.stop - rows.start
    yield batch

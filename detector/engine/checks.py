"""Check samples, latents and the outputs of graphs, and convert samples to float32 arrays."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from detector.errors import InputError, NonFiniteScore
from detector.latents import FLOAT32, INT8, INT8_RANGE, LARGEST_FLOAT16
from detector.manifest import Manifest
from detector.schema import GAP_RULES, MISSING_AS_MEDIAN
from detector.tables import GAP_HINT, MISSING_HINT, as_rows, check_cells, to_numbers
from detector.windows import SeriesWindows, fill_gaps, is_series, window_starts

Checked = np.ndarray | SeriesWindows


def check_samples(samples: np.ndarray, manifest: Manifest, *, whole: bool = False) -> Checked:
    """Convert samples to the input of the graph; `detector.Detector.score` documents the valid forms.

    The result has shape (n_samples, *sample_shape), float32, contiguous and finite, but NaN where a value is
    missing and may be; `whole` if none may be missing in a series. The windows of a series are cut when they
    are asked for. Raise `InputError`, naming the shape or dtype, the first value that is not a finite
    float32, or the length of a series that is shorter than a window.
    """
    rows = samples if isinstance(samples, np.ndarray) else as_rows(samples, manifest)
    shape, names = manifest.sample_shape, manifest.feature_names
    if manifest.kind == "vector":
        checked = check_array(
            to_numbers(rows, manifest) if rows.dtype.kind in "OU" else rows,
            shape,
            "samples",
            names,
            missing=manifest.missing == MISSING_AS_MEDIAN,
            hint=MISSING_HINT,
        )
        if manifest.categories:
            check_cells(checked, manifest)
        return checked
    if manifest.window is None or manifest.stride is None:
        return check_array(rows, shape, "samples", names)
    return _check_steps(rows, manifest, manifest.window, manifest.stride, whole=whole)


def _check_steps(rows: np.ndarray, manifest: Manifest, window: int, stride: int, *, whole: bool) -> Checked:
    """Convert a series or windows as `check_samples` does, and fill short runs of missing values."""
    shape, names, max_gap = manifest.sample_shape, manifest.feature_names, manifest.reading.max_gap
    gaps = manifest.missing in GAP_RULES
    hint = "; only scores and reconstructions may have missing values" if gaps else GAP_HINT
    check = functools.partial(check_array, what="samples", names=names, missing=gaps and not whole, hint=hint)
    values = with_channels(to_numbers(rows, manifest), manifest)
    if is_series(values.shape, shape):
        series = check(values, shape[1:], row="step")
        if max_gap is not None:
            series = fill_gaps(series, max_gap)
        return SeriesWindows(series, window, window_starts(len(series), window, stride))
    if values.shape[1:] != shape:
        n_channels = shape[1]
        cut, series_shape = f"(n, {window}, {n_channels})", f"(n_steps, {n_channels})"
        if n_channels == 1:
            cut, series_shape = f"{cut} or (n, {window})", f"{series_shape} or (n_steps,)"
        words = f"{cut} for windows, {series_shape} for a series"
        raise InputError(f"samples must have shape {words}, got {np.shape(rows)}")
    windows = check(values, shape)
    return windows if max_gap is None else np.stack([fill_gaps(each, max_gap) for each in windows])


def with_channels(samples: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Add the last axis, which samples of a sequence model with one channel may leave out."""
    values, shape = np.asarray(samples), manifest.sample_shape
    if manifest.kind == "sequence" and shape[1] == 1 and values.shape[1:] in ((), shape[:1]):
        return values[..., None]
    return values


def check_array(
    values: np.ndarray,
    shape: tuple[int, ...],
    what: str,
    names: Sequence[str] | None,
    row: str = "row",
    *,
    missing: bool = False,
    hint: str = "",
) -> np.ndarray:
    """Convert an array of shape (n, *shape), n at least 1, to contiguous and finite float32 for a graph.

    Raise `InputError`, naming shape or dtype, or the first value that is not a finite float32.

    Parameters
    ----------
    values : array, any real dtype
    shape : tuple of int
    what, row : str
        Names of the array, and of one of its n parts, in errors.
    names : sequence of str, or None
        Feature names along the last axis, for errors.
    missing : bool
        Whether NaN is allowed, as a missing value.
    hint : str
        Appended to the error about a NaN that is not allowed.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "fiu":
        raise InputError(f"{what} must be real numbers, got an array of {values.dtype}")
    if values.ndim != len(shape) + 1 or values.shape[1:] != shape:
        wanted = ", ".join(map(str, ("n", *shape)))
        channels_first = len(shape) == 3 and values.shape[1:] == (shape[2], *shape[:2])
        order = f": channels come last, as in numpy.moveaxis({what}, 1, -1)" if channels_first else ""
        raise InputError(f"{what} must have shape ({wanted}), got {values.shape}{order}")
    if len(values) == 0:
        raise InputError(f"{what} must hold at least one sample, got shape {values.shape}")
    with np.errstate(over="ignore"):  # too large a value becomes infinite, and is refused below
        checked = np.ascontiguousarray(values, dtype=np.float32)
    finite = np.isfinite(checked)
    if missing:
        finite |= np.isnan(checked)
    if not np.logical_and.reduce(finite, axis=None):
        index = tuple(map(int, np.argwhere(~finite)[0]))
        raise InputError(
            f"{what} must be finite float32 values, got {values[index]} in {row} {index[0]}, "
            f"{feature_name(index[1:], names)}{hint if np.isnan(values[index]) else ''}",
            index,
        )
    return checked


def check_packed(checked: np.ndarray, dtype: str) -> None:
    """Refuse values that a latent of this dtype cannot have; 8-bit integers may arrive as JSON numbers.

    Raise `InputError`, naming the first such value.
    """
    if dtype == FLOAT32:
        return
    least, largest = INT8_RANGE if dtype == INT8 else (-LARGEST_FLOAT16, LARGEST_FLOAT16)
    faulty = (checked < least) | (checked > largest)
    words = f"between {least:g} and {largest:g}"
    if dtype == INT8:
        faulty |= checked != np.rint(checked)
        words = f"integers from {least} to {largest}"
    if faulty.any():
        index = tuple(map(int, np.argwhere(faulty)[0]))
        raise InputError(
            f"latent of dtype {dtype} must be {words}, got {checked[index]:g} in row {index[0]}, "
            f"{feature_name(index[1:], None)}",
            index,
        )


def check_finite(values: np.ndarray, manifest: Manifest) -> np.ndarray:
    """Return the values that a graph answered; raise `NonFiniteScore` if one is NaN or infinite.

    Where a series may have missing values, NaN stands for a window that was not given to the graph.
    """
    if not np.logical_and.reduce(np.isfinite(values), axis=None):
        faulty = np.isinf(values) if manifest.missing in GAP_RULES else ~np.isfinite(values)
        if faulty.any():
            row = int(np.argwhere(faulty)[0][0])
            raise NonFiniteScore(
                f"model {manifest.name} version {manifest.version} answered a value that is not finite for "
                f"sample {row}"
            )
    return values


def blank_faulty(outputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Return the outputs of a graph with NaN for each sample of which a value is NaN or infinite.

    Nothing is copied if all values are finite.
    """
    for values in outputs.values():
        if not np.logical_and.reduce(np.isfinite(values), axis=None):
            return _blanked(outputs)
    return outputs


def _blanked(outputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    whole = [np.isfinite(values).reshape(len(values), -1).all(axis=1) for values in outputs.values()]
    faulty = ~np.logical_and.reduce(whole)
    blanked = {name: values.copy() for name, values in outputs.items()}
    for values in blanked.values():
        values[faulty] = np.nan
    return blanked


def feature_name(index: tuple[int, ...], names: Sequence[str] | None) -> str:
    """Name a feature by its index in a sample: `speed`, `speed[3]` in a window, `[3, 1]` without names."""
    if not names:
        return str(list(index))
    return names[index[-1]] + (str(list(index[:-1])) if len(index) > 1 else "")

"""Read the times of a series."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from training.errors import DataError


def read_times(column: pa.ChunkedArray, what: str, row_words: Callable[[int], str]) -> np.ndarray:
    """Return numbers unchanged, and anything else as points in time.

    Parameters
    ----------
    column : pyarrow.ChunkedArray
        Dates, timestamps, numbers, or texts in ISO 8601; none is missing.
    what : str
        Name of the column, for errors.
    row_words : callable
        From a position to the name of its row, for errors.

    Returns
    -------
    ndarray of shape (n_rows,), datetime64[us] in UTC, int64 or float64

    Raises
    ------
    DataError
        If the column holds anything else, or a number that is not finite.
    """
    kind = column.type
    if pa.types.is_integer(kind):
        return column.cast(pa.int64(), safe=False).to_numpy()
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _finite(column.cast(pa.float64(), safe=False).to_numpy(), what, row_words)
    if not (_is_text(kind) or pa.types.is_temporal(kind)):
        raise DataError(f"{what} must hold times or numbers, got {kind}")
    try:
        return _points_in_time(column)
    except pa.ArrowException as error:
        got = _first_untimely(column, row_words)
        raise DataError(f"{what} must hold numbers or ISO 8601 times, got {got}") from error


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _finite(times: np.ndarray, what: str, row_words: Callable[[int], str]) -> np.ndarray:
    faulty = np.flatnonzero(~np.isfinite(times))
    if faulty.size:
        raise DataError(f"{what} must be finite, got {times[faulty[0]]} in {row_words(faulty[0])}")
    return times


def _points_in_time(column: pa.ChunkedArray) -> np.ndarray:
    if _is_text(column.type):
        try:
            column = column.cast(pa.timestamp("us"))
        except pa.ArrowInvalid:
            column = column.cast(pa.timestamp("us", "UTC"))  # texts with a zone
    return column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).to_numpy()


def _first_untimely(column: pa.ChunkedArray, row_words: Callable[[int], str]) -> str:
    """Quote the first text that is no point in time, with its row."""
    for index, text in enumerate(column.to_pylist()):
        try:
            _points_in_time(pa.chunked_array([[text]], column.type))
        except pa.ArrowException:
            return f"{str(text)[:40]!r} in {row_words(index)}"
    return "times with a zone and without one"

"""Samples as request bodies: `.npy` for numbers, JSON for texts and missing values, files for images.

Each form is a small class that says how many samples there are and how many bytes one takes, and makes the
body for some of them.
"""

import contextlib
import io
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from detector.tables import is_missing, object_rows
from residual_client.errors import RequestError
from residual_client.wire import JSON, NPY

MEASURED_ROWS = 64  # this many rows are written as JSON to estimate the size of one


class Samples(Protocol):
    """Samples in the form in which they are sent."""

    accepts_npy: bool  # whether the answer may be an array: texts come back as JSON only

    def __len__(self) -> int:
        """Return the number of samples, or of steps of a series."""

    def row_bytes(self) -> float:
        """Estimate how many bytes of a body one sample takes."""

    def body(self, start: int, stop: int) -> tuple[str, bytes]:
        """Make content type and content for the samples from `start` to `stop`."""


class ArraySamples:
    """Numbers, sent as `.npy`.

    Parameters
    ----------
    array : ndarray
        Sent as it is; the service refuses a dtype that it does not read.
    as_float32 : bool
        Whether to send float64 as float32, which the service would convert it to; not if its answer repeats
        the values.
    """

    accepts_npy = True

    def __init__(self, array: np.ndarray, *, as_float32: bool = False) -> None:
        self._array = array
        self._as_float32 = as_float32 and array.dtype == np.float64

    def __len__(self) -> int:
        return len(self._array) if self._array.ndim else 1

    def row_bytes(self) -> float:
        """See `Samples`."""
        return self._array.nbytes / max(len(self), 1) / (2 if self._as_float32 else 1)

    def body(self, start: int, stop: int) -> tuple[str, bytes]:
        """See `Samples`; little-endian, in C order."""
        rows = self._array[start:stop] if self._array.ndim else self._array
        if self._as_float32:
            # A value that is too large stays, so that the service names it.
            with contextlib.suppress(FloatingPointError), np.errstate(over="raise"):
                rows = rows.astype(np.float32)
        rows = np.asarray(rows, dtype=rows.dtype.newbyteorder("<"), order="C")
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, rows, allow_pickle=False)
        return NPY, buffer.getvalue()


class CellSamples:
    """Rows that may hold texts and missing values, or any other nested lists and objects, sent as JSON."""

    accepts_npy = False

    def __init__(self, rows: Sequence[Any] | np.ndarray) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def row_bytes(self) -> float:
        """See `Samples`; measured on the first rows."""
        measured = min(MEASURED_ROWS, len(self))
        return len(self.body(0, measured)[1]) / max(measured, 1)

    def body(self, start: int, stop: int) -> tuple[str, bytes]:
        """See `Samples`; missing values are null."""
        rows = [_to_cell(row) for row in self._rows[start:stop]]
        return JSON, json.dumps({"instances": rows}, allow_nan=False, separators=(",", ":")).encode()


class ImageSamples:
    """Files of images, or their bytes, sent as they are."""

    accepts_npy = True

    def __init__(self, images: Sequence[Path | bytes]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def row_bytes(self) -> float:
        """See `Samples`; the size of the largest, so that no request is too large."""
        sizes = [image.stat().st_size if isinstance(image, Path) else len(image) for image in self._images]
        return max(sizes, default=0) + 200

    def body(self, start: int, stop: int) -> tuple[str, bytes]:
        """See `Samples`; a multipart form with one file for each."""
        boundary = secrets.token_hex(16)
        lines = []
        for number, image in enumerate(self._images[start:stop], start):
            content = image.read_bytes() if isinstance(image, Path) else image
            disposition = f'form-data; name="image"; filename="{number}"'
            kind = "application/octet-stream"  # the service tells images apart by their content
            head = f"--{boundary}\r\nContent-Disposition: {disposition}\r\nContent-Type: {kind}\r\n\r\n"
            lines += [head.encode(), content, b"\r\n"]
        return f"multipart/form-data; boundary={boundary}", b"".join([*lines, f"--{boundary}--\r\n".encode()])


def collect(samples: Any, *, keep_values: bool) -> Samples:
    """Choose the form for an array, nested lists, or a list of objects, Path or bytes; else `RequestError`.

    `keep_values` if the answer repeats the values, so that every digit must be sent. Tables go through
    `rows_of_columns`.
    """
    if isinstance(samples, str | bytes | Path):
        raise _no_samples(samples)
    if isinstance(samples, Sequence) and samples and isinstance(samples[0], Path | bytes):
        return ImageSamples(samples)
    if isinstance(samples, Sequence) and samples and isinstance(samples[0], Mapping):
        return CellSamples(samples)
    try:
        array = np.asarray(samples)
    except ValueError:  # rows of different lengths: the service names the first
        return CellSamples(samples)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if array.dtype.kind in "fiu":
        return ArraySamples(array, as_float32=not keep_values)
    if array.ndim == 0:
        raise _no_samples(samples)
    # In the array that NumPy makes of a list with texts, the numbers are texts too.
    return CellSamples(array if isinstance(samples, np.ndarray) else samples)


def _no_samples(samples: Any) -> RequestError:
    kind = type(samples).__name__
    return RequestError(f"samples must be an array, a table or a list of images, got one {kind}")


def rows_of_columns(columns: Sequence[np.ndarray], *, texts: bool, keep_values: bool) -> Samples:
    """Choose the form for the columns of a table, in the model's order; `texts` if the model takes texts."""
    if not texts and all(column.dtype.kind in "fiu" for column in columns):
        return ArraySamples(np.column_stack(columns), as_float32=not keep_values)
    return CellSamples(object_rows(columns))


def _to_cell(value: Any) -> Any:
    """Convert a value for JSON: a missing value to None, a NumPy number to Python's."""
    if isinstance(value, np.ndarray | list | tuple):
        return [_to_cell(part) for part in value]
    if isinstance(value, Mapping):
        return {str(name): _to_cell(part) for name, part in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isinf(value):
        raise RequestError("samples must be finite, got an infinity in rows sent as JSON")
    if is_missing(value):
        return None
    if not isinstance(value, float):
        raise RequestError(f"a value must be a number, text or missing, got {value!r:.80}")
    return value

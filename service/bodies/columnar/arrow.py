"""Read Arrow streams and Parquet files as samples; imported late, since pyarrow takes time and memory.

The inflated size of a body is known and limited before any of it is inflated (docs/decisions/0023).
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from detector.engine.session import check_stop
from detector.tables import MISSING_HINT, NUMBER, object_rows
from service.bodies import TIMESTAMP, Decoded, Expected, Limits, Timestamp, check_rows, misplaced
from service.bodies.columnar.flatbuffers import batch_size
from service.bodies.columnar.parquet_outline import Outline
from service.bodies.tables import Layout, match_columns
from service.http.problems import Problem

_THRIFT_STRING_BYTES, _THRIFT_ITEMS = 2**20, 100_000  # limits for a Parquet footer
# Of the schema of a stream, and for each column of the model: pandas writes about 200.
_SCHEMA_BYTES, _FIELD_BYTES = 2**20, 2**11
_SLICE_ROWS = 4096
_VALUE_BYTES = 4  # size of a float32; in the file, a value that all rows share takes a few bits


def decode_arrow(content: bytes, expected: Expected, limits: Limits) -> Decoded:
    """Read the rows, or the steps of a series, of an Arrow IPC stream.

    Parameters
    ----------
    content : bytes
        One schema and its batches; buffers may be compressed, and texts may be dictionary-encoded.
    expected : Expected
        Must accept rows or steps.
    limits : Limits
        Limits for rows and for the inflated size of all buffers.

    Raises
    ------
    Problem
        If the stream is invalid or too large, or naming the first column that does not fit the model.
    """
    try:
        _check_messages(content, len(expected.columns()), limits)
        with pa.ipc.open_stream(pa.py_buffer(content)) as stream:
            layout = _match_schema(stream.schema, expected)
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Problem("malformed-body", f"the Arrow stream cannot be read: {_one_line(error)}") from error
    return _decode_table(table, layout, expected, limits)


def decode_parquet(content: bytes, expected: Expected, limits: Limits) -> Decoded:
    """Read a Parquet file; arguments and errors as for `decode_arrow`."""
    try:
        _check_outline(content, len(expected.columns()), limits)
        schema = _open_parquet(content).schema_arrow
        layout = _match_schema(schema, expected)
        # The file has a repeated text once; dictionaries keep it once in memory, too.
        texts = [field.name for field in schema if _is_text(field.type)]
        table = _open_parquet(content, texts).read(use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Problem("malformed-body", f"the Parquet file cannot be read: {_one_line(error)}") from error
    return _decode_table(table, layout, expected, limits)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


# --- before anything is inflated ----------------------------------------------------------------------------


def _check_messages(content: bytes, n_columns: int, limits: Limits) -> None:
    rows = n_bytes = 0
    most = max(_SCHEMA_BYTES, n_columns * _FIELD_BYTES)
    for message in _messages(content):
        check_stop()
        if message.type == "schema":
            if message.metadata.size > most:
                raise ValueError(f"its schema may have at most {most} bytes, got {message.metadata.size}")
            continue
        dictionary = message.type == "dictionary"
        more_rows, more_bytes = batch_size(
            message.metadata.to_pybytes(), memoryview(message.body), dictionary=dictionary
        )
        rows += 1 if dictionary else max(1, more_rows)  # an empty batch takes time, too
        n_bytes += more_bytes
        check_rows(rows, limits)
        _check_bytes(n_bytes, limits)


def _messages(content: bytes) -> Iterator[pa.Message]:
    source = pa.BufferReader(content)
    reader = pa.MessageReader.open_stream(source)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            break
        if message.type not in ("schema", "dictionary", "record batch"):
            raise ValueError(f"it holds a message of the type {message.type}")
        yield message
    if source.tell() != len(content):
        raise ValueError(f"{len(content) - source.tell()} bytes follow its end")


def _open_parquet(content: bytes, dictionaries: Sequence[str] = ()) -> pyarrow.parquet.ParquetFile:
    return pyarrow.parquet.ParquetFile(
        pa.BufferReader(content),
        read_dictionary=dictionaries,
        thrift_string_size_limit=_THRIFT_STRING_BYTES,
        thrift_container_size_limit=_THRIFT_ITEMS,
    )


def _check_outline(content: bytes, n_columns: int, limits: Limits) -> None:
    outline = Outline(content)
    check_rows(outline.rows, limits)
    n_bytes = outline.rows * n_columns * _VALUE_BYTES
    _check_bytes(n_bytes, limits)
    for size in outline.page_sizes():
        check_stop()
        n_bytes += size
        _check_bytes(n_bytes, limits)


def _check_bytes(n_bytes: int, limits: Limits) -> None:
    if n_bytes > limits.max_bytes:
        raise Problem(
            "body-too-large",
            f"a table may have at most {limits.max_bytes} bytes in memory, got at least {n_bytes}",
        )


# --- columns ------------------------------------------------------------------------------------------------


def _match_schema(schema: pa.Schema, expected: Expected) -> Layout:
    """Find the columns and check their types."""
    layout = match_columns(schema.names, expected)
    for name, position in zip(expected.columns(), layout.features, strict=True):
        kind = schema.field(position).type
        if name in expected.texts:
            if not (_is_text(kind) or pa.types.is_boolean(kind)):
                raise _mistyped(name, "texts", kind)
        elif not _is_number(kind):
            raise _mistyped(name, "integers or floats", kind)
    if layout.timestamp is not None:
        kind = schema.field(layout.timestamp).type
        if not (_is_text(kind) or _is_number(kind) or pa.types.is_temporal(kind)):
            raise _mistyped(TIMESTAMP, "times, texts or numbers", kind)
    return layout


def _mistyped(name: str, wanted: str, kind: pa.DataType) -> Problem:
    return misplaced(f"column {name!r} must be {wanted}, got {str(kind)[:80]}", column=name)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _decode_table(table: pa.Table, layout: Layout, expected: Expected, limits: Limits) -> Decoded:
    columns = []
    for name, position in zip(expected.columns(), layout.features, strict=True):
        column = table.column(position)
        if column.null_count and not expected.cells:
            row = int(np.argmax(column.is_null().to_numpy()))
            hint = MISSING_HINT if expected.rows else ""
            raise misplaced(
                f"{name!r} must be {NUMBER}, got nothing in row {row}{hint}", row=row, column=name
            )
        columns.append(_values(column, limits))
    timestamps = None if layout.timestamp is None else _timestamps(table.column(layout.timestamp), limits)
    if not expected.cells:
        return Decoded(np.column_stack(columns), timestamps=timestamps)
    return Decoded(object_rows(columns), timestamps=timestamps)


def _values(column: pa.ChunkedArray, limits: Limits) -> np.ndarray:
    """Return numbers with NaN for missing ones, or objects with None."""
    if _is_number(column.type):
        return column.to_numpy()
    parts = [_objects(chunk, limits) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.empty(0, dtype=object)


def _objects(chunk: pa.Array, limits: Limits) -> np.ndarray:
    """Return texts or booleans; a text of many rows is one object, but counts for each row."""
    if not pa.types.is_dictionary(chunk.type):
        starts = range(0, len(chunk), _SLICE_ROWS)  # one call would hold other threads for long
        texts = itertools.chain.from_iterable(chunk.slice(at, _SLICE_ROWS).to_pylist() for at in starts)
        return np.array(list(texts), dtype=object)
    values = [*chunk.dictionary.to_pylist(), None]
    places = chunk.indices.cast(pa.int64()).fill_null(len(values) - 1).to_numpy()
    lengths = np.array([len(value or "") for value in values])
    _check_bytes(int(lengths[places].sum()), limits)
    return np.array(values, dtype=object)[places]


def _timestamps(column: pa.ChunkedArray, limits: Limits) -> list[Timestamp]:
    """Return numbers and texts unchanged, and times as text."""
    if pa.types.is_temporal(column.type):
        column = _as_texts(column)
    values = _values(column, limits).tolist()
    row = next((row for row, value in enumerate(values) if not _is_timestamp(value)), None)
    if row is not None:
        got = f" of at most 63 bits, got {values[row]}" if isinstance(values[row], int) else ""
        raise misplaced(
            f"{TIMESTAMP!r} must be a time, a text or a number{got} in row {row}", row=row, column=TIMESTAMP
        )
    return values


def _as_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write times as text; Arrow cannot if it does not know their time zone, for example."""
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        sentence = (
            f"{TIMESTAMP!r} of type {str(column.type)[:80]} cannot be written as text: {_one_line(error)}"
        )
        raise misplaced(sentence, column=TIMESTAMP) from error


def _is_timestamp(value: Any) -> bool:
    """Whether JSON may hold this time stamp: see `service.bodies.Timestamp`."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, str) or (value is not None and math.isfinite(value))

"""Write answers to a file, all or nothing: a row of CSV, Parquet or JSON for each sample, or one `.npy`."""

import contextlib
import csv
import dataclasses
import io
import json
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from detector.results import Classes, Contribution, Scores
from residual_client.errors import RequestError

CSV, NDJSON, NPY, PARQUET = "csv", "ndjson", "npy", "parquet"
FORMS = {".csv": CSV, ".parquet": PARQUET, ".ndjson": NDJSON, ".jsonl": NDJSON, ".npy": NPY}
_DECISIONS = ("score", "ratio", "p_value", "is_anomaly")


class Writer:
    """Writes answers to a file, in order."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, answer: Any, where: Mapping[str, Sequence[Any]]) -> None:
        """Write the answer to one chunk; the columns of `where` identify its samples."""
        raise NotImplementedError

    def finish(self) -> None:
        """Complete the file after the last answer."""


def form_of(out: str | None, form: str | None) -> str:
    """Return the given form, or that of the file's suffix, or CSV; `RequestError` for an unknown suffix."""
    if form is not None or out is None:
        return form or CSV
    suffix = Path(out).suffix.lower()
    if suffix not in FORMS:
        raise RequestError(f"{out} must end in {', '.join(FORMS)}, or give --format")
    return FORMS[suffix]


@contextlib.contextmanager
def open_output(out: str | None, form: str) -> Iterator[Writer]:
    """Open a writer to stdout, or to a file that appears only when it is complete.

    Raise `RequestError` if the file cannot be written.
    """
    if out is None:
        if form in (NPY, PARQUET):
            raise RequestError(f"{form} is written to a file: give --out FILE")
        yield _WRITERS[form](sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = Path(out)
    # Named before it is created: an interrupt right after its creation still removes it.
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        try:
            file = temporary.open("xb")
        except OSError as error:
            raise RequestError(f"{out} cannot be written: {error.strerror}") from error
        with file:
            writer = _WRITERS[form](file)
            yield writer
            writer.finish()
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class _CsvWriter(Writer):
    """Writes a header, then a row for each sample."""

    _header: list[str] | None = None

    def write(self, answer: Any, where: Mapping[str, Sequence[Any]]) -> None:
        columns = with_columns(where, _columns(answer))
        if self._header is None:
            self._header = list(columns)
            self._write([self._header])
        self._write(zip(*map(_texts, columns.values()), strict=True))

    def _write(self, rows: Any) -> None:
        lines = io.StringIO(newline="")
        csv.writer(lines, lineterminator="\n").writerows(rows)
        self._file.write(lines.getvalue().encode())


class _LineWriter(Writer):
    """Writes a line with a JSON object for each sample."""

    def write(self, answer: Any, where: Mapping[str, Sequence[Any]]) -> None:
        members = with_columns(where, _members(answer))
        rows = zip(*map(_plain, members.values()), strict=True)
        lines = [json.dumps(dict(zip(members, row, strict=True)), ensure_ascii=False) for row in rows]
        self._file.write("".join(f"{line}\n" for line in lines).encode())


class _ArrayWriter(Writer):
    """Writes the arrays of all answers as one; the header again at the end, with the number of rows."""

    _first: np.ndarray | None = None
    _n_rows = 0

    def write(self, answer: Any, where: Mapping[str, Sequence[Any]]) -> None:
        array = np.ascontiguousarray(_array(answer))
        if self._first is None:
            self._first = array
            self._write_header(array)
        self._n_rows += len(array)
        self._file.write(array.data)

    def finish(self) -> None:
        """Write the final header; NumPy leaves room for the first axis to grow."""
        if self._first is not None:
            self._file.seek(0)
            self._write_header(self._first)

    def _write_header(self, first: np.ndarray) -> None:
        header = np.lib.format.header_data_from_array_1_0(first)
        header["shape"] = (self._n_rows, *first.shape[1:])
        np.lib.format.write_array_header_1_0(self._file, header)


class _ParquetWriter(Writer):
    """Writes a row for each sample; the first chunk with rows decides the types of the columns."""

    _writer: Any = None
    _table: Any = None

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise RequestError(
                "Parquet needs pyarrow, which is not installed: pip install pyarrow"
            ) from error
        self._arrow: Any = pyarrow

    def write(self, answer: Any, where: Mapping[str, Sequence[Any]]) -> None:
        columns = {
            name: _arrow_cells(column) for name, column in with_columns(where, _columns(answer)).items()
        }
        schema = None if self._writer is None else self._writer.schema
        try:
            self._table = self._arrow.table(columns, schema=schema)
        except self._arrow.ArrowException as error:
            raise RequestError(f"a kept column cannot be written as Parquet, but as CSV: {error}") from error
        if self._table.num_rows:
            self._write()

    def finish(self) -> None:
        """Complete the file, with its columns even if it has no row."""
        if self._writer is None and self._table is not None:
            self._write()
        if self._writer is not None:
            self._writer.close()

    def _write(self) -> None:
        if self._writer is None:
            self._writer = self._arrow.parquet.ParquetWriter(self._file, self._table.schema)
        self._writer.write_table(self._table)


def _arrow_cells(column: Any) -> Any:
    """Convert a column for Arrow: arrays keep their type, lists are JSON as in CSV."""
    if isinstance(column, np.ndarray) and column.dtype.kind != "O":
        return column
    return _texts(column)


_WRITERS: Mapping[str, type[Writer]] = {
    CSV: _CsvWriter,
    NDJSON: _LineWriter,
    NPY: _ArrayWriter,
    PARQUET: _ParquetWriter,
}


@dataclasses.dataclass(frozen=True)
class Rows:
    """Reconstructions or latents of a chunk.

    Attributes
    ----------
    name : str
        `reconstruction` or `latent`.
    values : ndarray, or list of rows that hold texts
    names : sequence of str, or None
        Names of the columns, if a sample is a row.
    """

    name: str
    values: np.ndarray | list[Any]
    names: Sequence[str] | None


def with_columns(where: Mapping[str, Sequence[Any]], answers: Mapping[str, Any]) -> dict[str, Any]:
    """Join both; raise `RequestError` if a kept column has the name of an answer."""
    both = sorted(where.keys() & answers.keys())
    if both:
        raise RequestError(f"the column {both[0]!r} cannot be kept, an answer has the same name: rename it")
    return {**where, **answers}


def _columns(answer: Any) -> dict[str, Any]:
    """Convert an answer to columns of a table; raise `RequestError` if it holds images or windows."""
    if isinstance(answer, Classes):
        return {"label": answer.label, **dict(zip(answer.classes, answer.probability.T, strict=True))}
    if isinstance(answer, Rows):
        if np.ndim(answer.values) != 2:
            raise RequestError("samples of more than one axis are written as .npy or .ndjson, not as a table")
        width = len(answer.values[0])
        names = answer.names or [f"{answer.name}_{number}" for number in range(width)]
        values = answer.values
        columns = list(zip(*values, strict=True)) if isinstance(values, list) else values.T
        return dict(zip(names, columns, strict=True))
    return _members(answer)


def _members(answer: Any) -> dict[str, Any]:
    """Convert an answer to members of an object for each sample."""
    if isinstance(answer, Classes):
        return {"label": answer.label, "probability": answer.probability}
    if isinstance(answer, Rows):
        return {answer.name: answer.values}
    members = {name: getattr(answer, name) for name in _DECISIONS}
    if not answer.scored.all():  # empty cells and null for a step without a score
        members = {name: answer.or_none(values) for name, values in members.items()}
    return members if answer.explanation is None else members | {"explanation": _explained(answer)}


def _explained(scores: Scores) -> list[list[dict[str, Any]]]:
    return [
        [{name: _cell(value) for name, value in vars(part).items()} for part in named]
        for named in cast(list[list[Contribution]], scores.explanation)
    ]


def _array(answer: Scores | Classes | Rows) -> np.ndarray:
    if isinstance(answer, Scores):
        return answer.score
    if isinstance(answer, Classes):
        return answer.probability
    if isinstance(answer.values, list):
        raise RequestError("rows that hold texts are written as .csv, .parquet or .ndjson, not as .npy")
    return answer.values


def _texts(column: Any) -> list[Any]:
    """Convert a column to CSV cells: numbers with all digits, missing values empty, lists as JSON."""
    return [
        json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | bool) else cell
        for cell in _plain(column)
    ]


def _plain(column: Any) -> list[Any]:
    """Convert a column to Python's own types."""
    if isinstance(column, np.ndarray) and column.dtype in (np.float32, np.float16):
        return _shortest(column)
    if isinstance(column, np.ndarray) and column.dtype != object:
        return list(column.tolist())
    return [_cell(cell) for cell in column]


def _shortest(array: np.ndarray) -> list[Any]:
    """Convert floats with as many digits as their type has: 0.1 and not 0.10000000149011612."""
    if array.ndim > 1:
        return [_shortest(row) for row in array]
    return list(array.astype(str).astype(np.float64).tolist())


def _cell(cell: Any) -> Any:
    if isinstance(cell, np.float32 | np.float16):
        return float(str(cell))
    if isinstance(cell, np.generic):
        return cell.item()
    return [_cell(part) for part in cell] if isinstance(cell, list | tuple) else cell

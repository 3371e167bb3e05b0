"""Read files in chunks of samples, so that a file of any size needs a bounded amount of memory."""

import csv
import dataclasses
import gzip
import io
import itertools
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self, cast

import numpy as np

from detector.columns import MOST_NAMES, clean_name, compare_columns, listed, spelled
from detector.delimited.cells import number_of, read_numbers
from detector.delimited.encodings import decode, encoding_of
from detector.delimited.layout import HEAD_BYTES, adapted, records
from detector.errors import InputError
from detector.reading import Reading
from detector.sources.array_names import SAMPLES, check_inflated, find_roles
from detector.sources.image_files import IMAGE_SUFFIXES, find_images
from residual_client.calls import ModelInfo
from residual_client.errors import RequestError

TEXT_TABLES = (".csv", ".tsv", ".txt", ".gz")
LINES = (".ndjson", ".jsonl")
READ = (*TEXT_TABLES, ".parquet", *LINES, ".npy", ".npz", *IMAGE_SUFFIXES)

CHUNK_VALUES = 2**20  # 8 MiB of float64
CHUNK_ROWS = 20_000  # of a narrow table, so that the progress bar moves
CHUNK_IMAGES = 256


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some samples of a file, in order.

    Attributes
    ----------
    samples : array, mapping of columns, list of rows, or list of Path
    first_row : int
        Number of samples before these.
    kept : mapping of str to sequence of str
        Columns to copy to the output, which are not features.
    places : sequence of str, or None
        The place of each sample, for errors: `line 7` of a text, the path of an image; None for its row.
    done : int
        How much of the input was read so far, in the unit of `Input.total`.
    is_named : bool
        Whether the kept columns identify the samples, so that the output needs no row numbers.
    """

    samples: Any
    first_row: int
    kept: Mapping[str, Sequence[Any]]
    places: Sequence[str] | None
    done: int
    is_named: bool = False

    def __len__(self) -> int:
        return len(next(iter(self.samples.values()))) if isinstance(self.samples, dict) else len(self.samples)


@dataclasses.dataclass(frozen=True)
class Input:
    """An input file, or images.

    Attributes
    ----------
    name : str
    total : int or None
        How much there is to read, in bytes or samples; None if unknown.
    unit : str
        `B` or `rows`.
    chunks : iterator of Chunk
    """

    name: str
    total: int | None
    unit: str
    chunks: Iterator[Chunk]


def open_input(
    paths: Sequence[str], model: ModelInfo, *, keep: Sequence[str] = (), array: str | None = None
) -> Input:
    """Open one file or folder, or several images, to be read in chunks of samples for a model.

    `keep` names columns of a table to copy to the output, which are not features; `array` one of an `.npz`.
    Raise `RequestError` if there is no such file, or its kind is not supported; the chunks raise it for
    faults in the file.
    """
    images = _images(paths)
    if images is not None:
        _refuse_options(keep, array, paths[0])
        return _image_input(images, paths, model)
    (path,) = map(Path, paths)
    suffix = path.suffix.lower()
    if suffix not in READ:
        raise RequestError(f"{path.name} must be one of {', '.join(READ)} or a folder, got {path.suffix!r}")
    readers: dict[str, Callable[[], Input]] = {
        **dict.fromkeys(TEXT_TABLES, lambda: _text_table(path, model, keep)),
        ".parquet": lambda: _parquet(path, model, keep),
        **dict.fromkeys(LINES, lambda: _lines(path, model, keep)),
        **dict.fromkeys((".npy", ".npz"), lambda: _array(path, model, array)),
    }
    _refuse_options(
        keep if suffix in (".npy", ".npz") else (), None if suffix == ".npz" else array, path.name
    )
    try:
        found = readers[suffix]()
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}") from error
    if model.kind == "sequence":
        return dataclasses.replace(found, chunks=_one_series(found.chunks, model))
    return found


def _refuse_options(keep: Sequence[str], array: str | None, name: str) -> None:
    if keep:
        raise RequestError(f"--keep is for columns of a table, got {name}")
    if array is not None:
        raise RequestError(f"--array is for .npz files, got {name}")


# --- images -----------------------------------------------------------------------------------------------


def _images(paths: Sequence[str]) -> list[Path] | None:
    """List the named images, or the images of a folder without its masks; None for other files."""
    if len(paths) == 1 and Path(paths[0]).is_dir():
        found = [Path(paths[0]) / path for path in find_images(Path(paths[0])).images]
        if not found:
            raise RequestError(f"{paths[0]} must hold images ({', '.join(IMAGE_SUFFIXES)}), got none")
        return found
    missing = next((path for path in paths if not Path(path).is_file()), None)
    if missing is not None:
        raise RequestError(f"there is no file {missing!r}")
    others = [path for path in paths if Path(path).suffix.lower() not in IMAGE_SUFFIXES]
    if others and len(paths) > 1:
        raise RequestError(f"several files must all be images ({', '.join(IMAGE_SUFFIXES)}), got {others[0]}")
    return None if others else [Path(path) for path in paths]


def _image_input(images: list[Path], paths: Sequence[str], model: ModelInfo) -> Input:
    if model.kind != "image":
        raise RequestError(f"images are for models of images, got one of kind {model.kind}")

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(images), CHUNK_IMAGES):
            some = images[start : start + CHUNK_IMAGES]
            names = [str(path) for path in some]
            yield Chunk(some, start, {"file": names}, names, start + len(some), is_named=True)

    return Input(paths[0] if len(paths) == 1 else "images", len(images), "rows", chunks())


# --- arrays -------------------------------------------------------------------------------------------------


def _array(path: Path, model: ModelInfo, name: str | None) -> Input:
    try:
        array = _read_npz(path, name) if path.suffix.lower() == ".npz" else np.load(path, mmap_mode="r")
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from error
    if array.ndim == 0:
        raise RequestError(f"{path.name} must hold an array of samples, got a single value")
    if len(array) == 0:
        raise RequestError(f"{path.name} holds no samples, its shape is {array.shape}")

    def chunks() -> Iterator[Chunk]:
        at_a_time = rows_at_a_time(array[0].size)
        if model.is_series(array):
            at_a_time = len(array)
        for start in range(0, len(array), at_a_time):
            some = np.asarray(array[start : start + at_a_time])
            yield Chunk(some, start, {}, None, start + len(some))

    return Input(path.name, len(array), "rows", chunks())


def _read_npz(path: Path, name: str | None) -> np.ndarray:
    """Read the array of that name, or else the samples by their usual names, or else the only array."""
    with np.load(path) as arrays:
        names = list(arrays)
        if name is not None and name not in names:
            raise RequestError(f"{path.name} has no array {name!r}, only {', '.join(names)}")
        samples = {split: known for (split, what), known in find_roles(names).items() if what == SAMPLES}
        found = name or samples.get(None) or next(iter(samples.values() if len(samples) == 1 else ()), None)
        if found is None and len(names) == 1:
            (found,) = names
        if found is None:
            raise RequestError(f"{path.name} has the arrays {', '.join(names)}: choose one with --array")
        try:
            check_inflated(path, [found])
        except InputError as error:
            raise RequestError(str(error)) from error
        array: np.ndarray = arrays[found]
        return array


def rows_at_a_time(n_values: int) -> int:
    """Return how many samples of `n_values` values each make a chunk."""
    return max(1, min(CHUNK_ROWS, CHUNK_VALUES // max(n_values, 1)))


# --- tables -------------------------------------------------------------------------------------------------


def _text_table(path: Path, model: ModelInfo, keep: Sequence[str]) -> Input:
    _require_names(path, model)
    with _opened(path) as file:
        head = file.read(HEAD_BYTES)
    encoding = encoding_of(head, model.reading.encoding)
    text = None if encoding is None else decode(head, encoding)
    if encoding is None or text is None:
        raise RequestError(f"{path.name}: the encoding of the text is not certain: save it as UTF-8")
    reading = adapted(model.reading, text.removeprefix("\ufeff"), model.feature_names or ())

    def chunks() -> Iterator[Chunk]:
        with _opened(path) as raw, io.TextIOWrapper(raw, encoding, newline="") as file:
            try:
                yield from _table_chunks(path.name, file, model, keep, reading)
            except UnicodeDecodeError as error:
                raise RequestError(f"{path.name} must be {encoding} text: {error.reason}") from error
            except (csv.Error, zlib.error, EOFError) as error:
                raise RequestError(f"{path.name} cannot be read: {error}") from error

    is_compressed = path.suffix.lower() == ".gz"
    return Input(path.name, None if is_compressed else path.stat().st_size, "B", chunks())


def _opened(path: Path) -> IO[bytes]:
    """Open a file, which may be compressed by gzip, for reading."""
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(path))
    return path.open("rb")


def _require_names(path: Path, model: ModelInfo) -> None:
    if model.feature_names is None:
        raise RequestError(f"{path.name}: a model of kind {model.kind} without feature names takes no table")


def _table_chunks(
    name: str, file: io.TextIOWrapper, model: ModelInfo, keep: Sequence[str], reading: Reading
) -> Iterator[Chunk]:
    lines = _Lines(file)
    for _ in range(reading.skip_rows):
        next(lines, None)
    parsed = records(lines, reading.delimiter or ",")
    header = next((cells for cells in parsed if cells), None)
    if header is None:
        raise RequestError(f"{name} is empty")
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|,"):
        raise RequestError(
            f"{name} must have columns separated by commas, got the one column {header[0][:80]!r}"
        )
    rows = _numbered(parsed, lines)
    if not reading.header:
        rows = itertools.chain([(1, header)], rows)
        header = [f"x{position}" for position in range(len(header))]
    header = spelled([clean_name(column) for column in header], (*(model.feature_names or ()), *keep))
    names, positions = _features(name, header, model, keep)
    measured = [at for column, at in zip(names, positions, strict=True) if column not in model.text_columns]
    rows = _without_units(rows, measured, reading)
    first_row = 0
    while some := list(itertools.islice(rows, rows_at_a_time(len(header)))):
        for line, row in some:
            if len(row) != len(header):
                raise RequestError(f"{name}, line {line}: must have {len(header)} columns, got {len(row)}")
        columns = list(zip(*(row for _, row in some), strict=True))
        samples = {  # cells that are not numbers stay, and are refused when scored
            column: np.array(columns[position], dtype=object)
            if column in model.text_columns
            else read_numbers(columns[position], reading)
            for column, position in zip(names, positions, strict=True)
        }
        kept = {column: columns[header.index(column)] for column in keep}
        places = [f"line {line}" for line, _ in some]
        yield Chunk(samples, first_row, kept, places, lines.done)
        first_row += len(some)
    if not first_row:
        raise RequestError(f"{name} has no rows, only the columns {listed(header)}")


class _Lines:
    """The lines of a text, counted.

    Attributes
    ----------
    count : int
        Lines that were taken.
    """

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self.count = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self.count += 1
        return line.removeprefix("\ufeff") if self.count == 1 else line

    @property
    def done(self) -> int:
        """Bytes of the file that were read."""
        return cast(IO[bytes], self._file.buffer).tell()


def _numbered(parsed: Iterable[list[str]], lines: _Lines) -> Iterator[tuple[int, list[str]]]:
    """Number each row by the line where it begins; leave blank lines out."""
    begin = lines.count + 1
    for row in parsed:
        if row:
            yield begin, row
        begin = lines.count + 1


def _without_units(
    rows: Iterator[tuple[int, list[str]]], measured: Sequence[int], reading: Reading
) -> Iterator[tuple[int, list[str]]]:
    """Leave out the rows below the header that hold units, as the data of the model had them."""
    for line, row in itertools.islice(rows, reading.unit_rows):
        cells = [row[position] for position in measured if position < len(row)]
        if any(number_of(cell, reading) is not None for cell in cells):
            yield line, row
    yield from rows


def _features(
    name: str, found: Sequence[str], model: ModelInfo, keep: Sequence[str]
) -> tuple[list[str], list[int]]:
    """Find the columns that are features and their positions; the column of a saved index has no name."""
    faults = compare_columns(found, keep)
    if faults.repeated:
        raise RequestError(f"{name}: column names must differ, got {faults.repeated[0]!r} more than once")
    if faults.missing:
        raise RequestError(f"{name} has no column {faults.missing[0]!r} to keep, only {listed(found)}")
    present = set(found) - set(keep)
    left_out = ({"", *model.reading.ignored} & present) - set(model.feature_names or ())
    features = [column for column in found if column in present - left_out]
    faults = compare_columns(features, model.feature_names or ())
    if faults.missing:
        is_data = all(number_of(cell, Reading()) is not None for cell in found)
        hint = "; the first line must name the columns" if is_data else ""
        raise RequestError(f"{name} lacks the column {listed(faults.missing)} of the model's features{hint}")
    if faults.unknown:
        raise RequestError(
            f"{name} has the column {listed(faults.unknown)}, which is not a feature of the model: "
            f"copy it to the output with --keep {','.join(faults.unknown[:MOST_NAMES])}"
        )
    return features, [found.index(column) for column in features]


def _parquet(path: Path, model: ModelInfo, keep: Sequence[str]) -> Input:
    _require_names(path, model)
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise RequestError(
            f"{path.name}: Parquet needs pyarrow, which is not installed: pip install pyarrow"
        ) from error
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pa.ArrowException as error:
        raise RequestError(f"{path.name} cannot be read: {' '.join(str(error).split())}") from error
    found = [name for name in file.schema_arrow.names if not re.fullmatch(r"__index_level_\d+__", name)]
    shown = spelled(map(clean_name, found), (*(model.feature_names or ()), *keep))
    in_file = dict(zip(shown, found, strict=True))
    names, _ = _features(path.name, shown, model, keep)

    def chunks() -> Iterator[Chunk]:
        first_row = 0
        columns = [in_file[name] for name in (*names, *keep)]
        for batch in file.iter_batches(rows_at_a_time(len(found)), columns=columns):
            samples = {name: _column_of_arrow(batch.column(in_file[name])) for name in names}
            kept = {name: batch.column(in_file[name]).to_pylist() for name in keep}
            yield Chunk(samples, first_row, kept, None, first_row + len(batch))
            first_row += len(batch)
        if not first_row:
            raise RequestError(f"{path.name} has no rows, only the columns {listed(found)}")

    return Input(path.name, file.metadata.num_rows, "rows", chunks())


def _column_of_arrow(column: Any) -> np.ndarray:
    """Convert a column to an array: of numbers, or of objects for texts and integers with missing values."""
    kind = str(column.type)
    if kind.startswith("decimal"):
        column, kind = column.cast("double"), "double"
    if kind in ("halffloat", "float", "double") or (
        kind.lstrip("u").startswith("int") and not column.null_count
    ):
        numbers: np.ndarray = column.to_numpy(zero_copy_only=False)
        return numbers
    return np.array(column.to_pylist(), dtype=object)


# --- lines of JSON ------------------------------------------------------------------------------------------


def _lines(path: Path, model: ModelInfo, keep: Sequence[str]) -> Input:
    def chunks() -> Iterator[Chunk]:
        with path.open("rb") as file:
            first_row, at_a_time = 0, rows_at_a_time(int(np.prod(model.sample_shape)))
            numbered = ((number, line) for number, line in enumerate(file, 1) if line.strip())
            while some := list(itertools.islice(numbered, at_a_time)):
                rows = [_parse_line(path.name, number, line) for number, line in some]
                kept = {
                    name: [_taken(path.name, *pair, name) for pair in zip(some, rows, strict=True)]
                    for name in keep
                }
                places = [f"line {number}" for number, _ in some]
                samples = _rows_of_lines(path.name, rows, places, model)
                yield Chunk(samples, first_row, kept, places, file.tell())
                first_row += len(rows)
            if not first_row:
                raise RequestError(f"{path.name} is empty")

    return Input(path.name, path.stat().st_size, "B", chunks())


def _parse_line(name: str, number: int, line: bytes) -> Any:
    try:
        return json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{name}, line {number}: must be JSON: {error}") from error


def _refuse_constant(text: str) -> None:
    raise ValueError(f"JSON has no {text}")


def _taken(name: str, numbered: tuple[int, bytes], row: Any, column: str) -> Any:
    """Remove and return a member that is not a feature."""
    if not isinstance(row, dict) or column not in row:
        raise RequestError(f"{name}, line {numbered[0]}: has no member {column!r} to keep")
    return row.pop(column)


def _rows_of_lines(name: str, rows: list[Any], places: Sequence[str], model: ModelInfo) -> Any:
    """Convert objects to columns; arrays stay as they are."""
    objects = [isinstance(row, dict) for row in rows]
    if not any(objects):
        return _even(name, rows, places)
    if not all(objects):
        raise RequestError(f"{name}, {places[objects.index(False)]}: must be an object like the other lines")
    if model.feature_names is None:
        raise RequestError(
            f"{name}: a model of kind {model.kind} without feature names takes arrays, not objects"
        )
    for row, place in zip(rows, places, strict=True):
        if row.keys() != set(model.feature_names):
            _features(f"{name}, {place}", list(row), model, ())
    columns = {}
    for column in model.feature_names:
        cells = [row[column] for row in rows]
        plain = column not in model.text_columns and all(type(cell) in (int, float) for cell in cells)
        columns[column] = np.array(cells, dtype=np.float64 if plain else object)
    return columns


def _even(name: str, rows: list[Any], places: Sequence[str]) -> list[Any]:
    """Return rows if they all have one shape."""
    try:
        np.asarray(rows)
    except ValueError as error:
        shapes = [_shape(row) for row in rows]
        other = next(position for position, shape in enumerate(shapes) if shape != shapes[0] or shape is None)
        raise RequestError(
            f"{name}, {places[other]}: must be an array of the same shape as the lines before"
        ) from error
    return rows


def _shape(row: Any) -> tuple[int, ...] | None:
    try:
        return np.asarray(row).shape
    except ValueError:
        return None


# --- series -------------------------------------------------------------------------------------------------


def _one_series(chunks: Iterator[Chunk], model: ModelInfo) -> Iterator[Chunk]:
    """Join the chunks of a series to one, since it must not be cut; chunks of windows stay as they are."""
    for chunk in chunks:
        whole = isinstance(chunk.samples, dict) or model.is_series(chunk.samples)
        yield _joined([chunk, *chunks]) if whole else chunk


def _joined(chunks: Sequence[Chunk]) -> Chunk:
    first, last = chunks[0], chunks[-1]
    if len(chunks) == 1:
        return first
    if isinstance(first.samples, dict):
        samples: Any = {
            name: np.concatenate([chunk.samples[name] for chunk in chunks]) for name in first.samples
        }
    else:
        samples = np.concatenate([chunk.samples for chunk in chunks])
    kept = {name: [cell for chunk in chunks for cell in chunk.kept[name]] for name in first.kept}
    places = None if first.places is None else [place for chunk in chunks for place in chunk.places or ()]
    return Chunk(samples, 0, kept, places, last.done)

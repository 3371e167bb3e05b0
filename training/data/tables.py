"""Read a table as columns of numbers and labels, or refuse it in one sentence."""

import dataclasses
import decimal
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detector.columns import clean_name, compare_columns, listed, repeated_names, spelled
from detector.delimited.cells import number_of
from detector.manifest import Categories
from detector.reading import Reading
from detector.schema import MISSING_RULES_OF
from training.data.categories import Cells, is_measured, may_be_category, read_categories
from training.data.summaries import (
    ENTITY,
    LABEL,
    LEFT_OUT,
    TIME,
    ColumnSummary,
    summarise,
    summarise_texts,
)
from training.data.tabular.judging import left_out, quoted
from training.data.tabular.judging import notes as judging_notes
from training.data.tabular.options import TableOptions
from training.data.tabular.sources import Source, is_text_type, read_source
from training.data.times import Times, read_times
from training.errors import DataError
from training.flags import names

_NO_LABEL = ("", "nan")  # texts of a missing label
IGNORED = "by --ignore"
FIRST_CELLS = 100  # of a column, to tell whether they are times
_DATE = re.compile(
    r"\d{1,4}[-/. ]\w{1,9}[-/. ]+\d{1,4}\b|[A-Za-z]{3,9}[-/. ]\d{1,2}[-/., ]+\d{4}\b|\d{4} ?[A-Z]\w{1,8}$"
)
MOST_MARKS, MOST_MARK_CHARACTERS = 3, 12  # of texts that may mean a missing cell


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns of one file.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_columns), float64
        Finite, or NaN for a missing value if values may be missing; categories as numbers.
    columns : tuple of str
    labels : ndarray of shape (n_rows,), str, or None
    times : Times, or None
    entities : ndarray of shape (n_rows,), str, or None
    notes : tuple of str
        Assumptions, a sentence each.
    categories : mapping of str to tuple, or None
        Values of each column that is a category.
    other_columns : tuple of ColumnSummary
        The columns that are no features.
    reading : Reading
        How the files were read.
    source : Source
        The columns as they are in the files, and the places of the rows.
    """

    values: np.ndarray
    columns: tuple[str, ...]
    labels: np.ndarray | None
    reading: Reading
    source: Source
    times: Times | None = None
    entities: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    categories: Categories | None = None
    other_columns: tuple[ColumnSummary, ...] = ()


def read_table(
    data: str | Path,
    columns: Sequence[str] | None = None,
    label_column: str | None = None,
    *,
    time_column: str | None = None,
    entity_column: str | None = None,
    is_series: bool = False,
    cells: Cells | None = None,
    reading: Reading | None = None,
    options: TableOptions | None = None,
) -> Table:
    """Read a table whose columns, or the chosen ones, are numbers or categories.

    Parameters
    ----------
    data : str or Path
        A file of one of `TABLE_SUFFIXES`, a folder of CSV files, or a pattern for such files.
    columns : sequence of str, optional
        Features, in this order; by default all columns but those named below and those that are certainly
        none, see `training.data.tabular.judging.left_out`.
    label_column : str, optional
    time_column : str, optional
        Times, see `training.data.times.read_times`; `date,time` names two columns.
    entity_column : str, optional
        The series that each row belongs to; if not given, each of several files is one.
    is_series : bool
        Whether the rows are steps of a series.
    cells : Cells, optional
        Missing values and categories that rows may hold; not given for a series without missing values.
    reading : Reading, optional
        How the files are written, as far as it is known.
    options : TableOptions, optional

    Raises
    ------
    DataError
        If a file cannot be read or has no rows; a column is absent, holds text that is no category, an
        infinite value, or a missing value that is not allowed; or a label, time or entity is missing.
    """
    options = options or TableOptions()
    source = read_source(str(data), reading, options, columns or ())
    columns = None if columns is None else spelled(columns, source.columns)
    label_column, entity_column = (name and clean_name(name) for name in (label_column, entity_column))
    times = () if time_column is None else tuple(map(clean_name, names(time_column)))
    special = [name for name in (label_column, *times, entity_column) if name is not None]
    _refuse_absent(source, columns, special, options.ignore)
    dropped = dict.fromkeys(map(clean_name, options.ignore), IGNORED)
    others = {*special, *dropped}
    typed = {name: source.column(name) for name in columns or source.columns if name not in others}
    if columns is None:
        named = cells.categorical if cells else ()
        found = {name: why for name, why in left_out(typed, source.n_rows).items() if name not in named}
        dropped |= found if len(found) < len(typed) else {}  # a single column that rises is a feature
    features = {name: typed[name] for name in typed if name not in dropped}
    if columns is None:
        _refuse_nameless(source, features)
    if not features:
        raise DataError(f"{source.name} has no feature column")
    if cells is not None:
        cells.refuse_names(list(features))
        features |= {name: source.texts(name) for name in cells.texts_of() if name in features}
    _refuse_text(source, features, cells)
    values, categories = [], {}
    for name, column in features.items():
        if cells is not None and name in cells.categorical:
            numbers, categories[name] = read_categories(column, name, source.name, cells)
            _refuse_gaps(np.isnan(numbers), name, source, cells)
        else:
            numbers = _numbers(column, name, source, cells)
            _refuse_swallowed(numbers, name, source)
        values.append(numbers)
    labels = _labels(source, label_column) if label_column is not None else None
    entities = _entities(source, entity_column, is_series=is_series)
    left = [_left_out(source, name, reason) for name, reason in dropped.items()]
    ignored = tuple(name for name in source.columns if name not in features)
    return Table(
        values=np.column_stack(values),
        columns=tuple(features),
        labels=labels,
        times=_times(source, times) if times else None,
        entities=entities,
        other_columns=(*_special_columns(label_column, labels, times, entity_column, entities), *left),
        notes=(*source.notes, *_notes(source, features, dropped, columns, is_series=is_series)),
        categories=categories or None,
        reading=dataclasses.replace(source.reading, ignored=ignored),
        source=source,
    )


def _refuse_absent(
    source: Source, columns: Sequence[str] | None, special: Sequence[str], ignore: Sequence[str]
) -> None:
    """Refuse names that no column has, names given twice or for two things, and a table without rows."""
    repeated = repeated_names(columns or ())
    if repeated:
        raise DataError(f"--columns must differ, got {listed(repeated)} more than once")
    ignore = list(map(clean_name, ignore))
    missing = compare_columns(list(source.columns), [*(columns or ()), *special, *ignore]).missing
    if missing:
        raise DataError(f"{source.name} has no column {missing[0]!r}, only {listed(source.columns)}")
    for name in special:
        if name in (columns or ()):
            raise DataError(f"column {name!r} cannot be a feature and the label, time or entity")
    for name in ignore:
        if name in (columns or ()) or name in special:
            raise DataError(f"--ignore names column {name!r}, which another option names as well")
    if source.n_rows == 0:
        raise DataError(f"{source.name} has no rows, only the columns {listed(source.columns)}")


def _refuse_nameless(source: Source, features: Mapping[str, pa.ChunkedArray]) -> None:
    """Refuse measurements without a name, which may be an index as well."""
    if "" in features and is_measured(features[""].type):
        place, n_columns = list(source.columns).index(""), len(source.columns)
        raise DataError(
            f"{source.name}: column {place + 1} of {n_columns} has no name and holds numbers: name it in the "
            "header, or leave it out with --ignore ''"
        )


def _special_columns(
    label_column: str | None,
    labels: np.ndarray | None,
    times: Sequence[str],
    entity_column: str | None,
    entities: np.ndarray | None,
) -> Iterator[ColumnSummary]:
    if label_column is not None and labels is not None:
        yield summarise_texts(label_column, labels, LABEL)
    if entities is not None:
        yield summarise_texts(entity_column or "file", entities, ENTITY)
    for name in times:
        yield ColumnSummary(name, TIME)


def _left_out(source: Source, name: str, reason: str) -> ColumnSummary:
    column = source.column(name)
    if not is_measured(column.type):
        return ColumnSummary(name, LEFT_OUT, reason, n_rows=source.n_rows, n_missing=column.null_count)
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return summarise(name, values, LEFT_OUT, reason)


def _notes(
    source: Source,
    features: Mapping[str, pa.ChunkedArray],
    dropped: Mapping[str, str],
    columns: Sequence[str] | None,
    *,
    is_series: bool,
) -> Iterator[str]:
    """Say which columns are assumed to be features, if nobody chose them."""
    if columns is not None:
        return
    for reason in dict.fromkeys(dropped.values()):
        left = [name for name, other in dropped.items() if other == reason]
        if reason != IGNORED:
            yield f"{source.name}: column {listed(left)} is {reason} and was left out"
    yield from judging_notes(features, source.name, is_series=is_series)


# --- texts --------------------------------------------------------------------------------------------------


def _refuse_text(source: Source, features: Mapping[str, pa.ChunkedArray], cells: Cells | None) -> None:
    """Refuse all columns that hold neither numbers nor categories, in one sentence with a way out."""
    categorical = cells.categorical if cells else ()
    texts = {
        name: column
        for name, column in features.items()
        if name not in categorical and not is_measured(column.type) and not pa.types.is_null(column.type)
    }
    if not texts:
        return  # empty columns are refused for their missing values
    for name, column in texts.items():
        _refuse_odd_cells(source, name, column)
    named = next(iter(texts))
    row, cell = next((row, cell) for row, cell in enumerate(texts[named].to_pylist()) if cell is not None)
    hints, rest = ["name the label with --label-column"], dict(texts)
    timely = [name for name, column in texts.items() if _is_timely(column)]
    if timely:
        hints.append(f"for a series give --kind sequence --time-column {quoted(timely[:1])}")
        rest = {name: column for name, column in rest.items() if name not in timely}
    few = [name for name, column in rest.items() if may_be_category(column)]
    if cells is not None and cells.missing in MISSING_RULES_OF["vector"] and few:
        hints.append(f"for columns that are categories give --categorical {quoted([*categorical, *few])}")
    may_miss = cells is None or cells.may_miss
    if not may_miss and any(column.null_count for column in features.values()):
        hints.append("for missing cells, which there are, add --missing median")
    hints.append(f"leave columns that are no features out with --ignore {quoted(list(texts))}")
    raise DataError(
        f"{source.name}: columns must hold numbers, got {listed(texts)}, {named!r} for example "
        f"{str(cell)[:40]!r} in {source.row_words(row)}; {'; '.join(hints)}"
    )


def _is_timely(column: pa.ChunkedArray) -> bool:
    """Whether the first cells of a column are times or look like some."""
    cells = column.drop_null().slice(0, FIRST_CELLS)
    try:
        read_times([cells], "the column", str, Reading())
    except DataError:
        return is_text_type(cells.type) and all(map(_DATE.match, cells.to_pylist()))
    return True


def _refuse_odd_cells(source: Source, name: str, column: pa.ChunkedArray) -> None:
    """Refuse a column of numbers, a few cells of which are none."""
    if not is_text_type(column.type):
        return
    filled = [(row, cell) for row, cell in enumerate(column.to_pylist()) if cell is not None]
    odd = [(row, cell) for row, cell in filled if number_of(cell, source.reading) is None]
    if len(odd) * 2 > len(filled):
        return
    row, cell = odd[0]
    different = list(dict.fromkeys(cell for _, cell in odd))
    n_odd = f"{len(odd)} of {len(column)} cells {'are' if len(odd) > 1 else 'is'} no number"
    raise DataError(
        f"{source.name}: in column {name!r} {n_odd + 's' * (len(odd) > 1)}, {cell[:40]!r} in "
        f"{source.row_words(row)}{_odd_hint(source, name, row, different)}"
    )


def _odd_hint(source: Source, name: str, row: int, different: Sequence[str]) -> str:
    if different == [name]:
        return "; the row repeats the header: remove it"
    if row == source.n_rows - 1 and len(different) == 1:
        return "; if the last row is no data, remove it"
    marks = [mark for mark in ".,' \u00a0" if all(mark in cell for cell in different)]
    if marks and any(any(map(str.isdigit, cell)) for cell in different):
        return "; name the marks of numbers with --decimal and --thousands"
    if len(different) <= MOST_MARKS and all(len(cell) <= MOST_MARK_CHARACTERS for cell in different):
        return f"; if they are missing give --missing-values {quoted(different)}"
    return f"; correct them, or leave the column out with --ignore {quoted([name])}"


# --- numbers, labels, times ---------------------------------------------------------------------------------


def label_texts(values: np.ndarray) -> np.ndarray:
    """Write labels as text, so that 3, 3.0 and "3" are the same label; booleans are 0 and 1."""
    values = np.asarray(values).ravel()
    if values.dtype.kind == "b":
        values = values.astype(np.int64)
    if values.dtype.kind == "f" and (values == np.rint(values)).all() and (np.abs(values) < 2**63).all():
        values = values.astype(np.int64)
    return values.astype(str)


def missing_labels(texts: np.ndarray) -> np.ndarray:
    """Return the positions of missing labels: their samples are neither normal nor anomalous."""
    return np.flatnonzero(np.isin(texts, _NO_LABEL))


def _numbers(column: pa.ChunkedArray, name: str, source: Source, cells: Cells | None = None) -> np.ndarray:
    absent = column.is_null().to_numpy()
    # The cast may round: values become float32 in the end, so identifiers lose digits anyway.
    values = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if cells is not None:
        absent = absent | np.isnan(values)
    _refuse_gaps(absent, name, source, cells)
    faulty = np.flatnonzero(~np.isfinite(values) & ~absent)
    if faulty.size:
        raise DataError(
            f"{source.name}: column {name!r} must be finite, got {values[faulty[0]]} in "
            f"{source.row_words(faulty[0])}"
        )
    return values


def _refuse_swallowed(values: np.ndarray, name: str, source: Source) -> None:
    """Refuse different numbers that are one number in the float32 of a graph."""
    known = values[~np.isnan(values)].astype(np.float32)
    if known.size < 2 or known.min() != known.max():
        return
    column = source.texts(name).drop_null() if source.is_text else source.columns[name].drop_null()
    least, most = column[0].as_py(), None
    for value in column.unique().to_pylist():
        if _exact(value, source.reading) != _exact(least, source.reading):
            most = value
            break
    if most is not None:
        raise DataError(
            f"{source.name}: column {name!r} holds different numbers, {least} and {most}, that are one in "
            f"float32: leave it out with --ignore {quoted([name])}, or subtract an offset"
        )


def _exact(value: object, reading: Reading) -> decimal.Decimal:
    """Return a number as it is written."""
    text = str(value).replace(reading.thousands or "\0", "").replace(reading.decimal, ".")
    return decimal.Decimal(text)


def _refuse_gaps(absent: np.ndarray, name: str, source: Source, cells: Cells | None) -> None:
    """Refuse missing values, unless they are allowed."""
    missing = np.flatnonzero(absent)
    if missing.size and not (cells is not None and cells.may_miss):
        option = "give --missing gaps, " if cells is None else "give --missing median, "
        raise DataError(
            f"{source.name}: column {name!r} has {missing.size} missing value{'s' * (missing.size > 1)}, "
            f"the first in {source.row_words(missing[0])}; {option}fill them, remove their rows, or name the "
            "other columns with --columns"
        )


def _times(source: Source, columns: Sequence[str]) -> Times:
    texts = [source.texts(name) for name in columns]
    for name, column in zip(columns, texts, strict=True):
        missing = np.flatnonzero(column.is_null().to_numpy())
        if missing.size:
            raise DataError(f"{source.name}: time column {name!r} is empty in {source.row_words(missing[0])}")
    return read_times(
        texts, f"{source.name}: time column {listed(columns)}", source.row_words, source.reading
    )


def _labels(source: Source, name: str) -> np.ndarray:
    """Return labels as texts; numbers with zeros in front stay as they are written."""
    column = source.column(name)
    if is_measured(column.type) and source.is_text:
        texts = source.texts(name)
        if pc.any(pc.match_substring_regex(texts, "^[+-]?0[0-9]")).as_py():
            column = texts
    return _texts(source, column, f"label column {name!r}")


def _entities(source: Source, name: str | None, *, is_series: bool) -> np.ndarray | None:
    if name is not None:
        return _texts(source, source.texts(name), f"column {name!r}")
    return source.files() if is_series and len(source.places) > 1 else None


def _texts(source: Source, column: pa.ChunkedArray, what: str) -> np.ndarray:
    if pa.types.is_binary(column.type):
        try:
            column = column.cast(pa.string())
        except pa.ArrowInvalid as error:
            raise DataError(f"{source.name}: {what} must be UTF-8 text") from error
    texts = label_texts(column.to_numpy())
    missing = np.union1d(np.flatnonzero(column.is_null().to_numpy()), missing_labels(texts))
    if missing.size:
        raise DataError(f"{source.name}: {what} is empty in {source.row_words(missing[0])}")
    return texts

"""Load a file, a folder of images or a built-in data set as a `Dataset`."""

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.columns import clean_name, listed
from detector.delimited.cells import number_of
from detector.manifest import Categories
from detector.reading import Reading
from detector.schema import INTERPOLATED, KINDS, LEFT_OUT, MISSING_AS_MEDIAN, REFUSED
from training.data.arrays import ARRAY_SUFFIXES, read_arrays
from training.data.built_in import BUILT_IN
from training.data.categories import Cells, numeric_categories
from training.data.dataset import UNLABELLED, Dataset, RawData
from training.data.image_folders import read_image_folder
from training.data.kinds import as_kind, assumed_range, check_kind, check_range, choose_kind
from training.data.series import Timeline, time_text
from training.data.summaries import ColumnSummary, summarise_features
from training.data.tables import Table, label_texts, read_table
from training.data.tabular.options import TableOptions
from training.data.tabular.sources import TABLE_SUFFIXES, table_files
from training.data.tabular.ts_files import read_ts
from training.data.times import order_times, why_back
from training.errors import DataError

MOST_LABELS = 12  # named in a sentence
NORMAL, ANOMALY = "0", "1"


def load_dataset(
    data: str,
    *,
    kinds: Sequence[str] = KINDS,
    columns: Sequence[str] | None = None,
    label_column: str | None = None,
    normal_label: str | None = None,
    value_range: tuple[float, float] | None = None,
    time_column: str | None = None,
    entity_column: str | None = None,
    cells: Cells | None = None,
    reading: Reading | None = None,
    pixel_shape: tuple[int, ...] | None = None,
    options: TableOptions | None = None,
) -> Dataset:
    """Load a file, a folder of images or a built-in data set.

    If kind `sequence` is wanted and `vector` is not, a table or an `.npy` of one or two dimensions is a
    series: its samples are steps, and it has a timeline.

    Parameters
    ----------
    data : str
        A path to a table (see `training.data.tables.read_table`), `.npy`, `.npz` or a folder of images, or
        one of `BUILT_IN`.
    kinds : sequence of str
        Kinds that the samples may have, the preferred kind first. The data's own kind is taken if it is among
        them: two-dimensional data is `vector`, 8-bit three- or four-dimensional data is `image`. Otherwise
        the first kind is: images and windows can be taken as rows, images as windows of their rows.
    columns, label_column : optional
        Columns of a table: features and label.
    normal_label : str, optional
        Samples with this label are normal, all others anomalies. If not given, labels 0 and 1 mean normal and
        anomaly; with any other labels every sample counts as normal.
    value_range : tuple of float, optional
        Raw values of black and white. If not given, 0 and 255 for 8-bit images; for others the lowest and the
        highest value of the samples that are not held out, with a note.
    time_column, entity_column : optional
        Columns of a table that is a series; `date,time` names two columns.
    cells : Cells, optional
        Missing values and categories that rows may hold.
    reading : Reading, optional
        How the source is written, as far as it is known, or to be read.
    pixel_shape : tuple of int, optional
        Shape of the images of a folder, (height, width) or (height, width, 3), that a model takes.
    options : TableOptions, optional
        Of a table.

    Raises
    ------
    DataError
        If the data cannot be read or trained on as they are.
    """
    is_series = "sequence" in kinds and "vector" not in kinds
    given, reading = cells or Cells(), reading or Reading()
    # Without a rule, missing values are read as if they were allowed; whether there are any is seen below.
    allowing = LEFT_OUT if is_series else MISSING_AS_MEDIAN
    cells = dataclasses.replace(given, missing=given.missing or allowing)
    table_options = {"columns": columns, "label_column": label_column}
    series_options = {"time_column": time_column, "entity_column": entity_column}
    table_options |= {"reading": reading, "options": options or TableOptions()}
    source = _read(data, is_series, table_options, series_options, cells, pixel_shape)
    is_rows_or_steps = source.timeline is not None or source.samples.ndim == 2
    if not is_rows_or_steps and (given.missing is None or cells.missing in (LEFT_OUT, INTERPOLATED)):
        cells = dataclasses.replace(cells, missing=REFUSED)  # windows and images hold every value
    labels = None if source.labels is None else label_texts(source.labels)
    samples = _as_float32(source.samples, Path(data).name, cells, is_series=is_series)
    samples, kind, value_range, form_notes = _take_as(samples, source, kinds, value_range)
    normal_label = normal_label or source.normal_label
    is_anomaly, label_notes = _anomalies(labels, len(samples), normal_label)
    if labels is not None:
        labels = np.where(labels == UNLABELLED, normal_label or _unlabelled(labels), labels)
    names = source.feature_names
    if names is None and kind != "image":
        names = tuple(f"x{column}" for column in range(samples.shape[-1]))
    cells.check_kind(kind)
    timeline, missing_notes = source.timeline, ()
    if timeline is not None:
        samples, timeline, missing_notes = timeline.with_missing(samples, names, reading.max_gap)
    elif given.missing is None and cells.missing == MISSING_AS_MEDIAN:
        missing_notes = _missing_notes(samples)
    missing = cells.missing if given.missing or missing_notes else REFUSED
    categories = source.categories or cells.known
    if categories is None:
        categories = _numeric_categories(samples, names or (), Path(data).name, cells)
    return Dataset(
        samples=samples,
        is_anomaly=is_anomaly,
        labels=labels,
        held_out=np.arange(len(samples)) >= len(samples) - source.n_held_out,
        kind=kind,
        value_range=value_range,
        feature_names=names,
        source=Path(data).name,
        normal_label=normal_label,
        provenance=source.provenance,
        notes=(*source.notes, *form_notes, *missing_notes),
        label_notes=label_notes,
        timeline=timeline,
        missing=missing,
        categories=categories or None,
        unknown_category=cells.unknown if categories else None,
        reading=source.reading,
        columns=(*_feature_columns(source, names, kind, categories), *source.other_columns),
        masks=source.masks,
        files=source.files,
    )


def _missing_notes(rows: np.ndarray) -> tuple[str, ...]:
    """Count the missing values of rows that are read by the default rule; empty if there are none."""
    n_missing = 0 if rows.dtype == np.uint8 else int(np.isnan(rows).sum())
    if not n_missing:
        return ()
    return (
        f"{n_missing} missing value{'s' * (n_missing > 1)}: replaced by the median or most frequent "
        "category, in training and serving, and the network is told; --missing refuse forbids them",
    )


def _numeric_categories(
    rows: np.ndarray, names: Sequence[str], source: str, cells: Cells
) -> dict[str, tuple[float, ...]]:
    """Find the categories of an array, which holds them as numbers."""
    cells.refuse_names(names)
    return {name: numeric_categories(rows[:, names.index(name)], name, source) for name in cells.categorical}


def _feature_columns(
    source: RawData, names: Sequence[str] | None, kind: str, categories: Categories
) -> tuple[ColumnSummary, ...]:
    """Summarise the features in the numbers of the source, which float32 may not tell apart."""
    if kind == "image" or names is None:
        return ()
    return summarise_features(source.samples.reshape(-1, len(names)), names, categories)


def _read(
    data: str,
    is_series: bool,
    table_options: Mapping[str, Any],
    series_options: Mapping[str, str | None],
    cells: Cells,
    pixel_shape: tuple[int, ...] | None,
) -> RawData:
    """Read data by their type; refuse options for other types."""
    path, suffix = Path(data), Path(data).suffix.lower()
    files = table_files(data)
    is_table = bool(files) and all(file.is_file() for file in files)
    options = table_options["options"]
    is_asked = table_options["columns"] or table_options["label_column"] or options.ignore or options.shape
    if is_asked and not is_table:
        raise DataError(
            "--columns, --label-column, --ignore and --shape are only for tables "
            f"({', '.join(TABLE_SUFFIXES)}), got {data}"
        )
    if any(value is not None for value in series_options.values()) and not (is_series and is_table):
        raise DataError(
            "--time-column and --entity-column are only for a series in a table: also give --kind sequence"
        )
    reading = table_options["reading"]
    if reading.resize is not None and (is_table or not path.is_dir()):
        raise DataError(f"--resize is only for a folder of images, got {data}")
    if is_series and is_table:
        cells.check_kind("sequence")
        allowed = cells if cells.may_miss else None
        table = read_table(data, **table_options, **series_options, is_series=True, cells=allowed)
        return _series_of_table(table, **series_options)
    if is_table:
        cells.check_kind("vector")
        table = read_table(data, **table_options, cells=cells)
        return _rows_of_table(table) if options.shape is None else _images_of_table(table, options.shape)
    if path.is_dir():
        return read_image_folder(path, pixel_shape, reading.resize)
    if path.is_file() and suffix == ".ts":
        return read_ts(path)
    if path.is_file() and suffix in ARRAY_SUFFIXES:
        return dataclasses.replace(read_arrays(path, is_series=is_series), reading=reading)
    if path.is_file():
        known = ", ".join((*TABLE_SUFFIXES, ".ts", *ARRAY_SUFFIXES))
        raise DataError(f"{path.name} must be one of {known} or a folder of images, got {path.suffix!r}")
    if data in BUILT_IN:
        return BUILT_IN[data]()
    raise DataError(
        f"data must be a file, a folder or one of {', '.join(BUILT_IN)}, got {data!r}: no such file"
    )


def _images_of_table(table: Table, shape: tuple[int, ...]) -> RawData:
    """Take each row as the pixels of an image, 8-bit ones if all are whole and from 0 to 255."""
    values, n_pixels = table.values, math.prod(shape)
    if values.shape[1] != n_pixels:
        raise DataError(
            f"{table.source.name}: --shape {','.join(map(str, shape))} needs {n_pixels} columns of pixels, "
            f"got {values.shape[1]}; leave others out with --ignore, or name the label with --label-column"
        )
    is_8_bit = bool(((values >= 0) & (values <= 255) & (values == np.rint(values))).all())
    images = values.reshape(len(values), *shape).astype(np.uint8 if is_8_bit else np.float64)
    return RawData(images, table.labels, notes=table.source.notes, reading=table.reading)


def _rows_of_table(table: Table) -> RawData:
    return RawData(
        table.values,
        table.labels,
        feature_names=table.columns,
        notes=table.notes,
        categories=table.categories,
        other_columns=table.other_columns,
        reading=table.reading,
    )


def _take_as(
    samples: np.ndarray, source: RawData, kinds: Sequence[str], value_range: tuple[float, float] | None
) -> tuple[np.ndarray, str, tuple[float, float] | None, tuple[str, ...]]:
    """Samples in the form of their kind, the kind, the value range, and notes on assumptions."""
    value_range = value_range or source.value_range
    notes: tuple[str, ...] = ()
    if source.timeline is not None:
        kind = "sequence"
        samples = samples.astype(np.float32, copy=False)
        check_range(samples, value_range)
    else:
        kind = choose_kind(samples, value_range, kinds)
        samples, notes = as_kind(samples, kind)
        check_kind(samples, kind, value_range)
    if value_range is None and (kind == "image" or samples.dtype == np.uint8):
        value_range, range_notes = assumed_range(samples[: len(samples) - source.n_held_out])
        notes += range_notes
    return samples, kind, value_range, notes


def _series_of_table(table: Table, time_column: str | None, entity_column: str | None) -> RawData:
    """Take the rows as steps, entity by entity in order of first appearance, and in order of time."""
    n_steps, source, reading = len(table.values), table.source, table.reading
    names, entities = np.array([""]), np.zeros(n_steps, dtype=np.int64)
    if table.entities is not None:
        sorted_names, first, inverse = np.unique(table.entities, return_index=True, return_inverse=True)
        names, entities = sorted_names[np.argsort(first)], np.argsort(np.argsort(first))[inverse]
    order, times, notes = np.argsort(entities, kind="stable"), None, ()
    if table.times is not None:
        what = f"{source.name}: time column {time_column!r}"
        order, times, notes = order_times(table.times, entities, reading.time_zone, what)
    entities = entities[order]
    if times is not None:
        back = np.flatnonzero((times[1:] < times[:-1]) & (entities[1:] == entities[:-1])) + 1
        if back.size:
            here = back[0]
            of_entity = f" within {str(names[entities[here]])!r}" if entity_column else ""
            is_local = table.times.is_local and reading.time_zone is None
            why = why_back(times[here - 1], times[here], is_local=is_local)
            raise DataError(
                f"{source.name}: time column {time_column!r} must not go back{of_entity}, got "
                f"{time_text(times[here])} after {time_text(times[here - 1])} in "
                f"{source.row_words(order[here])}; {why}"
            )
    return RawData(
        table.values[order],
        None if table.labels is None else table.labels[order],
        feature_names=table.columns,
        notes=(*table.notes, *notes),
        timeline=Timeline(entities, tuple(names.tolist()), times, time_column, entity_column),
        other_columns=table.other_columns,
        reading=reading,
    )


def _anomalies(
    labels: np.ndarray | None, n_samples: int, normal_label: str | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Which samples are anomalies, and notes on assumptions."""
    if labels is None:
        if normal_label is not None:
            raise DataError(f"--normal-label {normal_label} needs labels, and the data have none")
        return np.zeros(n_samples, dtype=bool), ()
    has_label = labels != UNLABELLED
    present, counts = np.unique(labels[has_label], return_counts=True)
    if normal_label is not None:
        return has_label & (labels != _present_label(normal_label, present.tolist())), ()
    if set(present) <= {NORMAL, ANOMALY}:
        words = {NORMAL: "normal", ANOMALY: "anomalies"}
        sizes = [f"{label} ({count}, {words[label]})" for label, count in zip(present, counts, strict=True)]
        other = "; if 1 is the normal one give --normal-label 1" if ANOMALY in present else ""
        return labels == ANOMALY, (f"labels are {' and '.join(sizes)}{other}",)
    sizes = [f"{label} ({count})" for label, count in zip(present, counts, strict=True)]
    usual = shlex.quote(str(present[counts.argmax()]))
    note = (
        f"labels are {listed(sizes, MOST_LABELS, quoted=False)}: every sample counts as normal; name the "
        f"normal label with --normal-label, for example --normal-label {usual}"
    )
    return np.zeros(n_samples, dtype=bool), (note,)


def _unlabelled(labels: np.ndarray) -> str:
    return NORMAL if set(labels) <= {NORMAL, ANOMALY, UNLABELLED} else "unlabelled"


def _present_label(named: str, present: Sequence[str]) -> str:
    """Return the label that was named: `true` is 1, `01` is 1, and blanks at the ends do not count."""
    wanted = clean_name(named)
    alike = [label for label in present if clean_name(label) == wanted]
    alike += [label for label in present if label == {"false": "0", "true": "1"}.get(wanted.lower())]
    alike += [label for label in present if _is_same_number(label, wanted)]
    if not alike:
        names = listed(present, MOST_LABELS, quoted=False)
        raise DataError(f"--normal-label {named} is not among the labels {names}")
    return alike[0]


def _is_same_number(label: str, other: str) -> bool:
    first, second = (number_of(text, Reading()) for text in (label, other))
    return first is not None and first == second


def _as_float32(samples: np.ndarray, source: str, cells: Cells, *, is_series: bool) -> np.ndarray:
    """Convert samples to the graph's float32; 8-bit images stay as they are, in a quarter of the memory."""
    if samples.dtype == np.uint8:
        return samples
    with np.errstate(over="ignore"):
        converted = samples.astype(np.float32)
    absent = np.isnan(converted)
    faulty = np.argwhere(~np.isfinite(converted) & ~(cells.may_miss & absent))
    if faulty.size:
        index = tuple(map(int, faulty[0]))
        option = "series give --missing gaps" if is_series else "rows give --missing median"
        hint = f"; for missing values of {option}" if np.isnan(samples[index]) else ""
        raise DataError(
            f"{source}: samples must be finite float32 values, got {samples[index]} in row {index[0]}, "
            f"position {list(index[1:])}{hint}"
        )
    converted[absent] = np.nan  # one bit pattern for all, so that equal rows have equal bytes
    return converted

"""Read data the way a published model takes them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detector.columns import listed
from detector.images import pixel_shape_of
from detector.inference import Detector
from detector.manifest import Manifest
from training.data.categories import Cells
from training.data.dataset import Cut, Dataset
from training.data.load import ANOMALY, MOST_LABELS, NORMAL, load_dataset
from training.data.tabular.options import TableOptions
from training.data.tabular.sources import read_source, table_files
from training.data.windowing import whole_windows
from training.errors import DataError
from training.flags import names

# Values outside a model's range are scored too, so they must be readable; float32 tells these ends apart.
ANY_RANGE = (-1e38, 1e38)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Data for a model.

    Attributes
    ----------
    samples : ndarray of shape (n_samples, *sample_shape), raw units
    labels : ndarray of shape (n_samples,), str, or None
    is_anomaly : ndarray of shape (n_samples,), bool, or None
        None if nothing tells which samples are normal.
    source, fingerprint : str
        Name and hash of the data.
    notes : tuple of str
        Assumptions, a sentence each.
    cut : Cut, or None
        How the samples were cut, if they are windows of a series; they do not overlap.
    masks : mapping of int to ndarray
        Anomalous pixels of some samples, by row: bool of shape (height, width).
    """

    samples: np.ndarray
    labels: np.ndarray | None
    is_anomaly: np.ndarray | None
    source: str
    fingerprint: str
    notes: tuple[str, ...]
    cut: Cut | None = None
    masks: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)


def describe_run(detector: Detector, data: Labelled) -> dict[str, Any]:
    """Describe model, data and notes for the figures of a command."""
    manifest = detector.manifest
    return {
        "model": {"name": manifest.name, "version": manifest.version, "digest": detector.digest},
        "data": {"source": data.source, "fingerprint": data.fingerprint, "n_samples": len(data.samples)},
        "notes": data.notes,
    }


def load_for(
    detector: Detector, data: str, reading: Mapping[str, Any] | None = None, **columns: str | None
) -> Labelled:
    """Read data with the kind and the columns of a model; of data with a test split only that is kept.

    Columns of a table are found by the model's feature names, in any order; other columns are ignored.
    If `normal_label` is not given and the data have labels, the normal label of the model applies. A
    series is cut into windows that do not overlap.

    Parameters
    ----------
    detector : Detector
    data : str
    reading : mapping of str to value, optional
        Fields of `Reading` that differ from those of the model.
    **columns : str, optional
        `label_column`, `normal_label`, `time_column` and `entity_column`, as for `load_dataset`; the last two
        default to the columns of the model, if the table has them.

    Raises
    ------
    DataError
        If the data cannot be read, or a column is missing.
    InputError
        If the samples do not fit the model.
    """
    manifest = detector.manifest
    dataset = _read(manifest, data, reading or {}, **columns)
    is_anomaly, notes = _anomalies(dataset, manifest)
    dataset = _as_samples(detector, dataset, is_anomaly)
    if dataset.timeline is not None and dataset.timeline.is_missing is not None:
        n_steps = int(dataset.timeline.is_missing.sum())
        notes += (f"{n_steps} steps of {dataset.source} have a missing value: no window holds one",)
    if not table_files(data):  # the notes of a table are for those who fit
        notes = (*dataset.notes, *notes)
    fingerprint = dataset.fingerprint()
    if fingerprint == manifest.data.get("fingerprint") and not dataset.held_out.any():
        notes += (
            f"the model was fitted on most of {dataset.source}: its report has the figures of the samples "
            "that were held out",
        )
    kept = slice(None)
    if dataset.held_out.any():
        kept = dataset.held_out
        notes += (f"{dataset.source} has a test split: only its samples are used",)
    return Labelled(
        dataset.samples[kept],
        None if dataset.labels is None else dataset.labels[kept],
        None if is_anomaly is None else dataset.is_anomaly[kept],
        dataset.source,
        fingerprint,
        notes,
        dataset.cut,
        dataset.masks_of(np.arange(len(dataset.samples))[kept]),
    )


def read_for(
    detector: Detector, data: str, reading: Mapping[str, Any] | None = None, **columns: str | None
) -> Dataset:
    """Read data with the kind, the columns and the units of a model; arguments and errors as `load_for`."""
    dataset = _read(detector.manifest, data, reading or {}, **columns)
    is_anomaly = _anomalies(dataset, detector.manifest)[0] if dataset.timeline else None
    return _as_samples(detector, dataset, is_anomaly)


def _read(manifest: Manifest, data: str, reading: Mapping[str, Any], **columns: str | None) -> Dataset:
    is_table = any(file.is_file() for file in table_files(data))
    is_folder = Path(data).is_dir() and not is_table
    series = manifest.data.get("series")
    if "missing_values" in reading:  # which are added
        known = (*manifest.reading.missing_values, *reading["missing_values"])
        reading = {**reading, "missing_values": tuple(dict.fromkeys(known))}
    reading_of = dataclasses.replace(manifest.reading, **reading)
    options = TableOptions(given=tuple(reading), for_model=True)
    if is_table and manifest.kind == "image":
        present = set(read_source(data, reading_of, options).columns) - {columns.get("label_column")}
        ignore = tuple(name for name in manifest.reading.ignored if name in present)
        options = dataclasses.replace(options, ignore=ignore, shape=manifest.sample_shape)
    if is_table and series:
        present = read_source(data, reading_of, options, manifest.feature_names or ()).columns
        own = {
            name: series[name]
            for name in ("time_column", "entity_column")
            if series[name] is not None and set(names(series[name])) <= set(present)
        }
        columns = own | {name: column for name, column in columns.items() if column is not None}
    dataset = load_dataset(
        data,
        kinds=[manifest.kind],
        columns=manifest.feature_names if is_table else None,
        value_range=ANY_RANGE if manifest.kind == "image" and not is_folder else None,
        cells=Cells.of(manifest),
        reading=dataclasses.replace(
            reading_of, **({} if is_folder or "resize" in reading else {"resize": None})
        ),
        pixel_shape=pixel_shape_of(manifest.sample_shape) if is_folder and manifest.kind == "image" else None,
        options=options,
        **columns,
    )
    if is_folder and manifest.kind == "image":
        images = dataset.samples.reshape(-1, *manifest.sample_shape)
        if dataset.value_range != tuple(manifest.value_range):
            # In the model's units, as in the service; models of other kinds take pixels unchanged.
            (low, high), white = manifest.value_range, dataset.value_range[1]
            images = (low + images.astype(np.float64) * ((high - low) / white)).astype(np.float32)
        dataset = dataclasses.replace(dataset, samples=images)
    return dataset


def _as_samples(detector: Detector, dataset: Dataset, is_anomaly: np.ndarray | None) -> Dataset:
    """Return the data as the model takes them, a series as windows; `is_anomaly` replaces theirs if given."""
    if is_anomaly is not None:
        dataset = dataclasses.replace(dataset, is_anomaly=is_anomaly)
    if dataset.timeline is not None:
        dataset = whole_windows(dataset, detector.manifest.window)
    detector.engine.check_samples(dataset.samples[:1])
    return dataset


def _anomalies(dataset: Dataset, manifest: Manifest) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return which samples are anomalies, None if the labels do not say it, and notes on assumptions."""
    if dataset.normal_label is not None:  # it was named, or the data are built in
        return dataset.is_anomaly, ()
    if dataset.labels is None:
        return None, ()
    present, own = sorted(set(dataset.labels)), manifest.data.get("normal_label")
    names = listed(present, MOST_LABELS, quoted=False)
    if own in present:
        return dataset.labels != own, (f"label {own} is the normal one, as in the fit of the model",)
    if set(present) <= {NORMAL, ANOMALY}:
        if own is None:
            return dataset.is_anomaly, ()
        raise DataError(
            f"labels are {names} and the model was fitted with {own} as the normal one: name the normal "
            "label of these data with --normal-label"
        )
    if own is None:
        return None, (f"labels are {names}: name the normal one with --normal-label",)
    note = f"labels are {names}, without {own}, the normal one of the model: every sample is an anomaly"
    return np.ones(len(dataset.samples), dtype=bool), (note,)

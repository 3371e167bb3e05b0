"""`Dataset`: samples with their labels, kind and origin."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from detector.manifest import Categories
from detector.reading import Reading
from detector.schema import REFUSED
from detector.windows import SeriesWindows
from training.data.series import Timeline
from training.data.summaries import ColumnSummary

UNLABELLED = ""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Samples in raw units, with labels, kind and origin.

    Attributes
    ----------
    samples : ndarray, or SeriesWindows, of shape (n_samples, *sample_shape)
        float32, or uint8 for 8-bit images. The steps of a series, until `windowing.cut_series` makes windows.
    is_anomaly : ndarray of shape (n_samples,), bool
    labels : ndarray of shape (n_samples,), str, or None
        Labels of the data; they colour reports.
    held_out : ndarray of shape (n_samples,), bool
        Samples of the data's own test split; they are never used for anything else.
    kind : str
        `vector`, `image` or `sequence`.
    value_range : tuple of float, or None
        Lowest and highest raw value: always for images, for other samples if it is known.
    feature_names : tuple of str, or None
    source : str
        File or built-in name, without folders.
    normal_label : str or None
        Label that was named as the normal one.
    provenance : str or None
        Origin and licence of a built-in data set.
    notes : tuple of str
        Assumptions about the samples, a sentence each.
    label_notes : tuple of str
        Assumptions about what is normal.
    timeline : Timeline, or None
        Times, entities and gaps of a series.
    cut : Cut, or None
        How the windows were cut, if the samples are windows of a series.
    missing : str
        `median` if a value of a row may be missing, which is then NaN; else `refuse`.
    categories : mapping of str to tuple, or None
        Values of each categorical feature; the samples have them as numbers.
    unknown_category : str or None
        Rule for other categories: `own` or `refuse`.
    reading : Reading
        How the source was read.
    options : mapping of str to value
        Flags of the command that said how to read it.
    columns : tuple of ColumnSummary
        The columns of a table or series, or the features of rows and windows; none for images.
    masks : mapping of int to ndarray, or None
        Anomalous pixels of some samples of the test split, by row: bool of shape (height, width).
    files : tuple of str, or None
        The file of each sample, relative to the folder that they were read from.
    """

    samples: np.ndarray | SeriesWindows
    is_anomaly: np.ndarray
    labels: np.ndarray | None
    held_out: np.ndarray
    kind: str
    value_range: tuple[float, float] | None
    feature_names: tuple[str, ...] | None
    source: str
    normal_label: str | None = None
    provenance: str | None = None
    notes: tuple[str, ...] = ()
    label_notes: tuple[str, ...] = ()
    timeline: Timeline | None = None
    cut: "Cut | None" = None
    missing: str = REFUSED
    categories: Categories | None = None
    unknown_category: str | None = None
    reading: Reading = dataclasses.field(default_factory=Reading)
    columns: tuple[ColumnSummary, ...] = ()
    masks: Mapping[int, np.ndarray] | None = None
    files: tuple[str, ...] | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.samples.shape[1:]

    def place(self, row: int) -> str:
        """Name a sample as a reader of the data finds it: its file or row, or the times of its window."""
        if self.files is not None:
            return self.files[row]
        if self.cut is None:
            return f"{'image' if self.kind == 'image' else 'row'} {row + 1}"
        timeline, first = self.timeline, int(self.samples.starts[row])
        last = first + self.sample_shape[0] - 1
        ends = [timeline.time_text(step) or f"step {step + 1}" for step in (first, last)]
        entity = timeline.names[timeline.entities[first]]
        return f"the window from {ends[0]} to {ends[1]}" + (f" of {entity}" if entity else "")

    def masks_of(self, rows: np.ndarray) -> dict[int, np.ndarray]:
        """Return the masks of some samples, by their number among these; none if the data have none."""
        masks = self.masks or {}
        return {number: masks[row] for number, row in enumerate(rows.tolist()) if row in masks}

    def fingerprint(self) -> str:
        """SHA-256 of shape, dtype, samples and anomalies, 64 hex digits; for windows of their series."""
        if self.cut is not None:
            return self.cut.series.fingerprint()
        digest = hashlib.sha256(f"{self.samples.shape} {self.samples.dtype.str}".encode())
        digest.update(np.ascontiguousarray(self.samples).data)
        digest.update(self.is_anomaly.tobytes())
        return digest.hexdigest()


def spread(n_samples: int, most: int) -> np.ndarray:
    """Return positions of at most `most` of `n_samples`, evenly spread over all, ascending, int."""
    return np.unique(np.linspace(0, n_samples - 1, most).astype(int)) if n_samples else np.arange(0)


@dataclasses.dataclass(frozen=True)
class RawData:
    """Samples and labels as they were read; which of them are normal is decided later.

    A training sample without a label, `UNLABELLED`, is normal.
    """

    samples: np.ndarray
    labels: np.ndarray | None = None
    n_held_out: int = 0  # at the end
    feature_names: tuple[str, ...] | None = None
    value_range: tuple[float, float] | None = None
    normal_label: str | None = None
    provenance: str | None = None
    notes: tuple[str, ...] = ()
    timeline: Timeline | None = None
    categories: Categories | None = None
    reading: Reading = dataclasses.field(default_factory=Reading)
    other_columns: tuple[ColumnSummary, ...] = ()  # of a table, which are no features
    masks: Mapping[int, np.ndarray] | None = None
    files: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Cut:
    """How windows were cut from a series.

    Attributes
    ----------
    series : Dataset
        Its samples are the steps.
    split_of : ndarray of shape (n_windows,), int
        The split of each window: 0 train, 1 validation, 2 calibration, 3 test.
    fitted_parts, test_parts : tuple of slice
        Steps of the training and validation splits, and of the test split; each part is at least a window
        long and has no gap.
    training_stride : int
        Steps from one training window to the next.
    """

    series: "Dataset"
    split_of: np.ndarray
    fitted_parts: tuple[slice, ...]
    test_parts: tuple[slice, ...]
    training_stride: int

"""`Dataset`: samples with their labels, kind and origin."""

import dataclasses
import hashlib

import numpy as np

from detector.manifest import Categories
from detector.schema import REFUSED
from detector.windows import SeriesWindows
from training.data.series import Timeline


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Samples in raw units and which of them are normal.

    Attributes
    ----------
    samples : ndarray, or SeriesWindows, of shape (n_samples, *sample_shape)
        float32, or uint8 for 8-bit images. Of a series its steps, until `cutting.cut_series` makes windows.
    is_anomaly : ndarray of shape (n_samples,), bool
    labels : ndarray of shape (n_samples,), str, or None
        As the data have them; they colour reports.
    held_out : ndarray of shape (n_samples,), bool
        Samples that the data name as their test split: never anything else.
    kind : str
        `vector`, `image` or `sequence`.
    value_range : tuple of float, or None
        Lowest and highest raw value, of images always and of other samples where it is known.
    feature_names : tuple of str, or None
    source : str
        File or built-in name, without folders.
    normal_label : str or None
        The label that was named as the normal one.
    provenance : str or None
        Where a built-in data set comes from, and its licence.
    notes : tuple of str
        What was assumed, a sentence each.
    timeline : Timeline, or None
        Of a series.
    cut : Cut, or None
        How the windows were cut from a series.
    missing : str
        `median` where a value of a row may be missing: it is NaN.
    categories : mapping of str to tuple, or None
        Of the features that are categories; the samples have them as numbers.
    unknown_category : str or None
        What another category is.
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
    timeline: Timeline | None = None
    cut: "Cut | None" = None
    missing: str = REFUSED
    categories: Categories | None = None
    unknown_category: str | None = None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.samples.shape[1:]

    def fingerprint(self) -> str:
        """SHA-256 over shape, dtype, samples and anomalies: 64 hex digits; of windows their series'."""
        if self.cut is not None:
            return self.cut.series.fingerprint()
        digest = hashlib.sha256(f"{self.samples.shape} {self.samples.dtype.str}".encode())
        digest.update(np.ascontiguousarray(self.samples).data)
        digest.update(self.is_anomaly.tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class RawData:
    """Samples and labels as they were read; which of them are normal is decided later."""

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


@dataclasses.dataclass(frozen=True)
class Cut:
    """How windows were cut from a series.

    Attributes
    ----------
    series : Dataset
        Its samples are the steps.
    split_of : ndarray of shape (n_windows,), int
        The split of each window: 0 train, 1 validation, 2 calibration, 3 test.
    test_parts : tuple of slice
        The steps of the test split, each part without a gap and at least a window long.
    training_stride : int
        Steps from one window to the next where the network is fitted.
    """

    series: "Dataset"
    split_of: np.ndarray
    test_parts: tuple[slice, ...]
    training_stride: int

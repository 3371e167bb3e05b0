"""Sensors that stand still: how long each channel keeps one value in the fit, and when that is too long.

The exported graph adds an error to a channel that keeps one value, up to the newest step of a window, for
longer than it ever did in the training and validation splits; see docs/decisions/0032.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from detector.columns import listed
from training.data.dataset import Dataset
from training.data.splits import Splits
from training.data.summaries import longest_run

FEW_VALUES = 10  # a channel of so few is a switch or a mode, which may stay as it is
LEAST_CHANGES = 0.25  # share of the steps; a channel that changes less often is a set point or counts events
UNIT = 10.0  # largest scores of the fit that one step too long adds to the score: a clear alarm
MOST_NAMED = 20


@dataclasses.dataclass(frozen=True)
class LongestRuns:
    """Longest runs of equal values of each channel in the training and validation splits.

    Attributes
    ----------
    names : tuple of str
    lengths : ndarray of shape (n_channels,), int
        In steps, at least 1.
    reasons : tuple of str
        Why a longer run of the channel cannot be called too long; empty if it can.
    window : int
        Steps of a window.
    """

    names: tuple[str, ...]
    lengths: np.ndarray
    reasons: tuple[str, ...]
    window: int

    @property
    def is_judged(self) -> np.ndarray:
        """Whether a longer run of a channel is an anomaly, bool."""
        return np.array([not reason for reason in self.reasons])

    @property
    def limits(self) -> np.ndarray:
        """The longest run of each channel that is normal, float32; no run of a window exceeds `window`."""
        return np.where(self.is_judged, self.lengths, self.window).astype(np.float32)

    def judged(self) -> dict[str, int]:
        """Return the limit of each channel that has one."""
        return {
            name: int(length)
            for name, length, reason in zip(self.names, self.lengths, self.reasons, strict=True)
            if not reason
        }

    def notes(self) -> Iterator[str]:
        """Say which runs were the longest, and which are too long from now on."""
        runs = [f"{name} {length}" for name, length in zip(self.names, self.lengths, strict=True)]
        yield f"longest runs of one value in the fit, in steps: {_words(runs)}"
        judged = list(self.judged())
        if judged:
            yield f"a longer run than in the fit is an anomaly for {_words(judged)}"
        for reason in dict.fromkeys(filter(None, self.reasons)):
            unjudged = [name for name, why in zip(self.names, self.reasons, strict=True) if why == reason]
            yield f"no run is too long for {_words(unjudged)}: {reason}"


def find_longest_runs(dataset: Dataset, splits: Splits) -> LongestRuns | None:
    """Find the longest runs of the channels of a series or of windows; None for other samples."""
    if dataset.kind != "sequence":
        return None
    window, n_channels = dataset.sample_shape
    if dataset.cut is not None:
        parts = [dataset.cut.series.samples[part] for part in dataset.cut.fitted_parts]
    else:
        parts = list(dataset.samples[np.union1d(splits.train, splits.validation)])
    end = np.full((1, n_channels), np.nan)  # equals nothing, so that no run goes on behind it
    steps = np.concatenate([piece for part in parts for piece in (part, end)])
    lengths = np.array([longest_run(channel) for channel in steps.T])
    reasons = [_reason(channel, length, window) for channel, length in zip(steps.T, lengths, strict=True)]
    names = dataset.feature_names or tuple(map(str, range(n_channels)))
    return LongestRuns(names, lengths, tuple(reasons), window)


def _reason(channel: np.ndarray, length: int, window: int) -> str:
    """Say why a run of this channel cannot be too long; `channel` has a NaN behind each part."""
    present = ~np.isnan(channel)
    within = present[1:] & present[:-1]
    changes = (channel[1:] != channel[:-1])[within]
    if np.unique(channel[present]).size <= FEW_VALUES:
        return f"at most {FEW_VALUES} different values"
    if changes.mean() < LEAST_CHANGES:
        return f"changes at fewer than {LEAST_CHANGES:g} of the steps"
    if length >= window:
        return f"a run in the fit fills a window of {window} steps; a longer --window would tell"
    return ""


def _words(names: Sequence[str]) -> str:
    return listed(names, MOST_NAMED, quoted=False)

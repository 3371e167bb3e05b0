"""S1 and S2: telemetry, the first column or all, fitted on the start of each series, measured by VUS-PR.

A set is a channel of an `.npz`: `<channel>/test`, shape (n_steps,) or (n_steps, n_columns), and
`<channel>/label`, shape (n_steps,), 1 where a step is anomalous. A detector is fitted on the first steps of
the test array and scores all of it, as in TSB-AD. `<channel>/n_train` says how many; otherwise TSB-AD's
numbers for its channels of SMAP and MSL are used. In a file that has neither for any channel, a detector is
fitted on `<channel>/train` and scores the test array.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.errors import BenchmarkError
from benchmarks.measures.vus import find_period, vus_pr
from benchmarks.protocols.base import DataSet, Protocol, npz_sets, read_arrays, refused_set
from benchmarks.protocols.steps import (
    BASELINES,
    OFFLINE,
    Series,
    View,
    drawn_series,
    members_of,
    read_series,
    score_steps,
)
from benchmarks.rows import OURS, Row


def _starts(text: str) -> dict[str, int]:
    return {name: int(n_steps) for name, n_steps in (item.split() for item in text.split(", "))}


# Steps at the start of the test array that TSB-AD uses for training, from the names of its files. T-12 is its
# series MSL_id_6; MSL_id_1 has the same labels but is another series.
STARTS_OF_ONE = _starts(
    "T-12 530, C-1 500, F-5 980, P-10 1525, T-13 590, P-11 883, R-1 1811, E-9 2075, P-2 2052, D-8 1968, "
    "G-6 2160, E-7 2077, G-7 2007, D-11 1857, A-3 2051, S-1 1832, G-4 1908, A-2 1978, A-5 1173, G-1 2117, "
    "E-8 2133, F-3 2094, T-3 1998"
)
STARTS_OF_ALL = _starts(
    "S-2 500, P-11 883, F-4 855, F-7 1150, F-5 980, D-14 656, P-15 714, T-4 554, M-7 539, T-5 554, "
    "P-14 1525, M-5 575, T-9 500, M-6 512, P-2 2052, E-8 2133, E-11 2128, B-1 2011, E-7 2077, D-6 1971, "
    "E-5 2073, G-2 1840, G-1 2117, D-5 1907, A-5 1173, E-10 2126, E-6 2075, S-1 1832, E-9 2075, "
    "G-4 1908, A-3 2051, E-1 2129, A-6 1113, F-3 2094, T-3 1998, R-1 1811, A-1 2160"
)
# Means over these channels of the per-series results in TSB-AD's repository.
PUBLISHED_OF_ONE = (
    "fitted on the whole series: POLY 0.598, KMeansAD 0.570, KShapeAD 0.555, Sub-PCA 0.496, Sub-KNN 0.437",
    "fitted on the start: MOMENT FT 0.598, AutoEncoder 0.408, CNN 0.339, USAD 0.268, LSTMAD 0.262",
)
PUBLISHED_OF_ALL = (
    "fitted on the whole series: KMeansAD 0.390, PCA 0.112",
    "fitted on the start: CNN 0.249, LSTMAD 0.178, AutoEncoder 0.162, OmniAnomaly 0.151, USAD 0.143",
)


VIEW = View("memory-window", window=128, baseline_window=None, rule=OFFLINE)


def find_channels(starts: dict[str, int], n_columns: int | None, data_dir: Path | None) -> Sequence[DataSet]:
    """Find the channels in the files of a folder that have a start to fit on, the shortest first."""
    if data_dir is None:
        drawn = [drawn_series(seed, n_columns or 3) for seed in (0, 1)]
        return [DataSet(one.name, "drawn", lambda one=one: one) for one in drawn]
    found = []
    for file in npz_sets(data_dir, lambda path: path):
        path = file.load()
        try:
            for name in _with_start(path, starts):
                n_steps = len(read_arrays(path, (f"{name}/label",))[0])
                load = partial(read_channel, path, name, starts, n_columns)
                found.append((n_steps, DataSet(name, file.digest, load)))
        except BenchmarkError as error:
            found.append((0, refused_set(file, error)))
    if not found:
        raise BenchmarkError(
            f"{data_dir} must hold an .npz with <channel>/test, <channel>/label and <channel>/n_train or "
            "<channel>/train, got none"
        )
    return [data for _, data in sorted(found, key=lambda one: (one[0], one[1].name))]


def _with_start(path: Path, starts: dict[str, int]) -> list[str]:
    """Return the names of the channels that have a start to fit on."""
    channels = members_of(path)
    whole = {name for name, members in channels.items() if {"test", "label"} <= members}
    named = [name for name in sorted(whole) if "n_train" in channels[name] or name in starts]
    if named or any(name in STARTS_OF_ONE | STARTS_OF_ALL for name in whole):
        return named
    return [name for name in sorted(whole) if "train" in channels[name]]


def read_channel(path: Path, name: str, starts: dict[str, int], n_columns: int | None) -> Series:
    """Read one channel, all its columns or the first few.

    Raises
    ------
    BenchmarkError
        If an array has another form, no step is anomalous, or the start is not within the series.
    """
    values, labels = read_series(path, name, "test", "label")
    n_train, n_unmeasured = starts.get(name, 0), 0
    members = members_of(path)[name]
    if "n_train" in members:
        n_train = int(read_arrays(path, (f"{name}/n_train",))[0])
    elif name not in starts:
        (train,) = read_arrays(path, (f"{name}/train",))
        train = train.reshape(len(train), -1)
        values = np.concatenate([train, values])
        labels = np.concatenate([np.zeros(len(train), dtype=bool), labels])
        n_train = n_unmeasured = len(train)
    if not 0 < n_train < len(values):
        raise BenchmarkError(
            f"{path.name}: {name}/n_train must lie within the {len(values)} steps, got {n_train}"
        )
    if not labels.any():
        raise BenchmarkError(f"{path.name}: {name}/label must mark an anomalous step, got none")
    return Series(name, values[:, :n_columns], labels, n_train, n_unmeasured)


def measure(series: Series, seed: int, method: str) -> dict[str, Any]:
    """Measure one row: VUS-PR with the period of the first column, areas under the curves by step."""
    first = series.n_unmeasured
    timed = score_steps(method, series.values, series.n_train, seed, VIEW)
    labels, scores = series.labels[first:], timed.scores[first:]
    window = find_period(series.values[first:, 0])
    return {
        "vus_pr": round(vus_pr(labels, scores, window), 6),
        "ap": round(float(average_precision_score(labels, scores)), 6),
        "auroc": round(float(roc_auc_score(labels, scores)), 6),
        **timed.seconds(),
        "n_steps": len(labels),
        "n_train": series.n_train,
        "n_anomalous": int(labels.sum()),
        "columns": series.values.shape[1],
        "vus_window": window,
    }


def published(starts: dict[str, int], lines: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """Yield the published means if the rows have the same channels."""
    if {row["set"] for row in rows} == set(starts):
        yield f"published VUS-PR over these {len(starts)} channels (TSB-AD, NeurIPS 2024; its repository):"
        yield from (f"  {line}" for line in lines)


def _protocol(words: str, starts: dict[str, int], lines: Sequence[str], n_columns: int | None) -> Protocol:
    return Protocol(
        words,
        metrics=("vus_pr", "ap", "auroc"),
        methods=(OURS, *BASELINES),
        quick_methods=(OURS, "knn5", "pca"),
        find=partial(find_channels, starts, n_columns),
        measure=measure,
        seeds=(0,),
        summary=partial(published, starts, lines),
    )


PROTOCOLS = {
    "S1": _protocol("telemetry, first column, VUS-PR (TSB-AD)", STARTS_OF_ONE, PUBLISHED_OF_ONE, 1),
    "S2": _protocol("telemetry, all columns, VUS-PR (TSB-AD)", STARTS_OF_ALL, PUBLISHED_OF_ALL, None),
}

"""`Protocol` and `DataSet`: how the quality benchmark finds sets and measures methods; readers of `.npz`."""

import dataclasses
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.rows import Row


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One set of data and the function that reads it.

    Attributes
    ----------
    name : str
        Name in the rows: the stem of the file.
    digest : str
        Changes with the data, so that rows of other data with the same name are not used.
    load : callable
        Returns the first argument of `Protocol.measure`; raises `BenchmarkError` for data of another form.
    """

    name: str
    digest: str
    load: Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way to measure detection quality.

    Attributes
    ----------
    words : str
        Description in `--help`.
    metrics : tuple of str
        Members of a row that are averaged, ranked, tested and drawn, each a number or None. Higher is better,
        except for the metrics in `lower_is_better`.
    methods : tuple of str
        All methods that it can run, ours first.
    quick_methods : tuple of str
        Methods of `--quick` if none are named.
    find : callable
        The folder of `--data-dir` -> its sets, the smallest first; None (with `--quick`) -> small sets that
        need no file. Raises `BenchmarkError`.
    measure : callable
        Loaded data, seed, method -> further members of a row that has protocol, set, seed and method. If a
        method cannot be measured it raises `BenchmarkError`, `TrainingError` or `DetectorError`.
    seeds : tuple of int
        Seeds if none are named.
    default_methods : tuple of str, optional
        Methods that run if none are named; all if not given.
    lower_is_better : frozenset of str
        Metrics that are errors.
    same_rows_as : str, optional
        Another protocol with the same rows for a set: they are copied if the file has them.
    summary : callable, optional
        Rows -> lines to print below the tables, such as pooled figures.
    """

    words: str
    metrics: tuple[str, ...]
    methods: tuple[str, ...]
    quick_methods: tuple[str, ...]
    find: Callable[[Path | None], Sequence[DataSet]]
    measure: Callable[[Any, int, str], Mapping[str, Any]]
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    default_methods: tuple[str, ...] | None = None
    lower_is_better: frozenset[str] = frozenset()
    same_rows_as: str | None = None
    summary: Callable[[Sequence[Row]], Iterable[str]] | None = None


def npz_sets(data_dir: Path, load: Callable[[Path], Any]) -> list[DataSet]:
    """Make a set of every `*.npz` of a folder, the smallest file first.

    Raises
    ------
    BenchmarkError
        If there is no such folder, or no file in it. Faults of a file are raised when it is loaded.
    """
    if not data_dir.is_dir():
        raise BenchmarkError(f"--data-dir must be a folder, got {data_dir}")
    paths = sorted(data_dir.glob("*.npz"), key=lambda path: (path.stat().st_size, path.name))
    if not paths:
        raise BenchmarkError(f"{data_dir} must hold .npz files, got none")
    return [
        DataSet(path.stem, hashlib.sha256(path.read_bytes()).hexdigest()[:12], partial(load, path))
        for path in paths
    ]


def refused_set(data: DataSet, error: BenchmarkError) -> DataSet:
    """Return a set that raises an error when it is loaded."""

    def refuse() -> NoReturn:
        raise error

    return dataclasses.replace(data, load=refuse)


def npz_sets_with(data_dir: Path, members: Sequence[str], load: Callable[[Path], Any]) -> Sequence[DataSet]:
    """Make a set of every file of a folder that holds these arrays or cannot be read; ignore other files.

    Raises
    ------
    BenchmarkError
        If there is no such folder, or no such file in it.
    """
    found = [data for data in npz_sets(data_dir, load) if _may_hold(data_dir / f"{data.name}.npz", members)]
    if not found:
        raise BenchmarkError(
            f"{data_dir} must hold .npz files with the arrays {', '.join(members)}, got none"
        )
    return found


def _may_hold(path: Path, members: Sequence[str]) -> bool:
    try:
        return set(members) <= set(array_names(path))
    except BenchmarkError:
        return True  # the error is raised again when it is loaded


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays of an `.npz` without reading them.

    Raises
    ------
    BenchmarkError
        If the file is not an `.npz`.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise BenchmarkError(f"{path.name} cannot be read as an .npz: {error}") from error


def read_arrays(path: Path, members: Sequence[str]) -> list[np.ndarray]:
    """Read arrays of an `.npz` in the order of the names; pickles are refused.

    Raises
    ------
    BenchmarkError
        If the file or an array cannot be read or is missing.
    """
    present = array_names(path)
    if not set(members) <= set(present):
        raise BenchmarkError(
            f"{path.name} must hold the arrays {' and '.join(members)}, got {', '.join(present) or 'none'}"
        )
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in members]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise BenchmarkError(f"{path.name} cannot be read: {error}") from error

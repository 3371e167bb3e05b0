"""What a protocol of the quality benchmark is: where its sets are, and how a method is measured on one."""

import dataclasses
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from benchmarks.errors import QualityError
from benchmarks.rows import Row


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One set of data, not read yet.

    Attributes
    ----------
    name : str
        In rows: the file's stem.
    digest : str
        Changes with the data, so that rows of other data of the same name are not taken for this one's.
    load : callable
        Reads it: what `Protocol.measure` takes. Raises `QualityError` for data of another form.
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
        For `--help`.
    metrics : tuple of str
        Names of the figures in a row that are averaged, ranked and tested, each a number or None; higher is
        better but for those in `lower_is_better`. The first one is drawn.
    methods : tuple of str
        All that it can run, ours first.
    quick_methods : tuple of str
        Those of `--quick` where none are named.
    find : callable
        The folder of `--data-dir` -> its sets, the smallest first; None, with `--quick` alone, -> small sets
        that need no file. Raises `QualityError`.
    measure : callable
        What was loaded, seed, method -> the members of a row beside protocol, set, seed and method. A method
        that cannot be measured raises `QualityError`, `TrainingError` or `DetectorError` and has no row.
    seeds : tuple of int
        Where none are named.
    default_methods : tuple of str, optional
        Those that run where none are named; all if not given.
    lower_is_better : frozenset of str
        Metrics that are errors.
    same_rows_as : str, optional
        A protocol whose rows of a set are these, too: they are taken over where the file has them.
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
    """Every `*.npz` of a folder as a set of its own, the smallest file first.

    Raises
    ------
    QualityError
        If there is no such folder, or no file in it; what is wrong with a file shows when it is loaded.
    """
    if not data_dir.is_dir():
        raise QualityError(f"--data-dir must be a folder, got {data_dir}")
    paths = sorted(data_dir.glob("*.npz"), key=lambda path: (path.stat().st_size, path.name))
    if not paths:
        raise QualityError(f"{data_dir} must hold .npz files, got none")
    return [npz_set(path, load) for path in paths]


def refused_set(data: DataSet, error: QualityError) -> DataSet:
    """A set that nothing can be measured on, which is said when its turn comes."""

    def refuse() -> NoReturn:
        raise error

    return dataclasses.replace(data, load=refuse)


def npz_sets_with(data_dir: Path, members: Sequence[str], load: Callable[[Path], Any]) -> Sequence[DataSet]:
    """Files of a folder that hold these arrays, or cannot be read, as sets; others may lie beside them.

    Raises
    ------
    QualityError
        If there is no such folder, or no such file in it.
    """
    found = [data for data in npz_sets(data_dir, load) if _may_hold(data_dir / f"{data.name}.npz", members)]
    if not found:
        raise QualityError(f"{data_dir} must hold .npz files with the arrays {', '.join(members)}, got none")
    return found


def _may_hold(path: Path, members: Sequence[str]) -> bool:
    try:
        return set(members) <= set(array_names(path))
    except QualityError:
        return True  # said by the one that loads it


def npz_set(path: Path, load: Callable[[Path], Any]) -> DataSet:
    """One file as a set."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return DataSet(path.stem, digest, lambda: load(path))


def array_names(path: Path) -> list[str]:
    """Names of the arrays of an `.npz`, without reading them.

    Raises
    ------
    QualityError
        If the file is none.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise QualityError(f"{path.name} cannot be read as an .npz: {error}") from error


def check_members(path: Path, members: Sequence[str]) -> None:
    """Refuse a file that is no `.npz` with these arrays, without reading them."""
    present = array_names(path)
    if not set(members) <= set(present):
        raise QualityError(
            f"{path.name} must hold the arrays {' and '.join(members)}, got {', '.join(present) or 'none'}"
        )


def read_arrays(path: Path, members: Sequence[str]) -> list[np.ndarray]:
    """Arrays of an `.npz`, in the order of the names; pickles are refused.

    Raises
    ------
    QualityError
        If the file, or one of its arrays, cannot be read.
    """
    check_members(path, members)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in members]
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise QualityError(f"{path.name} cannot be read: {error}") from error

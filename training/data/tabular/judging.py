"""Tell columns that are no features, or may be none, from the values of all rows."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detector.columns import listed
from training.data.tabular.sources import INDEX, is_text_type

_LEAST_ROWS = 10  # that a column must count, to be told from chance
_LEAST_VALUES = 10  # different ones, of a column that only rises
_LABEL_WORDS = re.compile(
    r"(?<![a-z])(labels?|targets?|class(es)?|y|anomal(y|ies|ous)|outliers?|abnormal|normal|faults?|faulty|"
    r"failures?|failed|attacks?|frauds?|defects?|defective|intrusions?|malicious)(?![a-z])"
)

EMPTY, SAVED_INDEX, ROW_NAMES = "empty", "a saved index", "names of the rows"


def left_out(columns: Mapping[str, pa.ChunkedArray], n_rows: int) -> dict[str, str]:
    """Find columns that are certainly no features: empty ones, saved indices, and names of the rows.

    Parameters
    ----------
    columns : mapping of str to pyarrow.ChunkedArray
        Typed.
    n_rows : int

    Returns
    -------
    dict of str to str
        The reason for each of them.
    """
    found = {}
    for name, column in columns.items():
        is_unnamed = INDEX.fullmatch(name) is not None
        if pa.types.is_null(column.type) or column.null_count == n_rows:
            found[name] = EMPTY
        elif counts_rows(column, any_start=is_unnamed) and (is_unnamed or n_rows >= _LEAST_ROWS):
            found[name] = SAVED_INDEX
        elif name and is_unnamed:
            found[name] = SAVED_INDEX  # pandas gives this name to indices only
        elif is_unnamed and is_text_type(column.type) and len(column.unique()) == n_rows:
            found[name] = ROW_NAMES
    return found


def counts_rows(column: pa.ChunkedArray, *, any_start: bool = False) -> bool:
    """Whether a column holds 0, 1, 2 and so on, or 1, 2, 3, or with `any_start` n, n + 1, n + 2."""
    if not pa.types.is_integer(column.type) or column.null_count or len(column) < 2:
        return False
    values = column.to_numpy()
    return bool((any_start or values[0] in (0, 1)) and (np.diff(values.astype(np.float64)) == 1).all())


def notes(columns: Mapping[str, pa.ChunkedArray], source: str, *, is_series: bool) -> Iterator[str]:
    """Say which features may be none.

    Parameters
    ----------
    columns : mapping of str to pyarrow.ChunkedArray
        Features, typed.
    source : str
        Name of the file.
    is_series : bool
        Whether the rows are steps of a series.
    """
    counting = [name for name, column in columns.items() if _counts(column)]
    if counting:
        others = f", or a time with --time-column {_one(counting)}" if is_series else ""
        yield (
            f"{source}: column {listed(counting)} only rises or falls, or numbers the rows, so that later "
            "rows lie outside of what the fit saw: unless it is a measurement, leave it out with "
            f"--ignore {quoted(counting)}{others}"
        )
    labels = [
        name for name, column in columns.items() if _LABEL_WORDS.search(_spaced(name)) and _is_pair(column)
    ]
    if labels:
        yield (
            f"{source}: column {listed(labels)} has two values and looks like a label, but is a feature: "
            f"give --label-column {_one(labels)}"
        )


def quoted(names: Sequence[str]) -> str:
    """Write names as the value of an option, for a shell."""
    cells = (f'"{name.replace(chr(34), chr(34) * 2)}"' if re.search('[",]', name) else name for name in names)
    return shlex.quote(",".join(cells))


def _one(names: Sequence[str]) -> str:
    return shlex.quote(names[0])


def _spaced(name: str) -> str:
    """Write `isAnomaly` and `is_anomaly` as `is anomaly`."""
    return re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).lower()


def _counts(column: pa.ChunkedArray) -> bool:
    """Whether numbers only rise or only fall, or are all different consecutive integers."""
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)) or len(column) < _LEAST_ROWS:
        return False
    if column.null_count:
        column = column.drop_null()
    values = column.to_numpy()
    if len(values) < _LEAST_ROWS:
        return False
    is_sorted = bool((values[1:] >= values[:-1]).all() or (values[1:] <= values[:-1]).all())
    if is_sorted:
        return np.unique(values).size >= _LEAST_VALUES
    if not pa.types.is_integer(kind) or float(values.max()) - float(values.min()) != len(values) - 1:
        return False
    return np.unique(values).size == values.size


def _is_pair(column: pa.ChunkedArray) -> bool:
    """Whether a column has two different values."""
    if len(column) < _LEAST_ROWS:
        return False
    first = column.slice(0, 1000).unique()  # most columns have more
    return len(first) <= 3 and pc.count_distinct(column).as_py() == 2

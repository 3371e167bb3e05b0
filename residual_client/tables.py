"""Data frames of the caller: columns matched by name going out, answers as frames coming back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from residual_client.errors import RequestError
from residual_client.results import Classes, Scores


def is_table(samples: Any) -> bool:
    """Whether samples are columns with names: a data frame of pandas or Polars, an Arrow table, a mapping."""
    return isinstance(samples, Mapping) or (hasattr(samples, "columns") and hasattr(samples, "__getitem__"))


def is_pandas(samples: Any) -> bool:
    """Whether samples are a data frame of pandas, without importing it."""
    return type(samples).__module__.partition(".")[0] == "pandas" and is_table(samples)


def columns_of(table: Any, names: Sequence[str]) -> list[np.ndarray]:
    """The columns of a table in the order of the model's features, numbers as they are, others as objects.

    Raises
    ------
    RequestError
        If a column is missing or unknown, or they are not of one length.
    """
    found = {str(name): name for name in _column_names(table)}  # some count their columns
    lacking = [name for name in names if name not in found]
    unknown = [name for name in found if name not in names]
    words = [
        f"{what} {', '.join(map(repr, listed[:5]))}{' and others' if len(listed) > 5 else ''}"
        for what, listed in (("lacks", lacking), ("has the unknown", unknown))
        if listed
    ]
    if words:
        raise RequestError(f"a table must have exactly the model's features: it {' and '.join(words)}")
    columns = [_cells(table[found[name]]) for name in names]
    lengths = {name: len(column) for name, column in zip(names, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise RequestError(f"columns must have one length, got {lengths}")
    return columns


def _column_names(table: Any) -> Sequence[Any]:
    if isinstance(table, Mapping):
        return list(table)
    return getattr(table, "column_names", None) or list(table.columns)  # Arrow's own columns have no names


def _cells(column: Any) -> np.ndarray:
    cells = np.asarray(column)
    if cells.ndim != 1:
        raise RequestError(f"a column must have one dimension, got an array of shape {cells.shape}")
    if cells.dtype.kind in "fiu":
        return cells
    # A list of texts with NaN among them would be an array of texts, "nan" one of them.
    return np.array(column, dtype=object) if isinstance(column, list | tuple) else cells.astype(object)


def scores_frame(scores: Scores, index: Any) -> Any:
    """Decisions as a data frame with the caller's index; what holds for all rows stands in its `attrs`."""
    columns = {
        "score": scores.score,
        "ratio": scores.ratio,
        "p_value": scores.p_value,
        "is_anomaly": scores.is_anomaly,
    }
    if scores.selected is not None:
        columns["selected"] = scores.selected
    if scores.explanation is not None:
        columns["explanation"] = list(scores.explanation)
    rule = ("model", "version", "threshold", "alpha", "expected_rate")
    return _frame(columns, index, {name: getattr(scores, name) for name in rule})


def classes_frame(classes: Classes, index: Any) -> Any:
    """The label and the probability of each class as a data frame, with the caller's index where it fits."""
    columns = {"label": classes.label} | dict(zip(classes.classes, classes.probability.T, strict=True))
    index = index if len(index) == len(classes.label) else None  # of a series there are fewer windows
    return _frame(columns, index, {"model": classes.model, "version": classes.version})


def rows_frame(rows: Sequence[Sequence[Any]] | np.ndarray, names: Sequence[str], like: Any) -> Any:
    """Reconstructed rows as a data frame with the caller's index and order of columns."""
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    if isinstance(rows, np.ndarray):
        columns = dict(zip(names, rows.T, strict=True))
    return _frame({name: columns[str(name)] for name in like.columns}, like.index, {})


def _frame(columns: Mapping[Any, Any], index: Any, attributes: Mapping[str, Any]) -> Any:
    import pandas as pd  # the caller has it: the samples came as its data frame

    frame = pd.DataFrame(columns, index=index)
    frame.attrs.update(attributes)
    return frame

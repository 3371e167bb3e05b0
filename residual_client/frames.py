"""Answers as pandas data frames, with the index of the data frame that was asked about."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detector.results import Classes, Scores
from detector.tables import is_table


def is_pandas(samples: Any) -> bool:
    """Whether samples are a pandas data frame; pandas is not imported to find out."""
    return type(samples).__module__.partition(".")[0] == "pandas" and is_table(samples)


def scores_frame(scores: Scores, index: Any) -> Any:
    """Decisions as a data frame; model, version and rule, which hold for all rows, are its `attrs`."""
    columns: dict[str, Any] = {
        "score": scores.score,
        "ratio": scores.ratio,
        "p_value": scores.p_value,
        "is_anomaly": _decisions(scores.is_anomaly, scores),
    }
    if scores.selected is not None:
        columns["selected"] = _decisions(scores.selected, scores)
    if scores.explanation is not None:
        columns["explanation"] = list(scores.explanation)
    rule = ("model", "version", "threshold", "alpha", "expected_rate")
    return _frame(columns, index, {name: getattr(scores, name) for name in rule})


def _decisions(values: np.ndarray, scores: Scores) -> np.ndarray:
    """Return decisions, as objects with None if some steps have no score: neither normal nor anomalous."""
    return values if scores.scored.all() else scores.or_none(values)


def classes_frame(classes: Classes, index: Any) -> Any:
    """The label and the probability of each class as a data frame."""
    columns: dict[str, Any] = {"label": classes.label} | dict(
        zip(classes.classes, classes.probability.T, strict=True)
    )
    index = index if len(index) == len(classes.label) else None  # a series has fewer windows than steps
    return _frame(columns, index, {"model": classes.model, "version": classes.version})


def rows_frame(rows: Sequence[Sequence[Any]] | np.ndarray, names: Sequence[str], like: Any) -> Any:
    """Reconstructed rows as a data frame with the index and the order of columns of `like`."""
    cells = rows.T if isinstance(rows, np.ndarray) else zip(*rows, strict=True)
    columns = dict(zip(names, cells, strict=True))
    return _frame({name: columns[str(name)] for name in like.columns}, like.index, {})


def _frame(columns: Mapping[Any, Any], index: Any, attributes: Mapping[str, Any]) -> Any:
    import pandas as pd  # installed: the samples are its data frame

    frame = pd.DataFrame(columns, index=index)
    frame.attrs.update(attributes)
    return frame

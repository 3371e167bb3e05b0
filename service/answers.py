"""Results to response bodies: one small function for each media type, all saying the same."""

import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from detector import Classes, Compressed, Detector, Scores
from detector.images import encode_heat_map, encode_image
from detector.tables import holds_cells, to_cells
from service.array_bodies import raw_type
from service.bodies import (
    ARROW,
    CSV,
    JSON,
    NDJSON,
    NPY,
    PARQUET,
    PNG,
    RAW,
    TIMESTAMP,
    Timestamp,
    column_names,
    lacks_pyarrow,
    table_forms,
)
from service.codecs import to_json

SCORE, RECONSTRUCTION, LATENT, PROBABILITY = "score", "reconstruction", "latent", "probability"
_DRAWN = (SCORE, RECONSTRUCTION)  # what a picture can show
Result = Scores | Compressed | Classes | np.ndarray


@dataclasses.dataclass(frozen=True)
class Block:
    """Columns of a table that lie together: their names, and values of shape (n,) or (n, n_names)."""

    names: Sequence[str]
    values: np.ndarray | list


_SLICE_VALUES = 2**15  # a millisecond of writing
_CELL_VALUES = 8  # what writing a word or a contribution costs in values of an array


class Reply:
    """What an answer says, whatever its form.

    Attributes
    ----------
    detector : Detector
    timestamps : list of str, int or float, or None
        Of the steps of a series, in order.
    """

    def __init__(self, detector: Detector, timestamps: list[Timestamp] | None) -> None:
        self.detector = detector
        self.timestamps = timestamps

    def head(self) -> Mapping[str, Any]:
        """What stands once, beside model and version."""
        return {}

    def rows(self) -> dict[str, Any]:
        """What stands for each sample, by name, in order."""
        return {} if self.timestamps is None else {TIMESTAMP: self.timestamps}

    def array(self) -> np.ndarray:
        """The one array that stands for it where there is room for no more."""
        raise NotImplementedError

    def size(self) -> int:
        """About how many values there are to write."""
        return self.array().size

    def blocks(self) -> list[Block]:
        """The rows as columns of a table, for answers that can be one."""
        return [] if self.timestamps is None else [Block((TIMESTAMP,), self.timestamps)]

    def picture(self) -> bytes:
        """A PNG, for answers to one picture that can be one."""
        raise NotImplementedError


class ScoreReply(Reply):
    """Scores and decisions."""

    def __init__(self, detector: Detector, scores: Scores, timestamps: list[Timestamp] | None) -> None:
        super().__init__(detector, timestamps)
        self.scores = scores

    def head(self) -> Mapping[str, Any]:  # noqa: D102 - as of `Reply`, here and below
        scores = self.scores
        return {"alpha": scores.alpha, "expected_rate": scores.expected_rate, "threshold": scores.threshold}

    def rows(self) -> dict[str, Any]:  # noqa: D102
        rows = super().rows() | self._columns()
        if self.scores.explanation is not None:
            rows["explanation"] = self.scores.explanation
        return rows

    def array(self) -> np.ndarray:  # noqa: D102
        return self.scores.score

    def size(self) -> int:  # noqa: D102
        explanation = self.scores.explanation
        return super().size() + (0 if explanation is None else _size(explanation))

    def blocks(self) -> list[Block]:  # noqa: D102
        return super().blocks() + [Block((name,), values) for name, values in self._columns().items()]

    def picture(self) -> bytes:  # noqa: D102
        return encode_heat_map(self.scores.explanation[0], self.detector.usual_error)

    def _columns(self) -> dict[str, np.ndarray]:
        scores = self.scores
        columns = {
            SCORE: scores.score,
            "ratio": scores.ratio,
            "p_value": scores.p_value,
            "is_anomaly": scores.is_anomaly,
        }
        return columns if scores.selected is None else columns | {"selected": scores.selected}


class ClassReply(Reply):
    """Classes and their probabilities."""

    def __init__(self, detector: Detector, classes: Classes) -> None:
        super().__init__(detector, None)
        self.classes = classes

    def head(self) -> Mapping[str, Any]:  # noqa: D102
        return {"classes": self.classes.classes}

    def rows(self) -> dict[str, Any]:  # noqa: D102
        return {"label": self.classes.label.tolist(), PROBABILITY: self.classes.probability}

    def array(self) -> np.ndarray:  # noqa: D102
        return self.classes.probability

    def blocks(self) -> list[Block]:  # noqa: D102
        names = [f"{PROBABILITY}_{name}" for name in self.classes.classes]
        return [Block(("label",), self.classes.label.tolist()), Block(names, self.classes.probability)]


class ArrayReply(Reply):
    """A reconstruction, or latents; a reconstruction of a mixed table in words where there is room."""

    def __init__(
        self, detector: Detector, output: str, values: np.ndarray, timestamps: list[Timestamp] | None
    ) -> None:
        super().__init__(detector, timestamps)
        self.output = output
        self.values = values

    def rows(self) -> dict[str, Any]:  # noqa: D102
        return {**super().rows(), self.output: self._cells()}

    def array(self) -> np.ndarray:  # noqa: D102
        return self.values

    def blocks(self) -> list[Block]:  # noqa: D102
        names = self.detector.manifest.feature_names if self.output == RECONSTRUCTION else None
        names = column_names(names, self.values.shape[1:] or (1,))
        return [*super().blocks(), Block(names, self._cells())]

    def picture(self) -> bytes:  # noqa: D102
        return encode_image(self.values[0], self.detector.manifest.value_range)

    def _cells(self) -> np.ndarray | list:
        manifest = self.detector.manifest
        has_words = self.output == RECONSTRUCTION and holds_cells(manifest)
        return to_cells(self.values, manifest) if has_words else self.values


def reply_to(
    output: str, detector: Detector, result: Result, timestamps: list[Timestamp] | None = None
) -> Reply:
    """What a verb's result says.

    Parameters
    ----------
    output : str
        The name of the verb's array.
    detector : Detector
    result : Scores, Compressed, Classes or ndarray
    timestamps : list of str, int or float, optional
        Of the steps of a series, in order.
    """
    if isinstance(result, Scores):
        return ScoreReply(detector, result, timestamps)
    if isinstance(result, Classes):
        return ClassReply(detector, result)
    values = result.latent if isinstance(result, Compressed) else result
    return ArrayReply(detector, output, values, timestamps)


# --- forms of answers ---------------------------------------------------------------------------------------


def _to_json(reply: Reply) -> bytes:
    manifest = reply.detector.manifest
    rows = reply.rows()
    if reply.size() > _SLICE_VALUES:
        rows = {name: orjson.Fragment(_in_slices(values)) for name, values in rows.items()}
    return to_json({"model": manifest.name, "version": manifest.version, **reply.head(), **rows})


def _in_slices(values: np.ndarray | list) -> bytes:
    """The JSON of many values, written some at a time: other threads get their turn in between."""
    size = _size(values)
    if size <= _SLICE_VALUES:
        return to_json(values)
    step = _SLICE_VALUES * len(values) // size
    if step:
        parts = (to_json(values[start : start + step])[1:-1] for start in range(0, len(values), step))
    else:
        parts = map(_in_slices, values)
    return b"[%s]" % b",".join(parts)


def _size(values: np.ndarray | list) -> int:
    """Values in an array or a list; the rows of a list have one length, and what is in them costs more."""
    if isinstance(values, np.ndarray):
        return values.size
    return len(values) * (_CELL_VALUES * len(values[0]) if values and isinstance(values[0], list) else 1)


def _to_ndjson(reply: Reply) -> bytes:
    """An object for each sample: its number as `row`, and its element of each array of a JSON answer."""
    rows = reply.rows()
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return b"".join(
        orjson.dumps({"row": row, **dict(zip(rows, values, strict=True))}, option=options)
        for row, values in enumerate(zip(*map(_elements, rows.values()), strict=True))
    )


def _elements(values: Any) -> Any:
    """One element for each sample; Python's own where these have the same digits, which is faster."""
    is_plain = isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype != np.float32
    return values.tolist() if is_plain else values


def _to_npy(reply: Reply) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, reply.array(), allow_pickle=False)
    return buffer.getvalue()


def _to_csv(reply: Reply) -> bytes:
    """A line of names and one for each sample, with the digits of JSON; LF ends a line."""
    blocks = reply.blocks()
    names = [_quoted(name) for block in blocks for name in block.names]
    pieces = [b",".join(names)]
    rows = max(1, _SLICE_VALUES // len(names))
    for start in range(0, len(reply.array()), rows):
        cells = [_csv_cells(block.values[start : start + rows]) for block in blocks]
        pieces += cells[0] if len(cells) == 1 else map(b",".join, zip(*cells, strict=True))
    return b"\n".join(pieces) + b"\n"


def _csv_cells(values: np.ndarray | list) -> list[bytes]:
    """The cells of each row, joined where there are several."""
    if isinstance(values, list):
        return [b",".join(map(_csv_cell, row)) if isinstance(row, list) else _csv_cell(row) for row in values]
    text = to_json(np.ascontiguousarray(values))
    return text[1:-1].split(b",") if values.ndim == 1 else text[2:-2].split(b"],[")


def _csv_cell(cell: Any) -> bytes:
    """A missing value is an empty cell."""
    if cell is None:
        return b""
    return _quoted(cell) if isinstance(cell, str) else to_json(cell)


def _quoted(text: str) -> bytes:
    """RFC 4180: quotes where a text would be taken for more than one cell, or for nothing."""
    special = not text or any(mark in text for mark in ',"\r\n')
    return ('"' + text.replace('"', '""') + '"' if special else text).encode()


def _to_arrow(reply: Reply) -> bytes:
    from service.arrow_answers import to_arrow

    return to_arrow(reply)


def _to_parquet(reply: Reply) -> bytes:
    from service.arrow_answers import to_parquet

    return to_parquet(reply)


_ENCODERS: Mapping[str, Callable[[Reply], bytes]] = {
    JSON: _to_json,
    NPY: _to_npy,
    CSV: _to_csv,
    NDJSON: _to_ndjson,
    RAW: lambda reply: np.ascontiguousarray(reply.array()).tobytes(),
    ARROW: _to_arrow,
    PARQUET: _to_parquet,
    PNG: lambda reply: reply.picture(),
}


_CONTENT_TYPES = {CSV: f"{CSV}; charset=utf-8; header=present"}


def encode(media_type: str, reply: Reply) -> tuple[str, bytes]:
    """The content type and the body of an answer in one of the forms that `offers` names."""
    body = _ENCODERS[media_type](reply)
    if media_type == RAW:
        return raw_type(reply.array()), body
    return _CONTENT_TYPES.get(media_type, media_type), body


def forms(output: str) -> tuple[str, ...]:
    """Every form in which the answer of a verb can come, of one model or another."""
    left_out = {form for form in _ENCODERS if lacks_pyarrow(form) or (form == PNG and output not in _DRAWN)}
    return tuple(form for form in _ENCODERS if form not in left_out)


def offers(output: str, detector: Detector, samples: np.ndarray, *, series: bool) -> tuple[str, ...]:
    """Forms in which an answer can come, the default first.

    Parameters
    ----------
    output : str
        The name of the verb's array.
    detector : Detector
    samples : ndarray
        Of the request.
    series : bool
        Whether they are the steps of one.
    """
    manifest, shape = detector.manifest, detector.manifest.latent_shape
    is_table = (
        manifest.kind == "vector" or series
        if output == RECONSTRUCTION
        else output != LATENT or (shape is not None and len(shape) == 1)
    )
    is_drawn = manifest.kind == "image" and len(samples) == 1 and output in _DRAWN
    is_picture = is_drawn and (output != SCORE or detector.usual_error is not None)
    return (JSON, NPY, RAW, NDJSON, *(table_forms() if is_table else ()), *((PNG,) if is_picture else ()))

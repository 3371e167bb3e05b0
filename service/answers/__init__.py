"""Write the bodies of answers: one small function for each media type.

- `replies`: content of an answer, the same for every media type
- `arrow`: Arrow streams and Parquet files; imports pyarrow, so it is only imported when one is requested

`endpoints` and `wsgi` import from here. The package knows `bodies` and `detector`,
but no verb, no endpoint and no server.
"""

import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import orjson

from detector import Detector, Manifest, Scores
from detector.engine.session import check_stop
from detector.schema import GAP_RULES
from service.answers.replies import (
    IS_ANOMALY,
    LATENT,
    RECONSTRUCTION,
    SCORE,
    SELECTED,
    Reply,
    ScoreReply,
    decisions,
    size_of,
    unscored,
)
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
    lacks_pyarrow,
    table_forms,
)
from service.bodies.arrays import raw_type
from service.bodies.codecs import to_json

_DRAWN = (SCORE, RECONSTRUCTION)  # outputs that an image can show
SLICE_VALUES = 2**15  # a millisecond of writing


def _to_json(reply: Reply) -> bytes:
    manifest = reply.detector.manifest
    if isinstance(reply, ScoreReply):
        return write_scores(manifest, reply.scores, [len(reply.scores.score)], reply.timestamps)[0]
    rows = reply.rows()
    if reply.size() > SLICE_VALUES:
        rows = {name: orjson.Fragment(in_slices(values)) for name, values in rows.items()}
    return to_json({"model": manifest.name, "version": manifest.version, **reply.head(), **rows})


def write_scores(
    manifest: Manifest, scores: Scores, lengths: Sequence[int], timestamps: list[Timestamp] | None = None
) -> list[bytes]:
    """Write the scores of one or more requests that were scored as one, each as a JSON document.

    Parameters
    ----------
    manifest : Manifest
    scores : Scores
    lengths : sequence of int
        Samples of each request.
    timestamps : list of str, int or float, optional
        Time stamps of the steps of a series, which is always a single request.
    """
    document = {
        "model": manifest.name,
        "version": manifest.version,
        "alpha": scores.alpha,
        "expected_rate": scores.expected_rate,
        "threshold": scores.threshold,
    }
    if timestamps is not None:
        document[TIMESTAMP] = timestamps
    columns: dict[str, Any] = {
        SCORE: scores.score,
        "ratio": scores.ratio,
        "p_value": scores.p_value,
        IS_ANOMALY: scores.is_anomaly,
    }
    if scores.selected is not None:
        columns[SELECTED] = scores.selected
    if manifest.missing in GAP_RULES or np.isnan(scores.score).any():
        return _write_with_gaps(manifest, document, columns | decisions(scores), scores, lengths)
    size = scores.score.size
    if scores.explanation is not None:
        size += size_of(scores.explanation)
    is_large = size > SLICE_VALUES and len(lengths) == 1
    if not is_large:
        columns = {name: values.tolist() for name, values in columns.items()}
    if scores.explanation is not None:
        columns["explanation"] = scores.explanation
    if is_large:
        columns = {name: orjson.Fragment(in_slices(values)) for name, values in columns.items()}
    if len(lengths) == 1:
        return [orjson.dumps(document | columns, option=orjson.OPT_SERIALIZE_NUMPY)]
    written, start = [], 0
    for length in lengths:
        end = start + length
        for name, values in columns.items():
            document[name] = values[start:end]
        written.append(orjson.dumps(document))
        start = end
    return written


def _write_with_gaps(
    manifest: Manifest,
    document: dict[str, Any],
    columns: dict[str, Any],
    scores: Scores,
    lengths: Sequence[int],
) -> list[bytes]:
    """Write scores of which some may be missing; arguments as for `write_scores`."""
    if scores.explanation is not None:
        columns["explanation"] = scores.explanation
    written, start = [], 0
    for length in lengths:
        rows = slice(start, start + length)
        members = {name: orjson.Fragment(in_slices(values[rows])) for name, values in columns.items()}
        part = unscored(scores.take(np.arange(rows.start, rows.stop)), manifest)
        written.append(orjson.dumps({**document, **part, **members}))
        start += length
    return written


def in_slices(values: np.ndarray | list[Any]) -> bytes:
    """Return the JSON of many values, written in parts so that other threads can run in between."""
    check_stop()
    size = size_of(values)
    if size <= SLICE_VALUES:
        return to_json(values)
    step = SLICE_VALUES * len(values) // size
    if step == 0:
        return b"[%s]" % b",".join(map(in_slices, values))
    return b"[%s]" % b",".join(_slices(values, step))


def _slices(values: np.ndarray | list[Any], step: int) -> Iterator[bytes]:
    for start in range(0, len(values), step):
        check_stop()
        yield to_json(values[start : start + step])[1:-1]


def to_lines(reply: Reply, numbers: Iterable[int]) -> list[bytes]:
    """Return a line for each sample: an object with its number as `row` and its element of each array."""
    rows = reply.rows()
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return [
        orjson.dumps({"row": row, **dict(zip(rows, values, strict=True))}, option=options)
        for row, values in zip(numbers, zip(*map(_elements, rows.values()), strict=True), strict=False)
    ]


def _elements(values: Any) -> Any:
    """Return one element for each sample; Python's numbers are faster if they have the same digits."""
    is_plain = isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype != np.float32
    return values.tolist() if is_plain else values


def _to_npy(reply: Reply) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, reply.array(), allow_pickle=False)
    return buffer.getvalue()


def _to_csv(reply: Reply) -> bytes:
    """Return a line of names and one for each sample, with the digits of JSON; a line ends with LF."""
    blocks = reply.blocks()
    names = [_quoted(name) for block in blocks for name in block.names]
    pieces = [b",".join(names)]
    rows = max(1, SLICE_VALUES // len(names))
    for start in range(0, len(reply.array()), rows):
        check_stop()
        cells = [_csv_cells(block.values[start : start + rows]) for block in blocks]
        pieces += cells[0] if len(cells) == 1 else map(b",".join, zip(*cells, strict=True))
    return b"\n".join(pieces) + b"\n"


def _csv_cells(values: np.ndarray | list[Any]) -> list[bytes]:
    """Return the cells of each row, joined by commas."""
    if isinstance(values, list):
        return [b",".join(map(_csv_cell, row)) if isinstance(row, list) else _csv_cell(row) for row in values]
    text = to_json(np.ascontiguousarray(values)).replace(b"null", b"")  # a step without a score
    return text[1:-1].split(b",") if values.ndim == 1 else text[2:-2].split(b"],[")


def _csv_cell(cell: Any) -> bytes:
    """Return one cell; a missing value is empty."""
    if cell is None:
        return b""
    return _quoted(cell) if isinstance(cell, str) else to_json(cell)


def _quoted(text: str) -> bytes:
    """Quote a text that would be read as several cells or as a missing value (RFC 4180)."""
    special = not text or any(mark in text for mark in ',"\r\n')
    return ('"' + text.replace('"', '""') + '"' if special else text).encode()


def _columnar() -> ModuleType:
    from service.answers import arrow  # late: pyarrow takes time and memory

    return arrow


_ENCODERS: Mapping[str, Callable[[Reply], bytes]] = {
    JSON: _to_json,
    NPY: _to_npy,
    CSV: _to_csv,
    NDJSON: lambda reply: b"".join(to_lines(reply, itertools.count())),
    RAW: lambda reply: np.ascontiguousarray(reply.array()).tobytes(),
    ARROW: lambda reply: _columnar().to_arrow(reply),
    PARQUET: lambda reply: _columnar().to_parquet(reply),
    PNG: lambda reply: reply.image(),
}
_CONTENT_TYPES = {CSV: f"{CSV}; charset=utf-8; header=present"}


def encode(media_type: str, reply: Reply) -> tuple[str, bytes]:
    """Return the content type and the body of an answer, in one of the media types of `offers`."""
    body = _ENCODERS[media_type](reply)
    if media_type == RAW:
        return raw_type(reply.array()), body
    return _CONTENT_TYPES.get(media_type, media_type), body


def forms(output: str) -> tuple[str, ...]:
    """Return every media type that answers of a verb can have, depending on the model."""
    left_out = {form for form in _ENCODERS if lacks_pyarrow(form) or (form == PNG and output not in _DRAWN)}
    return tuple(form for form in _ENCODERS if form not in left_out)


def offers(output: str, detector: Detector, samples: np.ndarray, *, series: bool) -> tuple[str, ...]:
    """Return the media types that an answer can have, the default first.

    Parameters
    ----------
    output : str
        Name of the array that the verb returns.
    detector : Detector
    samples : ndarray
        Samples of the request.
    series : bool
        Whether the samples are the steps of a series.
    """
    manifest, shape = detector.manifest, detector.manifest.latent_shape
    is_table = (
        manifest.kind == "vector" or series
        if output == RECONSTRUCTION
        else output != LATENT or (shape is not None and len(shape) == 1)
    )
    is_drawn = manifest.kind == "image" and len(samples) == 1 and output in _DRAWN
    is_image = is_drawn and (output != SCORE or detector.usual_error is not None)
    return (JSON, NPY, RAW, NDJSON, *(table_forms() if is_table else ()), *((PNG,) if is_image else ()))

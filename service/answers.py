"""Results to response bodies: one small function for each media type, all saying the same."""

import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from detector import Classes, Compressed, Manifest, Scores
from detector.images import encode_image
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
_DRAWN = (RECONSTRUCTION,)  # what a picture can show
Result = Scores | Compressed | Classes | np.ndarray


@dataclasses.dataclass(frozen=True)
class Block:
    """Columns of a table that lie together: their names, and values of shape (n,) or (n, n_names)."""

    names: Sequence[str]
    values: np.ndarray | list


@dataclasses.dataclass(frozen=True)
class Reply:
    """What an answer says, whatever its form.

    Attributes
    ----------
    manifest : Manifest
    head : mapping of str to Any
        What stands once, beside model and version.
    array : ndarray
        The one array that stands for it where there is room for no more.
    rows : callable
        To what stands for each sample, by name, in order.
    blocks : callable
        To the same as columns of a table; of samples that are rows, or where only one value stands for each.
    """

    manifest: Manifest
    head: Mapping[str, Any]
    array: np.ndarray
    rows: Callable[[], dict[str, Any]]
    blocks: Callable[[], list[Block]]


def reply_to(
    output: str, manifest: Manifest, result: Result, timestamps: list[Timestamp] | None = None
) -> Reply:
    """What a verb's result says.

    Parameters
    ----------
    output : str
        The name of the verb's array.
    manifest : Manifest
    result : Scores, Compressed, Classes or ndarray
    timestamps : list of str, int or float, optional
        Of the steps of a series, in order.
    """
    stamps = {} if timestamps is None else {TIMESTAMP: timestamps}
    if isinstance(result, Scores):
        return _scores(manifest, result, stamps)
    if isinstance(result, Classes):
        return _classes(manifest, result)
    array = result.latent if isinstance(result, Compressed) else result

    def cells() -> np.ndarray | list:
        return to_cells(array, manifest) if output == RECONSTRUCTION and holds_cells(manifest) else array

    def blocks() -> list[Block]:
        names = _columns(output, manifest, array.shape[1:])
        return [*_stamp_blocks(stamps), Block(names, cells())]

    return Reply(manifest, {}, array, lambda: {**stamps, output: cells()}, blocks)


def _scores(manifest: Manifest, scores: Scores, stamps: Mapping[str, list]) -> Reply:
    head = {
        "alpha": scores.alpha,
        "expected_rate": scores.expected_rate,
        "threshold": scores.threshold,
    }
    columns = {
        "score": scores.score,
        "ratio": scores.ratio,
        "p_value": scores.p_value,
        "is_anomaly": scores.is_anomaly,
    } | ({} if scores.selected is None else {"selected": scores.selected})
    explanation = {} if scores.explanation is None else {"explanation": scores.explanation}

    def blocks() -> list[Block]:
        return [*_stamp_blocks(stamps), *(Block((name,), values) for name, values in columns.items())]

    return Reply(manifest, head, scores.score, lambda: {**stamps, **columns, **explanation}, blocks)


def _classes(manifest: Manifest, result: Classes) -> Reply:
    label = result.label.tolist()

    def blocks() -> list[Block]:
        names = [f"{PROBABILITY}_{name}" for name in result.classes]
        return [Block(("label",), label), Block(names, result.probability)]

    return Reply(
        manifest,
        {"classes": result.classes},
        result.probability,
        lambda: {"label": label, PROBABILITY: result.probability},
        blocks,
    )


def _stamp_blocks(stamps: Mapping[str, list]) -> Iterator[Block]:
    return (Block((name,), values) for name, values in stamps.items())


def _columns(output: str, manifest: Manifest, shape: tuple[int, ...]) -> Sequence[str]:
    """Names of an array's columns: features where it has them, else positions."""
    names = manifest.feature_names if output == RECONSTRUCTION else None
    return column_names(names, shape or (1,))


# --- forms of answers ---------------------------------------------------------------------------------------


def _to_json(reply: Reply) -> bytes:
    manifest = reply.manifest
    return to_json({"model": manifest.name, "version": manifest.version, **reply.head, **reply.rows()})


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
    np.save(buffer, reply.array, allow_pickle=False)
    return buffer.getvalue()


def _to_csv(reply: Reply) -> bytes:
    """A line of names and one for each sample, with the digits of JSON; LF ends a line."""
    blocks = reply.blocks()
    lines = [b",".join(_quoted(name) for block in blocks for name in block.names)]
    lines += map(b",".join, zip(*(_csv_cells(block.values) for block in blocks), strict=True))
    return b"\n".join(lines) + b"\n"


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


def _to_png(reply: Reply) -> bytes:
    return encode_image(reply.array[0], reply.manifest.value_range)


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
    RAW: lambda reply: np.ascontiguousarray(reply.array).tobytes(),
    ARROW: _to_arrow,
    PARQUET: _to_parquet,
    PNG: _to_png,
}


def encode(media_type: str, reply: Reply) -> tuple[str, bytes]:
    """The content type and the body of an answer in one of the forms that `offers` names."""
    content_type = media_type
    if media_type == CSV:
        content_type = f"{CSV}; charset=utf-8; header=present"
    elif media_type == RAW:
        content_type = raw_type(reply.array)
    return content_type, _ENCODERS[media_type](reply)


def forms(output: str) -> tuple[str, ...]:
    """Every form in which the answer of a verb can come, of one model or another."""
    left_out = {form for form in _ENCODERS if lacks_pyarrow(form) or (form == PNG and output not in _DRAWN)}
    return tuple(form for form in _ENCODERS if form not in left_out)


def offers(output: str, manifest: Manifest, samples: np.ndarray, *, series: bool) -> tuple[str, ...]:
    """Forms in which an answer can come, the default first.

    Parameters
    ----------
    output : str
        The name of the verb's array.
    manifest : Manifest
    samples : ndarray
        Of the request.
    series : bool
        Whether they are the steps of one.
    """
    is_table = {
        RECONSTRUCTION: manifest.kind == "vector" or series,
        LATENT: manifest.latent_shape is not None and len(manifest.latent_shape) == 1,
    }.get(output, True)
    is_picture = output in _DRAWN and manifest.kind == "image" and len(samples) == 1
    return (JSON, NPY, RAW, NDJSON, *table_forms() * is_table, *(PNG,) * is_picture)

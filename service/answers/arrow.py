"""Write answers as Arrow streams and Parquet files; imported late, as `bodies.columnar.arrow` is."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from detector import Manifest
from detector.tables import text_columns
from service.answers.replies import IS_ANOMALY, SELECTED, Block, Reply
from service.bodies.codecs import to_json


def to_arrow(reply: Reply) -> bytes:
    """Return an Arrow IPC stream of one batch."""
    table = _to_table(reply)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def to_parquet(reply: Reply) -> bytes:
    """Return a Parquet file."""
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(_to_table(reply), sink)
    return sink.getvalue().to_pybytes()


def _to_table(reply: Reply) -> pa.Table:
    """Return the columns of an answer; all other values become metadata of the schema, as JSON."""
    blocks, manifest = reply.blocks(), reply.detector.manifest
    columns = [column for block in blocks for column in _columns(block, manifest)]
    names = [name for block in blocks for name in block.names]
    once = {"model": manifest.name, "version": manifest.version, **reply.head()}
    metadata = {name: to_json(value) for name, value in once.items()}
    return pa.table(columns, names=names, metadata=metadata)


def _columns(block: Block, manifest: Manifest) -> Iterator[pa.Array]:
    if isinstance(block.values, np.ndarray):
        for values in block.values.reshape(len(block.values), -1).T:
            yield pa.array(values, from_pandas=True)  # NaN, of a step without a score, becomes null
    elif block.names[0] in (IS_ANOMALY, SELECTED):
        yield pa.array(block.values, pa.bool_())
    elif len(block.names) == 1 and not isinstance(block.values[0], list):
        yield _same_kind(block.values)
    else:
        texts = text_columns(manifest.categories)
        for name, cells in zip(block.names, zip(*block.values, strict=True), strict=True):
            if name in texts:
                yield pa.array([cell if cell is None else str(cell) for cell in cells])
            else:
                yield pa.array(cells, pa.float32())


def _same_kind(values: Sequence[str | int | float]) -> pa.Array:
    """Return labels or time stamps; all as texts if they mix texts and numbers."""
    try:
        return pa.array(values)
    except pa.ArrowException:
        return pa.array(list(map(str, values)))

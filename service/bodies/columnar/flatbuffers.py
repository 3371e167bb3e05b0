"""Read the sizes that the messages of an Arrow stream declare, before anything is inflated.

References
----------
https://github.com/apache/arrow/blob/main/format/Message.fbs, and https://flatbuffers.dev/internals: a table
begins with the distance back to its vtable, which holds two sizes and the offset of each field, 0 for a field
that is absent; vectors and tables are referenced by offsets of 4 bytes.
"""

import struct
from collections.abc import Iterator

_HEADER, _DICTIONARY_DATA = 2, 1  # fields of Message and DictionaryBatch
_LENGTH, _BUFFERS, _COMPRESSION = 0, 2, 3  # fields of RecordBatch
_NOT_COMPRESSED = -1
_SIZE = struct.Struct("<q")


def batch_size(metadata: bytes, body: memoryview, *, dictionary: bool) -> tuple[int, int]:
    """Return the rows of a batch and the inflated size of its buffers in bytes.

    Parameters
    ----------
    metadata : bytes
        The flatbuffer of a message.
    body : memoryview
        The buffers, which may be compressed.
    dictionary : bool
        Whether the batch holds the values of a dictionary instead of rows.

    Raises
    ------
    ValueError
        If the message is inconsistent.
    """
    try:
        batch = _follow(metadata, _field(metadata, _follow(metadata, 0), _HEADER))
        if dictionary:
            batch = _follow(metadata, _field(metadata, batch, _DICTIONARY_DATA))
        length = _field(metadata, batch, _LENGTH)
        rows = _SIZE.unpack_from(metadata, length)[0] if length else 0
        is_compressed = _field(metadata, batch, _COMPRESSION) != 0
        n_bytes = sum(
            _inflated(body, offset, size) if is_compressed else size
            for offset, size in _buffers(metadata, batch)
        )
    except struct.error as error:
        raise ValueError("a message ends within its buffers") from error
    return rows, n_bytes


def _field(data: bytes, table: int, slot: int) -> int:
    """Return the position of a field of a table, 0 if it is absent."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    entry = 4 + 2 * slot
    if entry >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset = struct.unpack_from("<H", data, vtable + entry)[0]
    return table + offset if offset else 0


def _follow(data: bytes, position: int) -> int:
    """Return the position that an offset refers to."""
    return position + int(struct.unpack_from("<I", data, position)[0])


def _buffers(data: bytes, batch: int) -> Iterator[tuple[int, int]]:
    """Yield the offset and size of every buffer."""
    field = _field(data, batch, _BUFFERS)
    if not field:
        return
    vector = _follow(data, field)
    for position in range(struct.unpack_from("<I", data, vector)[0]):
        offset, size = struct.unpack_from("<qq", data, vector + 4 + 16 * position)
        if offset < 0 or size < 0:
            raise ValueError(f"a buffer has {size} bytes at {offset}")
        yield offset, size


def _inflated(body: memoryview, offset: int, size: int) -> int:
    """Return the inflated size, which is the first field of a buffer; -1 marks one that is not compressed."""
    if size == 0:
        return 0
    (inflated,) = _SIZE.unpack_from(body, offset)
    if inflated < _NOT_COMPRESSED:
        raise ValueError(f"a compressed buffer declares {inflated} bytes")
    return size - _SIZE.size if inflated == _NOT_COMPRESSED else inflated

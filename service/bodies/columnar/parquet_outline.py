"""What a Parquet file says of itself, read before anything in it is inflated: rows, columns and pages.

By hand, for two reasons: a reader believes what the pages say of their sizes, whatever the footer says; and
pyarrow 26 ends the process where `metadata.row_group(0).column(0)` is broken.

References
----------
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

import struct
from collections.abc import Iterator

from service.bodies.columnar.thrift import CompactReader, Struct

MAX_FOOTER_BYTES = 2**21
MAX_PAGES = 100_000

_MAGIC = b"PAR1"
# Fields of FileMetaData, RowGroup, ColumnChunk, ColumnMetaData and PageHeader.
_NUM_ROWS, _ROW_GROUPS = 3, 4
_COLUMNS = 1
_META_DATA = 3
_COMPRESSED_BYTES, _DATA_PAGE, _DICTIONARY_PAGE = 7, 9, 11
_PAGE_BYTES, _PAGE_COMPRESSED_BYTES = 2, 3


class Outline:
    """A footer, and the pages that it leads to.

    Attributes
    ----------
    rows : int
        The larger one of the file's own number and the sum over its row groups.
    chunks : list of tuple of int
        First byte and end of each column chunk.

    Raises
    ------
    ValueError
        If it is no Parquet file, or its footer is too long.
    """

    def __init__(self, content: bytes) -> None:
        if len(content) < 12 or content[:4] != _MAGIC or content[-4:] != _MAGIC:
            raise ValueError("it does not begin and end with PAR1")
        (size,) = struct.unpack_from("<I", content, len(content) - 8)
        if size > min(MAX_FOOTER_BYTES, len(content) - 12):
            raise ValueError(f"its footer may have {MAX_FOOTER_BYTES} bytes, got {size}")
        self._content = content
        footer = CompactReader(content, len(content) - 8 - size).read_struct()
        groups = _structs(footer, _ROW_GROUPS)
        self.rows = max(_integer(footer, _NUM_ROWS), sum(_integer(group, _NUM_ROWS) for group in groups))
        columns = [column for group in groups for column in _structs(group, _COLUMNS)]
        self.chunks = [_span(_struct(column, _META_DATA), len(content)) for column in columns]

    def page_sizes(self) -> Iterator[int]:
        """What each page inflates to, in bytes.

        Raises
        ------
        ValueError
            If pages do not fill their column chunk, or there are more than `MAX_PAGES`.
        """
        n_pages = 0
        for position, end in self.chunks:
            while position < end:
                reader = CompactReader(self._content, position)
                page = reader.read_struct()
                position = reader.position + _integer(page, _PAGE_COMPRESSED_BYTES)
                n_pages += 1
                if n_pages > MAX_PAGES or position > end:
                    raise ValueError(f"it may have {MAX_PAGES} pages, each within its column chunk")
                yield _integer(page, _PAGE_BYTES)


def _span(column: Struct, n_bytes: int) -> tuple[int, int]:
    """Where the pages of a column chunk lie: its dictionary, if there is one, stands in front."""
    start = _integer(column, _DATA_PAGE)
    dictionary = _integer(column, _DICTIONARY_PAGE) if _DICTIONARY_PAGE in column else 0
    start = dictionary if 0 < dictionary < start else start
    end = start + _integer(column, _COMPRESSED_BYTES)
    if end > n_bytes:
        raise ValueError(f"a column chunk is said to lie from byte {start} to {end}")
    return start, end


def _integer(fields: Struct, number: int) -> int:
    value = fields.get(number)
    if type(value) is not int or value < 0:
        raise ValueError(f"field {number} must be an integer of at least 0, got {str(value)[:80]}")
    return value


def _struct(fields: Struct, number: int) -> Struct:
    value = fields.get(number)
    if not isinstance(value, dict):
        raise ValueError(f"field {number} must be a struct")
    return value


def _structs(fields: Struct, number: int) -> list[Struct]:
    values = fields.get(number)
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise ValueError(f"field {number} must be a list of structs")
    return values

"""Read the rows, columns and page sizes that a Parquet file declares, before anything is inflated.

pyarrow cannot be used for two reasons: it trusts the sizes in the page headers, whatever the footer says; and
pyarrow 26 crashes if `metadata.row_group(0).column(0)` is invalid. See docs/decisions/0023.

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
# Field numbers of FileMetaData, RowGroup, ColumnChunk, ColumnMetaData and PageHeader.
_NUM_ROWS, _ROW_GROUPS = 3, 4
_COLUMNS = 1
_META_DATA = 3
_COMPRESSED_BYTES, _DATA_PAGE, _DICTIONARY_PAGE = 7, 9, 11
_PAGE_BYTES, _PAGE_COMPRESSED_BYTES = 2, 3


class Outline:
    """The footer of a Parquet file, and the pages that it refers to.

    Attributes
    ----------
    rows : int
        The number that the file declares, or the sum over its row groups if that is larger.
    chunks : list of tuple of int
        Begin and end of each column chunk in the file.

    Raises
    ------
    ValueError
        If this is not a Parquet file, or its footer is too long.
    """

    def __init__(self, content: bytes) -> None:
        if len(content) < 12 or content[:4] != _MAGIC or content[-4:] != _MAGIC:
            raise ValueError("it does not begin and end with PAR1")
        (size,) = struct.unpack_from("<I", content, len(content) - 8)
        if size > min(MAX_FOOTER_BYTES, len(content) - 12):
            raise ValueError(f"its footer may have at most {MAX_FOOTER_BYTES} bytes, got {size}")
        self._content = content
        footer = CompactReader(content, len(content) - 8 - size).read_struct()
        groups = _structs(footer, _ROW_GROUPS)
        self.rows = max(_integer(footer, _NUM_ROWS), sum(_integer(group, _NUM_ROWS) for group in groups))
        columns = [column for group in groups for column in _structs(group, _COLUMNS)]
        self.chunks = [_span(_struct(column, _META_DATA), len(content)) for column in columns]

    def page_sizes(self) -> Iterator[int]:
        """Yield the inflated size of each page in bytes.

        Raise `ValueError` if pages do not fill their column chunk, or there are more than `MAX_PAGES`.
        """
        n_pages = 0
        for position, end in self.chunks:
            while position < end:
                reader = CompactReader(self._content, position)
                page = reader.read_struct()
                position = reader.position + _integer(page, _PAGE_COMPRESSED_BYTES)
                n_pages += 1
                if n_pages > MAX_PAGES or position > end:
                    raise ValueError(f"it may have at most {MAX_PAGES} pages, each within its column chunk")
                yield _integer(page, _PAGE_BYTES)


def _span(column: Struct, n_bytes: int) -> tuple[int, int]:
    """Return begin and end of the pages of a column chunk; a dictionary comes first."""
    start = _integer(column, _DATA_PAGE)
    dictionary = _integer(column, _DICTIONARY_PAGE) if _DICTIONARY_PAGE in column else 0
    start = dictionary if 0 < dictionary < start else start
    end = start + _integer(column, _COMPRESSED_BYTES)
    if end > n_bytes:
        raise ValueError(f"a column chunk is declared from byte {start} to {end}")
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

"""Read as much of Thrift's compact protocol as the outline of a Parquet file needs.

References
----------
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any

_STOP, _TRUE, _FALSE, _BYTE = 0, 1, 2, 3
_INTEGERS = (4, 5, 6)  # with 16, 32 and 64 bits
_DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 7, 8, 9, 10, 12
_MAX_DEPTH = 12
_MAX_VARINT_BYTES = 10

Struct = dict[int, Any]


class CompactReader:
    """Reads consecutive structs.

    Attributes
    ----------
    position : int
        Offset of the next byte.
    """

    def __init__(self, content: bytes, position: int) -> None:
        self._content = content
        self.position = position

    def read_struct(self, depth: int = 0) -> Struct:
        """Return integers, structs and lists of one struct by field number; texts and floats as None.

        Raise `ValueError` if the struct is cut off or invalid.
        """
        if depth > _MAX_DEPTH:
            raise ValueError("its structs are nested too deep")
        fields: Struct = {}
        field = 0
        while (head := self._byte()) != _STOP:
            delta, kind = head >> 4, head & 0x0F
            field = field + delta if delta else self._integer()
            fields[field] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _STRUCT:
            return self.read_struct(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth + 1)
        lengths = {_TRUE: 1, _FALSE: 1, _BYTE: 1, _DOUBLE: 8}  # in a list a boolean takes a byte
        length = self._varint() if kind == _BINARY else lengths.get(kind)
        if length is None:
            raise ValueError(f"it has a field of the kind {kind}")
        self.position += length
        return None

    def _list(self, depth: int) -> list[Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("its lists are nested too deep")
        head = self._byte()
        size, kind = head >> 4, head & 0x0F
        size = self._varint() if size == 0x0F else size
        if size > len(self._content) - self.position:  # an element has at least one byte
            raise ValueError(f"it has a list of {size} elements")
        return [self._value(kind, depth) for _ in range(size)]

    def _byte(self) -> int:
        if not 0 <= self.position < len(self._content):
            raise ValueError("it is cut off")
        self.position += 1
        return self._content[self.position - 1]

    def _varint(self) -> int:
        value = 0
        for position in range(_MAX_VARINT_BYTES):
            byte = self._byte()
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                return value
        raise ValueError("it has a number that is too long")

    def _integer(self) -> int:
        """Return a zigzag-encoded integer, whose last bit is the sign."""
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

"""Large JSON bodies, read as many small ones, so that no step takes the interpreter for long.

A reader of JSON holds the interpreter's lock until it is done, and one that makes Python numbers needs many
times the memory of the body. So the arrays of a body are cut between their values, about every `SLICE_BYTES`
(`json_cuts` says why that is safe), each slice is read as a small array by the readers of small bodies, and
its rows go into one array. Faults come out as if the body had been read at once: what is no JSON, or not
of its type, in the order of the text; after that wrong names, and at last rows of different lengths.

What else is in a body is short, if it is right, and read at once; so is a value that is longer than a slice.
"""

import contextlib
import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from service.bodies import INSTANCES, TIMESTAMPS, Decoded, Expected, Limits, Timestamp
from service.bodies.json.cuts import BLANKS, find_cut, guess_comma, guess_end
from service.bodies.json.members import repeated
from service.bodies.json.numbers import NumberReader
from service.bodies.json.shapes import OPENING, dtype_of, instance_shape, point, rank_of
from service.bodies.json.strict import order_names, ragged, read_array, read_body, to_array
from service.http.problems import Problem

SLICE_BYTES = 256 * 2**10  # 0.4 ms of plain numbers, up to 2 ms of others
_SLACK = 1.1  # of room for rows that are yet to come; what is not used takes no memory
_MOST_MEMBERS = 100  # six have names, and each may be given again
_NO_INSTANCES = b'{"instances":[]'
_OBJECT = re.compile(BLANKS + rb"\{")
_ARRAY = re.compile(BLANKS.join([b"", rb'("(?:[^"\\]|\\.){0,80}")', b":", rb"\["]))
_NEXT = re.compile(BLANKS + b",")


def decode_slices(
    content: bytes | bytearray,
    expected: Expected,
    limits: Limits,
    options: tuple[str, ...],
    slice_bytes: int = SLICE_BYTES,
) -> Decoded:
    """Instances, options and time stamps of a JSON body; arguments as of `codecs.decoder`.

    Raises
    ------
    Problem
        As for a small body, but of too many rows as soon as there are.
    """
    with memoryview(content) as view:
        return _Body(view, expected, limits, options, slice_bytes).decode()


class _Body:
    """A body at work: its members one after another, those that are arrays slice by slice."""

    def __init__(
        self,
        content: memoryview,
        expected: Expected,
        limits: Limits,
        options: tuple[str, ...],
        slice_bytes: int,
    ) -> None:
        self._content = content
        self._expected = expected
        self._limits = limits
        self._options = options
        self._slice_bytes = slice_bytes
        self._rows: _Rows | None = None
        self._timestamps: _Timestamps | None = None
        self._given: dict[str, Any] = {}
        self._repeated: str | None = None  # the name of a member that is there twice

    def decode(self) -> Decoded:
        """The body's content."""
        opening = _OBJECT.match(self._content)
        if opening is None:
            self._read(b"", 0)  # which says that it is no object
        self._read_members(opening.end())
        if self._rows is None:
            self._read(b"{}", len(self._content))  # which says that it has no instances
        if self._repeated is not None:
            raise repeated((), self._repeated)
        samples, point = self._rows.finish()
        timestamps = None if self._timestamps is None else self._timestamps.values
        return Decoded(samples, self._given, point, timestamps)

    def _read_members(self, at: int | None) -> None:
        before = b"{"
        for _ in range(_MOST_MEMBERS):
            array = self._open_array(at)
            at = self._read_option(before, at) if array is None else self._read_array(array)
            if at is None:
                return
            before = _NO_INSTANCES + b","
        raise Problem("malformed-body", f"the body must be an object of at most {_MOST_MEMBERS} members")

    def _open_array(self, at: int) -> "_Rows | _Timestamps | None":
        """What takes the values of the next member, where that is one of the two arrays."""
        member = _ARRAY.match(self._content, at)
        name = member and _unescape(member[1])
        if name == INSTANCES:
            self._note(name, self._rows is not None)
            rank = rank_of(OPENING.match(self._content, member.end() - 1)[0], self._expected)
            self._rows = _Rows(self._expected, rank, member.end(), len(self._content))
            return self._rows
        if name == TIMESTAMPS and self._expected.timestamps:
            self._note(name, self._timestamps is not None)
            self._timestamps = _Timestamps(member.end())
            return self._timestamps
        return None

    def _read_option(self, before: bytes, at: int) -> int | None:
        """Read a member that is short, or is wrong; where the next one begins, if there is one."""
        end = find_cut(self._content, at, at)
        if self._content[end : end + 1] != b",":
            return self._read_last(before, at)
        self._give(self._read(b"{", at, end, b"," + _NO_INSTANCES[1:] + b"}"))
        return end + 1

    def _read_last(self, before: bytes, at: int) -> None:
        """Read what follows the last array and the last comma: the end of the body, or what is wrong."""
        self._give(self._read(before, at))

    def _give(self, members: dict[str, Any]) -> None:
        del members[INSTANCES]  # none, as all arrays are read elsewhere
        for name in members:
            self._note(name, name in self._given)
        self._given |= members

    def _note(self, name: str, is_known: bool) -> None:
        """A member: one that is there twice is told when all has been read."""
        if is_known and self._repeated is None:
            self._repeated = name

    def _read_array(self, array: "_Rows | _Timestamps") -> int | None:
        """Read a member that is an array; where the next one begins, if there is one."""
        at = array.start
        while True:
            end = self._read_slice(array, at)
            self._check_rows()
            if self._content[end : end + 1] != b",":
                break
            at = end + 1
        comma = _NEXT.match(self._content, end + 1)
        return comma.end() if comma else self._read_last(_NO_INSTANCES, end + 1)

    def _read_slice(self, array: "_Rows | _Timestamps", start: int) -> int:
        """Read some values; where the comma, or the bracket, after them stands."""
        window = bytes(self._content[start : start + self._slice_bytes])
        is_last = start + len(window) == len(self._content)
        length = guess_end(window) if is_last else guess_comma(window, array.rank)
        if length is not None:
            end = start + length
            if array.take_plain(window[:length], end):
                return end
            with contextlib.suppress(Problem):
                array.take(self._read_values(array, start, end), end)
                return end
        end = find_cut(self._content, start, start + self._slice_bytes)
        array.take(self._read_values(array, start, end), end)
        return end

    def _read_values(self, array: "_Rows | _Timestamps", start: int, end: int) -> list:
        """The values of a slice by the strict reader.

        It gets a value before and after them where the body has some: it shall see the commas between.
        """
        follows, closing = len(array) > 0, bytes(self._content[end : end + 1])
        before = b"[" + array.filler + b"," if follows else b"["
        after = closing + array.filler + b"]" if closing == b"," else closing
        text = b"".join((before, self._content[start:end], after))
        first, byte = len(array) - follows, start - len(before)
        values = read_array(text, array.name, array.rank, self._expected, first=first, byte=byte)
        return values[follows : len(values) - (closing == b",")]

    def _check_rows(self) -> None:
        most = self._limits.max_rows
        if self._rows is not None and len(self._rows) > most:
            sentence = f"a body may hold {most} samples, got at least {len(self._rows)}"
            raise Problem("too-many-rows", sentence)

    def _read(self, before: bytes, start: int, end: int | None = None, after: bytes = b"") -> dict[str, Any]:
        """The members of a part of the body, made a body by what is put before and after it."""
        text = b"".join((before, self._content[start:end], after))
        return read_body(text, 0, self._expected, self._options, byte=start - len(before))


class _Timestamps:
    """The time stamps of a series, as far as they are read; `start` is where the first one stands."""

    name = TIMESTAMPS
    filler = b"0"
    rank = 0

    def __init__(self, start: int) -> None:
        self.start = start
        self.values: list[Timestamp] = []

    def __len__(self) -> int:
        return len(self.values)

    def take_plain(self, text: bytes, end: int) -> bool:
        """No reader knows them better than the strict one."""
        return False

    def take(self, values: list[Timestamp], end: int) -> None:
        """Time stamps of a slice."""
        self.values += values


class _Rows:
    """The instances, as far as they are read, in one array; `start` is where the first one stands."""

    name = INSTANCES

    def __init__(self, expected: Expected, rank: int, start: int, n_bytes: int) -> None:
        self.start = start
        self.rank = rank
        self.filler = b"[]" if rank else b"0"
        self._expected = expected
        self._n_bytes = n_bytes
        self._numbers = NumberReader()
        self._length = 0
        self._shape: tuple[int, ...] = ()  # that an instance shall have
        self._array: np.ndarray | None = None
        self._named: set[tuple[int, ...]] = set()
        self._misnamed: Problem | None = None
        self._ragged: Problem | None = None

    def __len__(self) -> int:
        return self._length

    def take_plain(self, text: bytes, end: int) -> bool:
        """Instances of a slice, if they are arrays of numbers; whether they are."""
        if self._expected.cells or b'"' in text:
            return False
        read = self._numbers.read(b'{"instances":[%s]}' % text, self.rank)
        if read is None:
            return False
        self._begin(read[0])
        self._add(read[0], end)
        return True

    def take(self, instances: list, end: int) -> None:
        """Instances of a slice; wrong names and lengths are told when all has been read."""
        self._begin(instances)
        try:
            names = self._expected.feature_names
            instances, named = order_names(instances, names, self.rank, self._length)
        except Problem as problem:
            self._misnamed = self._misnamed or problem
            self._length += len(instances)
        else:
            self._named |= named
            self._add(instances, end)

    def finish(self) -> tuple[np.ndarray, Callable[[tuple[int, ...]], str]]:
        """All instances, and what points at their values; as `Decoded` has them."""
        if self._misnamed or self._ragged:
            raise self._misnamed or self._ragged
        if self._array is None:
            samples = to_array([], self._shape, dtype_of(self._expected))
        else:
            samples, self._array = self._array, None
            samples.resize((self._length, *samples.shape[1:]), refcheck=False)
        names = self._expected.feature_names
        return samples, functools.partial(point, names, frozenset(self._named), self.rank)

    def _begin(self, instances: Sequence) -> None:
        if self._length == 0:
            self._shape = instance_shape(instances, self._expected, self.rank)

    def _add(self, instances: list | np.ndarray, end: int) -> None:
        first = self._length
        self._length += len(instances)
        if not len(instances) or self._misnamed or self._ragged:
            return
        try:
            rows = instances
            if isinstance(instances, list):
                rows = to_array(instances, self._shape, dtype_of(self._expected), first)
            self._store(rows, first, end)
        except Problem:
            self._ragged = self._first_ragged(instances, first)

    def _store(self, rows: np.ndarray, first: int, end: int) -> None:
        if self._array is None:
            share = (end - self.start) / (self._n_bytes - self.start)
            self._array = np.empty((int(len(rows) / share * _SLACK), *rows.shape[1:]), rows.dtype)
        if rows.shape[1:] != self._array.shape[1:]:
            raise self._first_ragged(rows, first)
        if self._length > len(self._array):
            self._array.resize((int(self._length * _SLACK), *rows.shape[1:]), refcheck=False)
        self._array[first : self._length] = rows

    def _first_ragged(self, instances: Sequence, first: int) -> Problem:
        """What is wrong where not all instances have one shape."""
        if self._array is not None and self._array.shape[1:] != self._shape:
            return ragged(self._array[:1], self._shape, 0)
        return ragged(instances, self._shape, first)


def _unescape(name: bytes) -> str | None:
    """The name of a member."""
    try:
        return msgspec.json.decode(name, type=str)
    except ValueError:  # of JSON or of UTF-8
        return None

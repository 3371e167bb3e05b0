"""Read large JSON slice by slice, so that no step keeps other threads waiting for long.

A JSON reader holds the interpreter's lock until it is done, and one that makes Python numbers needs many
times the memory of the body. So arrays are cut between two values about every `SLICE_BYTES` (`cuts` says why
that is safe), each slice is read as a small array by the readers of small bodies, and its rows are copied
into one array. Faults are reported as if the body had been read at once: first JSON and type errors in the
order of the text, then wrong names, then rows of different lengths.

An instance of many slices is read in the same way, as an array of its own.

All other members of a valid body are short and are read at once; longer ones are refused, and so is a value
with more text than any way to write it takes. Blanks are skipped a block at a time.
"""
# docs/decisions/0018

import contextlib
import dataclasses
import functools
import math
import re
from collections.abc import Callable
from typing import Any, cast

import msgspec
import numpy as np

from detector.engine.session import check_stop
from service.bodies import INSTANCES, TIMESTAMPS, Decoded, Expected, Instances, Limits, Timestamp, misplaced
from service.bodies.json.cuts import (
    end_of_text,
    find_cut,
    find_last_comma,
    guess_comma,
    guess_end,
    skip_blanks,
)
from service.bodies.json.members import Steps, opening_of, point, repeated, to_pointer
from service.bodies.json.numbers import NumberReader
from service.bodies.json.strict import (
    TRUNCATED,
    list_of,
    order_names,
    ragged,
    read_array,
    read_body,
    read_instances,
    to_array,
    wrong_length,
)
from service.http.problems import Problem

SLICE_BYTES = 256 * 2**10  # 0.4 ms for plain numbers, up to 2 ms for other values
_SLACK = 1.1  # room for rows still to come; pages that stay unused take no memory
_MOST_MEMBERS = 100  # six names are known, and each may be repeated
_MEMBER_BYTES = 64 * 2**10  # of a member that is not an array
_WHOLE_BYTES = 2**20  # of a value that is read at once
_VALUE_BYTES = 64  # of a number as text, with the blanks of an indented document
_NO_INSTANCES = b'{"instances":[]'
_NAME = re.compile(rb'"(?:[^"\\]|\\.){0,80}"')


def decode_slices(
    content: bytes | bytearray,
    expected: Expected,
    limits: Limits,
    options: tuple[str, ...],
    slice_bytes: int = SLICE_BYTES,
) -> Decoded:
    """Read instances, options and time stamps of a JSON body; arguments as for `codecs.decoder`.

    Raises
    ------
    Problem
        As for a small body, but for too many rows as soon as they are read.
    """
    with memoryview(content) as view:
        text = view[: end_of_text(view)]
        return _SlicedBody(text, expected, limits, options, slice_bytes).decode()


def decode_numbers(text: memoryview, shape: tuple[int, ...]) -> np.ndarray:
    """Read a text that is one array of numbers as float64, nested as deep as `shape`; its length may differ.

    Raise `Problem` if the text is not such an array, with pointers as if it were the instances of a body, and
    `too-many-rows` as soon as it is much longer than `shape`.
    """
    most = shape[0] + SLICE_BYTES  # as many as a slice may hold: an array with a few too many is counted
    rows = _Rows(text, 1, Expected(shape[1:]), SLICE_BYTES, len(shape) - 1, most)
    end = rows.read() + 1
    if skip_blanks(text, end) < len(text):
        raise Problem("malformed-body", f"the body is not JSON: its array ends before byte {end}")
    return rows.finish()[0]


def read_elements(
    text: memoryview,
    form: Any,
    place: Steps,
    rank: int,
    most: int,
    keep: Callable[[list[Any], int], object],
    max_bytes: int = 0,
) -> int:
    """Read a text that is one array of values of a type of msgspec; return their number.

    Parameters
    ----------
    text : memoryview
    form : type
        Of an element.
    place : tuple of str or int
        Of the array in the body, for errors.
    rank : int
        The number of axes of an element.
    most : int
        The most elements.
    keep : callable
        Takes some elements and the index of the first one.
    max_bytes : int
        The most bytes of an element, if that is more than those of any value.

    Raises
    ------
    Problem
        If the text is not such an array.
    """
    elements = _Elements(
        text, 1, Expected(()), SLICE_BYTES, rank, most, form=form, where=place, keep=keep, max_bytes=max_bytes
    )
    end = elements.read() + 1
    if skip_blanks(text, end) < len(text):
        raise Problem("malformed-body", f"the body is not JSON: its array ends before byte {end}")
    return elements.n_read


@dataclasses.dataclass
class _SlicedBody:
    """Reads the members of a body one after another, and arrays slice by slice."""

    content: memoryview
    expected: Expected
    limits: Limits
    options: tuple[str, ...]
    slice_bytes: int
    rows: "_Rows | None" = None
    timestamps: "_Timestamps | None" = None
    given: dict[str, Any] = dataclasses.field(default_factory=dict)
    repeated: str | None = None  # name of the first member that is there twice

    def decode(self) -> Decoded:
        """Return the content of the body."""
        start = skip_blanks(self.content, 0)
        if bytes(self.content[start : start + 1]) == b"{":
            self._read_members(start + 1)
        else:
            self._read_rest(b"", start)  # raises, as this is no object
        if self.rows is None:
            self._read(b"{}", len(self.content))  # raises, as there are no instances
        if self.repeated is not None:
            raise repeated((), self.repeated)
        samples, point = cast(_Rows, self.rows).finish()
        timestamps = None if self.timestamps is None else self.timestamps.values
        return Decoded(samples, self.given, point, timestamps)

    def _read_members(self, at: int) -> None:
        before = b"{"
        for _ in range(_MOST_MEMBERS):
            array = self._open_array(at)
            following = self._read_option(before, at) if array is None else self._read_array(array)
            if following is None:
                return
            at, before = following, _NO_INSTANCES + b","
        raise Problem("malformed-body", f"the body must be an object of at most {_MOST_MEMBERS} members")

    def _read_array(self, array: "_Rows | _Timestamps") -> int | None:
        """Read an array; return where the next member begins, None after the last."""
        end = array.read() + 1
        comma = skip_blanks(self.content, end)
        if bytes(self.content[comma : comma + 1]) == b",":
            return comma + 1
        self._read_rest(_NO_INSTANCES, end)
        return None

    def _open_array(self, at: int) -> "_Rows | _Timestamps | None":
        """Return a reader for the next member if it is one of the two arrays."""
        member = _NAME.match(self.content, skip_blanks(self.content, at))
        if member is None:
            return None
        colon = skip_blanks(self.content, member.end())
        bracket = skip_blanks(self.content, colon + 1)
        if (
            bytes(self.content[colon : colon + 1]) != b":"
            or bytes(self.content[bracket : bracket + 1]) != b"["
        ):
            return None
        name = None
        with contextlib.suppress(ValueError):  # not valid JSON, or not UTF-8
            name = msgspec.json.decode(member[0], type=str)
        if name == INSTANCES:
            self._note(name, self.rows is not None)
            rank = self.expected.rank_of(opening_of(self.content[: bracket + _MEMBER_BYTES], bracket))
            self.rows = _Rows(
                self.content, bracket + 1, self.expected, self.slice_bytes, rank, self.limits.max_rows
            )
            return self.rows
        if name == TIMESTAMPS and self.expected.timestamps:
            self._note(name, self.timestamps is not None)
            self.timestamps = _Timestamps(self.content, bracket + 1, self.expected, self.slice_bytes)
            return self.timestamps
        return None

    def _read_option(self, before: bytes, at: int) -> int | None:
        """Read a member that is short or invalid; return where the next one begins, None after the last."""
        end = find_cut(self.content[: at + _MEMBER_BYTES], at, at)
        if bytes(self.content[end : end + 1]) != b"," or end == at + _MEMBER_BYTES:
            self._read_rest(before, at)
            return None
        self._read(b"{", at, end, b"," + _NO_INSTANCES[1:] + b"}")
        return end + 1

    def _read_rest(self, before: bytes, at: int) -> None:
        """Read the last members, or bytes that are none; arguments as for `_read`."""
        most = 2 * _MEMBER_BYTES  # with blanks at the end
        if len(self.content) - at <= most:
            self._read(before, at)
            return
        try:
            self._read(before, at, at + most)  # raises, as the text is cut off
        except Problem as problem:
            if TRUNCATED not in problem.detail:
                raise
        raise Problem(
            "malformed-body",
            f"a member of the body other than {INSTANCES} may have at most {_MEMBER_BYTES} bytes, the one "
            f"at byte {at} has more",
        )

    def _note(self, name: str, is_known: bool) -> None:
        """Note a repeated member, which is reported when all has been read."""
        if is_known and self.repeated is None:
            self.repeated = name

    def _read(self, before: bytes, start: int, end: int | None = None, after: bytes = b"") -> None:
        """Read the short members in a part of the body; `before` and `after` make the part a whole body."""
        text = b"".join((before, self.content[start:end], after))
        members = read_body(text, 0, self.expected, self.options, byte=start - len(before))
        del members[INSTANCES]  # empty: arrays are read elsewhere
        for name in members:
            self._note(name, name in self.given)
        self.given |= members


@dataclasses.dataclass
class _Values:
    """The values of one array, read slice by slice; `start` is the place of the first one."""

    content: memoryview
    start: int
    expected: Expected
    slice_bytes: int
    rank: int = 0
    most: float = math.inf
    n_read: int = dataclasses.field(default=0, init=False)

    @property
    def place(self) -> Steps:
        """The place of the array in the body."""
        raise NotImplementedError

    def take(self, values: list[Any], end: int) -> None:
        """Keep the values of a slice that ends at this place, and count them in `n_read`."""
        raise NotImplementedError

    def take_plain(self, text: bytes, end: int) -> bool:
        """Read and keep the values of a slice fast; return False if the strict reader must do it."""
        return False

    def take_long(self, start: int) -> int:
        """Keep a value of more than `_WHOLE_BYTES`; return the place of the comma or bracket after it."""
        raise self._too_long(start, _WHOLE_BYTES)

    def read_text(self, text: bytes, first: int, byte: int) -> list[Any]:
        """Return the values of a text in brackets; arguments as for `read_array`."""
        raise NotImplementedError

    def read(self) -> int:
        """Read the array; return the place of its closing bracket."""
        at = self.start
        while True:
            end = self._read_slice(at)
            if self.n_read > self.most:
                raise self.too_many()
            if bytes(self.content[end : end + 1]) != b",":
                return end
            at = end + 1

    def too_many(self) -> Problem:
        """Return the problem of an array with more than `most` values."""
        sentence = f"a body may hold at most {self.most} samples, got at least {self.n_read}"
        return Problem("too-many-rows", sentence)

    def _read_slice(self, start: int) -> int:
        """Read some values; return the place of the comma or bracket after them."""
        check_stop()
        window = bytes(self.content[start : start + self.slice_bytes])
        is_last = start + len(window) == len(self.content)
        length = guess_end(window) if is_last else guess_comma(window, self.rank)
        if length is not None:
            end = start + length
            if self.take_plain(window[:length], end):
                return end
            with contextlib.suppress(Problem):
                self.take(self._read_strictly(start, end), end)
                return end
        most = start + self.slice_bytes + _WHOLE_BYTES
        end = find_cut(self.content[:most], start, start + self.slice_bytes)
        if end == most < len(self.content):  # one of the values is long
            last = find_last_comma(self.content[:most], start)
            if last is None:
                return self.take_long(start)
            end = last
        self.take(self._read_strictly(start, end), end)
        return end

    def _read_strictly(self, start: int, end: int) -> list[Any]:
        """Return the values of a slice by the strict reader.

        A filler replaces the values before and after the slice, so that the commas between are checked.
        """
        follows, closing = self.n_read > 0, bytes(self.content[end : end + 1])
        filler = b"[]" if self.rank else b"0"
        before = b"[" + filler + b"," if follows else b"["
        after = closing + filler + b"]" if closing == b"," else closing
        text = b"".join((before, self.content[start:end], after))
        values = self.read_text(text, self.n_read - follows, start - len(before))
        return values[follows : len(values) - (closing == b",")]

    def _too_long(self, start: int, n_bytes: int) -> Problem:
        """Return the problem of a value that begins here; its first fault, if it has one near its begin."""
        before = b"["
        text = b"".join((before, self.content[start : start + self.slice_bytes]))
        try:
            self.read_text(text, self.n_read, start - len(before))
        except Problem as problem:
            if TRUNCATED not in problem.detail:
                return problem
        return _misplaced((*self.place, self.n_read), f"may have at most {n_bytes} bytes, got more")


def _misplaced(place: Steps, sentence: str) -> Problem:
    pointer = to_pointer(place)
    return misplaced(f"{pointer} {sentence}", pointer=pointer)


@dataclasses.dataclass
class _Timestamps(_Values):
    """The time stamps of a series; only the strict reader reads them."""

    values: list[Timestamp] = dataclasses.field(default_factory=list)

    @property
    def place(self) -> Steps:
        """See `_Values`."""
        return (TIMESTAMPS,)

    def take(self, values: list[Timestamp], end: int) -> None:
        """See `_Values`."""
        self.n_read += len(values)
        self.values += values

    def read_text(self, text: bytes, first: int, byte: int) -> list[Any]:
        """See `_Values`."""
        return read_array(text, list_of(Timestamp), self.place, self.expected, first=first, byte=byte)


@dataclasses.dataclass(kw_only=True)
class _Elements(_Values):
    """The elements of any array; see `read_elements`."""

    form: Any
    where: Steps
    keep: Callable[[list[Any], int], object]
    max_bytes: int

    @property
    def place(self) -> Steps:
        """See `_Values`."""
        return self.where

    def take(self, values: list[Any], end: int) -> None:
        """See `_Values`."""
        self.keep(values, self.n_read)
        self.n_read += len(values)

    def read_text(self, text: bytes, first: int, byte: int) -> list[Any]:
        """See `_Values`."""
        return read_array(text, list_of(self.form), self.place, self.expected, first=first, byte=byte)

    def take_long(self, start: int) -> int:
        """See `_Values`."""
        most = start + max(self.max_bytes, _WHOLE_BYTES)
        end = find_cut(self.content[:most], start, start)
        if end == most < len(self.content):
            raise self._too_long(start, most - start)
        self.take(self._read_strictly(start, end), end)
        return end

    def too_many(self) -> Problem:
        """See `_Values`."""
        return _misplaced(self.place, f"must have {self.most} elements, got at least {self.n_read}")


@dataclasses.dataclass
class _Rows(_Values):
    """The instances in one array, at most `most` of them, or the elements of the instance `within`."""

    within: tuple[int, ...] = ()
    numbers: NumberReader = dataclasses.field(default_factory=NumberReader)
    shape: tuple[int, ...] = ()  # shape that an instance must have
    array: np.ndarray | None = None
    named: set[tuple[int, ...]] = dataclasses.field(default_factory=set)
    misnamed: Problem | None = None
    ragged: Problem | None = None

    @property
    def place(self) -> Steps:
        """See `_Values`."""
        return (INSTANCES, *self.within)

    def read_text(self, text: bytes, first: int, byte: int) -> list[Any]:
        """See `_Values`."""
        return read_instances(text, self.place, self.rank, self.expected, first=first, byte=byte)

    def take_long(self, start: int) -> int:
        """Read an instance of many numbers as an array of its own."""
        names = self.expected.feature_names or ("",)
        most = math.prod(self.expected.shape) * (_VALUE_BYTES + max(map(len, names)))
        opening = skip_blanks(self.content, start)
        if self.rank == 0 or most <= _WHOLE_BYTES or bytes(self.content[opening : opening + 1]) != b"[":
            raise self._too_long(start, max(most, _WHOLE_BYTES))
        self._begin([()])
        element = dataclasses.replace(self.expected, shape=self.shape[1:], series=False)
        rows = _Rows(
            self.content[: start + most],
            opening + 1,
            element,
            self.slice_bytes,
            self.rank - 1,
            within=(*self.within, self.n_read),
        )
        try:
            end = skip_blanks(self.content, rows.read() + 1)
        except Problem as problem:
            if TRUNCATED in problem.detail:
                raise self._too_long(start, most) from problem
            raise
        if bytes(self.content[end : end + 1]) not in (b",", b"]"):
            self.read_text(b"[[]" + bytes(self.content[end : end + 1]), self.n_read, end - 3)  # raises
        self._take_instance(rows, end)
        return end

    def _take_instance(self, rows: "_Rows", end: int) -> None:
        """Keep an instance that was read as an array of its own."""
        self.misnamed = self.misnamed or rows.misnamed
        self.named |= rows.named
        if rows.ragged and not self.ragged:
            is_whole = rows.n_read == self.shape[0]
            self.ragged = rows.ragged if is_whole else wrong_length(rows.within, self.shape[0], rows.n_read)
        if self.misnamed or self.ragged:
            self.n_read += 1
        else:
            self._add(rows.finish()[0][np.newaxis], end)

    def take_plain(self, text: bytes, end: int) -> bool:
        """Keep instances that are arrays of nothing but numbers."""
        if self.expected.cells or b'"' in text:
            return False
        read = self.numbers.read(b'{"instances":[%s]}' % text, self.rank)
        if read is None:
            return False
        self._begin(read[0])
        self._add(read[0], end)
        return True

    def take(self, instances: list[Any], end: int) -> None:
        """Keep instances; wrong names and lengths are reported when all has been read."""
        self._begin(instances)
        try:
            names = self.expected.feature_names
            instances, named = order_names(instances, names, self.rank, self.n_read, self.within)
        except Problem as problem:
            self.misnamed = self.misnamed or problem
            self.n_read += len(instances)
        else:
            self.named |= named
            self._add(instances, end)

    def finish(self) -> tuple[np.ndarray, Callable[[tuple[int, ...]], str]]:
        """Return all instances and the function that makes pointers to their values, as for `Decoded`."""
        if problem := self.misnamed or self.ragged:
            raise problem
        if self.array is None:
            samples = to_array([], self.shape, self.expected.dtype)
        else:
            samples = self.array[: self.n_read]  # a view: NumPy 2.5 copies an array that shrinks
        names = self.expected.feature_names
        return samples, functools.partial(point, names, frozenset(self.named), self.rank)

    def _begin(self, instances: Instances) -> None:
        if self.n_read == 0:
            self.shape = self.expected.instance_shape(instances, self.rank)

    def _add(self, instances: Instances, end: int) -> None:
        first = self.n_read
        self.n_read += len(instances)
        if not len(instances) or self.misnamed or self.ragged:
            return
        try:
            dtype = self.expected.dtype
            rows = to_array(instances, self.shape, dtype, first) if isinstance(instances, list) else instances
            self._store(rows, first, end)
        except Problem:
            self.ragged = self._first_ragged(instances, first)

    def _store(self, rows: np.ndarray, first: int, end: int) -> None:
        if self.array is None:
            share = (end - self.start) / (len(self.content) - self.start)
            self.array = np.empty((int(len(rows) / share * _SLACK), *rows.shape[1:]), rows.dtype)
        if rows.shape[1:] != self.array.shape[1:]:
            raise self._first_ragged(rows, first)
        if self.n_read > len(self.array):
            self.array.resize((int(self.n_read * _SLACK), *rows.shape[1:]), refcheck=False)
        self.array[first : self.n_read] = rows

    def _first_ragged(self, instances: Instances, first: int) -> Problem:
        """Return the problem of the first instance that has not the expected shape."""
        if self.array is not None and self.array.shape[1:] != self.shape:
            return ragged(self.array[:1], self.shape, 0, self.within)
        return ragged(instances, self.shape, first, self.within)

"""Find places where the text of a long JSON array can be cut between two of its values.

A guess is enough, because it can be proven. Let A be the text from the begin of a value in an array to a
comma. If `[A]` is JSON, then A consists of complete values and commas, and no bracket is open after it but
that of the array. So the comma after A separates two values of the array; a bracket after A would close it.
If `[A]` is not JSON, either the guess or the text is wrong, and `find_cut` scans the text instead.
"""

import functools
import re
from collections.abc import Iterator

import numpy as np

from detector.engine.session import check_stop

BLANKS = rb"[ \t\n\r]{0,1024}"  # in JSON, for patterns; \s would match more, and * hold other threads
_BLANK = b" \t\n\r"
_STEP = 64 * 2**10  # bytes scanned at a time, about 0.3 ms; at least two, the length of an escape
_NEAR = (2**10, 32 * 2**10)  # bytes at the end of a window that are searched first
_NO_NUMBER = re.compile(rb'["{}]')
_QUOTE, _COMMA = ord('"'), ord(",")
_DEPTH = np.zeros(256, dtype=np.int8)
_DEPTH[list(b"[{")] = 1
_DEPTH[list(b"]}")] = -1


def guess_comma(window: bytes, rank: int) -> int | None:
    """Return the last comma that follows as many closing brackets as an instance of this rank has.

    The first bracket may be a brace. Return None if there is no such comma.
    """
    pattern = _end_of_instance(rank, objects=b"{" in window)
    for near in (*_NEAR, len(window)):
        cut = None
        for match in pattern.finditer(window, max(0, len(window) - near)):
            cut = match.end() - 1
        if cut is not None:
            return cut
    return None


@functools.cache
def _end_of_instance(rank: int, *, objects: bool) -> re.Pattern[bytes]:
    brackets = [rb"[\]}]" if objects else rb"\]"] * min(rank, 1) + [rb"\]"] * (rank - 1)
    return re.compile(BLANKS.join([*brackets, b","]))


def guess_end(window: bytes) -> int | None:
    """Return the last closing bracket before any text or brace: members may follow an array of numbers."""
    follows = _NO_NUMBER.search(window)
    end = window.rfind(b"]", 0, follows.start() if follows else len(window))
    return end if end >= 0 else None


def find_cut(content: memoryview, start: int, least: int) -> int:
    """Return the first comma between values at or after `least`, or the bracket that ends the array.

    `start`, at most `least`, is the begin of a value of the array, or of a member of an object. Return the
    length of the content if it ends before that. If the text is not JSON, the result may be any place that is
    not before the fault.
    """
    for at, commas, ends in _scan(content, start):
        cuts = np.concatenate((commas[commas >= least - at], ends[:1]))
        if cuts.size:
            return at + int(cuts.min())
    return len(content)


def find_last_comma(content: memoryview, start: int) -> int | None:
    """Return the last comma between values of an array, of which the content may hold only the beginning."""
    found = None
    for at, commas, ends in _scan(content, start):
        if ends.size:
            commas = commas[commas < ends[0]]
        if commas.size:
            found = at + int(commas[-1])
        if ends.size:
            break
    return found


def _scan(content: memoryview, start: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the begin of each block, and places in it: commas between values, and brackets that end them."""
    depth, in_text, at = 0, False, start
    while at < len(content):
        check_stop()
        # Escaped quotes and backslashes count as blanks; a final backslash is left to the next block.
        block = bytes(content[at : at + _STEP]).replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
        if block.endswith(b"\\") and len(block) > 1:
            block = block[:-1]
        codes = np.frombuffer(block, np.uint8)
        within = np.cumsum(codes == _QUOTE, dtype=np.int32) + in_text & 1
        depths = np.cumsum(_DEPTH[codes] * (1 - within), dtype=np.int64) + depth
        commas = (codes == _COMMA) & (depths == 0) & (within == 0)
        yield at, np.flatnonzero(commas), np.flatnonzero(depths < 0)
        depth, in_text = int(depths[-1]), bool(within[-1])
        at += len(block)


def skip_blanks(content: memoryview, at: int) -> int:
    """Return the place of the first byte from here on that is not blank, or the length of the content."""
    while at < len(content):
        block = bytes(content[at : at + _STEP])
        rest = block.lstrip(_BLANK)
        if rest:
            return at + len(block) - len(rest)
        check_stop()
        at += len(block)
    return at


def end_of_text(content: memoryview) -> int:
    """Return the length of the content without the blank blocks at its end, of which one may be left."""
    end = len(content)
    while end > _STEP and not bytes(content[end - _STEP : end]).strip(_BLANK):
        check_stop()
        end -= _STEP
    return end

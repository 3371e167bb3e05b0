"""Where the text of a long JSON array may be cut between two of its values.

A guess is as good as knowledge here, for it can be proven. Let a reader stand within an array where a value
is due, and let A be the text up to a comma. What JSON allows next depends only on the brackets that are open
and on what has been read since the last of them. So if `[A]` is JSON, A is values and commas, at its end a
value is complete and no bracket is open but that of the array, and the comma after A can only be one between
two of its values. In the same way a bracket after A can only be the one that closes it. Where `[A]` is not
JSON, the guess was wrong or the text is; then `find_cut` goes through the text.
"""

import functools
import re

import numpy as np

BLANKS = rb"[ \t\n\r]*"  # of JSON, which are fewer than those of a regular expression
_STEP = 64 * 2**10  # bytes that are looked at at a time, about 0.3 ms; two at least, for an escape has two
_NEAR = (2**10, 32 * 2**10)  # bytes before the end of a window where a cut is looked for first
_NO_NUMBER = re.compile(rb'["{}]')
_QUOTE, _COMMA = ord('"'), ord(",")
_DEPTH = np.zeros(256, dtype=np.int8)
_DEPTH[list(b"[{")] = 1
_DEPTH[list(b"]}")] = -1


def guess_comma(window: bytes, rank: int) -> int | None:
    """The last comma in a window that follows as many closing brackets as an instance of that rank has.

    The first of them may be a brace. None where there is no such comma.
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
    """The first comma between values at or after `least`, or the bracket that ends the array.

    Of text that is not JSON any place may come out, but none before what is wrong with it.

    Parameters
    ----------
    content : memoryview
    start : int
        Where a value of the array, or a member of an object, begins.
    least : int
        At or after `start`.

    Returns
    -------
    int
        The length of the content where it ends before.
    """
    depth, in_text, at = 0, False, start
    while at < len(content):
        block = _without_escapes(bytes(content[at : at + _STEP]))
        codes = np.frombuffer(block, np.uint8)
        within = np.cumsum(codes == _QUOTE, dtype=np.int32) + in_text & 1
        depths = np.cumsum(_DEPTH[codes] * (1 - within), dtype=np.int64) + depth
        commas = (codes == _COMMA) & (depths == 0) & (within == 0)
        commas[: max(0, least - at)] = False
        cuts = np.flatnonzero(commas | (depths < 0))
        if cuts.size:
            return at + int(cuts[0])
        depth, in_text = int(depths[-1]), bool(within[-1])
        at += len(block)
    return len(content)


def _without_escapes(block: bytes) -> bytes:
    """The block with blanks for escaped quotes and backslashes; a last backslash is left to the next one."""
    plain = block.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")
    return plain[:-1] if plain.endswith(b"\\") and len(plain) > 1 else plain

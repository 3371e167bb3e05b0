"""Bodies of lines, each a JSON instance, answered line by line as they arrive, under any server.

Such a body may have no end, so memory must not grow with it: the lines that have arrived make a batch of
bounded size, and a batch is answered before the next one is made.
"""

import dataclasses
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from detector import Detector, DetectorError, InputError
from service import answers
from service.answers.replies import reply_to
from service.bodies import INSTANCES, Expected, Limits
from service.bodies.encodings import mark_bytes
from service.bodies.json.members import OPENING
from service.bodies.json.numbers import NumberReader
from service.bodies.json.strict import order_names, ragged, read_instances, to_array
from service.http import problems
from service.http.problems import Problem
from service.scoring import verbs
from service.scoring.calls import Call

HEADERS = {"X-Accel-Buffering": "no"}  # so that nginx passes every line on at once
LINE_BYTES = 2**20  # of a line; more if a sample needs more
VALUE_BYTES = 32  # of a number as text, with some blanks
BATCH_BYTES = 256 * 2**10  # the size of a slice of a large JSON body
BATCH_ROWS = 4096
BATCH_VALUES = 2**18  # of the answer; a decoder makes many values from a few
RETRY_SECONDS = 0.05  # until a batch that was refused for overload asks again
CONTRIBUTION_VALUES = 16  # writing a contribution costs as much as so many values of an array
_BLANKS = b" \t\r"
_SKIPPED = re.compile(rb"[ \t\r\n]*")  # before the first byte of a line
_OF_BODY = re.compile("^(?:/instances/0(?=/)|(/instances/0|instance 0|the body))")
_IN_ROW = re.compile(" in row 0, ")

Row = int
# Runs calls within the deadline of their batch; returns the outcome of each.
Run = Callable[[Sequence[Call]], Sequence[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Lines that arrived together, and the number of the first; a line too long is its length."""

    first: int
    lines: Sequence[bytes | int]
    n_bytes: int


class Lines:
    """Cuts a body into lines and batches; skips blank lines and does not count them.

    Parameters
    ----------
    max_rows : int
        The most lines of a batch.
    max_line_bytes : int
        The most bytes of a line; a longer one is not kept.
    """

    def __init__(self, max_rows: int, max_line_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_line_bytes = max_line_bytes
        self._begun = bytearray()
        self._lost = 0  # bytes of the incomplete line, if it is too long
        self._ready: deque[bytes | int] = deque()  # texts of whole lines, lengths of long ones
        self._n_ready = self._ready_bytes = 0
        self._any_ended = False
        self.rows = 0  # taken

    @property
    def begun_bytes(self) -> int:
        """Bytes of the incomplete line."""
        return len(self._begun)

    @property
    def is_full(self) -> bool:
        """Whether there is enough for a batch."""
        return self._ready_bytes >= BATCH_BYTES or self._n_ready >= self._max_rows

    def feed(self, data: bytes) -> bool:
        """Add bytes of the body; return whether a line ended."""
        first, last = data.find(b"\n"), data.rfind(b"\n")
        if first < 0:
            self._extend(data)
            return False
        self._extend(data[:first])
        self._end_line()
        if last > first:
            self._keep(data[first + 1 : last + 1])
        self._extend(data[last + 1 :])
        return True

    def end(self) -> None:
        """End the body, and with it the last line."""
        self._end_line()

    def take(self) -> Batch | None:
        """Return the next lines, as many as may be run at once; None if there is none."""
        first, lines, n_bytes = self.rows, [], 0
        while self._ready and len(lines) < self._max_rows and n_bytes < BATCH_BYTES:
            ready = self._take_ready()
            if isinstance(ready, int):
                lines.append(ready)
                continue
            at = _SKIPPED.match(ready).end()
            while at < len(ready) and len(lines) < self._max_rows and n_bytes < BATCH_BYTES:
                end = ready.find(b"\n", at)
                lines.append(self._cut(ready, at, end))
                n_bytes += end - at
                at = _SKIPPED.match(ready, end).end()
            if at < len(ready):
                self._keep(ready[at:], is_next=True)
        self.rows += len(lines)
        return Batch(first, lines, n_bytes) if lines else None

    def _cut(self, text: bytes, begin: int, end: int) -> bytes | int:
        """Return the line of a text that begins here, without blanks."""
        n_bytes = end - text.rfind(b"\n", 0, begin) - 1
        return n_bytes if n_bytes > self._max_line_bytes else text[begin:end].rstrip(_BLANKS)

    def _extend(self, part: bytes) -> None:
        if self._lost:
            self._lost += len(part)
            return
        self._begun += part
        if len(self._begun) > self._max_line_bytes:
            self._lost = len(self._begun)
            self._begun = bytearray()

    def _end_line(self) -> None:
        if not self._any_ended:
            self._any_ended = True
            del self._begun[: mark_bytes(self._begun)]
        self._keep(self._lost or bytes(self._begun) + b"\n")
        self._begun, self._lost = bytearray(), 0

    def _keep(self, lines: bytes | int, *, is_next: bool = False) -> None:
        """Keep whole lines, before all others if they are the next ones."""
        self._n_ready += _count(lines)
        self._ready_bytes += _size(lines)
        (self._ready.appendleft if is_next else self._ready.append)(lines)

    def _take_ready(self) -> bytes | int:
        lines = self._ready.popleft()
        self._n_ready -= _count(lines)
        self._ready_bytes -= _size(lines)
        return lines


def _count(lines: bytes | int) -> int:
    """Return the number of lines, blank ones included."""
    return 1 if isinstance(lines, int) else lines.count(b"\n")


def _size(line: bytes | int) -> int:
    """Return the bytes that a line takes in memory."""
    return 0 if isinstance(line, int) else len(line)


@dataclasses.dataclass(frozen=True)
class LineReader:
    """Reads and answers lines for a verb of one model.

    Attributes
    ----------
    detector : Detector
    run : callable
        A verb of `service.scoring.verbs`.
    make_request : type
        The class of request that `run` takes.
    output : str
        The name of the verb's array.
    options : mapping of str to Any
        Options for every line.
    expected : Expected
    limits : Limits
    """

    detector: Detector
    run: Callable[[list], list]
    make_request: type
    output: str
    options: Mapping[str, Any]
    expected: Expected
    limits: Limits

    def open(self) -> Lines:
        """Return a cutter for the lines of one body."""
        return Lines(self._max_rows(), self.max_line_bytes)

    @property
    def max_line_bytes(self) -> int:
        """The most bytes of a line: enough for any way to write a sample."""
        names = self.expected.feature_names or ("",)
        n_bytes = math.prod(self.expected.shape) * (VALUE_BYTES + max(map(len, names)))
        return max(LINE_BYTES, min(n_bytes, self.limits.max_bytes))

    def _max_rows(self) -> int:
        n_values = max(math.prod(self.expected.shape), math.prod(self.detector.manifest.sample_shape))
        explain = self.options.get("explain")
        if isinstance(explain, int):
            n_values *= CONTRIBUTION_VALUES
        return max(1, min(BATCH_ROWS, BATCH_VALUES // n_values))

    def answer(self, batch: Batch, run: Run) -> bytes:
        """Return a line for each line of a batch, in order; an invalid line does not affect the others.

        Raises
        ------
        Problem
            If all of them fail: `deadline-exceeded`, and the problems that `run` itself raises.
        """
        decoded, written = self._decode(batch)
        for rows, outcome in self._run(decoded, run):
            if isinstance(outcome, Exception):
                written[rows[0]] = to_error_line(self._placed(outcome), rows[0])
            else:
                written.update(zip(rows, outcome, strict=True))
        return b"".join([written[row] for row in sorted(written)])

    def _run(
        self, decoded: Mapping[Row, np.ndarray] | tuple[Sequence[Row], np.ndarray], run: Run
    ) -> Iterator[tuple[Sequence[Row], Any]]:
        """Yield rows and their lines; if the model cannot take one of the rows, run each row alone."""
        rows, samples = decoded
        if not len(rows):
            return
        (outcome,) = run([self._call(rows, samples)])
        if not isinstance(outcome, Exception):
            yield rows, outcome
            return
        if not isinstance(outcome, DetectorError):
            raise outcome
        each = [([row], samples[number : number + 1]) for number, row in enumerate(rows)]
        for (own, _), outcome in zip(each, run([self._call(*one) for one in each]), strict=True):
            yield own, outcome

    def _placed(self, error: Exception) -> Exception:
        """Return the problem of an input error, with its column."""
        if not isinstance(error, InputError) or error.index is None:
            return error
        sentence, place = _IN_ROW.sub(" in ", str(error)), {}
        names, position = self.expected.feature_names, error.index[1:]
        if len(position) == 1:
            place["column"] = names[position[0]] if names else position[0]
        return Problem("invalid-input", sentence, [{"detail": sentence, **place}])

    def _call(self, rows: Sequence[Row], samples: np.ndarray) -> Call:
        return Call((self.run, self.detector), self, samples, self.options, None, rows)

    def request(self, samples: np.ndarray, options: Mapping[str, Any]) -> verbs.Request:
        """See `Asker`."""
        return self.make_request(self.detector, samples, **options)

    def finish(self, call: Call, result: Any) -> list[bytes]:
        """See `Asker`; the answer is a line for each row."""
        if isinstance(result, Exception):
            raise result
        return answers.to_lines(reply_to(self.output, self.detector, result), call.form)

    # --- lines to samples -----------------------------------------------------------------------------------

    def _decode(self, batch: Batch) -> tuple[tuple[Sequence[Row], np.ndarray], dict[Row, bytes]]:
        """Return the row numbers and samples of valid lines, and the answers to invalid lines."""
        samples = self._decode_plain(batch.lines)
        if samples is not None:
            return (range(batch.first, batch.first + len(samples)), samples), {}
        good, refused = {}, {}
        for row, line in enumerate(batch.lines, batch.first):
            try:
                good[row] = self._decode_line(line)
            except Problem as problem:
                refused[row] = to_error_line(_of_line(problem), row)
        return (list(good), np.concatenate(list(good.values())) if good else np.empty(0)), refused

    def _decode_plain(self, lines: Sequence[bytes | int]) -> np.ndarray | None:
        """Read lines that are all arrays of numbers as one body; return None if they may not be.

        Joined they must be as many instances as lines. Since each line begins with a bracket and closes as
        many as it opens, each line is then one instance.
        """
        if self.expected.cells or not all(map(_is_plain, lines)):
            return None
        rank = self._rank(lines[0])
        read = NumberReader().read(b'{"instances":[%s]}' % b",".join(lines), rank)
        if read is None or len(read[0]) != len(lines):
            return None
        return self._as_samples(read[0])

    def _decode_line(self, line: bytes | int) -> np.ndarray:
        """Return one sample as a batch of one."""
        if isinstance(line, int):
            sentence = f"a line may have at most {self.max_line_bytes} bytes, got {line}"
            raise Problem("line-too-long", sentence)
        rank = self._rank(line)
        instances = read_instances(b"[%s]" % line, (INSTANCES,), rank, self.expected, first=0, byte=-1)
        if len(instances) != 1:
            raise Problem("malformed-body", f"a line must hold one instance, got {len(instances)}")
        shape = self.expected.instance_shape(instances, rank)
        instances, _ = order_names(instances, self.expected.feature_names, rank)
        array = to_array(instances, shape, self.expected.dtype)
        if array.shape[1:] != shape:
            raise ragged(instances, shape, 0)
        samples = self._as_samples(array)
        if samples is None:
            wanted = ", ".join(map(str, self.expected.shape))
            sentence = f"the line must be a window of shape ({wanted}), not a step of a series"
            raise Problem("invalid-input", sentence, [{"detail": sentence, "pointer": ""}])
        return samples

    def _rank(self, line: bytes) -> int:
        return self.expected.rank_of(OPENING.match(b"[" + line)[0])

    def _as_samples(self, samples: np.ndarray) -> np.ndarray | None:
        """Add the axis of a single channel if it is missing; return None if these are not whole samples."""
        shape = self.expected.shape
        if self.expected.series and (*samples.shape[1:], 1) == shape:
            samples = samples[..., np.newaxis]
        return samples if samples.shape[1:] == shape else None


def _is_plain(line: bytes | int) -> bool:
    if isinstance(line, int):
        return False
    return line.startswith(b"[") and b'"' not in line and line.count(b"[") == line.count(b"]")


def _of_line(problem: Problem) -> Problem:
    """Reword the problem of a body with one instance as the problem of a line."""
    errors = [place | {"detail": _reword(place["detail"])} | _own_pointer(place) for place in problem.errors]
    return Problem(problem.type, _reword(problem.detail), errors)


def _reword(sentence: str) -> str:
    return _OF_BODY.sub(lambda match: "the line" if match[1] else "", sentence)


def _own_pointer(place: Mapping[str, Any]) -> dict[str, str]:
    return {"pointer": place["pointer"].removeprefix("/instances/0")} if "pointer" in place else {}


def to_error_line(error: Exception, row: Row | None = None) -> bytes:
    """Return the line for an error in a row, or in the rest of the body if `row` is None."""
    document = problems.describe(problems.translate(error))
    for place in document.get("errors", ()):
        place.pop("row", None)
    head = {} if row is None else {"row": row}
    return orjson.dumps(head | {"error": document}, option=orjson.OPT_APPEND_NEWLINE)


def check_protocol(version: str) -> None:
    """Refuse HTTP/1.0, in which an answer cannot be sent in parts."""
    if version.endswith("1.0"):
        raise Problem("bad-request", "lines are answered in chunks, which need HTTP/1.1, got HTTP/1.0")


def no_lines() -> Problem:
    """Return the problem of a body without a line."""
    return Problem("malformed-body", "the body has no line")

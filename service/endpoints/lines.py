"""Bodies of lines, each a JSON instance, answered line by line while they come; no server is known here.

Nobody waits for the end of such a body, so nothing here grows with it: what comes is cut into lines, whatever
lines are there make a batch of bounded size, and a batch is answered before the next one is made.
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
from service.bodies.json.numbers import NumberReader
from service.bodies.json.shapes import OPENING, dtype_of, instance_shape, rank_of
from service.bodies.json.strict import order_names, ragged, read_array, to_array
from service.http import problems
from service.http.problems import Problem
from service.scoring.calls import Call

HEADERS = {"X-Accel-Buffering": "no"}  # nginx shall pass every line on at once
LINE_BYTES = 2**20  # of a line, and more where a sample is larger
VALUE_BYTES = 32  # of a number as text, with room for blanks
BATCH_BYTES = 256 * 2**10  # as a slice of a large JSON body
BATCH_ROWS = 4096
BATCH_VALUES = 2**18  # of the answer; a decoder makes many of few
RETRY_SECONDS = 0.05  # until a batch that found too much at work asks again
CONTRIBUTION_VALUES = 16  # what writing a contribution costs in values of an array
_BLANKS = b" \t\r"
_OF_BODY = re.compile("^(?:/instances/0(?=/)|(/instances/0|instance 0|the body))")

_IN_ROW = re.compile(" in row 0, ")

Row = int
# Calls to the outcome of each, within the deadline of their batch.
Run = Callable[[Sequence[Call]], Sequence[Any]]


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Lines that were there together, the first one of that number; of one too long there is its length."""

    first: int
    lines: Sequence[bytes | int]
    n_bytes: int


class Lines:
    """Cuts what comes into lines and batches; blank lines are left out and not counted.

    Parameters
    ----------
    max_rows : int
        Of a batch.
    max_line_bytes : int
        Of a line; of a longer one nothing is kept.
    """

    def __init__(self, max_rows: int, max_line_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_line_bytes = max_line_bytes
        self._begun = bytearray()
        self._lost = 0  # bytes of the begun line, where it is too long
        self._ready: deque[bytes | int] = deque()
        self.rows = 0  # taken
        self.n_bytes = 0  # of the lines that are ready

    @property
    def begun_bytes(self) -> int:
        """Of the line that has not ended."""
        return len(self._begun)

    @property
    def is_full(self) -> bool:
        """Whether there is enough for a batch."""
        return self.n_bytes >= BATCH_BYTES or len(self._ready) >= self._max_rows

    def feed(self, data: bytes) -> bool:
        """Take what came next; whether a line ended."""
        first, *others = data.split(b"\n")
        self._extend(first)
        for part in others:
            self._end_line()
            self._extend(part)
        return bool(others)

    def end(self) -> None:
        """The body is over: what was begun is a line."""
        self._end_line()

    def take(self) -> Batch | None:
        """The next lines, as many as may be run at once."""
        if not self._ready:
            return None
        first, lines, n_bytes = self.rows, [], 0
        while self._ready and len(lines) < self._max_rows and n_bytes < BATCH_BYTES:
            lines.append(self._ready.popleft())
            n_bytes += _size(lines[-1])
        self.rows += len(lines)
        self.n_bytes -= n_bytes
        return Batch(first, lines, n_bytes)

    def _extend(self, part: bytes) -> None:
        if self._lost:
            self._lost += len(part)
            return
        self._begun += part
        if len(self._begun) > self._max_line_bytes:
            self._lost = len(self._begun)
            self._begun = bytearray()

    def _end_line(self) -> None:
        line = self._lost or bytes(self._begun.strip(_BLANKS))
        self._begun, self._lost = bytearray(), 0
        if line:
            self._ready.append(line)
            self.n_bytes += _size(line)


def _size(line: bytes | int) -> int:
    """What is kept of a line."""
    return 0 if isinstance(line, int) else len(line)


@dataclasses.dataclass(frozen=True)
class LineReader:
    """Reads and answers lines for a verb of one model.

    Attributes
    ----------
    detector : Detector
    run : callable
        Of `service.scoring.verbs`.
    request : type
        What `run` takes.
    output : str
        The verb's array.
    options : mapping of str to Any
        Of every line.
    expected : Expected
    limits : Limits
    """

    detector: Detector
    run: Callable[[list], list]
    request: type
    output: str
    options: Mapping[str, Any]
    expected: Expected
    limits: Limits

    def open(self) -> Lines:
        """What cuts the lines of one body."""
        return Lines(self._max_rows(), self.max_line_bytes)

    @property
    def max_line_bytes(self) -> int:
        """Of a line: room for a sample, written generously."""
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
        """A line for each line of a batch, in order; what is wrong with one concerns no other.

        Raises
        ------
        Problem
            Where all of them fail: `deadline-exceeded`; and what `run` itself raises.
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
        """Rows, and their lines; where the model cannot take one of them, each again by itself."""
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
        """An input error of the only sample, by its column."""
        if not isinstance(error, InputError) or error.index is None:
            return error
        sentence, place = _IN_ROW.sub(" in ", str(error)), {}
        names, position = self.expected.feature_names, error.index[1:]
        if len(position) == 1:
            place["column"] = names[position[0]] if names else position[0]
        return Problem("invalid-input", sentence, [{"detail": sentence, **place}])

    def _call(self, rows: Sequence[Row], samples: np.ndarray) -> Call:
        def finish(result: Any) -> list[bytes]:
            if isinstance(result, Exception):
                raise result
            return answers.to_lines(reply_to(self.output, self.detector, result), rows)

        return Call(self.run, self.request(self.detector, samples, **self.options), finish, len(rows))

    # --- lines to samples -----------------------------------------------------------------------------------

    def _decode(self, batch: Batch) -> tuple[tuple[Sequence[Row], np.ndarray], dict[Row, bytes]]:
        """Numbers and samples of the lines that are in order, and answers to the others."""
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
        """Lines that are arrays of numbers, read as one body; None where each has to be looked at.

        Joined they are as many instances as there are lines. Since each begins with a bracket and closes as
        many as it opens, each then is one instance.
        """
        if self.expected.cells or not all(map(_is_plain, lines)):
            return None
        rank = self._rank(lines[0])
        read = NumberReader().read(b'{"instances":[%s]}' % b",".join(lines), rank)
        if read is None or len(read[0]) != len(lines):
            return None
        return self._as_samples(read[0])

    def _decode_line(self, line: bytes | int) -> np.ndarray:
        """One sample, with the axis of a batch."""
        if isinstance(line, int):
            sentence = f"a line may have {self.max_line_bytes} bytes here, got {line}"
            raise Problem("line-too-long", sentence)
        rank = self._rank(line)
        instances = read_array(b"[%s]" % line, INSTANCES, rank, self.expected, first=0, byte=-1)
        if len(instances) != 1:
            raise Problem("malformed-body", f"a line must hold one instance, got {len(instances)}")
        shape = instance_shape(instances, self.expected, rank)
        instances, _ = order_names(instances, self.expected.feature_names, rank)
        array = to_array(instances, shape, dtype_of(self.expected))
        if array.shape[1:] != shape:
            raise ragged(instances, shape, 0)
        samples = self._as_samples(array)
        if samples is None:
            wanted = ", ".join(map(str, self.expected.shape))
            sentence = f"the line must be a window of shape ({wanted}), not a step of a series"
            raise Problem("invalid-input", sentence, [{"detail": sentence, "pointer": ""}])
        return samples

    def _rank(self, line: bytes) -> int:
        return rank_of(OPENING.match(b"[" + line)[0], self.expected)

    def _as_samples(self, samples: np.ndarray) -> np.ndarray | None:
        """With all axes, that of a single channel too; None of what is not a whole sample."""
        shape = self.expected.shape
        if self.expected.series and (*samples.shape[1:], 1) == shape:
            samples = samples[..., np.newaxis]
        return samples if samples.shape[1:] == shape else None


def _is_plain(line: bytes | int) -> bool:
    if isinstance(line, int):
        return False
    return line.startswith(b"[") and b'"' not in line and line.count(b"[") == line.count(b"]")


def _of_line(problem: Problem) -> Problem:
    """A problem of a body with this one instance in the words of a line."""
    errors = [place | {"detail": _reword(place["detail"])} | _own_pointer(place) for place in problem.errors]
    return Problem(problem.type, _reword(problem.detail), errors)


def _reword(sentence: str) -> str:
    return _OF_BODY.sub(lambda match: "the line" if match[1] else "", sentence)


def _own_pointer(place: Mapping[str, Any]) -> dict[str, str]:
    return {"pointer": place["pointer"].removeprefix("/instances/0")} if "pointer" in place else {}


def to_error_line(error: Exception, row: Row | None = None) -> bytes:
    """The line of an error: of that row, or without one of the rest of the body."""
    document = problems.describe(problems.translate(error))
    for place in document.get("errors", ()):
        place.pop("row", None)
    head = {} if row is None else {"row": row}
    return orjson.dumps(head | {"error": document}, option=orjson.OPT_APPEND_NEWLINE)


def check_protocol(version: str) -> None:
    """Refuse a client that cannot be answered in parts."""
    if version.endswith("1.0"):
        raise Problem("bad-request", "lines are answered in chunks, which need HTTP/1.1, got HTTP/1.0")


def no_lines() -> Problem:
    """The problem of a body that ends without a line."""
    return Problem("malformed-body", "the body has no line")

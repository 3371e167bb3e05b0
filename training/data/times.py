"""Read the times of a series: dates, timestamps, texts, digits and numbers; put its steps in order of time.

A time without a zone is local to `Reading.time_zone`, or UTC if none was named.
"""

import dataclasses
import datetime
import itertools
import re
import shlex
import zoneinfo
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detector.reading import Reading
from training.errors import DataError

RowWords = Callable[[int], str]

# Units of numbers that count the time since 1970, as values of `Reading.time_format`.
EPOCH_UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_UNIT_WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
_EPOCH_YEARS = (631_152_000, 4_102_444_800)  # seconds from 1970 to 1990 and to 2100
_DIGITS = (6, 8, 10, 12, 14)  # of yyyymm, yyyymmdd, and so on to seconds
_DIGIT_YEARS = (1800, 2200)
# Abbreviations that mean one offset: those of RFC 5322, and zones without a rival of the same name.
_HOURS = {
    **dict.fromkeys(("Z", "UT", "UTC", "GMT", "WET"), 0),
    **dict.fromkeys(("CET", "WEST"), 1),
    **dict.fromkeys(("EET", "CEST"), 2),
    **dict.fromkeys(("MSK", "EEST"), 3),
    **dict.fromkeys(("KST", "JST"), 9),
    "EDT": -4,
    "EST": -5,
    "CDT": -5,
    "CST": -6,
    "MDT": -6,
    "MST": -7,
    "PDT": -7,
    "PST": -8,
}
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.IGNORECASE)
_HALVES = {"AM": 0, "PM": 12, "오전": 0, "오후": 12}
_TEXT = re.compile(
    r"(?P<year>\d{4})"
    r"(?:\s*[-/.년]\s*(?P<month>\d{1,2})(?:\s*[-/.월]\s*(?P<day>\d{1,2})\s*[.일]?)?|(?P<compact>\d{4}))"
    r"(?:[T_,\s]*(?P<before>AM|PM|오전|오후)?\s*"
    r"(?P<hour>\d{1,2})(?:\s*[:시]\s*(?P<minute>\d{1,2})\s*분?(?:\s*:?\s*(?P<second>\d{1,2})\s*초?"
    r"(?:[.,](?P<fraction>\d{1,9}))?)?|(?P<digits>\d{2}(?:\d{2})?))?\s*시?"
    r"\s*(?P<after>AM|PM|오전|오후)?)?"
    r"\s*(?P<zone>[+-]\d{2}(?::?\d{2})?|[A-Z]{1,5}|[A-Z][A-Za-z_]+(?:/[A-Za-z_+-]+)+)?(?:\[[\w/+-]+\])?",
    re.IGNORECASE,
)
_OTHER_DATES = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y"),
    *("%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%b %d %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%y%m%d"),
)
_OTHER_CLOCKS = ("", *(" %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", " %H"))
_SUGGESTED_FROM = 1000  # texts that a suggested format must fit
_HOUR = np.timedelta64(1, "h")


@dataclasses.dataclass(frozen=True)
class Times:
    """The times of all rows of a table, in the order of the rows.

    Attributes
    ----------
    values : ndarray of shape (n_rows,), datetime64[us], int64 or float64
    is_local : bool
        Whether they are points in time without a zone.
    notes : tuple of str
        Assumptions, a sentence each.
    """

    values: np.ndarray
    is_local: bool = False
    notes: tuple[str, ...] = ()


def read_times(columns: Sequence[pa.ChunkedArray], what: str, row_words: RowWords, reading: Reading) -> Times:
    """Read one column of times, or a column of dates and one of times of day.

    Without a format these are dates, timestamps, numbers, and texts whose year comes first, such as ISO 8601.
    Numbers that are dates written as digits (`20240131`) or count the time since 1970 become points in time.

    Parameters
    ----------
    columns : sequence of pyarrow.ChunkedArray
        No cell is missing. The columns of a text file are texts.
    what : str
        Name of the columns, for errors.
    row_words : callable
        From a position to the name of its row, for errors.
    reading : Reading
        `time_format` if the texts have another form; `decimal` of numbers.

    Raises
    ------
    DataError
        If a cell is no time, or a number is not finite.
    """
    column = columns[0] if len(columns) == 1 else _joined(columns)
    kind = column.type
    if reading.time_format in EPOCH_UNITS:
        return Times(_since_1970(_numbers(column, what, row_words, reading), reading.time_format))
    if pa.types.is_temporal(kind):
        return Times(_microseconds(column, what), getattr(kind, "tz", None) is None)
    if reading.time_format:
        return _formatted(column.cast(pa.string()), what, row_words, reading.time_format)
    if _is_text(kind):
        if not _looks_like_number(column, reading):
            return _texts(column, what, row_words)
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise DataError(f"{what} must hold times or numbers, got {kind}")
    return _told_by_digits(_numbers(column, what, row_words, reading), what)


def order_times(
    times: Times, groups: np.ndarray, time_zone: str | None, what: str
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Order rows by group and time.

    Parameters
    ----------
    times : Times
    groups : ndarray of shape (n_rows,), int
        The series that each row belongs to.
    time_zone : str or None
        Zone of local times.
    what : str
        Name of the column, for errors and notes.

    Returns
    -------
    order : ndarray of shape (n_rows,), int
        Rows in order of their group and, within it, as in the table; turned round if that is newest first.
    values : ndarray of shape (n_rows,)
        The times in this order; points in time in UTC.
    notes : tuple of str

    Raises
    ------
    DataError
        If there is no such zone, or a local time does not exist in it.
    """
    order, notes = np.argsort(groups, kind="stable"), times.notes
    values, within = times.values[order], np.diff(groups[order]) == 0
    n_falls, n_rises = (
        int((moved & within).sum()) for moved in (values[1:] < values[:-1], values[1:] > values[:-1])
    )
    if n_falls > n_rises:
        order = len(groups) - 1 - np.argsort(groups[::-1], kind="stable")
        values = times.values[order]
        notes = (*notes, f"{what}: the rows are newest first and were turned round")
    if times.is_local and time_zone is not None:
        values = _in_utc(values, np.concatenate([[True], np.diff(groups[order]) != 0]), time_zone, what)
    return order, values, notes


def why_back(earlier: np.generic, later: np.generic, *, is_local: bool) -> str:
    """Say what helps if a time goes back from `earlier` to `later`."""
    if is_local and earlier - later <= _HOUR:
        return (
            "if that is the hour that clocks repeat at the end of summer time, name their zone, for example "
            "--time-zone Europe/Berlin"
        )
    return "sort the rows, or name the series with --entity-column"


# --- texts --------------------------------------------------------------------------------------------------


def _joined(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Write a date and a time of day as one text."""
    parts = [column.cast(pa.date32()) if pa.types.is_timestamp(column.type) else column for column in columns]
    return pc.binary_join_element_wise(*(part.cast(pa.string()) for part in parts), " ")


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _microseconds(column: pa.ChunkedArray, what: str) -> np.ndarray:
    try:
        return column.cast(pa.timestamp("us", getattr(column.type, "tz", None)), safe=False).to_numpy()
    except pa.ArrowException as error:  # a time of day
        raise DataError(
            f"{what} must hold dates, got only {column.type}: name the column of dates first, as in "
            "--time-column date,time"
        ) from error


def _texts(column: pa.ChunkedArray, what: str, row_words: RowWords) -> Times:
    """Read texts whose year comes first, ISO 8601 among them."""
    for zone in (None, "UTC"):
        try:
            return Times(column.cast(pa.timestamp("us", zone)).to_numpy(), zone is None)
        except pa.ArrowInvalid:
            continue
    texts = column.to_pylist()
    moments = list(map(_moment, texts))
    if None in moments:
        row = moments.index(None)
        raise DataError(
            f"{what} must hold numbers or times whose year comes first, as in 2024-01-31 12:00:00, got "
            f"{texts[row][:40]!r} in {row_words(row)}; {_other_format(texts)}"
        )
    zoned = [moment.tzinfo is not None for moment in moments]
    if len(set(zoned)) > 1:
        row = zoned.index(not zoned[0])
        raise DataError(
            f"{what} must hold times that all have a zone or all have none, got {texts[0][:40]!r} in "
            f"{row_words(0)} and {texts[row][:40]!r} in {row_words(row)}"
        )
    return _points(moments)


def _points(moments: Sequence[datetime.datetime]) -> Times:
    """Convert moments, all with a zone or all without one."""
    is_local = moments[0].tzinfo is None
    if not is_local:
        moments = [moment.astimezone(datetime.UTC).replace(tzinfo=None) for moment in moments]
    return Times(np.array(moments, dtype="datetime64[us]"), is_local)


def _moment(text: str) -> datetime.datetime | None:
    """Read one text; None if it is no time whose year comes first."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        return None
    found = match.groupdict()
    compact, digits = found["compact"], found["digits"] or ""
    month, day = (compact[:2], compact[2:]) if compact else (found["month"], found["day"])
    hour = int(found["hour"] or 0)
    minute, second = found["minute"] or digits[:2], found["second"] or digits[2:]
    fraction = (found["fraction"] or "").ljust(6, "0")[:6]
    half = (found["before"] or found["after"] or "").upper()
    if half:
        if not 1 <= hour <= 12 or (found["before"] and found["after"]):
            return None
        hour = hour % 12 + _HALVES[half]
    midnight = hour == 24 and not int(minute or 0) and not int(second or 0)  # the end of the day
    try:
        moment = datetime.datetime(
            int(found["year"]), int(month), int(day or 1), 0 if midnight else hour, int(minute or 0),
            int(second or 0), int(fraction), tzinfo=_zone(found["zone"]),
        )  # fmt: skip
        return moment + datetime.timedelta(days=midnight)
    except (ValueError, OverflowError, KeyError):
        return None


def _zone(text: str | None) -> datetime.tzinfo | None:
    """Find the zone that a time names; raise `KeyError` if there is none of that name."""
    if text is None:
        return None
    if text[0] in "+-":
        offset = datetime.timedelta(hours=int(text[1:3]), minutes=int(text[-2:] if len(text) > 3 else 0))
        return datetime.timezone(-offset if text[0] == "-" else offset)
    if "/" in text:
        return zoneinfo.ZoneInfo(text)  # its error is a KeyError
    return datetime.timezone(datetime.timedelta(hours=_HOURS[text.upper()]))


def _formatted(column: pa.ChunkedArray, what: str, row_words: RowWords, time_format: str) -> Times:
    """Read texts of a format of `strptime`."""
    moments = []
    for row, text in enumerate(column.to_pylist()):
        try:
            moments.append(datetime.datetime.strptime(_english(text), time_format))
        except (ValueError, re.error) as error:
            raise DataError(
                f"{what} must have the format {time_format!r}, got {text[:40]!r} in {row_words(row)}"
            ) from error
    return _points(moments)


def _english(text: str) -> str:
    """Write the halves of a day as `%p` reads them."""
    return text.strip().replace("오전", "AM").replace("오후", "PM")


def _other_format(texts: Sequence[str]) -> str:
    """Suggest formats that the first texts have."""
    texts = [_english(text) for text in texts[:_SUGGESTED_FROM]]
    fitting = [
        form for form in map("".join, itertools.product(_OTHER_DATES, _OTHER_CLOCKS)) if _fits(texts, form)
    ]
    if not fitting:
        return "give their format with --time-format, as of strptime: '%d.%m.%Y %H:%M'"
    return "give their format: " + " or ".join(f"--time-format {shlex.quote(form)}" for form in fitting)


def _fits(texts: Sequence[str], form: str) -> bool:
    try:
        for text in texts:
            datetime.datetime.strptime(text, form)
    except ValueError:
        return False
    return True


# --- numbers ------------------------------------------------------------------------------------------------


def _looks_like_number(column: pa.ChunkedArray, reading: Reading) -> bool:
    return _NUMBER.fullmatch(_plain(column[0].as_py(), reading)) is not None


def _plain(text: str, reading: Reading) -> str:
    """Write a number as Python does."""
    return text.replace(reading.thousands or "\0", "").replace(reading.decimal, ".")


def _numbers(column: pa.ChunkedArray, what: str, row_words: RowWords, reading: Reading) -> np.ndarray:
    """Read numbers: int64 if all are whole, else float64."""
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64(), safe=False).to_numpy()
    if not _is_text(column.type):
        return _finite(column.cast(pa.float64(), safe=False).to_numpy(), what, row_words)
    texts = [_plain(text, reading) for text in column.to_pylist()]
    try:
        return np.array(list(map(int, texts)), dtype=np.int64)
    except (ValueError, OverflowError):
        return _finite(np.array(list(_floats(texts, what, row_words))), what, row_words)


def _floats(texts: Sequence[str], what: str, row_words: RowWords) -> Iterator[float]:
    for row, text in enumerate(texts):
        try:
            yield float(text)
        except ValueError as error:
            raise DataError(
                f"{what} must hold numbers, as in its first row, got {text[:40]!r} in {row_words(row)}"
            ) from error


def _finite(times: np.ndarray, what: str, row_words: RowWords) -> np.ndarray:
    faulty = np.flatnonzero(~np.isfinite(times))
    if faulty.size:
        raise DataError(f"{what} must be finite, got {times[faulty[0]]} in {row_words(faulty[0])}")
    return times


def _told_by_digits(numbers: np.ndarray, what: str) -> Times:
    """Read numbers as points in time if all of them are written like these, else leave them."""
    low, high = numbers.min(), numbers.max()
    if numbers.dtype == np.int64 and low > 0 and len(str(low)) in _DIGITS:
        times = _calendar(numbers, len(str(low)))
        if times is not None:
            note = f"{what} holds times written as digits: {numbers[0]} is {times[0].astype('datetime64[s]')}"
            return Times(times, is_local=True, notes=(note,))
    for unit, per_second in EPOCH_UNITS.items():
        if _EPOCH_YEARS[0] * per_second <= low and high < _EPOCH_YEARS[1] * per_second:
            times = _since_1970(numbers, unit)
            example = f"{numbers[0]:.15g} is {times[0].astype('datetime64[s]')} UTC"
            note = f"{what} holds {_UNIT_WORDS[unit]} since 1970: {example}"
            return Times(times, notes=(note,))
    return Times(numbers)


def _since_1970(numbers: np.ndarray, unit: str) -> np.ndarray:
    if numbers.dtype == np.int64:
        return numbers.astype(f"datetime64[{unit}]").astype("datetime64[us]")
    return np.rint(numbers * (1e6 / EPOCH_UNITS[unit])).astype(np.int64).astype("datetime64[us]")


def _calendar(numbers: np.ndarray, n_digits: int) -> np.ndarray | None:
    """Read numbers such as 20240131 or 202401311200 as times; None if one is not in the calendar."""
    places = range(n_digits - 6, -1, -2)
    parts = [numbers // 10**place % 100 for place in places] + [np.ones_like(numbers)] * (n_digits == 6)
    parts += [np.zeros_like(numbers)] * (5 - len(parts))
    year, (month, day, hour, minute, second) = numbers // 10 ** (n_digits - 4), parts
    within = (_DIGIT_YEARS[0] <= year) & (year < _DIGIT_YEARS[1]) & (month >= 1) & (month <= 12) & (day >= 1)
    clock = (hour * 60 + minute) * 60 + second
    within &= (minute < 60) & (second < 60) & (clock <= 24 * 60 * 60)  # 24:00 is the end of the day
    months = (year - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (month - 1)
    days = months.astype("datetime64[D]") + (day - 1)
    if not within.all() or (days.astype("datetime64[M]") != months).any():
        return None
    return days.astype("datetime64[us]") + clock.astype("timedelta64[s]")


# --- zones --------------------------------------------------------------------------------------------------


def _in_utc(times: np.ndarray, begins: np.ndarray, time_zone: str, what: str) -> np.ndarray:
    """Convert local times to UTC; where an hour is repeated, its second pass begins where the time goes back.

    `begins` says which steps begin a series.
    """
    local = pa.array(times, pa.timestamp("us"))
    try:
        first, second = (
            pc.assume_timezone(local, time_zone, ambiguous=which).to_numpy(zero_copy_only=False)
            for which in ("earliest", "latest")
        )
    except pa.ArrowException as error:
        raise DataError(
            f"{what} must hold local times of --time-zone {time_zone}: {' '.join(str(error).split())}"
        ) from error
    is_repeated = first != second
    goes_back = np.concatenate([[False], times[1:] <= times[:-1]]) & is_repeated & ~begins
    n_back = np.cumsum(goes_back)
    hours = np.cumsum(begins | ~is_repeated)  # one number for the steps of a repeated hour
    return np.where(n_back > n_back[np.searchsorted(hours, hours)], second, first)

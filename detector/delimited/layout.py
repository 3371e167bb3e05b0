"""Find the delimiter and the header of a text table, and match its columns by name."""

import csv
import dataclasses
import io
import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from detector.columns import clean_name
from detector.delimited.cells import number_of
from detector.reading import Reading

HEAD_BYTES = 2**20  # at the beginning of a file, to find its layout in
_MOST_RECORDS, _MOST_CELLS = 100, 50_000  # of these
_LEAST_RECORDS = 10
_DELIMITERS = (",", ";", "\t", "|", " ")
_ALIKE = 0.9  # of the records have as many cells as the header
_MOST_UNIT_ROWS = 3
_CLEARLY = 0.2  # more of the cells are numbers by one delimiter than by another


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the columns of a text table begin.

    Attributes
    ----------
    delimiter : str
    skip_rows : int
        Lines above the header, or above the first row if there is no header.
    names : tuple of str, or None
        Names of the columns, clean; None if there is no header.
    width : int
        Number of columns.
    """

    delimiter: str
    skip_rows: int
    names: tuple[str, ...] | None
    width: int


@dataclasses.dataclass(frozen=True)
class _Record:
    cells: tuple[str, ...]
    line: int  # where it begins, counted from 0


def records(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Parse lines into cells; raise `csv.Error` for a quote that is not closed.

    Blanks between the cells of a table that is separated by blanks count as one.
    """
    return csv.reader(_lines_for(lines, delimiter), delimiter=delimiter, strict=True)


def _lines_for(lines: Iterable[str], delimiter: str) -> Iterable[str]:
    return (re.sub(" +", " ", line.strip(" ")) for line in lines) if delimiter == " " else lines


def names_by(head: str, reading: Reading) -> tuple[str, ...]:
    """Return the names in the first record of a text, read as a reading says; none if it cannot be."""
    lines = itertools.islice(io.StringIO(head, newline=""), reading.skip_rows, None)
    try:
        header = next((cells for cells in records(lines, reading.delimiter or ",") if cells), [])
    except csv.Error:
        return ()
    return tuple(map(clean_name, header))


def adapted(reading: Reading, head: str, wanted: Collection[str], *, sniff: bool = True) -> Reading:
    """Return the reading for a text that need not be laid out as the one that the reading was made for.

    It stays if the header, so read, has all the wanted names, or if there is none. Next is plain CSV, with
    commas and decimal points, as programs write it; then any other delimiter that is certain.

    Parameters
    ----------
    reading : Reading
    head : str
        The beginning of the text.
    wanted : collection of str
        Names of the features.
    sniff : bool
        Whether to look for other delimiters than these.
    """
    names = set(map(clean_name, wanted))
    if names <= set(names_by(head, reading)):
        return dataclasses.replace(reading, header=True)
    if not reading.header:
        return reading
    plain = dataclasses.replace(reading, delimiter=",", decimal=".", thousands=None, skip_rows=0, unit_rows=0)
    if names <= set(names_by(head, plain)):
        return plain
    found = find_layout(head) if sniff else None
    if found is None or found.names is None or not names <= set(found.names):
        return reading if reading.delimiter is not None else plain
    base = reading if found.delimiter == reading.delimiter else plain
    return dataclasses.replace(base, delimiter=found.delimiter, skip_rows=found.skip_rows)


# The first line of some files for Excel: sep=;
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\r?\n', re.IGNORECASE)


# --- find the layout ----------------------------------------------------------------------------------------


def find_layout(head: str, delimiter: str | None = None, skip_rows: int | None = None) -> Layout | None:
    """Find the delimiter, the header, and the lines above it.

    Parameters
    ----------
    head : str
        The beginning of a text, at most `HEAD_BYTES`; not empty.
    delimiter : str, optional
        Given by the user, instead of one to find.
    skip_rows : int, optional
        Lines above the header, given by the user.

    Returns
    -------
    Layout or None
        None if two delimiters fit equally well.
    """
    separator = _SEPARATOR_LINE.match(head)
    if separator and skip_rows is None:
        delimiter, skip_rows = delimiter or separator[1], 1
    found = []
    for candidate in _DELIMITERS if delimiter is None else (delimiter,):
        layout = _layout_by(head, candidate, skip_rows)
        if layout is not None and (layout.width > 1 or delimiter is not None):
            found.append((_number_share(head, layout), layout))
    if delimiter is None and len(found) > 1:  # blanks separate columns only where nothing else does
        found = [each for each in found if each[1].delimiter != " "]
    if not found:
        width_of_one = _layout_by(head, ",", skip_rows)
        return (
            width_of_one
            if width_of_one is not None and width_of_one.width == 1
            else _default(head, skip_rows)
        )
    found.sort(key=lambda each: each[0], reverse=True)
    if len(found) > 1 and found[0][0] - found[1][0] < _CLEARLY:
        return None
    return found[0][1]


def _default(head: str, skip_rows: int | None) -> Layout:
    """Take commas where the lines differ in their number of cells, so that the reader names the line."""
    parsed = _parse(head, ",", skip_rows or 0)
    cells = parsed[0].cells if parsed else ("",)
    return Layout(",", skip_rows or 0, tuple(map(clean_name, cells)), len(cells))


def _parse(head: str, delimiter: str, skip_rows: int) -> list[_Record]:
    """Parse the first records, without blank lines; the last one may be cut off and is dropped."""
    lines = itertools.islice(io.StringIO(head, newline=""), skip_rows, None)
    reader = csv.reader(_lines_for(lines, delimiter), delimiter=delimiter)
    parsed, begin, n_cells = [], skip_rows, 0
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                parsed.append(_Record(tuple(cells), begin))
            begin = skip_rows + reader.line_num
            n_cells += len(cells)
            if len(parsed) == _MOST_RECORDS or (len(parsed) >= _LEAST_RECORDS and n_cells > _MOST_CELLS):
                return parsed
    except csv.Error:  # a cell that is too long, as in a binary file
        return parsed
    return parsed[:-1] if len(head) >= HEAD_BYTES and len(parsed) > 1 else parsed


def _layout_by(head: str, delimiter: str, skip_rows: int | None) -> Layout | None:
    """Lay the table out by one delimiter; None if its lines do not have one number of cells."""
    parsed = _parse(head, delimiter, skip_rows or 0)
    if not parsed:
        return None
    widths = [len(record.cells) for record in parsed]
    body = widths[len(widths) // 2 :]
    width, times = Counter(body).most_common(1)[0]
    if times < _ALIKE * len(body):
        return None
    first = 0 if skip_rows is not None else _first_of_width(parsed, width)
    header = parsed[first]
    if len(header.cells) not in (width, width - 1) or (first and len(parsed) - first < 2):
        return None
    rows = [record.cells for record in parsed[first + 1 :] if len(record.cells) == width]
    if len(header.cells) == width:
        names = None if is_data(header.cells, rows) else header.cells
    else:
        names = _with_unnamed(header.cells, rows)
        if names is None:
            return None
    clean = None if names is None else tuple(map(clean_name, names))
    return Layout(delimiter, header.line, clean, width)


def _first_of_width(parsed: Sequence[_Record], width: int) -> int:
    """Find the header: the first record as wide as the rows, or one cell narrower right above them."""
    for place, record in enumerate(parsed):
        cells = record.cells
        below = parsed[place + 1].cells if place + 1 < len(parsed) else ()
        if len(cells) == width and not _is_title(cells, below):
            return place
        is_narrower = len(cells) == width - 1 and len(below) == width
        if is_narrower and any(map(_is_number, below)) and not any(map(_is_number, cells)):
            return place
    return 0


def _is_title(cells: Sequence[str], below: Sequence[str]) -> bool:
    """Whether a line has one text in its first cell only, and names in all cells below it."""
    is_alone = bool(cells[0].strip()) and not any(map(str.strip, cells[1:]))
    is_named = len(below) == len(cells) and all(cell.strip() and not _is_number(cell) for cell in below)
    return is_alone and len(cells) > 2 and is_named


def _with_unnamed(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, ...] | None:
    """Add the name of a column that the header leaves out; None if it is not certain which one.

    R leaves out the name of its row names; other programs end each row, but not the header, with a delimiter.
    """
    if all(not row[-1].strip() for row in rows):
        return (*header, "")
    first = [row[0] for row in rows]
    is_counted = first == list(map(str, range(1, len(first) + 1)))
    if len(first) > 1 and (is_counted or (len(set(first)) == len(first) and not any(map(_is_number, first)))):
        return ("", *header)
    return None


def is_data(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first line is certainly a row of data and names no columns.

    So it is if a number stands over each column of numbers, and one of the cells is a number that names are
    not (a fraction, a negative one, one that occurs twice) or a text that occurs below as well.
    """
    columns = list(zip(*rows, strict=True)) if rows else []
    is_measured = [any(map(_is_number, column)) for column in columns] or [True] * len(header)
    numbers = [cell.strip() for cell, measured in zip(header, is_measured, strict=True) if measured]
    if not numbers or not all(map(_is_number, numbers)):
        return False
    if len(numbers) == len(header):
        return len(set(numbers)) < len(numbers) or not all(map(str.isdecimal, numbers))
    texts = [place for place, measured in enumerate(is_measured) if not measured and header[place].strip()]
    return any(header[place] in columns[place] for place in texts)


def may_be_data(names: Sequence[str]) -> bool:
    """Whether names could as well be a row of data: whole numbers that neither count nor rise evenly."""
    if not names or not all(map(str.isdecimal, names)):
        return False
    numbers = list(map(int, names))
    if numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return False
    steps = {later - former for former, later in itertools.pairwise(numbers)}
    return len(numbers) < 3 or len(steps) > 1 or min(steps) <= 0


def count_unit_rows(rows: Sequence[Sequence[str]]) -> int:
    """Count the rows below the header that hold units or the like: texts over columns of numbers."""
    rows = [row for row in rows if len(row) == len(rows[0])]
    above = list(itertools.takewhile(lambda row: not any(map(_is_number, row)), rows[: len(rows) // 2]))
    for count in range(min(_MOST_UNIT_ROWS, len(above)), 0, -1):
        measured = [
            place
            for place, column in enumerate(zip(*rows[count:], strict=True))
            if any(column) and all(cell.strip() == "" or _is_number(cell) for cell in column)
        ]
        units = [[row[place].strip() for place in measured] for row in above[:count]]
        if measured and not any(map(_all_missing, units)):
            return count
    return 0


def _all_missing(cells: Sequence[str]) -> bool:
    return all(cell in Reading().missing_values for cell in cells)


def _is_number(cell: str) -> bool:
    return any(number_of(cell, reading) is not None for reading in _ANY_NUMBER)


_ANY_NUMBER = (Reading(), Reading(decimal=",", thousands="."), Reading(thousands=","))


def _number_share(head: str, layout: Layout) -> float:
    """Return the share of cells below the header that hold a number by this delimiter."""
    readings = [each for each in _ANY_NUMBER if layout.delimiter not in (each.decimal, each.thousands)]
    cells = [cell for record in _parse(head, layout.delimiter, layout.skip_rows)[1:] for cell in record.cells]
    filled = [cell for cell in cells if cell.strip()]
    numbers = [cell for cell in filled if any(number_of(cell, each) is not None for each in readings)]
    return len(numbers) / max(len(filled), 1)

"""Rows of a benchmark, one for each run: the result file, so that no run is repeated, and Markdown tables."""

import json
import os
import platform
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

OURS = "residual"  # the name of our own entry in every result file


def read_rows(path: Path) -> list[Row]:
    """Read the rows of earlier runs; none if there is no file."""
    return json.loads(path.read_text())["rows"] if path.exists() else []


def find_row(rows: Sequence[Row], /, **wanted: Any) -> Row | None:
    """Return the first row with these members, or None."""
    return next((row for row in rows if wanted.items() <= row.items()), None)


def found_or_measured(path: Path, measure: Callable[[], Row], /, **key: Any) -> Row:
    """Return the row of the file with these members; measure it and add it if the file has none."""
    row = find_row(read_rows(path), **key)
    if row is None:
        row = measure()
        append_row(path, row)
    return row


def append_row(path: Path, row: Row) -> None:
    """Add a row to the rows that the file has now: another run may write to it at the same time."""
    write_rows(path, [*read_rows(path), row])


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows, and the machine that they were measured on."""
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    write_json(path, {"machine": machine, "rows": rows})


def write_json(path: Path, document: Any) -> None:
    """Replace a file in one step: another process sees the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(document, indent=1) + "\n")
    temporary.replace(path)


def table_line(cells: Iterable[str]) -> str:
    """Return one line of a table."""
    return f"| {' | '.join(cells)} |"


def table_head(words: Iterable[str], numbers: Iterable[str] = ()) -> str:
    """Return the two lines above a table: columns of words, then columns of numbers, aligned to the right."""
    words, numbers = list(words), list(numbers)
    rules = ["---"] * len(words) + ["---:"] * len(numbers)
    return f"{table_line([*words, *numbers])}\n{table_line(rules)}"

"""The file of a benchmark: a row for each run, so that what is there is not run again."""

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

OURS = "residual"  # the name of our own entry in every result file


def read_rows(path: Path) -> list[Row]:
    """The rows of an earlier run, none where there is no file."""
    return json.loads(path.read_text())["rows"] if path.exists() else []


def find_row(rows: Sequence[Row], /, **wanted: Any) -> Row | None:
    """The first row with these members, if there is one."""
    return next((row for row in rows if wanted.items() <= row.items()), None)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows, and what machine they were measured on."""
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    write_json(path, {"machine": machine, "rows": rows})


def write_json(path: Path, document: Any) -> None:
    """Write a file; another process sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(document, indent=1) + "\n")
    temporary.replace(path)

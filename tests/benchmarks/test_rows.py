"""Rows of a benchmark outlive a stop."""

import json

from benchmarks.rows import find_row, read_rows, write_rows


def test_rows_come_back_as_they_were_written(tmp_path):
    """Rows can be written to a new folder, with the machine, and no temporary file remains."""
    path = tmp_path / "new" / "rows.json"
    assert read_rows(path) == []

    write_rows(path, [{"set": "a", "seed": 0}])
    write_rows(path, [{"set": "a", "seed": 0}, {"set": "b", "seed": 1, "auroc": None}])

    assert read_rows(path) == [{"set": "a", "seed": 0}, {"set": "b", "seed": 1, "auroc": None}]
    assert "cores" in json.loads(path.read_text())["machine"]
    assert [entry.name for entry in path.parent.iterdir()] == ["rows.json"]


def test_a_row_is_found_by_all_of_its_members():
    """A member that a row of an earlier release lacks is another one."""
    rows = [{"set": "a", "seed": 0}, {"set": "a", "seed": 1, "limit": 2}]

    assert find_row(rows, set="a", seed=1) is rows[1]
    assert find_row(rows, set="a", seed=0, limit=2) is None

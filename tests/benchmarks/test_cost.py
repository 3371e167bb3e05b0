"""The benchmark of cost runs, and the documentation has its figures."""

import json
from pathlib import Path

from benchmarks import cost

REPOSITORY = Path(__file__).parents[2]


def test_cost_is_measured_and_kept(tmp_path, capsys):
    """A small run has every figure; a second run reads it from the file."""
    arguments = ["--presets", "vector-fast", "--rows", "300", "--columns", "4", "--repeats", "1"]
    arguments += ["--out", str(tmp_path / "cost.json")]

    assert cost.main(arguments) == 0
    printed = capsys.readouterr().out
    assert cost.main(arguments) == 0

    row, *starts = json.loads((tmp_path / "cost.json").read_text())["rows"]
    assert row["rows_per_second"] > 0
    assert row["single_row_us"] > 0
    assert [start["what"] for start in starts] == list(cost.STARTS)
    assert all(start["seconds"] > 0 for start in starts)
    assert capsys.readouterr().out == printed


def test_the_page_of_quality_has_the_measured_cost():
    """Every row of the page has the measured figures."""
    page = (REPOSITORY / "docs" / "quality.md").read_text()
    rows = json.loads((REPOSITORY / "benchmarks" / "results" / "cost.json").read_text())["rows"]

    assert {row["preset"] for row in rows if "preset" in row} == set(cost.PRESETS)
    assert cost.HEADER in page
    for row in rows:
        assert (cost.table_line(row) if "preset" in row else cost.start_line(row)) in page

"""Each column of the data has a role and says what it holds."""

import dataclasses
import io

import numpy as np
import pytest

from training.cli.printing import print_columns
from training.data.categories import Cells
from training.data.load import load_dataset
from training.data.summaries import ColumnSummary, longest_run, summarise


def test_summary_of_numbers_leaves_missing_cells_aside():
    """Least, median and most are those of the cells that hold a number."""
    summary = summarise("heat", np.array([3.0, np.nan, 1.0, 1.0, 10.0]))

    assert summary == ColumnSummary(
        "heat",
        "feature",
        least=1.0,
        median=2.0,
        most=10.0,
        n_rows=5,
        n_missing=1,
        longest_constant_run=2,
    )


def test_summary_of_an_empty_column_has_no_numbers():
    """A column without a number has neither least nor most."""
    summary = summarise("gone", np.array([np.nan, np.nan]))

    assert (summary.least, summary.median, summary.most, summary.n_missing) == (None, None, None, 2)


@pytest.mark.parametrize(
    ("values", "length"),
    [([], 0), ([1], 1), ([1, 2, 2, 2, 1], 3), ([7, 7], 2), ([np.nan, np.nan, 1], 1)],
)
def test_longest_run_counts_equal_neighbours(values, length):
    """A missing cell equals nothing, not even another one."""
    assert longest_run(np.array(values, dtype=float)) == length


@pytest.fixture
def plant(tmp_path):
    """A table with every role of rows."""
    path = tmp_path / "plant.csv"
    path.write_text(
        "id,rpm,state,ok\n" + "".join(f"{2**60 + n * 2**40},{n % 3},{'ab'[n % 2]},1\n" for n in range(6))
    )
    return path


def test_columns_of_a_table_keep_the_numbers_of_the_file(plant):
    """They are not those of the samples, which are float32."""
    dataset = load_dataset(str(plant), label_column="ok", cells=Cells(categorical=("state",)))

    by_name = {column.name: column for column in dataset.columns}
    assert {name: column.role for name, column in by_name.items()} == {
        "id": "feature",
        "rpm": "feature",
        "state": "category",
        "ok": "label",
    }
    assert by_name["id"].least == 2.0**60
    assert (by_name["rpm"].least, by_name["rpm"].most) == (0.0, 2.0)
    assert by_name["state"].categories == ("a", "b")
    assert by_name["ok"].categories == ("1",)


def test_columns_of_a_series_are_its_channels(tmp_path):
    """Time and entity have roles of their own."""
    path = tmp_path / "line.csv"
    path.write_text("when,unit,t\n" + "".join(f"{n},u,{n // 4}\n" for n in range(40)))

    dataset = load_dataset(str(path), kinds=["sequence"], time_column="when", entity_column="unit")

    assert [(column.name, column.role) for column in dataset.columns] == [
        ("t", "feature"),
        ("unit", "entity"),
        ("when", "time"),
    ]
    assert dataset.columns[0].longest_constant_run == 4


def test_images_have_no_columns():
    """Pixels are not listed one by one."""
    assert load_dataset("digits").columns == ()
    assert len(load_dataset("digits", kinds=["vector"]).columns) == 64


def test_printed_columns_are_a_line_each():
    """Name, role, share of missing values, and least to most or the categories."""
    columns = [
        ColumnSummary("heat", "feature", least=1.0, median=2.0, most=10.5, n_rows=4, n_missing=1),
        ColumnSummary("state", "category", n_rows=4, categories=("idle", "run")),
        ColumnSummary("id", "left out", reason="a saved index", n_rows=4),
    ]
    text = io.StringIO()

    print_columns([*columns, *(dataclasses.replace(columns[2], name=f"x{n}") for n in range(60))], text)

    lines = [line.split() for line in text.getvalue().splitlines()]
    assert lines[1] == ["heat", "feature", "25.0%", "1", "..", "10.5"]
    assert lines[2] == ["state", "category", "-", "idle,", "run"]
    assert lines[3] == ["id", "left", "out:", "a", "saved", "index", "-"]
    assert lines[-1] == ["and", "3", "more", "columns"]

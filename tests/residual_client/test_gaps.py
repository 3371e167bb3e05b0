"""Series that lack values: the client's scores, frames and files say which steps have no score."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from residual_client.__main__ import main

MISSING = 6
UNSCORED = [6, 7, 8, 9]


@pytest.fixture
def series():
    """Twelve steps of two channels; the first lacks a value."""
    series = np.random.default_rng(0).normal(size=(12, 2)).round(2)
    series[MISSING, 0] = np.nan
    return series


def test_arrays_and_frames_have_scores_of_whole_windows(connect, url, detectors, series):
    """The library's own; a frame has None for a decision that nobody can make."""
    own = detectors["gaps"].score(series)
    client = connect(url, model="gaps")
    scores = client.score(series)
    frame = client.score(pd.DataFrame(series, columns=["a", "b"]))

    assert np.flatnonzero(~scores.scored).tolist() == UNSCORED
    np.testing.assert_array_equal(scores.score, own.score)
    np.testing.assert_array_equal(scores.is_anomaly, own.is_anomaly)
    assert scores.is_anomaly[UNSCORED].all()
    assert frame["score"].isna().to_numpy().nonzero()[0].tolist() == UNSCORED
    assert [step for step, decision in enumerate(frame["is_anomaly"]) if decision is None] == UNSCORED


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_files_have_empty_cells_and_null(url, store, tmp_path, series, suffix, capsys):
    """With a service or without; the last line counts the steps without a score."""
    pd.DataFrame(series, columns=["a", "b"]).to_csv(tmp_path / "steps.csv", index=False)
    for where in (["--url", url, "--model", "gaps"], ["--model", str(store.folder("gaps", 1))]):
        out = tmp_path / f"out.{suffix}"
        assert main(["score", str(tmp_path / "steps.csv"), *where, "--out", str(out)]) == 0
        if suffix == "csv":
            rows = list(csv.DictReader(out.read_text().splitlines()))
            empty = [row for row, cells in enumerate(rows) if cells["is_anomaly"] == cells["score"] == ""]
        else:
            rows = [json.loads(line) for line in out.read_text().splitlines()]
            empty = [row for row, cells in enumerate(rows) if cells["is_anomaly"] is cells["score"] is None]

        assert empty == UNSCORED
        assert "4 without a score (a value is missing or the answer is not finite)" in capsys.readouterr().err

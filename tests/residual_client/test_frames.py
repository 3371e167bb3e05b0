"""Data frames of pandas: matched by name, answered in kind."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from residual_client import BadRequest, RequestError


@pytest.fixture
def frame():
    """Thirty rows for `tiny`, columns in another order, an index of its own."""
    values = np.random.default_rng(3).normal(size=(30, 3))
    index = pd.date_range("2026-06-01", periods=30, freq="h", name="when")
    return pd.DataFrame(values, columns=list("cab"), index=index)


@pytest.mark.parametrize("max_rows", [100, 7])
def test_scores_of_a_frame_are_a_frame(connect, url, detectors, frame, max_rows):
    """The frame has the index of the input, and the rule is in `attrs`."""
    scores = connect(url, max_rows=max_rows).score(frame, fdr=0.5, explain=1)

    expected = detectors["tiny"].score(frame, fdr=0.5, explain=1)
    assert scores.index.equals(frame.index)
    assert list(scores) == ["score", "ratio", "p_value", "is_anomaly", "selected", "explanation"]
    for name in ("score", "ratio", "p_value", "is_anomaly", "selected"):
        assert np.array_equal(scores[name].to_numpy(), getattr(expected, name)), name
    assert scores["explanation"].iloc[0][0].feature == expected.explanation[0][0].feature
    assert scores.attrs == {
        "model": "tiny",
        "version": 1,
        "threshold": expected.threshold,
        "alpha": 0.05,
        "expected_rate": expected.expected_rate,
    }


def test_other_answers_are_frames_too(client, frame, detectors):
    """Classes by name, reconstructions in the order of the caller's columns."""
    classes, clean = client.classify(frame), client.denoise(frame)

    assert list(classes) == ["label", "low", "high"]
    assert np.array_equal(
        classes[["low", "high"]], detectors["tiny"].classify(frame[list("abc")]).probability
    )
    assert list(clean) == ["c", "a", "b"]
    assert clean.index.equals(frame.index)
    expected = detectors["tiny"].reconstruct(frame)
    assert np.array_equal(clean[list("abc")].to_numpy(), expected)
    assert client.encode(frame).shape == (30, 2)


@pytest.mark.parametrize("max_rows", [100, 2])
def test_words_and_gaps_of_a_frame(connect, url, detectors, max_rows):
    """Texts, categories and missing values of pandas are taken; measured columns come back as numbers."""
    frame = pd.DataFrame(
        {
            "c": pd.array([0, None, 7], dtype="Int64"),
            "b": pd.Categorical(["run", "idle", None]),
            "a": [0.25, np.nan, 1],
        }
    )
    client = connect(url, model="mixed", max_rows=max_rows)

    scores = client.score(frame)
    assert np.array_equal(scores["score"], detectors["mixed"].score(frame).score)
    assert client.denoise(frame)["b"].tolist()[:2] == ["run", "idle"]


def test_one_bad_cell_is_named(connect, url, frame):
    """The error has row and column."""
    faulty = frame.astype(object)
    faulty.iloc[17, 1] = "n/a"

    for max_rows in (100, 5):
        with pytest.raises(BadRequest, match="/instances/17/0: must be a number, got text"):
            connect(url, max_rows=max_rows).score(faulty)


def test_frame_for_a_model_without_names_is_refused(connect, url, frame):
    """Images have none."""
    with pytest.raises(RequestError, match="takes arrays, not a table"):
        connect(url, model="images").score(frame)


def test_series_of_a_frame_keeps_its_index(connect, url, detectors, frame):
    """A step is a row."""
    series = frame[["a"]]
    scores = connect(url, model="pulse", max_rows=5).score(series)

    assert scores.index.equals(frame.index)
    assert np.array_equal(scores["score"], detectors["pulse"].score(series.to_numpy()).score)


def test_arrow_table_is_matched_by_name(client, frame):
    """The answer has arrays, not a table."""
    table = pa.table({name: frame[name].to_numpy() for name in frame})

    assert np.array_equal(client.score(table).score, client.score(frame)["score"])


def test_empty_frame_is_refused_by_the_service(client, frame):
    """The error has the sentence of the service."""
    with pytest.raises(BadRequest, match="at least one sample"):
        client.score(frame.iloc[:0])

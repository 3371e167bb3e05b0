"""Protocol C fits on anomalies that are not in the test, the same test for every condition."""

import numpy as np
import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.protocols import contamination
from benchmarks.protocols.contamination import measure, n_contaminants, split_contaminated
from benchmarks.protocols.tabular import LabelledTable


def table(n_normal, n_anomalies):
    """Return normal rows round 0 and anomalies round 4."""
    rng = np.random.default_rng(0)
    is_anomaly = np.arange(n_normal + n_anomalies) >= n_normal
    return LabelledTable("drawn", rng.normal(size=(is_anomaly.size, 3)) + 4 * is_anomaly[:, None], is_anomaly)


@pytest.mark.parametrize(("n_anomalies", "n_spare"), [(60, 11), (9, 4)])
def test_anomalies_to_fit_on_are_not_in_the_test(n_anomalies, n_spare):
    """Anomalies make up 5 % of the rows to fit on, but at most half of all anomalies are used."""
    data, parts, spare = split_contaminated(table(400, n_anomalies), seed=1)

    assert spare.size == n_spare
    assert data.is_anomaly[spare].all()
    np.testing.assert_array_equal(np.sort([*spare, *parts.anomalies]), np.flatnonzero(data.is_anomaly))
    assert (parts.train.size, parts.normal.size) == (200, 200)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.01, 2), (0.05, 11), (0.0001, 1)])
def test_share_is_that_of_all_rows_to_fit_on(share, count):
    """The share is computed over all rows to fit on, and at least one anomaly is drawn if there are any."""
    assert n_contaminants(200, share) == count


def test_large_sets_are_drawn_to_ten_thousand_rows(monkeypatch):
    """The limit keeps the run of one set within minutes."""
    monkeypatch.setattr(contamination, "LARGEST", 100)

    data, parts, spare = split_contaminated(table(300, 30), seed=0)

    assert len(data.samples) == parts.train.size + parts.test.size + spare.size == 100


def test_a_set_of_one_anomaly_is_refused():
    """A single anomaly cannot be both fitted on and tested."""
    with pytest.raises(BenchmarkError, match="drawn must have at least 2 anomalies, got 1"):
        split_contaminated(table(100, 1), seed=0)


@pytest.mark.slow
def test_trimming_finds_what_contamination_hides():
    """Trimming raises the AUROC of the exported graph on the same test rows."""
    dirty, trimmed = (measure(table(400, 60), 0, f"residual-{name}-5") for name in ("dirty", "trimmed"))

    assert dirty["n_contaminants"] == trimmed["n_contaminants"] == 11
    assert dirty["n_test"] == trimmed["n_test"]
    assert dirty["auroc"] < 0.97 < trimmed["auroc"]


def test_neighbours_are_measured_on_the_same_test():
    """Nearest neighbours lose quality, too, if no contaminated row is left out."""
    row = measure(table(400, 60), 0, "knn5-dirty-5")

    assert row["n_contaminants"] == 11
    assert row["n_test"] == 249

"""Folders that earlier releases wrote keep loading, and score as they did."""

from pathlib import Path

import numpy as np

from detector import Detector

FIXTURES = Path(__file__).parents[1] / "fixtures"


def test_folder_of_schema_1_loads_and_scores():
    """Written by `training.fit` when manifests were of schema 1: three related columns, their scores then."""
    detector = Detector.load(FIXTURES / "schema_1")

    result = detector.score(np.array([[0, 0, 0], [1, 2, -1], [9, -9, 9]]))

    manifest = detector.manifest
    assert manifest.schema_version == 1
    assert (manifest.merge, manifest.latent_int8, manifest.classifier) == (None, None, None)
    np.testing.assert_allclose(result.score[:2], [9.18098784e-04, 9.91314054e-01], rtol=1e-4)
    assert result.is_anomaly.tolist() == [False, False, True]


def test_folder_of_schema_2_loads_and_scores():
    """Written by `training.fit` when manifests were of schema 2: the same columns with a latent in 8 bits."""
    detector = Detector.load(FIXTURES / "schema_2")

    result = detector.score(np.array([[0, 0, 0], [1, 2, -1], [9, -9, 9]]))

    assert detector.manifest.schema_version == 2
    assert detector.manifest.reconstruction == "latent"
    np.testing.assert_allclose(result.score[:2], [8.60314292e-04, 9.97395754e-01], rtol=1e-4)
    assert detector.encode(np.zeros((1, 3)), dtype="int8").dtype == np.int8
    assert result.is_anomaly.tolist() == [False, False, True]


def test_folder_of_schema_3_loads_and_scores():
    """Written by `training.fit` when manifests were of schema 3: a memory of rows with words and gaps."""
    detector = Detector.load(FIXTURES / "schema_3")

    result = detector.score([[0, 0, "a"], [1, None, "b"], [9, -9, "c"]])

    assert detector.manifest.schema_version == 3
    assert detector.manifest.reconstruction == "memory"
    np.testing.assert_allclose(result.score[:2], [0.415793091, 12.8549547], rtol=1e-4)
    assert result.is_anomaly.tolist() == [False, False, True]

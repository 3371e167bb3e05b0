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

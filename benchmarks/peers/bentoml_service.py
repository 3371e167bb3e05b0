"""A service of BentoML with two workers and, for single rows, its adaptive batching."""

from typing import Any

import bentoml
import numpy as np
import scoring

# Requests of many rows are not batched.
BATCHING = {} if scoring.BULK else {"batchable": True, "max_batch_size": 64, "max_latency_ms": 1000}


@bentoml.service(workers=2, traffic={"timeout": 60, "max_concurrency": 256})
class Scorer:
    """The service, with one endpoint."""

    def __init__(self) -> None:
        self._session = scoring.open_session()

    @bentoml.api(**BATCHING)
    def score(self, x: np.ndarray) -> list[dict[str, Any]]:
        """Return an object for each row."""
        scores = scoring.run(self._session, np.asarray(x, np.float32))
        return [{"score": float(one), "is_anomaly": bool(one > scoring.THRESHOLD)} for one in scores]

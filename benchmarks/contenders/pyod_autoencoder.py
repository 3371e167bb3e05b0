"""PyOD's autoencoder with its own defaults; `benchmarks/environments.py` runs this with PyOD and torch."""

import sys
import time

import numpy as np
from pyod.models.auto_encoder import AutoEncoder


def main(rows: str, seed: str, scores: str) -> None:
    """Fit on `train`, score `test`; PyOD standardises by itself."""
    with np.load(rows) as arrays:
        train, test = arrays["train"].astype(np.float32), arrays["test"].astype(np.float32)
    start = time.perf_counter()
    model = AutoEncoder(random_state=int(seed), verbose=0).fit(train)
    fitted = time.perf_counter()
    answer = model.decision_function(test)
    done = time.perf_counter()
    np.savez(scores, scores=answer, fit_seconds=fitted - start, score_seconds=done - fitted)


if __name__ == "__main__":
    main(*sys.argv[1:])

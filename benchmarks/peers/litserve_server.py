"""A server of LitServe: batching for single rows, two workers without it for many."""

import litserve
import numpy as np
import scoring


class Scorer(litserve.LitAPI):
    """One request, one batch."""

    def setup(self, device: str) -> None:
        """Open the model."""
        self._session = scoring.open_session()

    def decode_request(self, request: dict) -> np.ndarray:
        """LitServe looks for an argument of this very name."""
        return np.asarray(request["x"], np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Scores."""
        return scoring.run(self._session, x)

    def encode_response(self, output: np.ndarray) -> dict:
        """Lists, one element for each row."""
        return {"score": output.tolist(), "is_anomaly": (output > scoring.THRESHOLD).tolist()}


class BatchingScorer(Scorer):
    """Several requests of one row each, one batch."""

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Put together."""
        return np.concatenate(inputs)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """Taken apart."""
        return list(output.reshape(-1, 1))


if __name__ == "__main__":
    if scoring.BULK:
        server = litserve.LitServer(Scorer(), accelerator="cpu", workers_per_device=2, timeout=60)
    else:
        scorer = BatchingScorer(max_batch_size=32, batch_timeout=0.001)
        server = litserve.LitServer(scorer, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(
        host="127.0.0.1",
        port=scoring.PORT,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )

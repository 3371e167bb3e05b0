"""A server of LitServe: one worker with batching for single rows, two workers without it for many rows."""

import litserve
import numpy as np
import scoring


class Scorer(litserve.LitAPI):
    """Runs each request as one batch."""

    def setup(self, device: str) -> None:
        """Open the model."""
        self._session = scoring.open_session()

    def decode_request(self, request: dict) -> np.ndarray:
        """Return the samples; LitServe needs the argument to be called `request`."""
        return np.asarray(request["x"], np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return scores."""
        return scoring.run(self._session, x)

    def encode_response(self, output: np.ndarray) -> dict:
        """Return lists with one element for each row."""
        return {"score": output.tolist(), "is_anomaly": (output > scoring.THRESHOLD).tolist()}


class BatchingScorer(Scorer):
    """Runs several requests of one row each as one batch."""

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Join the rows of the requests."""
        return np.concatenate(inputs)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """Split the scores by request."""
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

"""Triton by pytriton: its Python backend with two instances and dynamic batching."""

import os
from collections.abc import Callable

import numpy as np
import scoring
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def instance() -> Callable:
    """Return the function of one process, with a session of its own."""
    session = scoring.open_session()

    @batch
    def score(samples: np.ndarray) -> dict[str, np.ndarray]:
        scores = scoring.run(session, samples).reshape(-1, 1)
        return {"score": scores, "is_anomaly": scores > scoring.THRESHOLD}

    return score


if __name__ == "__main__":
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=scoring.PORT,
        grpc_address="127.0.0.1",
        grpc_port=int(os.environ["SERVING_GRPC_PORT"]),
        allow_metrics=False,
        log_verbose=0,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="scorer",
            infer_func=[instance(), instance()],
            inputs=[Tensor(name="samples", dtype=np.float32, shape=scoring.SHAPE[1:])],
            outputs=[
                Tensor(name="score", dtype=np.float32, shape=(1,)),
                Tensor(name="is_anomaly", dtype=np.bool_, shape=(1,)),
            ],
            config=ModelConfig(
                max_batch_size=10_000 if scoring.BULK else 64,
                batcher=DynamicBatcher(max_queue_delay_microseconds=500),
            ),
        )
        triton.serve()

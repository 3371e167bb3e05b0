"""A custom runtime of MLServer, as its documentation recommends for custom models."""

import numpy as np
import scoring
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Scorer(MLModel):
    """Reads and returns tensors."""

    async def load(self) -> bool:
        """Open the model."""
        self._session = scoring.open_session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Score one batch, which MLServer's adaptive batching may have joined from several requests."""
        samples = NumpyCodec.decode_input(payload.inputs[0]).astype(np.float32)
        scores = scoring.run(self._session, samples).reshape(-1, 1)
        outputs = {"score": scores, "is_anomaly": scores > scoring.THRESHOLD}
        return InferenceResponse(
            model_name=self.name,
            outputs=[NumpyCodec.encode_output(name, value) for name, value in outputs.items()],
        )

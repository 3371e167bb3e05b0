"""Save the model in MLflow's format, for `mlflow models serve`."""

import sys
from typing import Any

import mlflow.pyfunc
import numpy as np
import scoring
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec


class Scorer(mlflow.pyfunc.PythonModel):
    """The model as a Python function of MLflow."""

    def load_context(self, context: Any) -> None:
        """Open the model."""
        self._session = scoring.open_session()

    def predict(self, context: Any, model_input: np.ndarray, params: dict | None = None) -> dict:
        """Return arrays with one element for each row."""
        scores = scoring.run(self._session, np.asarray(model_input, np.float32))
        return {"score": scores, "is_anomaly": scores > scoring.THRESHOLD}


if __name__ == "__main__":
    mlflow.pyfunc.save_model(
        sys.argv[1],
        python_model=Scorer(),
        signature=ModelSignature(inputs=Schema([TensorSpec(np.dtype("float32"), scoring.SHAPE)])),
        pip_requirements=["mlflow", "onnxruntime"],
    )

"""The model as every peer runs it: the same file, the same options of ONNX Runtime, only the score."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import numpy as np
import onnxruntime as ort

MODEL = os.environ["SERVING_MODEL"]
SHAPE = (-1, *map(int, os.environ["SERVING_SHAPE"].split(",")))
THRESHOLD = float(os.environ["SERVING_THRESHOLD"])
PORT = int(os.environ["SERVING_PORT"])
BULK = bool(os.environ["SERVING_BULK"])


def open_session() -> ort.InferenceSession:
    """Open a session with one thread and the options of `detector/engine/session.py`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    return ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


def run(session: ort.InferenceSession, samples: np.ndarray) -> np.ndarray:
    """Return the scores of samples, reshaped to whole samples: shape (n,), float32."""
    return session.run(["score"], {"samples": samples.reshape(SHAPE)})[0]

"""Import TensorFlow without its messages, which C++ writes to stderr before any setting is read."""

import os
import sys


def import_tensorflow() -> None:
    """Import TensorFlow with stderr redirected to nothing; later imports of Keras find it loaded."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        import tensorflow  # noqa: F401 for its side effect: keras and tf2onnx find it loaded
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)

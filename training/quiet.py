"""Imports TensorFlow without its greeting: C++ writes to the file descriptor, before any setting is read."""

import os
import sys


def import_tensorflow() -> None:
    """Import TensorFlow for the modules that follow, with stderr closed to it meanwhile."""
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

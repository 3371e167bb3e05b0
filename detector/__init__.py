"""What a model folder means and how it is scored: the contract between training and serving.

  errors       every exception of the package
  schema       constants and checks for the fields of `manifest.json`
  files        names, hashes and reading of the files of a version folder
  manifest     `Manifest`: read, validate and write `manifest.json`
  results      what a detector answers: `Scores`, `Classes`, `Compressed`, `Contribution`
  columns      compare column names, list names in sentences
  tables       data frames and rows with texts and missing values to numbers, and back
  calibration  thresholds with their promise, p-values, false-discovery selection
  windows      cut a series into windows, merge window values to steps
  latents      latents as float16 or 8-bit integers, and back
  images       decode and encode PNG and JPEG; the only module that imports Pillow
  engine/      run the graphs with ONNX Runtime
  inference    `Detector`: open and verify a folder, score, reconstruct, encode, decode, classify, explain
  triton       `config.pbtxt` for Triton
  store        `ModelStore`: find, publish, label and remove versions

`training`, `service` and `residual_client` import this package; it imports none of them. It reads no settings
from the environment, configures no logging, and knows neither Keras nor HTTP. Only `engine` and the modules
below it in this list load ONNX Runtime. `Detector` and `ModelStore` are therefore imported on first use, so
that `residual_client` can share the other modules. tests/test_boundaries.py checks who imports whom.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from detector.errors import (
    DetectorError,
    InputError,
    IntegrityError,
    ManifestError,
    ModelError,
    NoClassifier,
    NoInt8Latent,
    NoLatent,
    NonFiniteScore,
    RunStopped,
    StoreError,
)
from detector.manifest import Manifest
from detector.results import Classes, Compressed, Contribution, Scores

if TYPE_CHECKING:
    from detector.inference import Detector
    from detector.store import ModelStore

__all__ = [
    "Classes",
    "Compressed",
    "Contribution",
    "Detector",
    "DetectorError",
    "InputError",
    "IntegrityError",
    "Manifest",
    "ManifestError",
    "ModelError",
    "ModelStore",
    "NoClassifier",
    "NoInt8Latent",
    "NoLatent",
    "NonFiniteScore",
    "RunStopped",
    "Scores",
    "StoreError",
]

# ONNX Runtime reads this when it is imported, which every module here does after this line: its Privacy.md.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_LAZY = {"Detector": "detector.inference", "ModelStore": "detector.store"}


def __getattr__(name: str) -> Any:
    """Import `Detector` or `ModelStore`, and with it ONNX Runtime, on first use (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

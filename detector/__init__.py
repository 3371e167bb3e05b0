"""What a model folder means and how it is scored: the contract between training and serving."""

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

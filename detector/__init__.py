"""What a model folder means and how it scores: the contract between training and serving."""

from detector.errors import (
    DetectorError,
    InputError,
    IntegrityError,
    ManifestError,
    ModelError,
    NoLatent,
    NonFiniteScore,
    StoreError,
)
from detector.inference import Contribution, Detector, Scores
from detector.manifest import Manifest
from detector.store import ModelStore

__all__ = [
    "Contribution",
    "Detector",
    "DetectorError",
    "InputError",
    "IntegrityError",
    "Manifest",
    "ManifestError",
    "ModelError",
    "ModelStore",
    "NoLatent",
    "NonFiniteScore",
    "Scores",
    "StoreError",
]

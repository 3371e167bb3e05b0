"""What a model folder means and how it scores: the contract between training and serving."""

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
from detector.inference import Detector
from detector.manifest import Manifest
from detector.results import Classes, Compressed, Contribution, Scores
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

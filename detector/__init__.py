"""What a model folder means and how it scores: the contract between training and serving."""

from detector.errors import (
    DetectorError,
    InputError,
    IntegrityError,
    ManifestError,
    ModelError,
    NoInt8Latent,
    NoLatent,
    NonFiniteScore,
    StoreError,
)
from detector.inference import Contribution, Detector, Scores
from detector.latents import Compressed
from detector.manifest import Manifest
from detector.store import ModelStore

__all__ = [
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
    "NoInt8Latent",
    "NoLatent",
    "NonFiniteScore",
    "Scores",
    "StoreError",
]

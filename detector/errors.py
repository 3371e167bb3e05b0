"""Every exception of the package. Its text is one sentence for a person.

  DetectorError
  ├─ StoreError         the store has no such model, version or label, or cannot be read or written
  ├─ a version folder that is refused
  │   ├─ ManifestError   `manifest.json` is malformed or contradicts itself
  │   ├─ IntegrityError  a file is missing or has other bytes than listed
  │   └─ ModelError      the bytes are right, but the graph does not behave as the manifest says
  ├─ a request that is refused
  │   ├─ InputError      samples or options that the model cannot take; has the `index` of the fault
  │   ├─ NoLatent        encode or decode without a bottleneck
  │   ├─ NoInt8Latent    8-bit latents where the manifest has no form for them
  │   └─ NoClassifier    classify without a classifier
  └─ a run without a result
      ├─ NonFiniteScore  the model answered NaN or infinity to finite samples
      └─ RunStopped      the caller stopped the run

All are direct subclasses of `DetectorError`; the groups are for reading.
"""


class DetectorError(Exception):
    """Base class of every exception that this package raises on purpose."""


class ManifestError(DetectorError):
    """`manifest.json` is missing, malformed, or contradicts itself or other files."""


class IntegrityError(DetectorError):
    """A file of a model folder is missing or does not have the bytes that the manifest lists."""


class ModelError(DetectorError):
    """A file has the listed bytes, but does not behave as the manifest says."""


class StoreError(DetectorError):
    """A model, version or label is not in the store, or the store cannot be read or written."""


class InputError(DetectorError):
    """The model cannot take these samples or options: the caller's error.

    Attributes
    ----------
    index : tuple of int, or None
        Position of the fault in the samples, the row first; None if it has no position.
    """

    def __init__(self, sentence: str, index: tuple[int, ...] | None = None) -> None:
        super().__init__(sentence)
        self.index = index


class NoLatent(DetectorError):
    """The model has no bottleneck, so it can neither encode nor decode."""


class NoInt8Latent(DetectorError):
    """The manifest does not say how to store the model's latent as 8-bit integers."""


class NoClassifier(DetectorError):
    """The model has no classifier, so it cannot classify."""


class NonFiniteScore(DetectorError):
    """The model answered NaN or infinity to finite samples: the model's error, never a decision."""


class RunStopped(DetectorError):
    """The caller stopped a run before it was done."""

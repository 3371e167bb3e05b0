"""Every exception of the package: one sentence each, with the data that a caller can act on."""


class DetectorError(Exception):
    """Root of everything this package raises on purpose; its text is one sentence for a person."""


class ManifestError(DetectorError):
    """`manifest.json` is missing, malformed, or says something that cannot be."""


class IntegrityError(DetectorError):
    """A file of a model folder is missing or does not hold the bytes that the manifest names."""


class ModelError(DetectorError):
    """A file holds the promised bytes, but they do not do what the manifest says."""


class StoreError(DetectorError):
    """A model, version or label is not in the store, or the store cannot take it."""


class InputError(DetectorError):
    """Samples, or options that come with them, which the model cannot take: the caller's error.

    Attributes
    ----------
    index : tuple of int, or None
        Position of the fault in the samples, the row first; None where it has none.
    """

    def __init__(self, sentence: str, index: tuple[int, ...] | None = None) -> None:
        super().__init__(sentence)
        self.index = index


class NoLatent(DetectorError):
    """The model has no bottleneck, so it can neither encode nor decode."""


class NoInt8Latent(DetectorError):
    """The manifest does not say how the model's latent is written as 8-bit integers."""


class NoClassifier(DetectorError):
    """The model has no classifier, so it can name no class."""


class NonFiniteScore(DetectorError):
    """The model answered NaN or infinity to finite samples: the model's error, never a verdict."""


class RunStopped(DetectorError):
    """Its caller ended a run before it was done."""

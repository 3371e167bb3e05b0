"""What can go wrong while training, each with a sentence for the person at the command line."""


class TrainingError(Exception):
    """Root of everything this package raises on purpose."""


class ConfigError(TrainingError):
    """A hyperparameter, or two of them together, that cannot be."""


class DataError(TrainingError):
    """Data that cannot be trained on as they are; the sentence names the file, column or row."""


class ExportError(TrainingError):
    """The exported graph does not do what the network does."""

"""Errors of training, each with a sentence for the person at the command line."""


class TrainingError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(TrainingError):
    """A hyperparameter is out of range, or two do not go together."""


class DataError(TrainingError):
    """The data cannot be trained on; the sentence names the file, column or row."""


class ExportError(TrainingError):
    """The exported graph and the network differ."""

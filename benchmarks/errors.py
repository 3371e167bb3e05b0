"""What a benchmark raises; each error is one sentence for whoever runs it."""


class QualityError(Exception):
    """A set or method cannot be measured; the text names the file or method."""


class ServingError(Exception):
    """A contender cannot be made, started or measured, or answers something else; the text says which."""

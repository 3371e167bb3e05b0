"""What can go wrong with a contender."""


class ServingError(Exception):
    """A contender cannot be made, started or measured, or answers something else; the text says which."""

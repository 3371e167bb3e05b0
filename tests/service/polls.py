"""Polls as a test needs them."""

from service.models.registry import ModelRegistry


def follow(models: ModelRegistry) -> None:
    """Poll until a change of the store is served: a folder is loaded once it looked the same at two polls."""
    models.poll()
    models.poll()

"""The models that are loaded, and how they follow the store."""

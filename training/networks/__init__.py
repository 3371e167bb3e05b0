"""Autoencoders that are fitted by gradient descent. The map is in README.md."""

"""Autoencoders that are fitted by gradient descent."""

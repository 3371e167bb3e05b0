"""Classifiers fitted on the encoder of a published model."""

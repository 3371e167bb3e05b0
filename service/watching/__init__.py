"""Metrics and log lines of requests."""

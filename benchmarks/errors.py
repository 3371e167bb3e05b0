"""The error that benchmarks raise; its text is one sentence for the user."""


class BenchmarkError(Exception):
    """Something cannot be made, read or measured; the text names the file, method or server."""

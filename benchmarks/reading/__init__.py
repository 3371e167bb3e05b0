"""Read the tables that lie in Python packages: `python -m benchmarks.reading`."""

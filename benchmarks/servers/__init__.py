"""Parts of `benchmarks/serving.py`: contenders, their processes, their load and what they use."""

"""The report, the model card and their charts."""

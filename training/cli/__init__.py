"""Parts that the commands share: options, progress, printed results."""

"""From a fitted network to a calibrated model folder. The map is in README.md."""

"""From a fitted network to a calibrated model folder."""

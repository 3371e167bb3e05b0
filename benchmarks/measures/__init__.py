"""Published measures of detection quality, and statistics over many sets."""

"""From a file or a name to samples that are split and scaled; the map is in README.md."""

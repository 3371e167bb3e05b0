"""Memory autoencoders, which rebuild samples from prototypes; the map is in README.md."""

"""Memory autoencoders: what they store, and the Keras models that attend to it."""

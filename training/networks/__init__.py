"""Autoencoders that are fitted by gradient descent.

- `architectures`: configuration and sample shape -> Keras encoder and decoder
- `corruption`: the noise that a denoising autoencoder learns to undo
- `fitting`: fit, and keep the best weights
- `collapse`: refuse networks that learned nothing; needs no Keras
- `weights`: write `weights.npz`, and load a network from it
"""

"""Classifiers that start from the encoder of a published model.

- `network`: Keras network and its fit
- `probability`: temperature scaling and figures; needs no Keras
- `stages`: fit, evaluate, export, write the next version of the model
"""

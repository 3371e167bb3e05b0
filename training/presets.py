"""Presets: named networks, each with hyperparameters that suit it; the data settle the others."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Preset:
    """One entry of `--preset`.

    Attributes
    ----------
    kinds : tuple of str
        Kinds of samples that it takes, the preferred one first.
    words : str
        Description for `--help`.
    options : mapping of str to value
        Hyperparameters that differ from the defaults of `FitConfig`.
    """

    kinds: tuple[str, ...]
    words: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


ANY_KIND = ("vector", "image", "sequence")
GRIDS = ("image", "sequence")  # samples with rows: of an image, or steps of a window

# The learning rate of the Adadelta paper: at Keras' default of 0.001 these networks hardly change within
# their epochs (benchmarks/seeds.py shows both).
_ADADELTA = {"optimizer": "adadelta", "learning_rate": 1.0}
_PLAIN = {"corruption": "none"}
_DENSE = {**_PLAIN, "activation": "relu", "latent_activation": "relu"}
_SIGMOID_BCE = {"output_activation": "sigmoid", "loss": "bce"}
# The reference's rate of 1e-5 suits 50,000 images and a hundred epochs, and leaves networks of fewer images
# untrained.
_RGB = {
    **_PLAIN,
    "architecture": "conv",
    "strides": (1, 2, 2, 1),
    "widths": (32, 64, 64, 64),
    "extra_output": True,
    "batch_norm": True,
    "output_activation": "tanh",
    "latent_dim": 10,
    "learning_rate": 0.0005,
    "batch_size": 32,
    "epochs": 100,
    "patience": 2,
}

# With a memory the autoencoder only encodes and decodes, so it need not be perfect.
_MEMORY = {"architecture": "memory", "epochs": 60}
_WINDOW_MEMORY = {**_MEMORY, "architecture": "memory-window", "prototypes": 500}

PRESETS: dict[str, Preset] = {
    "memory": Preset(
        ANY_KIND,
        "attention over 3,000 prototypes of normal samples, whitened residual; the default for vectors",
        _MEMORY,
    ),
    "vector-fast": Preset(
        ("vector",), "memory with 256 prototypes instead of 3,000", {**_MEMORY, "prototypes": 256}
    ),
    "memory-image": Preset(
        ("image",),
        "attention over 3,000 typical images, compared blurred and by patches; the default for images",
        {**_MEMORY, "architecture": "memory-image", "widths": (32, 64), "epochs": 30},
    ),
    "memory-window": Preset(
        ("sequence",),
        "attention over 500 typical windows, whitened over time",
        _WINDOW_MEMORY,
    ),
    "memory-stream": Preset(
        ("sequence",),
        "attention over 300 typical steps, mean over windows of 8; for streams that drift",
        {**_WINDOW_MEMORY, "prototypes": 300, "by_step": True, "drift_discount": 10.0},
    ),
    "dense": Preset(ANY_KIND, "dense layers 64-32-latent and back"),
    "conv": Preset(
        ("image",),
        "3x3 convolutions of stride 2",
        {"architecture": "conv", "widths": (32, 64), "residual_smoothing": 0.8},
    ),
    "conv1d": Preset(
        ("sequence",),
        "convolutions over time of stride 2",
        {"architecture": "conv1d", "widths": (32, 64)},
    ),
    "lstm-plain": Preset(
        ("sequence",),
        "an LSTM read to one latent vector for the whole window, another that unrolls it",
        {**_PLAIN, "architecture": "lstm", "widths": (32,), "activation": "tanh"},
    ),
    "variational": Preset(
        ANY_KIND,
        "dense with a Gaussian latent (KL weight 0.001); the mean is exported",
        {"kl_weight": 0.001},
    ),
    "dense-simple": Preset(
        ANY_KIND,
        "one hidden layer of 36",
        {
            **_DENSE,
            **_SIGMOID_BCE,
            **_ADADELTA,
            "widths": (),
            "latent_dim": 36,
            "epochs": 10,
            "batch_size": 500,
        },
    ),
    "dense-deep": Preset(
        ANY_KIND,
        "256-128-64-36 and back",
        {
            **_DENSE,
            **_SIGMOID_BCE,
            **_ADADELTA,
            "widths": (256, 128, 64),
            "latent_dim": 36,
            "epochs": 20,
            "batch_size": 500,
        },
    ),
    "dense-reduce": Preset(
        ("vector",),
        "256-100-256 on standardised features",
        {
            **_DENSE,
            "widths": (256,),
            "latent_dim": 100,
            "learning_rate": 0.01,
            "epochs": 500,
            "batch_size": 100,
        },
    ),
    "dense-narrow": Preset(
        ANY_KIND,
        "64-32-8 and back",
        {**_DENSE, **_SIGMOID_BCE, "widths": (64, 32), "latent_dim": 8, "epochs": 10, "batch_size": 32},
    ),
    "dense-lopsided": Preset(
        ANY_KIND,
        "64-32-8, and one linear layer back",
        {
            **_DENSE,
            "widths": (64, 32),
            "decoder_widths": (),
            "latent_dim": 8,
            "output_activation": "linear",
            "epochs": 2,
            "batch_size": 32,
        },
    ),
    "dense-sparse": Preset(
        ANY_KIND,
        "one hidden layer of 32 with an L1 penalty on its activations",
        {
            **_DENSE,
            **_SIGMOID_BCE,
            **_ADADELTA,
            "widths": (),
            "latent_dim": 32,
            "latent_l1": 1e-4,
            "epochs": 10,
            "batch_size": 256,
        },
    ),
    "dense-stacked": Preset(
        ANY_KIND,
        "128-64-32 and back",
        {
            **_DENSE,
            **_SIGMOID_BCE,
            **_ADADELTA,
            "widths": (128, 64),
            "latent_dim": 32,
            "epochs": 5,
            "batch_size": 256,
        },
    ),
    "rowwise": Preset(
        GRIDS,
        "64-32-8 and back for each row of an image or step of a window",
        {
            **_DENSE,
            "architecture": "rows",
            "widths": (64, 32),
            "latent_dim": 8,
            "output_activation": "linear",
            "epochs": 3,
            "batch_size": 32,
        },
    ),
    "conv-latent": Preset(
        ("image",),
        "four convolutions to a latent plane and back",
        {
            **_PLAIN,
            "architecture": "conv",
            "widths": (32, 64, 64, 64),
            "strides": (1, 2, 2, 1),
            "latent_dim": 2,
            # The reference's rate is 5e-5 throughout. Ten times that rate needs a warm-up: without one every
            # image stays black (loss 0.1120 on MNIST).
            "learning_rate": 0.0005,
            "warmup_steps": 1000,
            "epochs": 100,
            "batch_size": 32,
        },
    ),
    "conv-map": Preset(
        ("image",),
        "the latent is an image of half the side",
        {
            **_PLAIN,
            "architecture": "conv-map",
            "widths": (10,),
            "activation": "relu",
            "output_activation": "linear",
            "learning_rate": 0.005,
            "epochs": 100,
            "batch_size": 300,
        },
    ),
    "conv-pool": Preset(
        ("image",),
        "convolutions with pooling, and up-sampling back",
        {
            **_PLAIN,
            **_ADADELTA,
            "architecture": "conv-pool",
            "widths": (16, 8, 8),
            "activation": "relu",
            "loss": "bce",
            "epochs": 10,
            "batch_size": 128,
        },
    ),
    "conv-denoise": Preset(
        ("image",),
        "ten feature maps at full size, for clean images from noisy ones",
        {
            "architecture": "conv-denoise",
            "widths": (10,),
            "activation": "relu",
            "corruption": "gaussian-clipped",
            "corruption_level": 0.3,
            "loss": "bce",
            "learning_rate": 0.005,
            "epochs": 100,
            "batch_size": 300,
        },
    ),
    "restore": Preset(
        ("image",),
        "feature maps of full, half and a quarter of the side, for clean images from noisy or coarse ones",
        {
            "architecture": "conv-restore",
            "widths": (16, 32, 64),
            "corruption": "gaussian",
            "corruption_level": 0.3,
            "corrupt_validation": True,
            "loss": "bce",
        },
    ),
    "lstm": Preset(
        ("sequence",),
        "a bidirectional LSTM to 8 values for each step, and another back",
        {
            **_PLAIN,
            "architecture": "bilstm",
            "widths": (),
            "activation": "tanh",
            "latent_dim": 8,
            "epochs": 500,
            "batch_size": 300,
        },
    ),
    "two-head": Preset(
        GRIDS,
        "two autoencoders of 2 values for each row, one fitted to BCE, one to squared error",
        {
            **_DENSE,
            **_SIGMOID_BCE,
            "architecture": "two-head",
            "second_loss": "mse",
            "widths": (),
            "latent_dim": 2,
            "epochs": 5,
            "batch_size": 10,
        },
    ),
    "conv-rgb": Preset(("image",), "conv-latent with batch normalisation and a latent of 10", _RGB),
    "conv-rgb-wide": Preset(("image",), "conv-rgb with a latent of 512", {**_RGB, "latent_dim": 512}),
    "conv-rgb-deep": Preset(
        ("image",),
        "seven convolutions of up to 256 filters and a latent of 512",
        {
            **_RGB,
            "widths": (256, 256, 128, 128, 64, 64, 64),
            "strides": (1, 1, 2, 1, 2, 1, 1),
            "latent_dim": 512,
        },
    ),
    "conv-rgb-denoise": Preset(
        ("image",),
        "conv-rgb fitted to clean images from noisy ones",
        {**_RGB, "corruption": "gaussian", "corruption_level": 0.1},
    ),
}
DEFAULT_PRESETS = {"vector": "memory", "image": "memory-image", "sequence": "conv1d"}

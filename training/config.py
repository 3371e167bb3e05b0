"""`FitConfig`: every hyperparameter with its default and meaning; presets; the flags made from them."""

import argparse
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

from training.errors import ConfigError

LOSSES = ("mse", "mae", "bce", "huber")
ACTIVATIONS = ("relu", "leaky_relu", "elu", "silu", "tanh")
ARCHITECTURES = ("dense", "conv")
# One latent value for so many features, and at most so many: neighbouring pixels say the same.
DEFAULT_LATENT = {"vector": (2, 8), "image": (8, 32)}
VECTOR_NOISE = 0.2
# Strong noise makes a detector of many pictures sharper and keeps one of few from learning anything: chosen
# on MNIST's digits 2, 3 and 5 as the normal one, and on drawn rings with scratches, 90 to 3,000 of them. A
# stroke of a small picture has fewer pixels to average the noise over, so it shrinks with the side, too.
PICTURE_NOISE_OF_FEW, PICTURE_NOISE_OF_MANY = 0.2, 0.8
MANY_PICTURES, PICTURE_NOISE_SIDE = 3000, 28
# An epoch of fewer steps says little about the loss, so few samples go in small batches.
LEAST_STEPS_OF_EPOCH, LEAST_BATCH, LARGEST_BATCH = 16, 8, 64
LEAST_PATIENCE_EPOCHS, LEAST_PATIENCE_STEPS = 20, 1000
# A Gaussian wider than any picture it is meant for; its kernel has some 200 x 200 weights.
MOST_SMOOTHING = 32.0


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be integers separated by commas, got {text!r}") from error


def _option(default: Any, parse: Any, words: str, choices: tuple[str, ...] | None = None) -> Any:
    """One hyperparameter: its default, how its flag is read, and the words of its help."""
    return dataclasses.field(default=default, metadata={"parse": parse, "help": words, "choices": choices})


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """All that decides what comes out of a fit, beside the data; recorded in the manifest.

    Raises
    ------
    ConfigError
        If a value is out of its range, naming it.
    """

    kind: str
    preset: str
    architecture: str = _option("dense", str, "family of the network", ARCHITECTURES)
    widths: tuple[int, ...] = _option(
        (64, 32), _widths, "units of each dense layer, or filters of each convolution, outside in"
    )
    latent_dim: int | None = _option(
        None,
        int,
        "size of the latent vector; if not given half of the features, at most 8, or an eighth of the "
        "pixels, at most 32",
    )
    activation: str = _option("leaky_relu", str, "after every hidden layer", ACTIVATIONS)
    corruption_noise: float | None = _option(
        None,
        float,
        "standard deviation of the Gaussian noise added to training inputs, in scaled units, 0 is none; if "
        "not given 0.2 for rows, and for pictures by number and size, up to 0.8",
    )
    residual_smoothing: float = _option(
        0.0,
        float,
        "standard deviation in pixels of the Gaussian that smooths a picture's residual; 0 is none",
    )
    loss: str = _option("mse", str, "training loss", LOSSES)
    learning_rate: float = _option(0.001, float, "of Adam")
    batch_size: int | None = _option(
        None, int, "samples a step; if not given 8 to 64 by the number of samples"
    )
    epochs: int = _option(300, int, "passes over the training split, at most")
    patience: int | None = _option(
        None,
        int,
        "epochs without a better validation loss before stopping; if not given 20, or more where epochs are "
        "short",
    )
    max_minutes: float | None = _option(
        None, float, "stop fitting after this time and keep the best so far; no limit if not given"
    )
    alpha: float = _option(0.05, float, "false-alarm rate to promise on normal data")
    promise: bool = True
    samples: bool = True
    validation_fraction: float = _option(0.1, float, "share of the normal samples for early stopping")
    calibration_fraction: float = _option(
        0.2, float, "share for the threshold; up to 0.4 where the data are few or the promise needs it"
    )
    test_fraction: float = _option(0.15, float, "share held out, where the data bring no test split")
    rows: int | None = _option(
        None,
        int,
        "use at most so many of the samples that are not held out, drawn at random; all if not given",
    )
    seed: int = _option(0, int, "of splits, weights, corruption and batches")

    def __post_init__(self) -> None:
        for name in ("learning_rate", "epochs"):
            _require(getattr(self, name) > 0, name, "positive", getattr(self, name))
        for name in ("batch_size", "patience", "latent_dim", "max_minutes", "rows"):
            value = getattr(self, name)
            _require(value is None or value > 0, name, "positive", value)
        _require(bool(self.widths) and min(self.widths) > 0, "widths", "positive integers", self.widths)
        for name in ("alpha", "validation_fraction", "calibration_fraction", "test_fraction"):
            _require(0 < getattr(self, name) < 1, name, "between 0 and 1", getattr(self, name))
        shares = self.validation_fraction + self.calibration_fraction + self.test_fraction
        _require(shares <= 0.8, "validation, calibration and test fractions together", "at most 0.8", shares)
        noise, smoothing = self.corruption_noise, self.residual_smoothing
        _require(noise is None or 0 <= noise <= 1, "corruption_noise", "between 0 and 1", noise)
        most = f"between 0 and {MOST_SMOOTHING:g}"
        _require(0 <= smoothing <= MOST_SMOOTHING, "residual_smoothing", most, smoothing)
        if self.residual_smoothing > 0 and self.kind != "image":
            raise ConfigError(f"residual_smoothing needs images, got kind {self.kind}")
        _require(0 <= self.seed < 2**32, "seed", "at least 0 and below 2**32", self.seed)
        for name, words in (("loss", LOSSES), ("activation", ACTIVATIONS), ("architecture", ARCHITECTURES)):
            _require(getattr(self, name) in words, name, "one of " + ", ".join(words), getattr(self, name))
        if self.loss == "bce" and self.kind != "image":
            raise ConfigError("loss bce needs values between 0 and 1: only images are scaled so")
        if self.architecture == "conv" and self.kind != "image":
            raise ConfigError(f"architecture conv needs images, got kind {self.kind}")

    @classmethod
    def from_preset(cls, preset: str, overrides: Mapping[str, Any] | None = None) -> Self:
        """Defaults, then the preset, then what was asked for.

        Raises
        ------
        ConfigError
            If there is no such preset, or a value is out of range.
        """
        if preset not in PRESETS:
            raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
        return cls(**{"preset": preset, **PRESETS[preset], **(overrides or {})})

    def for_samples(self, sample_shape: tuple[int, ...]) -> Self:
        """The same with a latent size: a share of the features, up to a limit, where none was given."""
        share, largest = DEFAULT_LATENT[self.kind]
        return self._where_not_given(latent_dim=max(1, min(largest, math.prod(sample_shape) // share)))

    def for_training(self, sample_shape: tuple[int, ...], n_train: int) -> Self:
        """The same with noise, batch size and patience for so many training samples, where not given."""
        batch_size = min(LARGEST_BATCH, max(LEAST_BATCH, n_train // LEAST_STEPS_OF_EPOCH))
        batch_size = self.batch_size or batch_size
        patience = max(LEAST_PATIENCE_EPOCHS, math.ceil(LEAST_PATIENCE_STEPS * batch_size / n_train))
        noise = VECTOR_NOISE
        if self.kind == "image":
            share = min(1.0, n_train / MANY_PICTURES)
            side = min(1.0, math.sqrt(math.prod(sample_shape[:2])) / PICTURE_NOISE_SIDE)
            noise = side * (PICTURE_NOISE_OF_FEW + share * (PICTURE_NOISE_OF_MANY - PICTURE_NOISE_OF_FEW))
        return self._where_not_given(corruption_noise=noise, batch_size=batch_size, patience=patience)

    def _where_not_given(self, **values: Any) -> Self:
        return dataclasses.replace(
            self, **{name: value for name, value in values.items() if getattr(self, name) is None}
        )


PRESETS: dict[str, dict[str, Any]] = {
    "dense": {"kind": "vector"},
    "conv": {
        "kind": "image",
        "architecture": "conv",
        "widths": (32, 64),
        "residual_smoothing": 0.8,
    },
}
DEFAULT_PRESETS = {"vector": "dense", "image": "conv"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag for each hyperparameter; absent from the result unless given."""
    for field in dataclasses.fields(FitConfig):
        if "parse" not in field.metadata:
            continue
        presets = {name: preset[field.name] for name, preset in PRESETS.items() if field.name in preset}
        own = "".join(f"; {_shown(value)} in preset {name}" for name, value in presets.items())
        parser.add_argument(
            "--" + field.name.replace("_", "-"),
            type=field.metadata["parse"],
            choices=field.metadata["choices"],
            metavar=None
            if field.metadata["choices"]
            else field.metadata["parse"].__name__.strip("_").upper(),
            default=argparse.SUPPRESS,
            help=f"{field.metadata['help']} (default: {_shown(field.default)}{own})",
        )


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def _require(holds: bool, name: str, words: str, value: Any) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {words}, got {value!r}")

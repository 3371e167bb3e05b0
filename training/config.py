"""`FitConfig`: every hyperparameter with its default, its flag, its help and its range."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

from detector.schema import LAST_WINDOW, MERGE_RULES
from training import flags
from training.errors import ConfigError
from training.presets import PRESETS

LOSSES = ("mse", "mae", "bce", "huber", "ssim")
ACTIVATIONS = ("linear", "relu", "leaky_relu", "elu", "silu", "tanh")
OUTPUT_ACTIVATIONS = ("linear", "sigmoid", "tanh")
OPTIMIZERS = ("adam", "adamw", "adadelta", "sgd")
_LATENT_OPTIONS = ("latent_dim", "latent_activation", "latent_l1")
_DENSE_OPTIONS = (*_LATENT_OPTIONS, "decoder_widths", "dropout")
_MEMORY_OPTIONS = ("prototypes", "neighbours")
_WINDOW_OPTIONS = (*_MEMORY_OPTIONS, "by_step", "drift_discount")
_STRIDED_OPTIONS = (*_LATENT_OPTIONS, "kl_weight", "strides", "extra_output", "batch_norm", "dropout")


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A family of networks: its kinds of samples, and its options besides widths and activations."""

    kinds: tuple[str, ...]
    options: tuple[str, ...]
    needs_widths: bool = True


ARCHITECTURES = {
    "dense": Architecture(
        ("vector", "image", "sequence"), (*_DENSE_OPTIONS, "kl_weight"), needs_widths=False
    ),
    "memory": Architecture(
        ("vector", "image", "sequence"), (*_DENSE_OPTIONS, *_MEMORY_OPTIONS), needs_widths=False
    ),
    "memory-image": Architecture(("image",), (*_STRIDED_OPTIONS, *_MEMORY_OPTIONS, "detail_weight")),
    "memory-window": Architecture(("sequence",), (*_DENSE_OPTIONS, *_WINDOW_OPTIONS), needs_widths=False),
    "rows": Architecture(("image", "sequence"), _DENSE_OPTIONS, needs_widths=False),
    "two-head": Architecture(
        ("image", "sequence"),
        ("latent_dim", "latent_activation", "decoder_widths", "dropout", "second_loss"),
        needs_widths=False,
    ),
    "conv": Architecture(("image",), _STRIDED_OPTIONS),
    "conv-map": Architecture(("image",), ("latent_activation", "batch_norm", "dropout")),
    "conv-pool": Architecture(("image",), ("batch_norm", "dropout")),
    "conv-denoise": Architecture(("image",), ("batch_norm", "dropout")),
    "conv-restore": Architecture(("image",), ("batch_norm", "dropout")),
    "conv1d": Architecture(("sequence",), _STRIDED_OPTIONS),
    "lstm": Architecture(("sequence",), (*_DENSE_OPTIONS, "kl_weight")),
    "bilstm": Architecture(("sequence",), ("latent_dim", "decoder_widths", "dropout"), needs_widths=False),
}
MEMORIES = ("memory", "memory-image", "memory-window")
ONLY_FOR_KIND = {
    "residual_smoothing": "image",
    **dict.fromkeys(("window", "stride", "merge", "scored_steps"), "sequence"),
}
QUANTIZATIONS = ("none", "int8")
NETWORK_OPTIONS = tuple(sorted({name for family in ARCHITECTURES.values() for name in family.options}))
# Default level (None: chosen by the data), lowest level, highest level.
CORRUPTIONS = {
    "none": (0.0, 0.0, 0.0),
    "gaussian": (None, 0.0, 1.0),
    "gaussian-clipped": (None, 0.0, 1.0),
    "salt-and-pepper": (0.1, 0.0, 1.0),
    "masking": (0.25, 0.0, 1.0),
    "mosaic": (2.0, 2.0, 64.0),
    "blur": (1.0, 0.0, 32.0),
}
IMAGE_CORRUPTIONS = ("mosaic", "blur")
# These need to know black and white in scaled units.
BOUNDED_CORRUPTIONS = ("gaussian-clipped", "salt-and-pepper")
# Features for one latent value, and the most latent values; neighbouring pixels are alike.
DEFAULT_LATENT = {"vector": (2, 8), "image": (8, 32), "sequence": (4, 32)}
VECTOR_NOISE = 0.2
# Strong noise improves a detector of many images, and keeps a detector of few images from learning anything:
# chosen on MNIST with the digits 2, 3 and 5 as the normal one, and on 90 to 3,000 drawn rings with scratches.
# A stroke of a small image has fewer pixels to average the noise over, so the noise shrinks with the side.
IMAGE_NOISE_OF_FEW, IMAGE_NOISE_OF_MANY = 0.2, 0.8
MANY_IMAGES, IMAGE_NOISE_SIDE = 3000, 28
# Few samples go in small batches, since the loss of an epoch of fewer steps is too random.
LEAST_STEPS_OF_EPOCH, LEAST_BATCH, LARGEST_BATCH = 16, 8, 64
LEAST_PATIENCE_EPOCHS, LEAST_PATIENCE_STEPS = 20, 1000
MOST_CONTAMINATION = 0.2  # beyond it too few normal samples are left to learn from
# Wider than needed for any image; the kernel then has about 200 x 200 weights.
MOST_SMOOTHING = 32.0
MOST_MEMORY_VALUES = 4096  # of a sample: the whitening matrix of a memory is as wide, and so takes 64 MiB


# Hyperparameters by concern, in the order of `--help`; those of the first group stand among the common flags.
COMMON, SERIES, SPLITS = "common", "series", "splits"
GROUPS = {
    COMMON: ("alpha", "contamination", "epochs", "max_minutes", "seed"),
    SERIES: ("window", "stride", "merge", "scored_steps"),
    SPLITS: ("validation_fraction", "calibration_fraction", "test_fraction", "rows"),
    "network": (
        *("architecture", "widths", "decoder_widths", "strides", "extra_output", "batch_norm", "dropout"),
        *("activation", "output_activation", "quantize"),
    ),
    "latent": ("latent_dim", "latent_activation", "latent_l1", "kl_weight"),
    "prototype memory": ("prototypes", "neighbours", "by_step", "drift_discount", "detail_weight"),
    "corruption and score": (
        *("corruption", "corruption_level", "corrupt_validation", "residual_smoothing"),
    ),
    "optimisation": (
        *("loss", "second_loss", "optimizer", "learning_rate", "warmup_steps", "batch_size", "patience"),
    ),
}
# What a fit repeats of another one whose preset it does not take.
OF_ANY_PRESET = (
    "alpha",
    "contamination",
    "seed",
    "promise",
    "samples",
    "collapse_check",
    "strict",
    *GROUPS[SPLITS],
)


def _option(default: Any, parse: Any, words: str, choices: tuple[str, ...] | None = None) -> Any:
    """A hyperparameter: its default, the parser of its flag, and its help."""
    return dataclasses.field(default=default, metadata={"parse": parse, "help": words, "choices": choices})


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """Everything but the data that decides the result of a fit; recorded in the manifest.

    Raises
    ------
    ConfigError
        If a value is out of range; the sentence names it.
    """

    kind: str
    preset: str
    architecture: str = _option("dense", str, "family of the network", tuple(ARCHITECTURES))
    widths: tuple[int, ...] = _option(
        (64, 32),
        flags.widths,
        "units of each dense layer, or filters of each convolution, from input to latent",
    )
    decoder_widths: tuple[int, ...] | None = _option(
        None,
        flags.widths,
        "the same for the decoder, from latent to output; the widths reversed if not given",
    )
    strides: tuple[int, ...] | None = _option(
        None, flags.widths, "strides of the convolutions of conv and conv1d; all 2 if not given"
    )
    extra_output: bool = _option(
        False, bool, "mirror every convolution in the decoder and add one that makes the image"
    )
    batch_norm: bool = _option(False, bool, "batch normalisation before every activation of convolutions")
    dropout: float = _option(
        0.0, float, "share of activations dropped while fitting, after every hidden layer"
    )
    latent_dim: int | None = _option(
        None,
        int,
        "size of the latent vector, for rows and LSTMs per step; 0 leaves out the autoencoder that a "
        "prototype memory needs only to encode and decode; if not given, half of the features (at most 8), "
        "an eighth of the pixels (at most 32) or a quarter of a window's values (at most 32)",
    )
    latent_activation: str = _option("linear", str, "activation of the latent", ACTIVATIONS)
    latent_l1: float = _option(0.0, float, "weight of the L1 penalty on the latent's activations; 0 for none")
    kl_weight: float = _option(
        0.0,
        float,
        "makes a variational autoencoder: weight of the latent's Kullback-Leibler divergence from a standard "
        "Gaussian, relative to a loss that is a mean over the features; 0 for none",
    )
    prototypes: int = _option(3000, int, "typical samples that a prototype memory keeps at most")
    neighbours: int = _option(16, int, "prototypes that a prototype memory rebuilds a sample from")
    by_step: bool = _option(
        False,
        bool,
        "let a prototype memory of windows keep single steps, and look up each step of a window by itself",
    )
    drift_discount: float = _option(
        0.0,
        float,
        "weigh a channel whose level drifts in the training part by 1 / (1 + this times the share of its "
        "variance due to the drift) in a prototype memory of windows, since it will drift on; 0 for no "
        "discount",
    )
    detail_weight: float = _option(
        0.3, float, "weight of the errors of small patches relative to the whole image; 0 leaves them out"
    )
    activation: str = _option("leaky_relu", str, "activation after every hidden layer", ACTIVATIONS)
    output_activation: str | None = _option(
        None,
        str,
        "activation of the reconstruction: linear, or sigmoid or tanh for samples scaled from their range to "
        "0..1 or -1..1; if not given, sigmoid for images and linear for others",
        OUTPUT_ACTIVATIONS,
    )
    corruption: str = _option(
        "gaussian",
        str,
        "corruption of the training inputs that the network learns to undo",
        tuple(CORRUPTIONS),
    )
    corruption_level: float | None = _option(
        None,
        float,
        "standard deviation of Gaussian noise in scaled units (if not given, 0.2 for rows and windows, up to "
        "0.8 for images by number and size); share of features with salt and pepper (0.1) or masked (0.25); "
        "side of a mosaic's tiles (2) or standard deviation of a blur (1) in pixels",
    )
    corrupt_validation: bool = _option(
        False,
        bool,
        "corrupt the validation samples too, to keep the weights that denoise best instead of the ones that "
        "rebuild clean samples best",
    )
    residual_smoothing: float = _option(
        0.0,
        float,
        "standard deviation in pixels of the Gaussian that smooths an image's residual; 0 for none, or for "
        "memory-image a 25th of the side",
    )
    loss: str = _option("mse", str, "training loss", LOSSES)
    second_loss: str = _option("mse", str, "loss of the second head of two-head", LOSSES)
    optimizer: str = _option("adam", str, "optimizer of the weights", OPTIMIZERS)
    learning_rate: float = _option(0.001, float, "learning rate of the optimizer")
    warmup_steps: int = _option(
        0,
        int,
        "steps over which the learning rate rises from 0, for networks that otherwise collapse to one answer "
        "for every sample",
    )
    batch_size: int | None = _option(
        None, int, "samples a step; if not given, 8 to 64 by the number of samples"
    )
    epochs: int = _option(300, int, "most passes over the training split")
    patience: int | None = _option(
        None,
        int,
        "epochs without a better validation loss before stopping; if not given, 20, or more if epochs are "
        "short",
    )
    max_minutes: float | None = _option(
        None, float, "stop fitting after this time and keep the best weights so far; no limit if not given"
    )
    alpha: float = _option(0.05, float, "false-alarm rate to promise on normal data")
    promise: bool = True
    samples: bool = True
    collapse_check: bool = True
    strict: bool = False
    window: int | None = _option(
        None,
        int,
        "steps of a window of a series; if not given, 64, for memory-window 128, with by_step 8, or fewer if "
        "the series is too short",
    )
    stride: int | None = _option(
        None,
        int,
        "steps from one window to the next, at most a window; if not given, 1 when a series is served, and "
        "for fitting 1, or more if there would be too many windows",
    )
    merge: str = _option(
        LAST_WINDOW,
        str,
        "rule that makes scores of the steps of a series from scores of windows",
        MERGE_RULES,
    )
    scored_steps: int | None = _option(
        None,
        int,
        "score a window by the error of only so many newest steps, so that an old anomaly does not keep the "
        "score of a stream high; all steps if not given",
    )
    validation_fraction: float = _option(0.1, float, "share of the normal samples used for early stopping")
    calibration_fraction: float = _option(
        0.2, float, "share used for the threshold; up to 0.4 if the data are few or the promise needs it"
    )
    test_fraction: float = _option(
        0.15, float, "share held out for the test, if the data have no test split of their own"
    )
    contamination: float = _option(
        0.0,
        float,
        "assumed share of anomalies among samples called normal, at most 0.2; twice that share, the samples "
        "that are farthest from all others, is left out of the fit",
    )
    rows: int | None = _option(
        None,
        int,
        "use at most so many of the samples that are not held out, drawn at random; for a series, fit on at "
        "most so many windows; all if not given",
    )
    quantize: str = _option(
        "none",
        str,
        "arithmetic of the published graphs: int8 computes wide dense layers in integers, often twice as "
        "fast, and fails if that changes decisions on the calibration split; only for architecture dense",
        QUANTIZATIONS,
    )
    seed: int = _option(0, int, "seed of splits, weights, corruption and batches")

    def __post_init__(self) -> None:
        _require(self.warmup_steps >= 0, "warmup_steps", "at least 0", self.warmup_steps)
        for name in ("learning_rate", "epochs", "batch_size", "patience", "max_minutes", "rows"):
            value = getattr(self, name)
            _require(value is None or value > 0, name, "positive", value)
        least = 0 if self.has_memory else 1
        _require(
            self.latent_dim is None or self.latent_dim >= least, "latent_dim", "positive", self.latent_dim
        )
        for name in _MEMORY_OPTIONS:
            _require(getattr(self, name) >= 2, name, "at least 2", getattr(self, name))
        for name in ("widths", "decoder_widths", "strides"):
            given = getattr(self, name) or ()
            _require(all(width > 0 for width in given), name, "positive integers", given)
        _require(0 <= self.dropout < 1, "dropout", "at least 0 and below 1", self.dropout)
        for name in ("latent_l1", "kl_weight", "drift_discount", "detail_weight"):
            _require(0 <= getattr(self, name) < math.inf, name, "at least 0", getattr(self, name))
        for name in ("alpha", "validation_fraction", "calibration_fraction", "test_fraction"):
            _require(0 < getattr(self, name) < 1, name, "between 0 and 1", getattr(self, name))
        shares = self.validation_fraction + self.calibration_fraction + self.test_fraction
        _require(shares <= 0.8, "validation, calibration and test fractions together", "at most 0.8", shares)
        words = f"between 0 and {MOST_CONTAMINATION:g}"
        _require(0 <= self.contamination <= MOST_CONTAMINATION, "contamination", words, self.contamination)
        smoothing = self.residual_smoothing
        most = f"between 0 and {MOST_SMOOTHING:g}"
        _require(0 <= smoothing <= MOST_SMOOTHING, "residual_smoothing", most, smoothing)
        if smoothing > 0 and self.kind != "image":
            raise ConfigError(f"residual_smoothing needs images, got kind {self.kind}")
        if smoothing > 0 and self.architecture == "memory":
            raise ConfigError(f"architecture memory has no residual_smoothing, got {smoothing!r}")
        _require(0 <= self.seed < 2**32, "seed", "at least 0 and below 2**32", self.seed)
        for field in dataclasses.fields(self):
            choices, value = field.metadata.get("choices"), getattr(self, field.name)
            if choices and not (value is None and field.default is None):
                _require(value in choices, field.name, "one of " + ", ".join(choices), value)
        self._check_network()
        self._check_corruption()
        self._check_windows()

    def _check_network(self) -> None:
        """Check that kind, architecture, options and losses go together."""
        family = ARCHITECTURES[self.architecture]
        if self.kind not in family.kinds:
            wanted = " or ".join(kind + "s" for kind in family.kinds)
            raise ConfigError(f"architecture {self.architecture} needs {wanted}, got kind {self.kind}")
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in NETWORK_OPTIONS:
            value = getattr(self, name)
            if name not in family.options and value != defaults[name]:
                raise ConfigError(f"architecture {self.architecture} has no {name}, got {value!r}")
        if self.quantize != "none" and self.architecture != "dense":
            raise ConfigError(
                f"quantize {self.quantize} is only for architecture dense, got {self.architecture}: give "
                "--preset dense, or leave out --quantize"
            )
        if family.needs_widths and not self.widths:
            raise ConfigError(f"architecture {self.architecture} needs widths, got none")
        if self.strides is not None:
            n_widths = len(self.widths)
            _require(len(self.strides) == n_widths, "strides", f"as many as widths, {n_widths}", self.strides)
        if "bce" in self.losses and self.settled_output != "sigmoid":
            raise ConfigError(
                "loss bce needs values between 0 and 1: give --output-activation sigmoid, got "
                f"{self.settled_output}"
            )
        if "ssim" in self.losses and self.kind != "image":
            raise ConfigError(f"loss ssim needs images, got kind {self.kind}")

    def _check_corruption(self) -> None:
        if self.corruption in IMAGE_CORRUPTIONS and self.kind != "image":
            raise ConfigError(f"corruption {self.corruption} needs images, got kind {self.kind}")
        if self.corruption in BOUNDED_CORRUPTIONS and self.scaled_range is None:
            raise ConfigError(
                f"corruption {self.corruption} needs samples scaled from their range: give "
                "--output-activation sigmoid or tanh"
            )
        if self.corrupt_validation and (self.corruption == "none" or self.corruption_level == 0):
            raise ConfigError("corrupt_validation needs a corruption, got none")
        _, least, most = CORRUPTIONS[self.corruption]
        level = self.corruption_level
        words = f"between {least:g} and {most:g} for corruption {self.corruption}"
        _require(level is None or least <= level <= most, "corruption_level", words, level)
        if self.corruption == "mosaic" and level is not None:
            _require(level == int(level), "corruption_level", "a whole number of pixels for a mosaic", level)

    def _check_windows(self) -> None:
        window, stride = self.window, self.stride
        if self.kind != "sequence":
            unread = {"window": None, "stride": None, "merge": LAST_WINDOW, "scored_steps": None}
            given = [name for name, default in unread.items() if getattr(self, name) != default]
            if given:
                raise ConfigError(f"{given[0]} is only for sequences, got kind {self.kind}")
            return
        _require(window is None or window >= 2, "window", "at least 2", window)
        _require(stride is None or stride >= 1, "stride", "positive", stride)
        if window is not None and stride is not None:
            _require(stride <= window, "stride", f"at most the window, {window}", stride)
        scored = self.scored_steps
        most = "at least 1" if window is None else f"between 1 and the window, {window}"
        _require(scored is None or 1 <= scored <= (window or scored), "scored_steps", most, scored)

    def described(self) -> dict[str, Any]:
        """Return the options that concern this kind and architecture and are set, for the report."""
        options = ARCHITECTURES[self.architecture].options
        return {
            name: value
            for name, value in dataclasses.asdict(self).items()
            if value is not None
            and (name not in NETWORK_OPTIONS or name in options)
            and ONLY_FOR_KIND.get(name, self.kind) == self.kind
        }

    @property
    def has_memory(self) -> bool:
        """Whether a memory scores the samples; a network, if there is one, then only encodes and decodes."""
        return self.architecture in MEMORIES

    @property
    def settled_output(self) -> str:
        """Activation of the reconstruction; the default of the kind if none was given."""
        return self.output_activation or ("sigmoid" if self.kind == "image" else "linear")

    @property
    def scaled_range(self) -> tuple[float, float] | None:
        """Range that raw values are scaled to; None if features are standardised instead."""
        if self.settled_output == "tanh":
            return (-1.0, 1.0)
        return (0.0, 1.0) if self.kind == "image" or self.settled_output == "sigmoid" else None

    @property
    def losses(self) -> tuple[str, ...]:
        """Losses, one for each head of the network."""
        return (self.loss, self.second_loss) if self.architecture == "two-head" else (self.loss,)

    @classmethod
    def from_preset(cls, preset: str, overrides: Mapping[str, Any] | None = None) -> Self:
        """Take the defaults, then the preset, then the overrides.

        Raises
        ------
        ConfigError
            If there is no such preset, or a value is out of range.
        """
        if preset not in PRESETS:
            raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
        chosen, overrides = PRESETS[preset], dict(overrides or {})
        kind = overrides.setdefault("kind", chosen.kinds[0])
        if kind not in chosen.kinds:
            raise ConfigError(
                f"preset {preset} is for kind {' or '.join(chosen.kinds)}, the data are of kind {kind}"
            )
        options = dict(chosen.options)
        if "corruption" in overrides:
            options.pop("corruption_level", None)  # it was meant for the preset's own corruption
        return cls(**{"preset": preset, **options, **overrides})

    def for_samples(self, sample_shape: tuple[int, ...]) -> Self:
        """Settle the latent size, if not given: a share of the features, up to a limit.

        The window of a sequence is the length of its samples.
        """
        n_steps, values = sample_shape[0], {}
        if self.kind == "sequence":
            if self.window not in (None, n_steps):
                raise ConfigError(
                    f"window must be {n_steps}, since the data are already cut, got {self.window}"
                )
            values["window"] = n_steps
        if "latent_dim" in ARCHITECTURES[self.architecture].options:
            share, largest = DEFAULT_LATENT[self.kind]
            values["latent_dim"] = max(1, min(largest, math.prod(sample_shape) // share))
        return self._where_not_given(**values)

    def check_memory(self, network_shape: tuple[int, ...]) -> None:
        """Refuse samples that are too large for a memory of whole samples.

        Raises
        ------
        ConfigError
            If they have more than `MOST_MEMORY_VALUES` values, as the network sees them.
        """
        n_values = math.prod(network_shape)
        if self.architecture == "memory" and n_values > MOST_MEMORY_VALUES:
            raise ConfigError(
                f"architecture memory takes samples of at most {MOST_MEMORY_VALUES} values, got {n_values}: "
                "take --preset memory-image for images, memory-window for windows, dense for rows"
            )

    def for_training(self, sample_shape: tuple[int, ...], n_train: int) -> Self:
        """Settle noise, batch size and patience for the number of training samples, if not given."""
        suited = min(LARGEST_BATCH, max(LEAST_BATCH, n_train // LEAST_STEPS_OF_EPOCH))
        batch_size = self.batch_size or suited
        patience = max(LEAST_PATIENCE_EPOCHS, math.ceil(LEAST_PATIENCE_STEPS * batch_size / n_train))
        noise, *_ = CORRUPTIONS[self.corruption]
        if noise is None:  # of a Gaussian
            noise = VECTOR_NOISE
            if self.kind == "image":
                share = min(1.0, n_train / MANY_IMAGES)
                side = min(1.0, math.sqrt(math.prod(sample_shape[:2])) / IMAGE_NOISE_SIDE)
                noise = side * (IMAGE_NOISE_OF_FEW + share * (IMAGE_NOISE_OF_MANY - IMAGE_NOISE_OF_FEW))
        return self._where_not_given(corruption_level=noise, batch_size=batch_size, patience=patience)

    def _where_not_given(self, **values: Any) -> Self:
        return dataclasses.replace(
            self, **{name: value for name, value in values.items() if getattr(self, name) is None}
        )


def _require(holds: bool, name: str, words: str, value: Any) -> None:
    if not holds:
        raise ConfigError(f"{name} must be {words}, got {value!r}")

"""Every hyperparameter has a default, a flag, a range and a sentence."""

import argparse
import dataclasses

import pytest

from training.cli.options import add_fit_flags
from training.config import GROUPS, FitConfig
from training.errors import ConfigError
from training.presets import PRESETS
from training.stages import reference_notes


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_valid(preset):
    """Presets are checked like any configuration."""
    assert FitConfig.from_preset(preset).preset == preset


def test_flags_win_over_the_preset_and_the_preset_over_defaults():
    """Flags override the preset, which overrides the defaults."""
    config = FitConfig.from_preset("conv", {"latent_dim": 3})

    assert config.latent_dim == 3
    assert config.architecture == "conv"
    assert config.learning_rate == FitConfig.from_preset("dense").learning_rate


def test_the_level_of_a_preset_belongs_to_its_own_corruption():
    """Another corruption has its own default level, and a given level is kept."""
    tiled = FitConfig.from_preset("restore", {"corruption": "mosaic"}).for_training((28, 28), 1000)
    noisy = FitConfig.from_preset("restore", {"corruption": "gaussian", "corruption_level": 0.5})

    assert FitConfig.from_preset("restore").corruption_level == 0.3
    assert tiled.corruption_level == 2
    assert noisy.corruption_level == 0.5


@pytest.mark.parametrize(
    ("preset", "overrides", "sentence"),
    [
        ("dense", {"alpha": 0.0}, "alpha must be between 0 and 1, got 0.0"),
        ("dense", {"alpha": 1.0}, "alpha must be between 0 and 1"),
        ("dense", {"epochs": 0}, "epochs must be positive, got 0"),
        ("dense", {"latent_dim": 0}, "latent_dim must be positive, got 0"),
        ("dense", {"max_minutes": -1.0}, "max_minutes must be positive"),
        ("memory-image", {"detail_weight": -1.0}, "detail_weight must be at least 0, got -1.0"),
        (
            "memory",
            {"kind": "image", "residual_smoothing": 2.0},
            "architecture memory has no residual_smoothing, got 2.0",
        ),
        ("dense", {"quantize": "int4"}, "quantize must be one of none, int8, got 'int4'"),
        (
            "conv",
            {"quantize": "int8"},
            "quantize int8 is only for architecture dense, got conv: give --preset dense, or leave out "
            "--quantize",
        ),
        ("memory", {"quantize": "int8"}, "quantize int8 is only for architecture dense, got memory"),
        ("dense", {"warmup_steps": -1}, "warmup_steps must be at least 0, got -1"),
        ("dense", {"rows": 0}, "rows must be positive, got 0"),
        ("conv", {"widths": ()}, "architecture conv needs widths, got none"),
        ("dense", {"widths": (8, 0)}, "widths must be positive integers"),
        (
            "dense",
            {"corruption_level": -0.1},
            "corruption_level must be between 0 and 1 for corruption gaussian",
        ),
        ("dense", {"corruption_level": 1.5}, "between 0 and 1 for corruption gaussian, got 1.5"),
        ("dense", {"residual_smoothing": 1.0}, "residual_smoothing needs images"),
        ("conv", {"residual_smoothing": -1.0}, "residual_smoothing must be between 0 and 32"),
        (
            "conv",
            {"residual_smoothing": float("inf")},
            "residual_smoothing must be between 0 and 32, got inf",
        ),
        ("dense", {"loss": "l3"}, "loss must be one of mse, mae, bce, huber"),
        ("dense", {"loss": "bce"}, "loss bce needs values between 0 and 1"),
        ("dense", {"loss": "ssim"}, "loss ssim needs images"),
        ("dense", {"architecture": "conv"}, "architecture conv needs images, got kind vector"),
        ("dense", {"architecture": "lstm"}, "architecture lstm needs sequences"),
        ("dense", {"optimizer": "newton"}, "optimizer must be one of adam, adamw, adadelta, sgd"),
        ("dense", {"strides": (1, 2)}, "architecture dense has no strides, got (1, 2)"),
        ("conv", {"strides": (2,)}, "strides must be as many as widths, 2, got (2,)"),
        ("dense", {"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ("dense", {"kl_weight": -1.0}, "kl_weight must be at least 0"),
        ("conv-pool", {"kl_weight": 1.0}, "architecture conv-pool has no kl_weight"),
        ("conv-pool", {"latent_dim": 3}, "architecture conv-pool has no latent_dim"),
        ("dense", {"batch_norm": True}, "architecture dense has no batch_norm"),
        ("conv", {"decoder_widths": (8, 8)}, "architecture conv has no decoder_widths"),
        ("dense", {"second_loss": "mae"}, "architecture dense has no second_loss"),
        ("dense", {"corruption": "mosaic"}, "corruption mosaic needs images"),
        ("dense", {"corruption": "salt-and-pepper"}, "needs samples scaled from their range"),
        ("restore", {"corruption": "none"}, "corrupt_validation needs a corruption, got none"),
        ("restore", {"corruption_level": 0.0}, "corrupt_validation needs a corruption, got none"),
        ("conv", {"corruption": "mosaic", "corruption_level": 1.0}, "between 2 and 64 for corruption mosaic"),
        ("conv", {"corruption": "mosaic", "corruption_level": 2.5}, "must be a whole number of pixels"),
        ("conv", {"kind": "vector"}, "preset conv is for kind image, the data are of kind vector"),
        ("dense", {"test_fraction": 0.9}, "together must be at most 0.8"),
        ("dense", {"seed": -1}, "seed must be at least 0"),
        ("dense", {"seed": 2**32}, "seed must be at least 0 and below 2**32"),
        ("tree", {}, "preset must be one of"),
    ],
)
def test_config_names_what_is_wrong(preset, overrides, sentence):
    """Each fault is one sentence with the value."""
    with pytest.raises(ConfigError) as caught:
        FitConfig.from_preset(preset, overrides)

    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("preset", "shape", "latent_dim"),
    [
        ("dense", (2,), 1),
        ("dense", (1,), 1),
        ("dense", (9,), 4),
        ("dense", (30,), 8),
        ("conv", (8, 8), 8),
        ("conv", (28, 28), 32),
        ("conv", (2, 2), 1),
    ],
)
def test_latent_size_follows_the_data_where_none_is_given(preset, shape, latent_dim):
    """Half of the features, at most 8; an eighth of the pixels, at most 32."""
    assert FitConfig.from_preset(preset).for_samples(shape).latent_dim == latent_dim


@pytest.mark.parametrize(
    ("preset", "shape", "n_train", "noise"),
    [
        ("dense", (30,), 100, 0.2),
        ("conv", (28, 28), 3000, 0.8),
        ("conv", (96, 96, 3), 60_000, 0.8),
        ("conv", (14, 14), 3000, 0.4),
        ("conv", (28, 28), 1500, 0.5),
        ("conv", (28, 28), 100, 0.22),
    ],
)
def test_noise_follows_number_and_size_where_none_is_given(preset, shape, n_train, noise):
    """Few or small images get less."""
    config = FitConfig.from_preset(preset).for_training(shape, n_train)

    assert config.corruption_level == pytest.approx(noise)


@pytest.mark.parametrize(
    ("n_train", "batch_size", "patience"), [(60_000, 64, 20), (3795, 64, 20), (1000, 62, 62), (50, 8, 160)]
)
def test_few_samples_go_in_small_batches_with_long_patience(n_train, batch_size, patience):
    """A fit stops only after at least a thousand steps without a better loss."""
    config = FitConfig.from_preset("dense").for_training((30,), n_train)

    assert (config.batch_size, config.patience) == (batch_size, patience)


def test_what_was_given_stays():
    """Given values are not changed, 0 included."""
    given = {"latent_dim": 20, "corruption_level": 0.0, "batch_size": 5, "patience": 3}
    config = FitConfig.from_preset("dense", given).for_samples((2,)).for_training((2,), 100)

    assert {name: getattr(config, name) for name in given} == given


def test_flags_cover_every_hyperparameter_and_default_to_absent():
    """Each field has a flag, and a flag that is not given sets nothing but a switch."""
    parser = argparse.ArgumentParser()
    add_fit_flags(parser)
    fields = {field.name for field in dataclasses.fields(FitConfig)} - {"kind", "preset"}

    assert fields <= {action.dest for action in parser._actions}
    given = vars(parser.parse_args(["--data", "x.csv"]))
    switches = {"promise": True, "samples": True, "collapse_check": True, "strict": False}
    assert {name: value for name, value in given.items() if name in fields} == switches
    assert parser.parse_args(["--data", "x.csv", "--widths", "9,5"]).widths == (9, 5)


def test_a_window_is_settled_by_windows_that_are_cut_already():
    """The manifest names it, and another one is a contradiction."""
    config = FitConfig.from_preset("conv1d", {"stride": 4})

    assert config.for_samples((20, 3)).window == 20
    with pytest.raises(ConfigError, match="window must be 20, since the data are already cut, got 16"):
        dataclasses.replace(config, window=16).for_samples((20, 3))


@pytest.mark.parametrize(
    ("preset", "options", "message"),
    [
        ("dense", {"window": 8}, "window is only for sequences, got kind vector"),
        ("conv", {"merge": "mean"}, "merge is only for sequences, got kind image"),
        ("conv1d", {"window": 1}, "window must be at least 2, got 1"),
        ("conv1d", {"window": 8, "stride": 9}, "stride must be at most the window, 8, got 9"),
        ("conv1d", {"merge": "first"}, "merge must be one of last, mean, got 'first'"),
        (
            "conv1d",
            {"window": 8, "scored_steps": 9},
            "scored_steps must be between 1 and the window, 8, got 9",
        ),
        ("conv", {"scored_steps": 1}, "scored_steps is only for sequences, got kind image"),
    ],
)
def test_windows_that_cannot_be_are_refused(preset, options, message):
    """Steps between windows would be left out, and rows have no windows."""
    with pytest.raises(ConfigError, match=message):
        FitConfig.from_preset(preset, options)


def test_help_shows_every_hyperparameter_in_one_group():
    """A new one needs its place in `GROUPS`."""
    with_flag = [field.name for field in dataclasses.fields(FitConfig) if "parse" in field.metadata]

    assert sorted(name for names in GROUPS.values() for name in names) == sorted(with_flag)


@pytest.mark.parametrize(
    ("preset", "kind", "shown", "hidden"),
    [
        (
            "memory",
            "vector",
            {"prototypes", "latent_l1", "alpha"},
            {"window", "strides", "max_minutes", "by_step"},
        ),
        ("conv", "image", {"residual_smoothing", "widths"}, {"prototypes", "stride", "second_loss"}),
        (
            "memory-stream",
            "sequence",
            {"merge", "by_step"},
            {"residual_smoothing", "kl_weight", "scored_steps"},
        ),
    ],
)
def test_options_that_concern_a_preset_are_described(preset, kind, shown, hidden):
    """Not those of other kinds and architectures, and not those that are not set."""
    described = FitConfig.from_preset(preset, {"kind": kind}).described()

    assert shown <= described.keys()
    assert not hidden & described.keys()
    assert None not in described.values()


@pytest.mark.parametrize(
    ("preset", "kind", "n_train", "epochs", "words"),
    [
        (
            "dense-deep",
            "vector",
            500,
            None,
            "20 epochs of 60000 samples, 2400 steps, this fit takes at most 20;",
        ),
        ("conv-pool", "image", 1000, 2, "10 epochs of 60000 samples, 4690 steps, this fit takes at most 16;"),
        ("dense-deep", "vector", 33_000, None, None),
        ("dense-deep", "vector", 500, 1200, None),
        ("dense-narrow", "vector", 500, None, None),
    ],
)
def test_a_fit_far_shorter_than_its_reference_is_noted(preset, kind, n_train, epochs, words):
    """Presets with Adadelta are slow: the note has the steps of both, and a quick preset of the kind."""
    options = {"kind": kind} | ({} if epochs is None else {"epochs": epochs})

    notes = list(reference_notes(FitConfig.from_preset(preset, options), n_train))

    assert [words in note for note in notes] == ([True] if words else [])
    quick = "conv" if kind == "image" else "dense"
    assert all(f"--preset {quick}, which draws within a minute" in note for note in notes)

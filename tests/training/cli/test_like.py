"""`--like` repeats a fit: its configuration, and how its data were read, are the defaults of the flags."""

import dataclasses

import pytest

from detector import ModelStore
from tests.model_folder import publish_model
from training import fit
from training.cli.like import parse_like
from training.cli.options import configure
from training.config import FitConfig
from training.data.load import load_dataset
from training.errors import ConfigError

CONFIG = FitConfig.from_preset(
    "dense", {"kind": "vector", "widths": (7, 5), "latent_dim": 2, "alpha": 0.2, "promise": False, "seed": 3}
)


@pytest.fixture
def model(tmp_path):
    """A model of a, b, c that `training.fit` made of a table with labels and categories."""
    options = {"label_column": "state", "categorical": ["b"], "missing": "median", "resize": [8, 6]}
    return publish_model(
        ModelStore(tmp_path / "store"),
        data={"normal_label": "ok", "options": options, "series": None},
        training={"configuration": dataclasses.asdict(CONFIG)},
    )


def parse(*argv):
    """Parse a command line as `training.fit` does."""
    parser = fit._parser()
    return parse_like(parser, parser.parse_args(argv), argv)


def test_everything_is_repeated(model, tmp_path):
    """Name and store, columns and labels, and the whole configuration."""
    arguments = parse("--data", "july.csv", "--like", str(model))

    assert (arguments.name, arguments.store) == ("tiny", str(tmp_path / "store"))
    assert (arguments.kind, arguments.columns) == ("vector", ["a", "b", "c"])
    assert (arguments.label_column, arguments.normal_label) == ("state", "ok")
    assert (arguments.categorical, arguments.missing, arguments.resize) == (["b"], "median", (8, 6))
    (tmp_path / "july.csv").write_text("a,b,c\n1,2,3\n4,5,6\n")
    dataset = load_dataset(str(tmp_path / "july.csv"))
    assert configure(arguments, arguments.preset, dataset) == CONFIG


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        (["--latent-dim", "1", "--promise"], {"latent_dim": 1, "promise": True}),
        (["--name", "other", "--label-column", "fault"], {"name": "other", "label_column": "fault"}),
        (["--columns", "c,a"], {"columns": ["c", "a"]}),
        (["--widths", "none", "--store", "elsewhere"], {"widths": (), "store": "elsewhere"}),
    ],
)
def test_flags_that_are_given_come_first(model, flags, changes):
    """The others stay those of the model."""
    repeated = vars(parse("--data", "july.csv", "--like", str(model)))

    assert vars(parse("--data", "july.csv", "--like", str(model), *flags)) == repeated | changes


def test_another_preset_keeps_what_no_preset_sets(model):
    """The promise and the reading stay, the network is that of the preset."""
    arguments = parse("--data", "july.csv", "--like", str(model), "--preset", "memory")

    assert (arguments.alpha, arguments.seed, arguments.promise) == (0.2, 3, False)
    assert arguments.label_column == "state"
    assert "widths" not in arguments
    assert "latent_dim" not in arguments


def test_a_series_that_had_missing_values_takes_them_again(tmp_path):
    """Although no flag named the rule."""
    options = {
        "data": {"normal_label": None, "options": {}},
        "training": {"configuration": {"preset": "conv1d"}},
    }
    shape = {"kind": "sequence", "sample_shape": (4, 3), "window": 4, "stride": 1, "merge": "last"}
    folder = publish_model(ModelStore(tmp_path / "store"), **options, **shape, missing="gaps")

    assert parse("--data", "july.csv", "--like", str(folder)).missing == "gaps"
    assert parse("--data", "july.csv", "--like", str(folder), "--missing", "refuse").missing == "refuse"


def test_arrays_have_no_columns(model):
    """Feature names of the model are for tables only."""
    assert parse("--data", "july.npy", "--like", str(model)).columns is None


def test_a_model_that_was_not_fitted_here_is_refused(tmp_path):
    """Nothing tells how it was made."""
    folder = publish_model(ModelStore(tmp_path / "store"), training={})

    with pytest.raises(ConfigError, match=r"has no configuration to repeat: training\.fit did not make it"):
        parse("--data", "july.csv", "--like", str(folder))

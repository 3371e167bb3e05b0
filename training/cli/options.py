"""Parts of every command line: the parser, flags, reading data and configuration, exit status."""

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from detector.columns import MISSING_VALUES
from detector.errors import DetectorError
from detector.reading import Reading
from detector.schema import INTERPOLATED, MISSING_RULES, OWN_CATEGORY, UNKNOWN_RULES
from detector.store import ModelStore, check_name
from training import flags
from training.cli.interrupts import terminable
from training.cli.printing import print_notes
from training.config import COMMON, GROUPS, SERIES, SPLITS, FitConfig
from training.data.categories import Cells
from training.data.dataset import Dataset
from training.data.load import load_dataset
from training.data.tabular.options import TableOptions
from training.data.windowing import cut_series
from training.errors import ConfigError, TrainingError
from training.presets import DEFAULT_PRESETS

Container = argparse._ActionsContainer  # a parser, or one of its groups
MAX_GAP = 3
# Flags that are neither hyperparameters nor say how data are read.
NOT_OF_DATA = {"data", "name", "store", "keep", "like", "dry_run", "presets", "latent_dims", "noises"}
# Hyperparameters that decide how a series is cut into windows.
CUTTING_OPTIONS = (
    *("window", "stride", "rows", "alpha", "promise"),
    *("validation_fraction", "calibration_fraction", "test_fraction"),
)


def command_parser(module: str, manual: str | None) -> argparse.ArgumentParser:
    """Make a parser whose help is the module's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=manual,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_label_flags(parser: argparse.ArgumentParser) -> None:
    """Add flags for the column of labels and the normal label."""
    parser.add_argument("--label-column", metavar="COLUMN", help="column of the labels in a table")
    parser.add_argument(
        "--normal-label", metavar="VALUE", help="samples with this label are normal, all others anomalies"
    )


def add_cell_flags(parser: Container) -> None:
    """Add flags for missing values and categories in rows."""
    parser.add_argument(
        "--missing",
        choices=MISSING_RULES,
        help="missing values, in training and serving. Rows: median replaces them by the median or most "
        "frequent category of the training split and tells the network that they were. Series: gaps leaves "
        "out windows that hold one, and interpolate fills runs of at most --max-gap steps before that. "
        "(default: if values are missing, median for rows and gaps for a series; else refuse)",
    )
    parser.add_argument(
        "--max-gap",
        type=flags.count,
        metavar="STEPS",
        help=f"longest run of missing values that --missing interpolate fills (default: {MAX_GAP})",
    )
    parser.add_argument(
        "--categorical",
        type=flags.names,
        default=[],
        metavar="A,B",
        help="features that are categories: texts, or numbers used as codes",
    )
    parser.add_argument(
        "--unknown-category",
        choices=UNKNOWN_RULES,
        default=OWN_CATEGORY,
        help="categories that are not in the data: the served model takes them as one that no normal row has "
        "(own), or refuses the sample (default: own)",
    )


def add_series_flags(parser: Container) -> None:
    """Add flags for the columns of time and entity of a series."""
    parser.add_argument(
        "--time-column",
        metavar="COLUMN",
        help="column of the times of a series; date,time names two columns, of dates and of times of day",
    )
    parser.add_argument(
        "--time-format",
        metavar="FORMAT",
        help="format of the times as of strptime, such as '%%d.%%m.%%Y %%H:%%M', or s, ms, us or ns since "
        "1970, for times that are neither numbers nor texts whose year comes first",
    )
    parser.add_argument(
        "--time-zone",
        metavar="ZONE",
        help="zone of times that name none, such as Europe/Berlin; tells the hour that clocks repeat apart",
    )
    parser.add_argument(
        "--entity-column", metavar="COLUMN", help="column that tells several series in one table apart"
    )


def add_reading_flags(parser: Container) -> None:
    """Add flags for the form of a text table, for what it does not tell by itself."""
    add = parser.add_argument
    add("--delimiter", type=flags.delimiter, metavar="MARK", help="what separates the columns; tab for a tab")
    add("--decimal", type=flags.mark, metavar="MARK", help="mark of decimals: . or ,")
    add("--thousands", type=flags.mark, metavar="MARK", help="mark between groups of three digits")
    add("--encoding", metavar="NAME", help="encoding of the text: utf-8, utf-16, cp949, latin-1, ...")
    add("--skip-rows", type=flags.size, metavar="N", help="lines above the header")
    add(
        "--no-header",
        dest="header",
        action="store_const",
        const=False,
        help="the first line is a row of data; the columns are called x0, x1, ...",
    )
    add(
        "--missing-values",
        type=flags.names,
        metavar="A,B",
        help="texts of a missing cell, besides an empty one and NA, N/A, NaN, NULL, None and the like",
    )


def reading_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Collect what the flags say about how the data are written: fields of `Reading`."""
    names = (
        *("delimiter", "decimal", "thousands", "encoding", "skip_rows", "header"),
        *("time_format", "time_zone", "max_gap", "resize"),
    )
    given = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    if getattr(arguments, "missing_values", None):
        given["missing_values"] = tuple(dict.fromkeys([*MISSING_VALUES, *arguments.missing_values]))
    return given


def column_options(arguments: argparse.Namespace) -> dict[str, str | None]:
    """Collect the columns and the normal label that the flags name."""
    names = ("label_column", "normal_label", "time_column", "entity_column")
    return {name: value for name, value in vars(arguments).items() if name in names}


def add_fit_flags(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Add flags for the data, the published model, and every hyperparameter that is not in `without`.

    The common ones come first, the others in groups.
    """
    parser.add_argument("--data", required=True, metavar="PATH_OR_NAME", help="data to train on")
    parser.add_argument("--name", help="name of the model; made from the name of the data if not given")
    parser.add_argument(
        "--store", default="models", help="folder that models are published to (default: models)"
    )
    add_keep_flag(parser)
    parser.add_argument(
        "--kind", choices=sorted(DEFAULT_PRESETS), help="kind of the samples, if the data do not tell"
    )
    add_label_flags(parser)
    _add_switches(parser)
    add_flags(parser, GROUPS[COMMON], without)
    tables = parser.add_argument_group("tables")
    tables.add_argument(
        "--columns", type=flags.names, metavar="A,B,C", help="features of a table, in this order"
    )
    tables.add_argument(
        "--ignore", type=flags.names, default=[], metavar="A,B", help="columns that are no features"
    )
    add_cell_flags(tables)
    add_reading_flags(tables)
    images = parser.add_argument_group("images and arrays")
    images.add_argument(
        "--resize",
        type=flags.height_and_width,
        metavar="H,W",
        help="bring images of a folder to this height and width, in training and serving; another aspect is "
        "stretched (default: all must have one size)",
    )
    images.add_argument(
        "--shape",
        type=flags.image_shape,
        metavar="H,W",
        help="each row of a table holds the pixels of an image of this height and width; H,W,3 for colours",
    )
    images.add_argument(
        "--value-range", type=flags.value_range, metavar="LOW,HIGH", help="raw values of black and white"
    )
    for concern, names in GROUPS.items():
        if concern == COMMON:
            continue
        group = parser.add_argument_group(
            concern if concern in (SERIES, SPLITS) else f"{concern} (set by the preset)"
        )
        if concern == SERIES:
            add_series_flags(group)
        add_flags(group, names, without)


def _add_switches(parser: argparse.ArgumentParser) -> None:
    """Add the flags of hyperparameters that switch a check or a part of the result on or off."""
    words = {
        "strict": "publish nothing if the test split gives a warning",
        "promise": "promise the false-alarm rate; --no-promise fits even with too few samples for that",
        "collapse_check": "refuse a network that learned nothing",
        "samples": "keep a few samples of the data in the published folder",
    }
    for field in dataclasses.fields(FitConfig):
        if field.name in words:
            parser.add_argument(
                "--" + field.name.replace("_", "-"),
                action=argparse.BooleanOptionalAction,
                default=field.default,
                help=f"{words[field.name]} (default: {_shown(field.default)})",
            )


def read_data(arguments: argparse.Namespace, kinds: Sequence[str]) -> Dataset:
    """The data that the flags name, as one of these kinds; the model's name is settled on the way.

    A series is cut into windows.

    Raises
    ------
    TrainingError
        If nothing can be made of name or data.
    """
    arguments.name = check_name(arguments.name or _name_after(arguments.data))
    if arguments.missing == INTERPOLATED:
        arguments.max_gap = arguments.max_gap or MAX_GAP
    elif arguments.max_gap is not None:
        raise ConfigError("--max-gap needs --missing interpolate")
    reading = reading_options(arguments)
    dataset = load_dataset(
        arguments.data,
        kinds=[arguments.kind] if arguments.kind else kinds,
        columns=arguments.columns,
        value_range=arguments.value_range,
        **column_options(arguments),
        cells=Cells(arguments.missing, tuple(arguments.categorical), arguments.unknown_category),
        reading=Reading(**reading),
        options=TableOptions(tuple(reading), tuple(arguments.ignore), arguments.shape),
    )
    dataset = dataclasses.replace(dataset, options=_data_options(arguments))
    if dataset.timeline is None:
        return dataset
    given = _given(arguments)
    options = {name: given[name] for name in CUTTING_OPTIONS if name in given}
    preset = getattr(arguments, "preset", None) or DEFAULT_PRESETS["sequence"]
    return cut_series(dataset, FitConfig.from_preset(preset, {**options, "kind": "sequence"}))


def _data_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Collect the flags that say how the data are read, for `--like`: all that are no others."""
    others = {field.name for field in dataclasses.fields(FitConfig)} | NOT_OF_DATA
    return {
        name: value
        for name, value in vars(arguments).items()
        if name not in others and value not in (None, [])
    }


def _name_after(data: str) -> str:
    """Make a model name from the name of the data: `Pump 7.csv` gives `pump-7`."""
    name = re.sub(r"[^a-z0-9._-]+", "-", Path(data).resolve().stem.lower()).strip("-._")[:64]
    if not name:
        raise ConfigError(f"name the model with --name: no name can be made from {data!r}")
    return name


def configure(
    arguments: argparse.Namespace,
    preset: str,
    dataset: Dataset,
    overrides: Mapping[str, Any] | None = None,
) -> FitConfig:
    """Take a preset, then the flags, then `overrides`, and settle them for these samples.

    Raises
    ------
    ConfigError
        If a value is out of range, or two values do not go together.
    """
    given = _given(arguments) | {"kind": dataset.kind}
    config = FitConfig.from_preset(preset, given | dict(overrides or {}))
    if arguments.value_range and config.scaled_range is None:
        raise ConfigError(
            "--value-range needs images, or --output-activation sigmoid or tanh: "
            f"preset {preset} standardises features of kind {dataset.kind}"
        )
    return config.for_samples(dataset.sample_shape)


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Hyperparameters that were given as flags."""
    fields = {field.name for field in dataclasses.fields(FitConfig)} - {"kind", "preset"}
    return {name: value for name, value in vars(arguments).items() if name in fields}


def add_keep_flag(parser: argparse.ArgumentParser) -> None:
    """Add the flag that limits the versions in the store."""
    parser.add_argument(
        "--keep",
        type=flags.count,
        metavar="K",
        help="then remove all versions of the model but the newest K and those with a label (default: none)",
    )


def remove_old_versions(store: ModelStore, name: str, keep: int | None) -> None:
    """Do what `--keep` asks for after publishing, and print what was removed."""
    if keep is not None:
        removed = store.retain(name, keep)
        print(f"removed versions: {', '.join(map(str, removed)) or 'none'}")


def run_command(action: Callable[[], None], interrupted: str = "nothing was written") -> int:
    """Run an action; return 0 if done, 1 if failed, with one sentence on stderr, 130 if interrupted.

    The notes of an exception are printed after it, or instead of `interrupted`.
    """
    try:
        with terminable():
            action()
    except (TrainingError, DetectorError, OSError) as error:  # OSError: for example a full disk
        print(f"error: {error}", file=sys.stderr)
        print_notes(_notes_of(error))
        return 1
    except KeyboardInterrupt as error:
        print(f"interrupted: {', '.join(_notes_of(error)) or interrupted}", file=sys.stderr)
        return 130
    return 0


def _notes_of(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def add_flags(flags_of: Container, names: Sequence[str], without: Collection[str] = ()) -> None:
    """Add flags for hyperparameters not in `without`; flags not given are absent from the result."""
    fields = {field.name: field for field in dataclasses.fields(FitConfig)}
    for field in (fields[name] for name in names if name not in without):
        parse, choices = field.metadata["parse"], field.metadata["choices"]
        form = {"type": parse, "choices": choices, "metavar": parse.__name__.strip("_").upper()}
        if choices:
            del form["metavar"]
        if parse is bool:
            form = {"action": argparse.BooleanOptionalAction}
        flags_of.add_argument(
            "--" + field.name.replace("_", "-"),
            default=argparse.SUPPRESS,
            help=f"{field.metadata['help']} (default: {_shown(field.default)})",
            **form,
        )


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)

"""Repeat another fit: `--like` makes its configuration, and how its data were read, the defaults of flags."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from detector.manifest import Manifest, read_manifest
from detector.schema import REFUSED
from detector.store import find_folder
from training.config import OF_ANY_PRESET, FitConfig
from training.data.tabular.sources import table_files
from training.errors import ConfigError


def parse_like(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, argv: Sequence[str] | None
) -> argparse.Namespace:
    """Parse the command line again, with the flags of the model that `--like` names as defaults.

    Parameters
    ----------
    parser : ArgumentParser
        Of `training.fit`; its defaults are replaced.
    arguments : Namespace
        What it made of `argv`; returned unchanged without `--like`.
    argv : sequence of str, or None

    Raises
    ------
    ConfigError
        If the model was not made by `training.fit`.
    StoreError, ManifestError
        If there is no such model, or it cannot be read.
    """
    if arguments.like is None:
        return arguments
    folder = find_folder(arguments.like)
    manifest, _ = read_manifest(folder)
    if "configuration" not in manifest.training:
        raise ConfigError(f"{folder} has no configuration to repeat: training.fit did not make it")
    defaults = _data_options(manifest, arguments.data) | _configuration(manifest, arguments.preset)
    if folder.parent.name == manifest.name:
        defaults["store"] = str(folder.parent.parent)
    parser.set_defaults(name=manifest.name, **defaults)
    return parser.parse_args(argv)


def _data_options(manifest: Manifest, data: str) -> dict[str, Any]:
    """Collect the flags that the data were read with; a table has the features of the model."""
    options = {name: _value(value) for name, value in manifest.data.get("options", {}).items()}
    options["kind"] = manifest.kind
    if manifest.missing != REFUSED:  # a series takes missing values if its first data had some
        options["missing"] = manifest.missing
    if table_files(data) and "ignore" not in options:
        options["columns"] = list(manifest.feature_names or ())
    if manifest.data["normal_label"] is not None:
        options["normal_label"] = manifest.data["normal_label"]
    return options


def _configuration(manifest: Manifest, preset: str | None) -> dict[str, Any]:
    """Collect the hyperparameters of a model; with another preset only those that no preset sets."""
    recorded = manifest.training["configuration"]
    names = {field.name for field in dataclasses.fields(FitConfig)} - {"kind"}
    if preset not in (None, recorded["preset"]):
        names = set(OF_ANY_PRESET)
    return {name: _value(value) for name, value in recorded.items() if name in names}


def _value(value: Any) -> Any:
    """Read the value of a flag from JSON: sizes and ranges are tuples, names are lists."""
    is_numbers = isinstance(value, list) and not any(isinstance(item, str) for item in value)
    return tuple(value) if is_numbers else value

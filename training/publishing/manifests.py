"""The manifest of a fitted network: a draft before calibration, whole once the threshold is known."""

import dataclasses
import datetime
import functools
import platform
from collections.abc import Mapping
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.engine.engine import Engine
from detector.engine.graphs import open_sessions
from detector.files import describe_files
from detector.inference import Detector
from detector.manifest import Manifest, verbs_of, write_manifest
from detector.schema import FROM_LATENT, FROM_MEMORY
from training.config import FitConfig
from training.data.dataset import Dataset
from training.data.scaling import Scaling
from training.data.splits import Splits
from training.publishing.stuck import LongestRuns

if TYPE_CHECKING:
    from training.networks.architectures import Autoencoder
    from training.networks.fitting import History
    from training.publishing.graphs import Graph

# Relative, since another processor rounds differently; in int8 rounding may move a value by a whole step.
SELF_TEST_TOLERANCES = {"none": 1e-4, "int8": 1e-3}
STUCK = ", and far more if a channel has kept one value for longer than it ever did in the fit"
_TOOLS = ("keras", "numpy", "onnx", "onnxruntime", "tensorflow", "tf2onnx")


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Data cut into splits, and the scaling and configuration for them.

    Attributes
    ----------
    notes : tuple of str
        Sentences about this stage, for the command to print.
    """

    dataset: Dataset
    splits: Splits
    scaling: Scaling
    config: FitConfig
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Built(Prepared):
    """A network that is not fitted yet, and the data for it.

    Attributes
    ----------
    earlier_notes : tuple of str
        Notes of the stages before this one.
    """

    autoencoder: "Autoencoder"
    earlier_notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Fitted(Built):
    """A fitted and exported autoencoder.

    Attributes
    ----------
    history : History or None
        None if only a memory was fitted, and no network.
    graphs : mapping of file name to Graph
    runs : LongestRuns or None
        Runs of equal values in the fit; None unless the samples are windows.
    sweep : dict or None
        Trials of the sweep that chose this autoencoder.
    """

    name: str
    history: "History | None"
    graphs: "Mapping[str, Graph]"
    runs: LongestRuns | None = None
    sweep: dict[str, Any] | None = None

    @property
    def files(self) -> dict[str, bytes]:
        """The content of each ONNX file by its name."""
        return {name: graph.onnx for name, graph in self.graphs.items()}


class Draft(SimpleNamespace):
    """The fields of a manifest that an engine needs to run graphs; without a threshold it decides nothing."""

    def open(self, files: Mapping[str, bytes]) -> Engine:
        """Open graphs as they will be served."""
        return Engine(self, np.empty(0), open_sessions(files, self))

    def finish(self, **fields: Any) -> Manifest:
        """Make the manifest, with these fields added or replaced."""
        return Manifest(**vars(self) | fields)


def draft_manifest(fitted: Fitted) -> Draft:
    """Draft the manifest of a fitted network."""
    dataset, config, autoencoder = fitted.dataset, fitted.config, fitted.autoencoder
    is_sequence = dataset.kind == "sequence"
    return Draft(
        name=fitted.name,
        version=1,
        kind=dataset.kind,
        created_at=timestamp(),
        verbs=verbs_of(latent=autoencoder.encoder is not None),
        sample_shape=dataset.sample_shape,
        dtype="float32",
        value_range=dataset.value_range if dataset.kind == "image" else None,
        feature_names=dataset.feature_names,
        units=None,
        window=config.window,
        stride=(config.stride or 1) if is_sequence else None,
        merge=config.merge if is_sequence else None,
        latent_shape=autoencoder.latent_shape,
        latent_int8=None,
        classifier=None,
        missing=dataset.missing,
        categories=dataset.categories,
        unknown_category=dataset.unknown_category,
        reading=dataset.reading,
        reconstruction=FROM_MEMORY if config.has_memory else FROM_LATENT,
        score=describe_score(config) + (STUCK if fitted.runs and fitted.runs.judged() else ""),
        architecture={"name": config.architecture, "parameters": autoencoder.n_parameters}
        | {
            f"{part}_parameters": getattr(autoencoder, part).count_params()
            for part in ("encoder", "decoder", "memory")
            if getattr(autoencoder, part) is not None
        },
        training={"configuration": dataclasses.asdict(config)}
        | _describe_history(fitted.history)
        | ({"longest_runs": fitted.runs.judged()} if fitted.runs else {}),
        data=_describe_data(fitted),
        self_test_tolerance=SELF_TEST_TOLERANCES[config.quantize],
        tools=_tools(),
    )


@functools.cache  # it reads the metadata of every installed package
def _tools() -> dict[str, str]:
    """Versions of Python and of the packages that made the graphs."""
    distributions = packages_distributions()
    return {"python": platform.python_version()} | {
        module: version(distributions[module][0]) for module in _TOOLS
    }


def timestamp() -> str:
    """Return the present time in UTC, as ISO 8601 to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Finish a folder: record the hashes of its files, write the manifest, and load it as the service will.

    Parameters
    ----------
    folder : Path
        Staged, with every file but the manifest.
    manifest : Manifest
        Its `files` are replaced.

    Returns
    -------
    Manifest
        As written; `ModelStore.publish` sets the version.

    Raises
    ------
    DetectorError
        If the folder does not load.
    """
    manifest = dataclasses.replace(manifest, files=describe_files(folder))
    write_manifest(folder, manifest)
    Detector.load(folder)
    return manifest


def describe_score(config: FitConfig) -> str:
    """Describe the score in words, for manifest, report and card."""
    if config.architecture == "memory-image":
        return (
            "mean over the pixels of the squared difference between the image and its reconstruction from "
            f"{config.neighbours} images of the memory, brightness and contrast taken out and the difference "
            "smoothed" + (", averaged with how unusual its small patches are" if config.detail_weight else "")
        )
    steps = config.scored_steps
    scored = "" if steps is None else f" of the newest {steps} steps" if steps > 1 else " of the newest step"
    over = f"mean over the features{scored} of the squared"
    if config.has_memory:
        prototypes = f"from {config.neighbours} prototypes of the memory"
        if config.by_step:
            return f"{over} whitened difference between each scaled step and its reconstruction {prototypes}"
        if config.architecture == "memory-window":
            return (
                f"{over} difference between the scaled window and its reconstruction {prototypes}, both "
                "whitened over time"
            )
        return f"{over} whitened difference between scaled sample and its reconstruction {prototypes}"
    n_heads = len(config.losses)
    rebuilt = (
        "its reconstruction" if n_heads == 1 else f"each of {n_heads} reconstructions, summed over these"
    )
    if config.residual_smoothing == 0:
        return f"{over} difference between scaled sample and {rebuilt}"
    return (
        f"mean over the pixels of the squared difference between scaled sample and {rebuilt}, the "
        f"difference smoothed by a Gaussian of {config.residual_smoothing:g} pixels"
    )


def _describe_data(fitted: Fitted) -> dict[str, Any]:
    """The origin of the samples, and the sizes of their splits."""
    dataset = fitted.dataset
    return {
        "source": dataset.source,
        "provenance": dataset.provenance,
        "fingerprint": dataset.fingerprint(),
        "n_samples": len(dataset.samples),
        "sample_shape": dataset.sample_shape,
        "splits": fitted.splits.sizes(),
        "n_trimmed": fitted.splits.n_trimmed,
        "normal_label": dataset.normal_label,
        "options": dict(dataset.options),
        "n_calibration_duplicates": fitted.splits.n_calibration_duplicates,
        "n_duplicates": fitted.splits.n_duplicates,
        "series": None
        if dataset.cut is None
        else dataset.timeline.describe() | {"training_stride": dataset.cut.training_stride},
    }


def _describe_history(history: "History | None") -> dict[str, Any]:
    """Length and outcome of the fit; nothing if no network was fitted."""
    if history is None:
        return {}
    return {
        "epochs": len(history.train_loss),
        "best_epoch": history.best_epoch,
        "validation_loss": history.validation_loss[history.best_epoch - 1],
        "seconds": round(history.seconds, 1),
    }

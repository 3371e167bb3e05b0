"""The stages from a data set to a published folder, for one fit or for the trials of a sweep."""

import dataclasses
import datetime
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector.calibration import promised_rank
from detector.manifest import Manifest
from detector.store import ModelStore
from training.cli.printing import print_notes
from training.config import FitConfig
from training.data.columns import Layout, network_shape
from training.data.dataset import Dataset
from training.data.scaling import Scaling, fit_scaling
from training.data.splits import Splits, split_dataset
from training.data.trimming import trim_splits, trimming_note
from training.errors import TrainingError
from training.figures.baselines import baseline_notes
from training.networks.collapse import LEAST_SAMPLES, MOST_SAMPLES, check_rebuilding, measure_rebuilding
from training.quiet import import_tensorflow

if TYPE_CHECKING:
    from training.networks.architectures import Autoencoder
    from training.networks.fitting import History
    from training.publishing.folder import Fitted
    from training.publishing.graphs import Graph

MANY_PARAMETERS = 20_000_000  # 80 MB of weights, in every worker of the service


@dataclasses.dataclass(frozen=True)
class Prepared:
    """Data cut into splits, with scaling and configuration settled for them: all that comes before Keras.

    Attributes
    ----------
    notes : tuple of str
        What the reader of the report should know, a sentence each.
    """

    dataset: Dataset
    splits: Splits
    scaling: Scaling
    config: FitConfig
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A fitted and exported network."""

    fitted: "Fitted"
    graphs: "dict[str, Graph]"
    notes: tuple[str, ...]


def prepare(dataset: Dataset, config: FitConfig, splits: Splits | None = None) -> Prepared:
    """Split and scale; `splits` where another configuration has dealt them out already.

    Raises
    ------
    DataError
        If the data are too few, or cannot be scaled.
    """
    if splits is None:
        splits = deal_splits(dataset, config)
    config = config.for_training(dataset.sample_shape, splits.train.size)
    scaling = fit_scaling(dataset, splits.train, config.scaled_range)
    notes = (*dataset.notes, *_notes(dataset, splits, scaling.constant, config))
    return Prepared(dataset, splits, scaling, config, notes)


def deal_splits(dataset: Dataset, config: FitConfig) -> Splits:
    """Split, and leave out what has the least company where the samples are said to be contaminated.

    Raises
    ------
    DataError
        If the data are too few, or cannot be scaled.
    """
    splits = split_dataset(dataset, config)
    if not config.contamination:
        return splits
    scaling = fit_scaling(dataset, splits.train, config.scaled_range)
    return trim_splits(dataset, splits, scaling, config.contamination, config.seed)


def train(prepared: Prepared, name: str) -> Trained:
    """Build, fit and export; Keras takes seconds to import, so what is wrong with data has shown by now.

    Raises
    ------
    TrainingError
        If the fit diverges at once, the network has collapsed, or it cannot be exported or quantised.
    """
    import_tensorflow()
    from training.cli.progress import progress_callback
    from training.networks.architectures import build_autoencoder
    from training.networks.fitting import fit_network, restoration, seed_everything
    from training.publishing.folder import Fitted
    from training.publishing.graphs import export_graphs
    from training.publishing.quantize import wide_kernels

    dataset, splits, scaling, config = (
        prepared.dataset,
        prepared.splits,
        prepared.scaling,
        prepared.config,
    )
    seed_everything(config.seed)
    shape = network_shape(dataset)
    autoencoder = build_autoencoder(config, shape)
    if config.quantize != "none":
        wide_kernels(autoencoder)  # there are some, or the fit would be for nothing
    size_notes = (
        *_size_notes(autoencoder.n_parameters, shape),
        *_latent_notes(math.prod(autoencoder.latent_shape or (0,)), shape, config),
    )
    print_notes(size_notes)
    train = scaling.apply(dataset.samples[splits.train])
    validation = scaling.apply(dataset.samples[splits.validation])
    max_seconds = math.inf if config.max_minutes is None else config.max_minutes * 60
    with progress_callback(config.epochs, max_seconds) as progress:
        autoencoder, history = fit_network(autoencoder, train, validation, config, [progress])
    late_notes = tuple(_collapse_notes(autoencoder, train, validation, history, config))
    if config.corrupt_validation and not config.has_memory:  # that learns to restore nothing
        late_notes += (_restoration_note(*restoration(autoencoder, validation, config)),)
    print_notes(late_notes)
    graphs = export_graphs(autoencoder, scaling, config.residual_smoothing, config.scored_steps)
    created_at = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    fitted = Fitted(name, created_at, dataset, splits, scaling, config, autoencoder, history)
    return Trained(fitted, graphs, (*prepared.notes, *size_notes, *late_notes))


def publish(store: ModelStore, staged: Path, trained: Trained) -> tuple[Path, Manifest]:
    """Calibrate, evaluate, report and publish what was staged in the store.

    Raises
    ------
    TrainingError
        If the graphs differ from the network, in int8 by their decisions, or the calibration tells nothing.
    DetectorError
        If the finished folder does not load as it would be served, or cannot be published.
    """
    from training.publishing.folder import write_folder

    manifest = write_folder(staged, trained.fitted, trained.graphs, list(trained.notes))
    print_notes(baseline_notes(manifest.evaluation["baselines"]))
    return store.publish(staged, manifest)


def _collapse_notes(
    autoencoder: "Autoencoder",
    train: np.ndarray,
    validation: np.ndarray,
    history: "History | None",
    config: FitConfig,
) -> list[str]:
    """Refuse a collapsed network, by scaled samples; a note where it is wanted all the same."""
    from training.networks.fitting import rebuild

    samples = validation if len(validation) >= LEAST_SAMPLES else train
    samples = samples[np.unique(np.linspace(0, len(samples) - 1, MOST_SAMPLES).astype(int))]
    if (samples == samples[:1]).all():
        return []  # nothing to follow
    rebuilding = measure_rebuilding(
        samples,
        rebuild(autoencoder, samples),
        mean=train.mean(axis=0, dtype=np.float64),
        middle=0.5 if config.settled_output == "sigmoid" else 0.0,
    )
    is_trained = not config.has_memory
    was_learning = is_trained and history.best_epoch == len(history.train_loss)
    try:
        return check_rebuilding(rebuilding, is_trained=is_trained, was_learning=was_learning)
    except TrainingError as error:
        if config.collapse_check:
            raise
        return [f"published all the same: {error}"]


def _latent_notes(latent_size: int, sample_shape: tuple[int, ...], config: FitConfig) -> Iterator[str]:
    n_values = math.prod(sample_shape)
    if latent_size >= n_values and config.corruption == "none" and not config.has_memory:
        yield (
            f"the latent has {latent_size} values for samples of {n_values}: nothing keeps the network from "
            "copying anomalies, too, so take a smaller --latent-dim or another preset to find them"
        )


def _size_notes(n_parameters: int, sample_shape: tuple[int, ...]) -> Iterator[str]:
    if n_parameters > MANY_PARAMETERS:
        yield (
            f"the network has {n_parameters} parameters for samples of shape {sample_shape}: smaller "
            "images, or more and narrower --widths, make less"
        )


def _restoration_note(before: float, after: float) -> str:
    note = f"corrupted validation samples are restored from {before:.2f} to {after:.2f} dB"
    if after > before:
        return note
    return f"{note}, which is worse than leaving them alone: bring more samples, or fit for more --epochs"


def _cell_notes(dataset: Dataset, splits: Splits) -> Iterator[str]:
    """What a row holds beside measured values, and what no training row holds."""
    rows = dataset.samples[splits.train]
    layout = Layout.of(dataset)
    if layout is None:
        return
    if layout.may_miss:
        shares = np.isnan(rows).mean(axis=0)
        gaps = [f"{layout.feature_names[place]} {shares[place]:.3g}" for place in np.flatnonzero(shares)]
        yield (
            f"shares of missing values in the training split: {_listed(gaps) if gaps else 'none'}; "
            "a gap in any other feature is an anomaly"
        )
    for place, values in zip(layout.categorical, layout.values, strict=True):
        name = layout.feature_names[place]
        absent = np.flatnonzero(~np.isin(values, rows[:, place]))
        if absent.size:
            words = _listed([str(layout.categories[name][position]) for position in absent])
            yield f"no training row has these categories of {name}, so that they are anomalies: {words}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _notes(dataset: Dataset, splits: Splits, constant: Sequence[str], config: FitConfig) -> Iterator[str]:
    if splits.n_trimmed:
        yield trimming_note(splits, config.contamination)
    n_calibration = splits.calibration.size
    rank = promised_rank(n_calibration, config.alpha)
    if config.promise and rank < config.alpha * n_calibration / 2:
        yield (
            f"{n_calibration} calibration samples are few: to keep the promise of {config.alpha:g} the "
            f"threshold is number {rank} of their scores, the largest first; more normal samples would "
            "lower it"
        )
    if constant:
        yield f"constant in the training split, so that any change counts in raw units: {_listed(constant)}"
    yield from _cell_notes(dataset, splits)
    if splits.n_calibration_duplicates:
        yield (
            f"{splits.n_calibration_duplicates} calibration samples are exact copies of samples that the "
            "network was fitted on: unless new samples are too, the threshold is too low for its promise"
        )
    if splits.n_duplicates:
        yield (
            f"{splits.n_duplicates} normal test samples are exact copies of samples in other splits: "
            "the test figures are optimistic"
        )
    if dataset.is_anomaly[splits.test].all():
        yield "the test split of the data holds anomalies alone: nothing measures the false-alarm rate"

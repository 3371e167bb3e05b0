"""The stages from a data set to a published folder, in order: prepare, build, train, publish.

A stage returns its notes, sentences for the reader of the report; the command prints them. Preparing needs no
TensorFlow, which takes seconds to import: faults of the data show before.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detector.calibration import promised_rank
from detector.columns import listed
from detector.manifest import Manifest
from detector.store import ModelStore
from training.config import FitConfig
from training.data.columns import ColumnLayout, network_shape
from training.data.dataset import Dataset, spread
from training.data.scaling import fit_scaling
from training.data.splits import Splits, split_dataset
from training.data.trimming import trim_splits
from training.errors import TrainingError
from training.networks.collapse import LEAST_SAMPLES, MOST_SAMPLES, check_rebuilding, measure_rebuilding
from training.presets import PRESETS
from training.publishing.manifests import Built, Fitted, Prepared
from training.publishing.stuck import find_longest_runs
from training.quiet import import_tensorflow

if TYPE_CHECKING:
    from training.networks.architectures import Autoencoder
    from training.networks.fitting import History
    from training.publishing.graphs import Graph

MOST_UNITS = 1000  # samples of a split whose scores are the unit of runs that are too long
REFERENCE_SAMPLES = 60_000  # of MNIST
FEW_STEPS = 0.5  # of the steps of a reference
MANY_PARAMETERS = 20_000_000  # 80 MB of weights, in every worker of the service


def prepare(dataset: Dataset, config: FitConfig, splits: Splits | None = None) -> Prepared:
    """Split and scale the data.

    Parameters
    ----------
    dataset : Dataset
    config : FitConfig
    splits : Splits, optional
        Splits to use again; made here if not given.

    Raises
    ------
    DataError
        If there are too few samples, or they cannot be scaled.
    ConfigError
        If a sample is too large for a memory.
    """
    config.check_memory(network_shape(dataset))
    if splits is None:
        splits = deal_splits(dataset, config)
    config = config.for_training(dataset.sample_shape, splits.train.size)
    scaling = fit_scaling(dataset, splits.train, config.scaled_range)
    runs = find_longest_runs(dataset, splits)
    run_notes = () if runs is None else runs.notes()
    data_notes = _data_notes(dataset, splits, scaling.constant, config)
    notes = (*dataset.notes, *dataset.label_notes, *data_notes, *run_notes)
    return Prepared(dataset, splits, scaling, config, notes)


def deal_splits(dataset: Dataset, config: FitConfig) -> Splits:
    """Split the data; under a `contamination` leave out the samples that are farthest from all others.

    Errors are as for `prepare`.
    """
    splits = split_dataset(dataset, config)
    if not config.contamination:
        return splits
    scaling = fit_scaling(dataset, splits.train, config.scaled_range)
    return trim_splits(dataset, splits, scaling, config.contamination, config.seed)


def build(prepared: Prepared) -> Built:
    """Import TensorFlow and build the network, its weights drawn by the seed.

    Raises
    ------
    ConfigError
        If the samples do not suit the architecture, or no layer is wide enough for int8.
    """
    import_tensorflow()
    from training.networks.architectures import build_autoencoder
    from training.networks.fitting import seed_everything

    config, shape = prepared.config, network_shape(prepared.dataset)
    seed_everything(config.seed)
    autoencoder = build_autoencoder(config, shape)
    if config.quantize != "none":
        from training.publishing.quantize import wide_kernels

        wide_kernels(autoencoder)  # raises before the fit, which would be for nothing
    notes = (
        *_network_notes(autoencoder, shape, config),
        *reference_notes(config, prepared.splits.train.size),
    )
    stage = vars(prepared) | {"notes": notes, "earlier_notes": prepared.notes}
    return Built(**stage, autoencoder=autoencoder)


def train(built: Built, name: str) -> Fitted:
    """Fit and export a network.

    Raises
    ------
    TrainingError
        If the fit diverges in its first epoch, the network has collapsed, or it cannot be exported.
    """
    from training.cli.progress import progress_callback
    from training.networks.fitting import fit_network
    from training.publishing.early import EarlyCheck
    from training.publishing.graphs import export_graphs

    scaling, config = built.scaling, built.config
    train = scaling.apply(built.dataset.samples[built.splits.train])
    validation = scaling.apply(built.dataset.samples[built.splits.validation])
    runs = find_longest_runs(built.dataset, built.splits)
    some = np.concatenate([samples[spread(len(samples), MOST_UNITS)] for samples in (train, validation)])
    smoothing, steps = config.residual_smoothing, config.scored_steps

    def export(autoencoder: "Autoencoder") -> "dict[str, Graph]":
        return export_graphs(autoencoder, scaling, smoothing, steps, runs, some)

    max_seconds = math.inf if config.max_minutes is None else config.max_minutes * 60
    check = EarlyCheck(built, export, max_seconds)
    with progress_callback(config.epochs, max_seconds) as progress:
        autoencoder, history = fit_network(built.autoencoder, train, validation, config, [progress, check])
    stage = {
        "autoencoder": autoencoder,
        "notes": tuple(_fit_notes(autoencoder, train, validation, history, config)),
        "earlier_notes": (*built.earlier_notes, *built.notes),
    }
    return Fitted(**vars(built) | stage, name=name, history=history, graphs=export(autoencoder), runs=runs)


def publish(store: ModelStore, staged: Path, fitted: Fitted) -> tuple[Path, Manifest]:
    """Calibrate, evaluate and report in a staged folder, and publish it.

    Raises
    ------
    TrainingError
        If the graphs differ from the network, int8 changes decisions, or the calibration scores are useless.
    DetectorError
        If the finished folder does not load as it would be served, or cannot be published.
    """
    from training.publishing.folder import write_folder

    return store.publish(staged, write_folder(staged, fitted))


# --- notes --------------------------------------------------------------------------------------------------


def _data_notes(
    dataset: Dataset, splits: Splits, constant: Sequence[str], config: FitConfig
) -> Iterator[str]:
    if splits.n_trimmed:
        n_samples = splits.train.size + splits.validation.size + splits.n_trimmed
        yield (
            f"{splits.n_trimmed} of {n_samples} samples for training and validation were left out, the "
            f"farthest from all others: twice the share of the contamination, {config.contamination:g}"
        )
    n_calibration = splits.calibration.size
    rank = promised_rank(n_calibration, config.alpha)
    if config.promise and rank < config.alpha * n_calibration / 2:
        yield (
            f"{n_calibration} calibration samples are few: to keep the promise of {config.alpha:g}, the "
            f"threshold is number {rank} of their scores, the largest first; more normal samples would "
            "lower it"
        )
    if constant:
        yield f"constant in the training split, so that any change counts in raw units: {listed(constant)}"
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
        yield "the test split of the data holds only anomalies: nothing measures the false-alarm rate"


def _cell_notes(dataset: Dataset, splits: Splits) -> Iterator[str]:
    """Missing values in the training rows, and categories that no training row has."""
    rows = dataset.samples[splits.train]
    layout = ColumnLayout.of(dataset)
    if layout is None:
        return
    if layout.may_miss:
        shares = np.isnan(rows).mean(axis=0)
        missing = [f"{layout.feature_names[place]} {shares[place]:.3g}" for place in np.flatnonzero(shares)]
        yield (
            f"shares of missing values in the training split: {listed(missing, quoted=False) or 'none'}; a "
            "missing value of any other feature is an anomaly"
        )
    for place, values in zip(layout.categorical, layout.values, strict=True):
        name = layout.feature_names[place]
        absent = np.flatnonzero(~np.isin(values, rows[:, place]))
        if absent.size:
            words = listed((layout.categories[name][position] for position in absent), quoted=False)
            yield f"no training row has these categories of {name}, so that they are anomalies: {words}"


def _network_notes(
    autoencoder: "Autoencoder", sample_shape: tuple[int, ...], config: FitConfig
) -> Iterator[str]:
    if autoencoder.n_parameters > MANY_PARAMETERS:
        yield (
            f"the network has {autoencoder.n_parameters} parameters for samples of shape {sample_shape}: "
            "smaller images, or more and narrower --widths, make it smaller"
        )
    latent_size, n_values = math.prod(autoencoder.latent_shape or (0,)), math.prod(sample_shape)
    if latent_size >= n_values and config.corruption == "none" and not config.has_memory:
        yield (
            f"the latent has {latent_size} values for samples of {n_values}: nothing keeps the network from "
            "copying anomalies, too; to find them, take a smaller --latent-dim or another preset"
        )


def reference_notes(config: FitConfig, n_train: int) -> Iterator[str]:
    """Say so if a preset that learns slowly has far fewer steps than the reference that it reproduces.

    The presets with Adadelta do: after few steps their reconstructions are grey noise.
    """
    reference = PRESETS[config.preset].options
    if config.optimizer != "adadelta" or not {"epochs", "batch_size"} <= reference.keys():
        return
    n_steps = config.epochs * math.ceil(n_train / config.batch_size)
    n_wanted = reference["epochs"] * math.ceil(REFERENCE_SAMPLES / reference["batch_size"])
    if n_steps < FEW_STEPS * n_wanted:
        quick = "conv" if config.kind == "image" else "dense"
        yield (
            f"preset {config.preset} learns slowly: its reference took {reference['epochs']} epochs of "
            f"{REFERENCE_SAMPLES} samples, {n_wanted} steps, this fit takes at most {n_steps}; give more "
            f"--epochs if reconstructions stay grey, or --preset {quick}, which draws within a minute"
        )


def _fit_notes(
    autoencoder: "Autoencoder",
    train: np.ndarray,
    validation: np.ndarray,
    history: "History | None",
    config: FitConfig,
) -> Iterator[str]:
    """Refuse a collapsed network, or note it if it is to be published all the same; the splits are scaled."""
    from training.networks.fitting import rebuild, signal_to_noise

    samples = validation if len(validation) >= LEAST_SAMPLES else train
    samples = samples[spread(len(samples), MOST_SAMPLES)]
    is_trained = not config.has_memory
    if (
        samples != samples[:1]
    ).any():  # equal samples do not show whether a reconstruction follows its sample
        rebuilding = measure_rebuilding(
            samples,
            rebuild(autoencoder, samples),
            mean=train.mean(axis=0, dtype=np.float64),
            middle=0.5 if config.settled_output == "sigmoid" else 0.0,
        )
        was_learning = is_trained and history.best_epoch == len(history.train_loss)
        try:
            yield from check_rebuilding(rebuilding, is_trained=is_trained, was_learning=was_learning)
        except TrainingError as error:
            if config.collapse_check:
                raise
            yield f"published all the same: {error}"
    if config.corrupt_validation and is_trained:  # a memory does not learn to denoise
        yield _denoising_note(*signal_to_noise(autoencoder, validation, config))


def _denoising_note(before: float, after: float) -> str:
    note = f"corrupted validation samples are denoised from {before:.2f} to {after:.2f} dB"
    if after > before:
        return note
    return f"{note}, which is worse than leaving them alone: bring more samples, or fit for more --epochs"

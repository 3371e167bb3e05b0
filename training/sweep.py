"""Fit a small grid of autoencoders within a time budget and publish the best as a calibrated detector.

  python -m training.sweep --data digits --name digits --latent-dims 2,8,32 --max-minutes 5
  python -m training.sweep --data pump.csv --name pump --noises 0,0.2 --latent-dims 2,4,8 --max-minutes 3
  python -m training.sweep --data good_parts/ --name parts --presets conv,conv-pool --max-minutes 20

Every combination of preset, latent size and noise is one trial; all other flags mean the same as for
`training.fit` and apply to every trial. Each trial may take an equal share of the time left; time that
it does not need goes to the later ones. A trial that runs out of time is judged as it is; if no time is left,
the remaining trials are not run.

Trials are judged only on the validation split, never on calibration or test samples, so the promise of the
published model holds and its test figures are honest. The error on normal samples does not tell which
detector is best: a larger latent always lowers it, until the network rebuilds anomalies as well. So trials
are ranked by how well their scores separate validation samples from pseudo-anomalies made from them, the same
for all trials (`figures/pseudo.py`). This is the column `detection`, a ROC AUC, which is comparable across
scalings, losses and smoothing. The sweep publishes the trial with the smallest latent within one standard
error of the best, since a smaller latent is safer against anomalies that pseudo-anomalies do not resemble.
docs/decisions/0010 has the evidence.

The result is `<store>/<name>/<next version>/`, as from `training.fit`; its report shows every trial and the
reconstruction error against the latent size. The table goes to stdout, progress to stderr.
Exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

import argparse
import dataclasses
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from detector.engine.graphs import RECONSTRUCTION, SCORE
from detector.errors import DetectorError
from detector.store import ModelStore
from training import flags
from training.cli.options import (
    add_fit_flags,
    command_parser,
    configure,
    read_data,
    remove_old_versions,
    run_command,
)
from training.cli.printing import print_columns, print_notes, print_published, print_table
from training.config import FitConfig
from training.data.dataset import Dataset
from training.data.scaling import fit_scaling
from training.data.splits import Splits
from training.errors import ConfigError, TrainingError
from training.figures.pseudo import make_pseudo_anomalies
from training.presets import DEFAULT_PRESETS, PRESETS
from training.publishing.manifests import Fitted, draft_manifest
from training.stages import build, prepare, publish, train

SWEPT_PRESETS = {"vector": "dense", "image": "conv", "sequence": "conv1d"}  # where none is named
SWEPT = ("preset", "latent_dim", "corruption_level", "max_minutes")
LEAST_SECONDS = 5.0  # a smaller share fits nothing worth judging
N_PSEUDO, MOST_COPIES = 4000, 10  # pseudo-anomalies wanted, and at most so many of each validation sample
MOST_PCA_SAMPLES = 5000
DONE, STOPPED, PUBLISHED = "done", "stopped by time", ", published"


@dataclasses.dataclass(frozen=True)
class Trial:
    """One point of the grid; if it is impossible, `config` is None and `problem` says why."""

    preset: str
    latent_dim: int | None
    noise: float | None
    config: FitConfig | None
    problem: str | None = None

    def __str__(self) -> str:
        words = [f"preset {self.preset}"]
        words += [f"latent {self.latent_dim}"] if self.latent_dim else []
        return ", ".join(words + ([f"noise {self.noise:g}"] if self.noise is not None else []))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments), interrupted="nothing was published")


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("training.sweep", __doc__)
    grid = parser.add_argument_group("grid")
    grid.add_argument(
        "--presets", type=flags.names, metavar="A,B", help="dense, conv or conv1d, by kind, if not given"
    )
    grid.add_argument(
        "--latent-dims", type=flags.integers, metavar="2,8,32", help="the preset's if not given"
    )
    grid.add_argument(
        "--noises", type=flags.numbers, metavar="0,0.3", help="levels of the preset's corruption to try"
    )
    grid.add_argument(
        "--max-minutes",
        type=flags.positive,
        default=10.0,
        metavar="M",
        help="time for all trials together (default: 10)",
    )
    add_fit_flags(parser, without=SWEPT)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    dataset = read_data(arguments, _common_kinds(arguments.presets or ()))
    print_columns(dataset.columns, sys.stderr)
    trials = list(_grid(arguments, dataset))
    possible = [trial for trial in trials if trial.config]
    if not possible:
        raise ConfigError(trials[0].problem)
    prepared = prepare(dataset, possible[0].config)
    print_notes(prepared.notes)
    store = ModelStore(arguments.store)

    def train_one(config: FitConfig) -> Fitted:
        built = build(prepare(dataset, config, prepared.splits))
        print_notes(built.notes)
        fitted = train(built, arguments.name)
        print_notes(fitted.notes)
        return fitted

    with store.stage(arguments.name) as staged:  # before the fits, so that a read-only store shows at once
        judge = Judge(dataset, prepared.splits, possible[0].config.seed)
        best, rows = run_trials(trials, train_one, judge, arguments.max_minutes * 60)
        print_table([_HEAD, *map(_cells, rows)])
        print()
        if best is None:
            raise TrainingError(f"no trial was finished: {rows[0]['outcome']}")
        best = dataclasses.replace(best, sweep={"minutes": arguments.max_minutes, "trials": rows})
        published, manifest = publish(store, staged, best)
        print("published: the smallest latent whose detection is within one standard error of the best")
        print_published(published, manifest)
        remove_old_versions(store, arguments.name, arguments.keep)


def _common_kinds(presets: Sequence[str]) -> tuple[str, ...]:
    """Kinds of samples that all presets take, in the order of the first preset."""
    for preset in presets:
        if preset not in PRESETS:
            raise ConfigError(f"preset must be one of {', '.join(PRESETS)}, got {preset!r}")
    first = PRESETS[presets[0]].kinds if presets else DEFAULT_PRESETS
    kinds = tuple(kind for kind in first if all(kind in PRESETS[name].kinds for name in presets))
    if not kinds:
        raise ConfigError(f"presets {', '.join(presets)} take no kind of samples in common")
    return kinds


def _grid(arguments: argparse.Namespace, dataset: Dataset) -> Iterator[Trial]:
    """Every combination; impossible ones carry the reason."""
    presets = arguments.presets or [SWEPT_PRESETS[dataset.kind]]
    latent_dims, noises = arguments.latent_dims or [None], arguments.noises or [None]
    for preset, latent_dim, noise in itertools.product(presets, latent_dims, noises):
        swept = {"latent_dim": latent_dim, "corruption_level": noise}
        swept = {name: value for name, value in swept.items() if value is not None}
        try:
            config, problem = configure(arguments, preset, dataset, swept), None
            if config.has_memory:
                raise ConfigError(
                    f"preset {preset} has a prototype memory, which does not depend on the latent or noise "
                    "of a sweep"
                )
        except ConfigError as error:
            config, problem = None, str(error)
        yield Trial(preset, latent_dim, noise, config, problem)


def run_trials(
    trials: Sequence[Trial],
    train_one: Callable[[FitConfig], Fitted],
    judge: Callable[[Fitted], dict[str, Any]],
    seconds: float,
) -> tuple[Fitted | None, list[dict[str, Any]]]:
    """Fit and judge one trial after the other, each within its share of the time that is left.

    Parameters
    ----------
    trials : sequence of Trial
    train_one : callable
        Configuration -> fitted and exported network.
    judge : callable
        Fitted network -> `detection`, its `standard_error`, `latent_size` and the other figures of a row.
    seconds : float
        For all trials together.

    Returns
    -------
    tuple of Fitted or None, and list of dict
        The chosen network; and a row for each trial, the highest detection first, those without figures last.
    """
    rows: list[dict[str, Any]] = []
    running: list[tuple[dict[str, Any], Fitted]] = []  # may still be chosen
    end = time.monotonic() + seconds
    for number, trial in enumerate(trials):
        left = end - time.monotonic()
        share = min(left, max(left / (len(trials) - number), LEAST_SECONDS))
        row = {"preset": trial.preset, "latent_dim": trial.latent_dim, "noise": trial.noise}
        rows.append(row)
        if trial.config is None or share <= 0:
            row["outcome"] = f"not run: {trial.problem or 'no time was left'}"
            continue
        print(f"trial {number + 1} of {len(trials)}: {trial}, at most {share:.0f} s", file=sys.stderr)
        try:
            fitted = train_one(dataclasses.replace(trial.config, max_minutes=share / 60))
            if fitted.history.seconds < share:  # the configuration records only a limit that ended the fit
                config = dataclasses.replace(fitted.config, max_minutes=None)
                fitted = dataclasses.replace(fitted, config=config)
            row |= judge(fitted)
        except (TrainingError, DetectorError) as error:  # the others may still be good
            row["outcome"] = f"failed: {error}"
            continue
        row["outcome"] = DONE if fitted.config.max_minutes is None else STOPPED
        running.append((row, fitted))
        bar = max(row["detection"] - row["standard_error"] for row, _ in running)
        running = [(row, fitted) for row, fitted in running if row["detection"] >= bar]
    rows.sort(key=lambda row: -row.get("detection", -1))
    if not running:
        return None, rows
    row, best = min(running, key=lambda pair: (pair[0]["latent_size"], -pair[0]["detection"]))
    row["outcome"] += PUBLISHED
    return best, rows


class Judge:
    """Judges a trial on the validation split, by the scores of its exported graph.

    Parameters
    ----------
    dataset : Dataset
    splits : Splits
    seed : int
        Seed of the pseudo-anomalies; all trials use the same ones.
    """

    def __init__(self, dataset: Dataset, splits: Splits, seed: int) -> None:
        self._scaling = fit_scaling(dataset, splits.train, (0.0, 1.0) if dataset.kind == "image" else None)
        self._train = self._flat(dataset.samples[splits.train[:MOST_PCA_SAMPLES]])
        self._samples = dataset.samples[splits.validation]
        copies = min(MOST_COPIES, math.ceil(N_PSEUDO / len(self._samples)))
        repeated = np.tile(self._samples, (copies,) + (1,) * len(dataset.sample_shape))
        layout, train = self._scaling.layout, dataset.samples[splits.train]
        mean = (np.mean if layout is None else np.nanmean)(train, axis=0, dtype=np.float64)
        categorical = None if layout is None else layout.categorical
        rng = np.random.default_rng(seed)
        pseudo = make_pseudo_anomalies(repeated, dataset.kind, mean, rng, categorical)
        differs = (pseudo != repeated).reshape(len(pseudo), -1).any(axis=1)
        if not differs.any():
            raise ConfigError("a sweep needs validation samples that differ from each other")
        self._pseudo = pseudo[differs]

    def __call__(self, fitted: Fitted) -> dict[str, Any]:
        """Compute the figures of one row."""
        from sklearn.metrics import roc_auc_score

        engine = draft_manifest(fitted).open(fitted.files)
        outputs = engine.run(engine.check_samples(self._samples), (SCORE, RECONSTRUCTION))
        pseudo = engine.run(engine.check_samples(self._pseudo), (SCORE,))
        latent_size = math.prod(fitted.autoencoder.encoder.output_shape[1:])
        difference = self._flat(self._samples) - self._flat(engine.finite(outputs[RECONSTRUCTION]))
        scores = [engine.finite(outputs[SCORE]), engine.finite(pseudo[SCORE])]
        is_pseudo = np.repeat([False, True], [part.size for part in scores])
        detection = float(roc_auc_score(is_pseudo, np.concatenate(scores)))
        return {
            "latent_size": latent_size,
            "parameters": fitted.autoencoder.n_parameters,
            "epochs": len(fitted.history.train_loss),
            "seconds": round(fitted.history.seconds, 1),
            "detection": detection,
            "standard_error": math.sqrt(detection * (1 - detection) / len(self._samples)),
            "validation_error": float(np.square(difference, dtype=np.float64).mean()),
            "pca_error": self._pca_error(latent_size),
        }

    def _flat(self, samples: np.ndarray) -> np.ndarray:
        return self._scaling.apply(samples).reshape(len(samples), -1)

    def _pca_error(self, size: int) -> float:
        """Validation error of a PCA with as many components as the latent has values."""
        from sklearn.decomposition import PCA

        pca = PCA(min(size, *self._train.shape), random_state=0).fit(self._train)
        samples = self._flat(self._samples)
        rebuilt = pca.inverse_transform(pca.transform(samples))
        return float(np.square(samples - rebuilt, dtype=np.float64).mean())


_HEAD = ("preset", "latent", "noise", "detection", "error", "PCA error", "parameters", "epochs", "outcome")


def _cells(row: dict[str, Any]) -> list[str]:
    latent, noise = row.get("latent_size", row["latent_dim"]), row["noise"]
    cells = [row["preset"], "-" if latent is None else str(latent), "-" if noise is None else f"{noise:g}"]
    forms = {
        "detection": ".4f",
        "validation_error": ".4g",
        "pca_error": ".4g",
        "parameters": "",
        "epochs": "",
    }
    figures = [format(row[name], form) if name in row else "" for name, form in forms.items()]
    return [*cells, *figures, row["outcome"]]


if __name__ == "__main__":
    sys.exit(main())

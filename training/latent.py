"""Draw the latent space of a published model: where samples lie, and how points of it decode.

  python -m training.latent --model models/digits --data digits --out latent/
  python -m training.latent --model models/pump --data june.csv --label-column state --out latent/

The model is a version folder, STORE/NAME or STORE/NAME@LABEL; the data may be anything that
`training.fit` reads. The folder gets the page `latent.html`, which has no scripts, its charts as SVG, and the
figures as `latent.json`:

  map.svg       the latent vectors on a plane: colour, name and convex hull of each label
  overview.svg  the same, zoomed out
  sides.svg     original, latent and decoded side by side
  inside.svg    decoded points inside the hulls
  far.svg       decoded points far from all hulls

Decoded points are scored again: points inside a hull should decode to samples that score as normal.
Progress and notes go to stderr. Exit status: 0 done, 1 failed, 2 bad usage, 130 interrupted.
"""

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.columns import listed
from detector.inference import Detector
from detector.store import find_folder
from training import flags
from training.cli.options import (
    add_label_flags,
    add_reading_flags,
    add_series_flags,
    column_options,
    command_parser,
    reading_options,
    run_command,
)
from training.cli.printing import print_notes
from training.data.dataset import spread
from training.data.for_model import Labelled, describe_run, load_for
from training.errors import ConfigError
from training.figures.metrics import feature_errors
from training.pages import charts
from training.pages.latent_plane import (
    Plane,
    draw_far,
    draw_inside,
    fit_plane,
    group_samples,
    hull_area,
    hull_corners,
)
from training.pages.render import render, to_json

N_DRAWN = 200  # points drawn inside the hulls, and far from them, for the figures
N_SHOWN = 20  # of each that are shown
N_SIDES = 8
MOST_ERRORS = 12  # features whose error is named
MOST_LISTED = 64  # values of a latent that a person can post to /decode
ALL = "all"


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The data's samples in the latent space.

    Attributes
    ----------
    latents : ndarray of shape (n_samples, *latent_shape), float32
    decoded : ndarray of shape (n_samples, *sample_shape), raw units
    score : ndarray of shape (n_samples,), float64
    groups : dict of str to ndarray of shape (n_samples,), bool
    plane : Plane
    points : ndarray of shape (n_samples, 2)
        On that plane.
    """

    latents: np.ndarray
    decoded: np.ndarray
    score: np.ndarray
    groups: dict[str, np.ndarray]
    plane: Plane
    points: np.ndarray


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Points of the latent space with their decoded samples.

    Attributes
    ----------
    groups : list of str
        Group whose hull each point was drawn in; empty for far points.
    latent : ndarray of shape (n_drawn, latent_size), float32
    decoded : ndarray of shape (n_drawn, *sample_shape), raw units
    score, is_anomaly : ndarray of shape (n_drawn,)
        Scores and decisions of the decoded samples.
    """

    groups: list[str]
    latent: np.ndarray
    decoded: np.ndarray
    score: np.ndarray
    is_anomaly: np.ndarray

    def figures(self) -> dict[str, Any]:
        """Summarise the scores; latents are listed if they are short enough to be posted."""
        short = self.latent.shape[1] <= MOST_LISTED
        return {
            "n_drawn": len(self.latent),
            "share_flagged": float(self.is_anomaly.mean()),
            "median_score": float(np.median(self.score)),
            "samples": [
                {"group": group, "score": score} | ({"latent": latent} if short else {})
                for group, score, latent in zip(
                    self.groups, self.score.tolist(), self.latent.tolist(), strict=True
                )
            ],
        }


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How to draw samples: as images, or as lines of `(samples - mean) / spread`, between `limits`."""

    mean: float | np.ndarray
    spread: float | np.ndarray
    limits: tuple[float, float]
    images: bool

    def of(self, samples: np.ndarray) -> np.ndarray:
        """Samples in the units of the drawing."""
        return (samples - self.mean) / self.spread


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    arguments = _parser().parse_args(argv)
    return run_command(lambda: _run(arguments))


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("training.latent", __doc__)
    parser.add_argument("--model", required=True, help="a version folder, STORE/NAME or STORE/NAME@LABEL")
    parser.add_argument("--data", required=True, metavar="PATH_OR_NAME", help="samples to encode")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where to write")
    add_label_flags(parser)
    add_series_flags(parser)
    add_reading_flags(parser.add_argument_group("text tables"))
    parser.add_argument(
        "--seed", type=flags.seed, default=0, help="seed of the points that are drawn (default: 0)"
    )
    return parser


def _run(arguments: argparse.Namespace) -> None:
    if arguments.out.exists() and not arguments.out.is_dir():
        raise ConfigError(f"--out must be a folder, got the file {arguments.out}")
    detector = Detector.load(find_folder(arguments.model))
    detector.engine.require_latent()
    data = load_for(detector, arguments.data, reading_options(arguments), **column_options(arguments))
    print_notes(data.notes)
    files = draw_latent_space(detector, data, np.random.default_rng(arguments.seed))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (arguments.out / name).write_bytes(content)
    print(f"page: {arguments.out / 'latent.html'}")
    figures = json.loads(files["latent.json"])
    print(f"reconstruction error, root mean square: {error_words(figures['reconstruction_error'])}")
    print(f"threshold: {figures['threshold']:.4g}, median score of the data: {figures['median_score']:.4g}")
    for name in ("inside", "far"):
        points = figures[name]
        print(
            f"decoded {name}: median score {points['median_score']:.4g}, a share of "
            f"{points['share_flagged']:.4f} flagged"
        )


def draw_latent_space(detector: Detector, data: Labelled, rng: np.random.Generator) -> dict[str, bytes]:
    """Encode samples, draw points inside and far from the hulls of their groups, decode and score these.

    Parameters
    ----------
    detector : Detector
        Its model must have a latent.
    data : Labelled
    rng : numpy.random.Generator
        Draws the points.

    Returns
    -------
    dict of file name to bytes
        As the module's docstring lists them.

    Raises
    ------
    DetectorError
        If the samples do not fit the model, or it answers a value that is not finite.
    """
    latents = detector.encode(data.samples)
    vectors = latents.reshape(len(latents), -1)
    groups = group_samples(data.labels, data.is_anomaly)
    plane = fit_plane(vectors, groups)
    encoded = Encoded(
        latents=latents,
        decoded=detector.decode(latents),
        score=detector.score(data.samples).score,
        groups=groups,
        plane=plane,
        points=plane.project(vectors),
    )
    groups = groups or {"": np.ones(len(data.samples), dtype=bool)}
    each = -(-N_DRAWN // len(groups))
    points = [draw_inside(vectors[members], each, rng) for members in groups.values()]
    inside = _decode(detector, np.repeat(list(groups), each).tolist(), np.concatenate(points))
    far = _decode(detector, [""] * N_DRAWN, draw_far(vectors, N_DRAWN, rng))
    figures = _figures(detector, data, encoded, inside, far)
    words = {"error_words": error_words(figures["reconstruction_error"])}
    images = _images(detector, data, encoded, inside, far)
    files = {f"{name}.svg": charts.svg_of(uri) for name, uri in images.items()}
    return files | {
        "latent.html": render("latent.html.jinja", figures | words, images),
        "latent.json": to_json(figures),
    }


def error_words(error: float | Mapping[str, float]) -> str:
    """Write the error of a pixel, or those of the features, each in its own unit."""
    if isinstance(error, float):
        return f"{error:.4g} of a pixel"
    words = (f"{name} {value:.4g}" for name, value in error.items())
    return f"{listed(words, MOST_ERRORS, quoted=False)}, each in its own unit"


def _figures(
    detector: Detector, data: Labelled, encoded: Encoded, inside: Drawn, far: Drawn
) -> dict[str, Any]:
    """The content of `latent.json`."""
    squares = detector.engine.squares(data.samples, encoded.decoded)
    is_image = detector.manifest.kind == "image"
    groups = encoded.groups or {ALL: np.ones(len(data.samples), dtype=bool)}
    return {
        **describe_run(detector, data),
        "kind": detector.manifest.kind,
        "latent_shape": detector.manifest.latent_shape,
        "latent_size": math.prod(detector.manifest.latent_shape or ()),
        "main_axes_variance": encoded.plane.shares,
        "reconstruction_error": float(np.sqrt(squares.mean()))
        if is_image
        else feature_errors(squares, detector.manifest),
        "median_score": float(np.median(encoded.score)),
        "threshold": detector.manifest.threshold.value,
        "groups": [
            {
                "name": name,
                "n_samples": int(members.sum()),
                "mean": encoded.points[members].mean(axis=0).tolist(),
                "hull_area": hull_area(hull_corners(encoded.points[members])),
            }
            for name, members in groups.items()
        ],
        "inside": inside.figures(),
        "far": far.figures(),
    }


def _images(
    detector: Detector, data: Labelled, encoded: Encoded, inside: Drawn, far: Drawn
) -> dict[str, str]:
    """The charts, each a `data:` URI."""
    plane, points, groups = encoded.plane, encoded.points, encoded.groups
    drawing = _drawing(detector, data.samples)
    rows, names = _typical_rows(groups, encoded.score)
    shown = spread(len(inside.groups), N_SHOWN)
    is_series = detector.manifest.kind == "sequence"
    return {
        "map": charts.latent_chart(points, groups, plane.names, plane.project(inside.latent[shown])),
        "overview": charts.far_chart(points, groups, plane.project(far.latent[:N_SHOWN])),
        "sides": charts.side_chart(
            drawing.of(data.samples[rows]),
            encoded.latents[rows],
            drawing.of(encoded.decoded[rows]),
            _titles(names, encoded.score[rows]),
            drawing.limits,
            images=drawing.images,
            names=detector.manifest.feature_names or () if is_series else (),
        ),
        "inside": _sample_chart(inside, shown, drawing),
        "far": _sample_chart(far, np.arange(N_SHOWN), drawing),
    }


def _decode(detector: Detector, groups: list[str], latent: np.ndarray) -> Drawn:
    latent = latent.astype(np.float32)
    decoded = detector.decode(latent.reshape(-1, *detector.engine.require_latent()))
    scores = detector.score(decoded)
    return Drawn(groups, latent, decoded, scores.score, scores.is_anomaly)


def _typical_rows(groups: Mapping[str, np.ndarray], score: np.ndarray) -> tuple[list[int], list[str]]:
    """Choose samples near the median score of each group; return their rows and groups."""
    groups = groups or {"": np.ones(len(score), dtype=bool)}
    rows, names = [], []
    for name, members in groups.items():
        ordered = np.flatnonzero(members)[np.argsort(score[members])]
        middle = np.linspace(0, len(ordered) - 1, max(1, N_SIDES // len(groups)) + 2)[1:-1]
        rows += ordered[np.unique(middle.astype(int))].tolist()
        names += [name] * (len(rows) - len(names))
    return rows, names


def _titles(groups: Sequence[str], scores: np.ndarray) -> list[str]:
    return [
        f"{charts.printable(group)}\nscore {score:.3g}".strip()
        for group, score in zip(groups, scores, strict=True)
    ]


def _sample_chart(drawn: Drawn, rows: np.ndarray, drawing: Drawing) -> str:
    titles = _titles([drawn.groups[row] for row in rows], drawn.score[rows])
    samples = drawing.of(drawn.decoded[rows])
    return charts.sample_chart(samples, titles, drawing.limits, images=drawing.images)


def _drawing(detector: Detector, samples: np.ndarray) -> Drawing:
    """Images in their value range; lines on the scale of the data, so that unusual samples leave it."""
    manifest = detector.manifest
    if manifest.kind == "image":
        return Drawing(0.0, 1.0, manifest.value_range, images=True)
    others = tuple(range(samples.ndim - 1))  # features and channels have units of their own
    present = np.ma.masked_invalid(samples.astype(np.float64))  # values of rows may be missing
    mean, spread = (np.ma.filled(figure(axis=others), 0) for figure in (present.mean, present.std))
    spread = np.where(spread > 0, spread, 1)
    low, high = np.quantile(((present - mean) / spread).compressed(), [0.001, 0.999])
    return Drawing(mean, spread, (float(low), float(high)), images=False)


if __name__ == "__main__":
    sys.exit(main())

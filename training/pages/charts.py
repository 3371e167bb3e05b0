"""Draw the charts of the report, each as one `data:` URI: the report is a single file without scripts."""

import base64
import io
import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from training.data.dataset import spread
from training.data.series import runs
from training.figures.stepwise import StepRun
from training.pages.latent_plane import hull_corners

NORMAL_COLOUR, ANOMALY_COLOUR, CALIBRATION_COLOUR = "#2a6f97", "#e76f51", "#9aa5b1"
THRESHOLD_COLOUR = "#9d0208"
MOST_POINTS = 3000
LEGEND_PLACE = "upper right"  # finding the best place takes a second among many bars, with a warning
_SVG_URI = "data:image/svg+xml;base64,"
MOST_FEATURES = 16
MOST_CHANNELS = 4
MOST_LINES = 8  # in a legend
MOST_NAMES = 8  # side by side
MOST_DIVIDED = 2000  # ratio of the ends of a logarithmic axis with room for labels between the powers
CROWDED = 0.07  # share of the plane; names nearer to each other overlap
MOST_PLACES = 2000  # on the horizontal axis of a line
MOST_CHARACTERS = 40  # of a name in a chart
_GREY = {"cmap": "gray", "vmin": 0, "vmax": 1}
_NO_TICKS = {"xticks": [], "yticks": []}


def loss_chart(
    train: Sequence[float], validation: Sequence[float], best_epoch: int, inputs: str = "clean"
) -> str:
    """Draw losses by epoch and mark the kept one; the validation `inputs` are `clean` or `corrupted`."""
    figure, axes = _figure(6.2, 3.2)
    epochs = np.arange(1, len(train) + 1)
    axes.plot(epochs, train, color=CALIBRATION_COLOUR, label="training (corrupted inputs)")
    axes.plot(epochs, validation, color=NORMAL_COLOUR, label=f"validation ({inputs} inputs)")
    axes.axvline(best_epoch, color=THRESHOLD_COLOUR, linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    _label_plainly(axes.yaxis)
    return _svg(figure, legend_of=axes)


def score_chart(calibration: np.ndarray, normal: np.ndarray, anomalies: np.ndarray, threshold: float) -> str:
    """Draw histograms of the scores on a logarithmic axis, with the threshold."""
    figure, axes = _figure(6.2, 3.2)
    scores = np.concatenate([calibration, normal, anomalies])
    floor = max(scores[scores > 0].min(initial=threshold), threshold * 1e-6)
    bins = np.geomspace(floor, max(scores.max(), threshold) * 1.05, 60)
    groups = (
        (f"calibration, normal ({calibration.size})", calibration, CALIBRATION_COLOUR),
        (f"test, normal ({normal.size})", normal, NORMAL_COLOUR),
        (f"test, anomalies ({anomalies.size})", anomalies, ANOMALY_COLOUR),
    )
    for label, values, colour in groups:
        if values.size:
            shares = np.full(values.size, 1 / values.size)
            axes.hist(values.clip(floor), bins, weights=shares, color=colour, alpha=0.6, label=label)
    axes.axvline(threshold, color=THRESHOLD_COLOUR, linestyle="--", label=f"threshold {threshold:.4g}")
    axes.set(xscale="log", xlabel="score", ylabel="share of its split")
    _label_plainly(axes.xaxis)
    return _svg(figure, legend_of=axes)


def sweep_chart(trials: Sequence[Mapping[str, Any]]) -> str:
    """Draw reconstruction error against latent size: a line for each preset and noise, and one for PCA.

    `trials` are the rows of a sweep; rows without figures are left out.
    """
    trials = [trial for trial in trials if "validation_error" in trial]
    figure, axes = _figure(6.2, 3.6)
    pca = sorted({(trial["latent_size"], trial["pca_error"]) for trial in trials})
    axes.plot(*zip(*pca, strict=True), "--", color=CALIBRATION_COLOUR, marker="o", markersize=3, label="PCA")
    lines: dict[str, list[tuple[int, float]]] = {}
    for trial in trials:
        noise = "" if trial["noise"] is None else f", noise {trial['noise']:g}"
        points = lines.setdefault(trial["preset"] + noise, [])
        points.append((trial["latent_size"], trial["validation_error"]))
    for name, points in sorted(lines.items()):
        axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=4, label=name)
    (best,) = (trial for trial in trials if trial["outcome"].endswith("published"))
    best = best["latent_size"], best["validation_error"]
    axes.plot(*best, "o", markersize=12, fillstyle="none", color=THRESHOLD_COLOUR, label="published")
    axes.set(xlabel="latent size", ylabel="error on validation samples", xscale="log")
    sizes = sorted({size for size, _ in pca})
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(bottom=0)
    return _svg(figure, legend_of=axes)


def latent_chart(
    points: np.ndarray,
    groups: Mapping[str, np.ndarray],
    names: Sequence[str],
    drawn: np.ndarray | None = None,
) -> str:
    """Draw latent vectors on a plane: for each group a colour, its convex hull and its name at its mean.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2)
    groups : mapping of name to ndarray of shape (n_samples,), bool
        If it is empty, all samples are one group without a name.
    names : sequence of two str
        Names of the axes.
    drawn : ndarray of shape (n_drawn, 2), optional
        Points to mark.
    """
    figure, axes = _figure(6.2, 4.4)
    _draw_groups(axes, points, groups, labels=True)
    if drawn is not None:
        axes.scatter(*drawn.T, s=26, marker="D", color="white", edgecolors="black", linewidths=0.8, zorder=4)
    axes.set(xlabel=names[0], ylabel=names[1])
    return _svg(figure)


def far_chart(points: np.ndarray, groups: Mapping[str, np.ndarray], far: np.ndarray) -> str:
    """Draw the same plane zoomed out, with points beyond all hulls as crosses."""
    figure, axes = _figure(3.6, 3.6)
    _draw_groups(axes, points, groups, labels=False)
    axes.scatter(*far.T, s=30, marker="x", color=THRESHOLD_COLOUR, zorder=4)
    axes.set(xticks=[], yticks=[])
    return _svg(figure)


def _draw_groups(axes: Axes, points: np.ndarray, groups: Mapping[str, np.ndarray], *, labels: bool) -> None:
    colours = mpl.colormaps["tab10"]
    groups = groups or {"": np.ones(len(points), dtype=bool)}
    for number, (name, members) in enumerate(groups.items()):
        colour, group = colours(number % 10), points[members]
        shown = group[spread(len(group), MOST_POINTS)]
        # As pixels: ten thousand circles make an SVG of megabytes.
        axes.scatter(*shown.T, s=7, alpha=0.5, color=colour, linewidths=0, rasterized=True)
        corners = hull_corners(group)
        if corners is not None:
            axes.fill(*corners.T, facecolor=(*colour[:3], 0.06), edgecolor=colour, linewidth=1)
        if labels and name:
            axes.annotate(
                printable(name),
                group.mean(axis=0),
                color="black",
                fontweight="bold",
                fontsize=9,
                ha="center",
                va="center",
                bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": colour},
                zorder=5,
            )
    means = np.array([points[members].mean(axis=0) for members in groups.values()])
    overlap = (np.abs(means[:, None] - means) < CROWDED * np.ptp(points, axis=0)).all(axis=-1)
    if labels and np.triu(overlap, 1).any():
        names = [printable(name) for name in groups]
        axes.legend(axes.collections, names, fontsize=7, markerscale=2, loc=LEGEND_PLACE)


def image_chart(
    samples: np.ndarray,
    latents: np.ndarray | None,
    reconstructions: np.ndarray,
    errors: np.ndarray,
    titles: Sequence[str],
    limits: tuple[float, float],
) -> str:
    """Draw images above their latents, their reconstructions and their error maps, a column for each.

    All error maps share one colour scale, so that a clean image looks clean; so do all latents.
    """
    errors = errors if errors.ndim == 3 else errors.mean(axis=-1)
    rows = {
        "original": (_pixels(samples, *limits), _GREY),
        "latent": (None if latents is None else _latent_maps(latents), _latent_colours(latents)),
        "reconstruction": (_pixels(reconstructions, *limits), _GREY),
        "error": (errors, {"cmap": "inferno", "vmin": 0, "vmax": np.quantile(errors, 0.999)}),
    }
    rows = {words: row for words, row in rows.items() if row[0] is not None}
    figure, grid = _columns(list(rows), titles, (1.15 * len(samples), 1.3 * len(rows)))
    for axes_of_row, (images, colours) in zip(grid, rows.values(), strict=True):
        for axes, image in zip(axes_of_row, images, strict=True):
            axes.imshow(image, **colours)
    return _svg(figure)


def denoising_chart(
    originals: np.ndarray, corrupted: np.ndarray, denoised: np.ndarray, limits: tuple[float, float]
) -> str:
    """Draw images, corrupted copies and the denoised copies, one image a column; raw units."""
    figure, grid = _columns(("original", "corrupted", "denoised"), [""] * len(originals))
    _draw_samples(grid.ravel(), np.concatenate([originals, corrupted, denoised]), limits, True)
    return _svg(figure)


def side_chart(
    samples: np.ndarray,
    latents: np.ndarray,
    decoded: np.ndarray,
    titles: Sequence[str],
    limits: tuple[float, float],
    *,
    images: bool,
    names: Sequence[str] = (),
) -> str:
    """Draw samples, their latents and the decoded latents, one sample a column.

    Parameters
    ----------
    samples, decoded : ndarray of shape (n_samples, *sample_shape)
    latents : ndarray of shape (n_samples, *latent_shape)
    titles : sequence of str
    limits : tuple of float
        Values of black and white, or the lower and the upper edge of lines.
    images : bool
        Whether the samples are images; rows and windows are drawn as lines.
    names : sequence of str
        Names of the lines of a window, for a legend; if there are many, there is no legend.
    """
    figure, grid = _columns(("original", "latent", "decoded"), titles)
    colours = _latent_colours(latents)
    for axes, latent in zip(grid[1], _latent_maps(latents), strict=True):
        axes.imshow(latent, **colours)
    _draw_samples([*grid[0], *grid[2]], np.concatenate([samples, decoded]), limits, images)
    if 1 < len(names) <= MOST_LINES:
        words = [printable(name) for name in names]
        figure.legend(grid[0, 0].lines, words, loc="outside lower center", ncols=len(words), fontsize=7)
    return _svg(figure)


def sample_chart(
    samples: np.ndarray,
    titles: Sequence[str],
    limits: tuple[float, float],
    *,
    images: bool,
    columns: int = 10,
) -> str:
    """Draw samples in rows of `columns`; `limits` and `images` as in `side_chart`."""
    columns = min(columns, len(samples))
    rows = -(-len(samples) // columns)
    figure = Figure(figsize=(1.25 * columns + 0.2, 1.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, subplot_kw=_NO_TICKS).ravel()
    _draw_samples(grid[: len(samples)], samples, limits, images)
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(title, fontsize=7)
    for axes in grid[len(samples) :]:
        axes.set_axis_off()
    return _svg(figure)


def _columns(
    words: Sequence[str], titles: Sequence[str], size: tuple[float, float] | None = None
) -> tuple[Figure, np.ndarray]:
    """Make axes without ticks, a row for each of `words` and a column for each title."""
    figure = Figure(figsize=size or (1.25 * len(titles) + 0.4, 3.9), layout="constrained")
    grid = figure.subplots(len(words), len(titles), squeeze=False, subplot_kw=_NO_TICKS)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=7)
    for axes, word in zip(grid[:, 0], words, strict=True):
        axes.set_ylabel(word, fontsize=8)
    return figure, grid


def _draw_samples(
    grid: Sequence[Axes], samples: np.ndarray, limits: tuple[float, float], images: bool
) -> None:
    if images:
        for axes, image in zip(grid, _pixels(samples, *limits), strict=True):
            axes.imshow(image, **_GREY)
        return
    margin = 0.1 * (limits[1] - limits[0]) or 1.0
    for axes, sample in zip(grid, samples, strict=True):
        axes.plot(sample, linewidth=0.9)
        axes.set_ylim(limits[0] - margin, limits[1] + margin)


def _latent_maps(latents: np.ndarray) -> np.ndarray:
    """Turn latents into images: a vector in rows of one length, the channels of a map as tiles."""
    if latents.ndim == 3:
        return latents
    maps = latents.reshape(len(latents), *(latents.shape[1:-1] or (1, 1)), latents.shape[-1])
    count, height, width, channels = maps.shape
    rows = max(divisor for divisor in range(1, int(channels**0.5) + 1) if channels % divisor == 0)
    tiles = maps.reshape(count, height, width, rows, channels // rows).transpose(0, 3, 1, 4, 2)
    return tiles.reshape(count, rows * height, channels // rows * width)


def _latent_colours(latents: np.ndarray | None) -> dict[str, Any]:
    """Return the colours of latents: blue below 0, red above, one scale for all."""
    largest = 1.0 if latents is None else float(np.quantile(np.abs(latents), 0.995)) or 1.0
    return {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest}


def feature_chart(
    samples: np.ndarray,
    reconstructions: np.ndarray,
    errors: np.ndarray,
    titles: Sequence[str],
    names: Sequence[str],
    words: str = "standard deviations from the mean",
) -> str:
    """Draw the features of a few samples in scaled units: value, reconstruction and the error between."""
    largest = np.sort(np.argsort(-errors.mean(axis=0))[:MOST_FEATURES])
    rows = np.arange(largest.size)
    figure = Figure(figsize=(2.0 * len(samples) + 1.2, 0.24 * largest.size + 1.1), layout="constrained")
    grid = figure.subplots(1, len(samples), sharey=True, squeeze=False)[0]
    for axes, sample, reconstruction, title in zip(grid, samples, reconstructions, titles, strict=True):
        actual, expected = sample[largest], reconstruction[largest]
        axes.hlines(rows, expected, actual, color=ANOMALY_COLOUR, linewidth=3, alpha=0.5)
        axes.plot(actual, rows, "o", color="#1d3557", markersize=4)
        axes.plot(expected, rows, "|", color=THRESHOLD_COLOUR, markersize=9)
        axes.set_title(title, fontsize=8)
        axes.grid(axis="x", alpha=0.2)
    grid[0].set_yticks(rows, [printable(names[column]) for column in largest], fontsize=7)
    grid[0].invert_yaxis()
    figure.supxlabel(f"{words}: ● value, | reconstruction", fontsize=8)
    return _svg(figure)


def window_chart(
    samples: np.ndarray,
    reconstructions: np.ndarray,
    errors: np.ndarray,
    titles: Sequence[str],
    names: Sequence[str],
) -> str:
    """Draw windows in scaled units as lines, a column for each: value, reconstruction, and the error below.

    Parameters
    ----------
    samples, reconstructions, errors : ndarray of shape (n_samples, window, n_channels)
        The channels with the largest errors are drawn.
    titles : sequence of str
    names : sequence of str
        Names of the channels.
    """
    channels = _largest_channels(errors.mean(axis=(0, 1)))
    heights = [1.3] * channels.size + [0.9]
    figure = Figure(figsize=(1.3 * len(samples) + 0.8, sum(heights) + 0.4), layout="constrained")
    grid = figure.subplots(len(heights), len(samples), sharex=True, sharey="row", squeeze=False)
    for column, title in enumerate(titles):
        grid[0, column].set_title(title, fontsize=8)
        for axes, channel in zip(grid[:, column], channels, strict=False):
            axes.plot(samples[column, :, channel], color=NORMAL_COLOUR, linewidth=1.1)
            axes.plot(reconstructions[column, :, channel], color=ANOMALY_COLOUR, linewidth=1.1)
        error = errors[column].mean(axis=-1)
        grid[-1, column].fill_between(np.arange(error.size), error, color=THRESHOLD_COLOUR, linewidth=0)
    for axes, channel in zip(grid[:, 0], channels, strict=False):
        axes.set_ylabel(printable(names[channel]), fontsize=8)
    grid[-1, 0].set_ylabel("error", fontsize=8)
    for axes in grid.flat:
        axes.tick_params(labelsize=6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("step of the window: blue is the value, orange the reconstruction", fontsize=8)
    return _svg(figure)


def step_chart(
    samples: np.ndarray | None,
    reconstructions: np.ndarray,
    run: StepRun,
    threshold: float,
    names: Sequence[str],
    time_of: Callable[[int], str],
    entity_of: Callable[[int], str],
) -> str:
    """Draw a series over time: channels with their reconstruction, and scores with the threshold.

    Parameters
    ----------
    samples : ndarray of shape (n_steps, n_channels), scaled units, or None
        The channels with the largest errors are drawn; with None no channel is.
    reconstructions : ndarray of shape (n_steps, n_channels), scaled units
    run : StepRun
        Scores, flagged and anomalous steps, and the parts of the series.
    threshold : float
    names : sequence of str
        Names of the channels.
    time_of, entity_of : callable
        Position in the run -> text for the axis, and name of the entity; the names are drawn at the top if
        they are several, but not many.
    """
    n_steps = len(run.score)
    errors = np.empty(0) if samples is None else np.square(samples - reconstructions).mean(axis=0)
    channels = _largest_channels(errors)
    heights = [1.4] * channels.size + [2.2]
    figure = Figure(figsize=(11.5, sum(heights) + 0.6), layout="constrained")
    grid = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for axes, channel in zip(grid, channels, strict=False):
        _draw_line(axes, samples[:, channel], color=NORMAL_COLOUR)
        _draw_line(axes, reconstructions[:, channel], color=ANOMALY_COLOUR)
        axes.set_ylabel(printable(names[channel]), fontsize=8)
    scores = grid[-1]
    floor = max(run.score[run.score > 0].min(initial=threshold), threshold * 1e-4)
    _draw_line(scores, run.score.clip(floor), color="#1d3557")
    scores.axhline(threshold, color=THRESHOLD_COLOUR, linestyle="--", linewidth=1)
    scores.set(yscale="log", xlim=(0, n_steps - 1))
    scores.set_ylabel("score", fontsize=8)
    _label_plainly(scores.yaxis)
    flagged = np.flatnonzero(run.is_flagged)
    top = np.full(flagged.size, run.score.max() * 1.5)
    scores.plot(flagged, top, "|", color=THRESHOLD_COLOUR, markersize=6, rasterized=True)
    starts = [part.start for part in runs(run.part)]
    for axes in grid:
        for anomaly in runs(run.is_anomaly):
            if run.is_anomaly[anomaly.start]:
                axes.axvspan(anomaly.start, anomaly.stop, color=ANOMALY_COLOUR, alpha=0.2, linewidth=0)
        for start in starts[1:]:
            axes.axvline(start, color=CALIBRATION_COLOUR, linewidth=0.6)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    entities = [(start, entity_of(start)) for start in starts]
    firsts = [next(same) for _, same in itertools.groupby(entities, key=lambda entity: entity[1])]
    if 1 < len(firsts) <= MOST_NAMES:
        for start, name in firsts:
            place = {"transform": grid[0].get_xaxis_transform(), "fontsize": 8}
            grid[0].text(start, 1.02, printable(name), **place)
    places = np.unique(np.linspace(0, n_steps - 1, 6).astype(int))
    scores.set_xticks(places, [time_of(place) for place in places])
    return _svg(figure)


def _draw_line(axes: Axes, values: np.ndarray, color: str) -> None:
    """Draw a line through all values; if they are many, through the lowest and the highest of each few."""
    per_place = -(-values.size // MOST_PLACES)
    if per_place == 1:
        axes.plot(values, color=color, linewidth=0.9)
        return
    starts = np.arange(0, values.size, per_place)
    both = np.stack([np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)], axis=1)
    axes.plot(np.repeat(starts, 2), both.ravel(), color=color, linewidth=0.7)


def _largest_channels(errors: np.ndarray) -> np.ndarray:
    """Return the channels with the largest errors, ascending."""
    return np.sort(np.argsort(-errors)[:MOST_CHANNELS])


def _label_plainly(axis: Axis) -> None:
    """Label a logarithmic axis 0.01, 0.02, 0.05, a long one 0.01, 0.1, without mathematical text."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < low * MOST_DIVIDED else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _pixels(samples: np.ndarray, low: float, high: float) -> np.ndarray:
    pixels = np.clip((samples.astype(np.float64) - low) / (high - low), 0, 1)
    return pixels[..., 0] if pixels.shape[3:] == (1,) else pixels


def printable(name: str) -> str:
    """Shorten a name of the data for a chart, and replace characters that XML forbids."""
    name = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name)
    return name if len(name) <= MOST_CHARACTERS else name[: MOST_CHARACTERS - 1] + "…"


def svg_of(uri: str) -> bytes:
    """Return the content of a chart as a file of its own."""
    return base64.b64decode(uri.removeprefix(_SVG_URI))


def _svg(figure: Figure, legend_of: Axes | None = None) -> str:
    """Save a figure as the `data:` URI of an SVG, equal for equal figures."""
    if legend_of:
        legend_of.legend(frameon=False, fontsize=8, loc=LEGEND_PLACE)
    buffer = io.StringIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a name with two dollar signs is no formula
    style = {"svg.hashsalt": "residual", "svg.fonttype": "none", "font.family": "sans-serif"}
    with mpl.rc_context(style), warnings.catch_warnings():
        # The browser has the glyphs that our font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _SVG_URI + base64.b64encode(buffer.getvalue().encode()).decode()

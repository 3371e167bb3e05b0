"""Draw the charts of the report, each as one `data:` URI: the report is a single file without scripts.

A page shows a chart at its own size or, on a small screen, as wide as the screen: the type stays readable at
400 pixels as long as a chart is at most `WIDTH` wide.
"""

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
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from training.data.dataset import spread
from training.data.series import runs
from training.figures.stepwise import StepRun
from training.pages.latent_plane import hull_corners

NORMAL_COLOUR, ANOMALY_COLOUR, CALIBRATION_COLOUR = "#2a6f97", "#e76f51", "#9aa5b1"
THRESHOLD_COLOUR = "#9d0208"
MOST_POINTS = 3000
WIDTH, WIDE = 4.6, 10.5  # inches: of any screen, and of a large one
_SVG_URI = "data:image/svg+xml;base64,"
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
    figure, axes = _figure(WIDTH, 3.4)
    epochs = np.arange(1, len(train) + 1)
    axes.plot(epochs, train, color=CALIBRATION_COLOUR, label="training (corrupted inputs)")
    axes.plot(epochs, validation, color=NORMAL_COLOUR, label=f"validation ({inputs} inputs)")
    axes.axvline(best_epoch, color=THRESHOLD_COLOUR, linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    _label_plainly(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure, legend_of=axes, columns=1)


def score_chart(calibration: np.ndarray, normal: np.ndarray, anomalies: np.ndarray, threshold: float) -> str:
    """Draw histograms of the scores on a logarithmic axis, with the threshold."""
    figure, axes = _figure(WIDTH, 3.4)
    scores = np.concatenate([calibration, normal, anomalies])
    floor = max(scores[scores > 0].min(initial=threshold), threshold * 1e-6)
    bins = np.geomspace(floor, max(scores.max(), threshold) * 1.05, 60)
    groups = (
        (f"calibration ({calibration.size})", calibration, CALIBRATION_COLOUR),
        (f"test normal ({normal.size})", normal, NORMAL_COLOUR),
        (f"test anomalies ({anomalies.size})", anomalies, ANOMALY_COLOUR),
    )
    for label, values, colour in groups:
        if values.size:
            shares = np.full(values.size, 1 / values.size)
            axes.hist(values.clip(floor), bins, weights=shares, color=colour, alpha=0.6, label=label)
    axes.axvline(threshold, color=THRESHOLD_COLOUR, linestyle="--", label=f"threshold {threshold:.4g}")
    axes.set(xscale="log", xlabel="score", ylabel="share of its split")
    _label_plainly(axes.xaxis)
    return _svg(figure, legend_of=axes)


def ranking_charts(score: np.ndarray, is_anomaly: np.ndarray, threshold: float) -> tuple[str, str]:
    """Draw the precision-recall and the ROC curve, with the threshold.

    There must be normal samples and anomalies.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    flagged = score > threshold
    recall, alarms = flagged[is_anomaly].mean(), flagged[~is_anomaly].mean()
    precision = is_anomaly[flagged].mean() if flagged.any() else 1.0
    precisions, recalls, _ = precision_recall_curve(is_anomaly, score)
    rates, hits, _ = roc_curve(is_anomaly, score)
    return (
        _curve_chart(recalls, precisions, (recall, precision), ("recall", "precision")),
        _curve_chart(rates, hits, (alarms, recall), ("false-alarm rate", "recall")),
    )


def _curve_chart(x: np.ndarray, y: np.ndarray, chosen: tuple[float, float], names: tuple[str, str]) -> str:
    figure, axes = _figure(WIDTH, 3.4)
    shown = spread(x.size, MOST_PLACES)
    axes.plot(x[shown], y[shown], color=NORMAL_COLOUR, drawstyle="steps-post")
    axes.plot(*chosen, "o", markersize=5, color=THRESHOLD_COLOUR, label="at the threshold")
    axes.set(xlabel=names[0], ylabel=names[1], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return _svg(figure, legend_of=axes)


def sweep_chart(trials: Sequence[Mapping[str, Any]]) -> str:
    """Draw reconstruction error against latent size: a line for each preset and noise, and one for PCA.

    `trials` are the rows of a sweep; rows without figures are left out.
    """
    trials = [trial for trial in trials if "validation_error" in trial]
    figure, axes = _figure(WIDTH, 3.8)
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
    figure, axes = _figure(WIDTH, 4.2)
    named = _draw_groups(axes, points, groups, labels=True)
    if drawn is not None:
        axes.scatter(*drawn.T, s=26, marker="D", color="white", edgecolors="black", linewidths=0.8, zorder=4)
    axes.set(xlabel=names[0], ylabel=names[1])
    return _svg(figure, legend_of=None if named else axes, columns=3)


def far_chart(points: np.ndarray, groups: Mapping[str, np.ndarray], far: np.ndarray) -> str:
    """Draw the same plane zoomed out, with points beyond all hulls as crosses."""
    figure, axes = _figure(3.6, 3.6)
    _draw_groups(axes, points, groups, labels=False)
    axes.scatter(*far.T, s=30, marker="x", color=THRESHOLD_COLOUR, zorder=4)
    axes.set(xticks=[], yticks=[])
    return _svg(figure)


def _draw_groups(axes: Axes, points: np.ndarray, groups: Mapping[str, np.ndarray], *, labels: bool) -> bool:
    """Draw points and hulls; return whether the names fit at the means, else they need a legend."""
    colours = mpl.colormaps["tab10"]
    groups = groups or {"": np.ones(len(points), dtype=bool)}
    means = np.array([points[members].mean(axis=0) for members in groups.values()])
    overlap = (np.abs(means[:, None] - means) < CROWDED * np.ptp(points, axis=0)).all(axis=-1)
    labels = labels and not np.triu(overlap, 1).any()
    for number, (name, members) in enumerate(groups.items()):
        colour, group = colours(number % 10), points[members]
        shown = group[spread(len(group), MOST_POINTS)]
        # As pixels: ten thousand circles make an SVG of megabytes.
        form = {"s": 7, "alpha": 0.5, "linewidths": 0, "rasterized": True}
        axes.scatter(*shown.T, color=colour, label=printable(name), **form)
        corners = hull_corners(group)
        if corners is not None:
            axes.fill(*corners.T, facecolor=(*colour[:3], 0.06), edgecolor=colour, linewidth=1)
        if labels and name:
            axes.annotate(
                printable(name),
                means[number],
                color="black",
                fontweight="bold",
                ha="center",
                va="center",
                bbox={"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": colour},
                zorder=5,
            )
    return labels or not any(groups)


def image_charts(
    samples: np.ndarray,
    latents: np.ndarray | None,
    reconstructions: np.ndarray,
    errors: np.ndarray,
    limits: tuple[float, float],
) -> list[str]:
    """Draw for each image a chart of the image, its latent, its reconstruction and its error map.

    All error maps share one colour scale, so that a clean image looks clean; so do all latents.
    """
    errors = errors if errors.ndim == 3 else errors.mean(axis=-1)
    strips = {
        "original": (_pixels(samples, *limits), _GREY),
        "latent": (None if latents is None else _latent_maps(latents), _latent_colours(latents)),
        "reconstruction": (_pixels(reconstructions, *limits), _GREY),
        "error": (errors, {"cmap": "inferno", "vmin": 0, "vmax": np.quantile(errors, 0.999)}),
    }
    return _strips({name: strip for name, strip in strips.items() if strip[0] is not None})


def denoising_charts(
    originals: np.ndarray, corrupted: np.ndarray, denoised: np.ndarray, limits: tuple[float, float]
) -> list[str]:
    """Draw for each image a chart of it, its corrupted copy and the denoised copy; raw units."""
    images = {"original": originals, "corrupted": corrupted, "denoised": denoised}
    return _strips({name: (_pixels(values, *limits), _GREY) for name, values in images.items()})


def _strips(strips: Mapping[str, tuple[np.ndarray, Mapping[str, Any]]]) -> list[str]:
    """Draw for each sample its image in every strip, side by side."""
    charts = []
    for images in zip(*(images for images, _ in strips.values()), strict=True):
        figure = Figure(figsize=(1.05 * len(strips), 1.35), layout="constrained")
        grid = figure.subplots(1, len(strips), subplot_kw=_NO_TICKS)
        for axes, image, (name, (_, colours)) in zip(grid, images, strips.items(), strict=True):
            axes.imshow(image, **colours)
            axes.set_title(name, fontsize=9)
        charts.append(_svg(figure))
    return charts


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
        figure.legend(grid[0, 0].lines, words, loc="outside lower center", ncols=2)
    return _svg(figure)


def sample_chart(
    samples: np.ndarray,
    titles: Sequence[str],
    limits: tuple[float, float],
    *,
    images: bool,
    columns: int = 4,
) -> str:
    """Draw samples in rows of `columns`; `limits` and `images` as in `side_chart`."""
    columns = min(columns, len(samples))
    rows = -(-len(samples) // columns)
    figure = Figure(figsize=(WIDTH, 1.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, subplot_kw=_NO_TICKS).ravel()
    _draw_samples(grid[: len(samples)], samples, limits, images)
    for axes, title in zip(grid, titles, strict=False):
        axes.set_title(title, fontsize=9)
    for axes in grid[len(samples) :]:
        axes.set_axis_off()
    return _svg(figure)


def _columns(words: Sequence[str], titles: Sequence[str]) -> tuple[Figure, np.ndarray]:
    """Make axes without ticks, a row for each of `words` and a column for each title."""
    figure = Figure(figsize=(1.25 * len(titles) + 0.4, 3.9), layout="constrained")
    grid = figure.subplots(len(words), len(titles), squeeze=False, subplot_kw=_NO_TICKS)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    for axes, word in zip(grid[:, 0], words, strict=True):
        axes.set_ylabel(word)
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


def window_charts(
    samples: np.ndarray, reconstructions: np.ndarray, errors: np.ndarray, names: Sequence[str]
) -> list[str]:
    """Draw for each window a chart of value and reconstruction as lines, and the error below.

    Parameters
    ----------
    samples, reconstructions : ndarray of shape (n_samples, window, n_channels), raw units
        The channels with the largest errors are drawn, each on one scale in all charts.
    errors : ndarray of shape (n_samples, window, n_channels)
    names : sequence of str
        Names of the channels.
    """
    channels = _largest_channels(errors.mean(axis=(0, 1)))
    error = errors.mean(axis=-1)
    charts = []
    for sample, reconstruction, own_error in zip(samples, reconstructions, error, strict=True):
        figure = Figure(figsize=(3.3, 1.2 * channels.size + 1.4), layout="constrained")
        grid = figure.subplots(channels.size + 1, 1, sharex=True, squeeze=False)[:, 0]
        for axes, channel in zip(grid, channels, strict=False):
            axes.plot(sample[:, channel], color=NORMAL_COLOUR, linewidth=1.1)
            axes.plot(reconstruction[:, channel], color=ANOMALY_COLOUR, linewidth=1.1)
            axes.set_ylim(*_span(samples[..., channel], reconstructions[..., channel]))
            axes.set_title(printable(names[channel]), loc="left")
        grid[-1].fill_between(np.arange(own_error.size), own_error, color=THRESHOLD_COLOUR, linewidth=0)
        grid[-1].set_ylim(0, error.max() * 1.05 or 1)
        grid[-1].set_title("error", loc="left")
        for axes in grid:
            axes.spines[["top", "right"]].set_visible(False)
        grid[-1].set_xlabel("step of the window")
        charts.append(_svg(figure))
    return charts


def _span(*values: np.ndarray) -> tuple[float, float]:
    """Return the limits of an axis for values."""
    low, high = min(map(np.min, values)), max(map(np.max, values))
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def step_chart(
    samples: np.ndarray | None,
    reconstructions: np.ndarray,
    run: StepRun,
    threshold: float,
    names: Sequence[str],
    time_of: Callable[[int], str],
    entity_of: Callable[[int], str],
    width: float = WIDE,
) -> str:
    """Draw a series over time: channels with their reconstruction, and scores with the threshold.

    Parameters
    ----------
    samples : ndarray of shape (n_steps, n_channels), raw units, or None
        The channels with the largest errors for their spread are drawn; with None no channel is.
    reconstructions : ndarray of shape (n_steps, n_channels), raw units
    run : StepRun
        Scores, flagged and anomalous steps, and the parts of the series.
    threshold : float
    names : sequence of str
        Names of the channels.
    time_of, entity_of : callable
        Position in the run -> text for the axis, and name of the entity; the names are drawn at the top if
        they are several, but not many.
    width : float
        Inches.
    """
    n_steps, channels = len(run.score), np.arange(0)
    if samples is not None:
        errors = np.square(samples - reconstructions).mean(axis=0)
        channels = _largest_channels(errors / np.maximum(samples.var(axis=0), np.finfo(np.float32).tiny))
    heights = [1.4] * channels.size + [2.2]
    figure = Figure(figsize=(width, sum(heights) + 0.8), layout="constrained")
    grid = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for axes, channel in zip(grid, channels, strict=False):
        _draw_line(axes, samples[:, channel], color=NORMAL_COLOUR)
        _draw_line(axes, reconstructions[:, channel], color=ANOMALY_COLOUR)
        axes.set_title(printable(names[channel]), loc="left")
    scores = grid[-1]
    floor = max(run.score[run.score > 0].min(initial=threshold), threshold * 1e-4)
    _draw_line(scores, run.score.clip(floor), color="#1d3557")
    scores.axhline(threshold, color=THRESHOLD_COLOUR, linestyle="--", linewidth=1)
    scores.set(yscale="log", xlim=(0, n_steps - 1))
    scores.set_title("score", loc="left")
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
        axes.spines[["top", "right"]].set_visible(False)
    entities = [(start, entity_of(start)) for start in starts]
    firsts = [next(same) for _, same in itertools.groupby(entities, key=lambda entity: entity[1])]
    if 1 < len(firsts) <= MOST_NAMES:
        for start, name in firsts:
            place = {"transform": grid[0].get_xaxis_transform(), "va": "top"}
            grid[0].text(start, 0.98, printable(name), **place)
    places = np.unique(np.linspace(0, n_steps - 1, 6 if width == WIDE else 3).astype(int))
    scores.set_xticks(places, [time_of(place).replace("T", "\n") for place in places])
    for label, side in ((scores.get_xticklabels()[0], "left"), (scores.get_xticklabels()[-1], "right")):
        label.set_ha(side)
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


def _svg(figure: Figure, legend_of: Axes | None = None, columns: int = 2) -> str:
    """Save a figure as the `data:` URI of an SVG, equal for equal figures, a legend above the axes."""
    if legend_of:
        form = {"loc": "outside upper left", "frameon": False, "ncols": columns, "markerscale": 2}
        figure.legend(*legend_of.get_legend_handles_labels(), **form)
    buffer = io.StringIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a name with two dollar signs is no formula
    style = {"svg.hashsalt": "residual", "svg.fonttype": "none", "font.family": "sans-serif"}
    with mpl.rc_context(style), warnings.catch_warnings():
        # The browser has the glyphs that our font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _SVG_URI + base64.b64encode(buffer.getvalue().encode()).decode()

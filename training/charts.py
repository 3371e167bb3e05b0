"""The report's charts, each as one `data:` URI: no file beside the report, no script in it."""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

NORMAL_COLOUR, ANOMALY_COLOUR, CALIBRATION_COLOUR = "#2a6f97", "#e76f51", "#9aa5b1"
THRESHOLD_COLOUR = "#9d0208"
MOST_POINTS = 3000
MOST_FEATURES = 16
MOST_CHARACTERS = 40  # of a name in a chart


def loss_chart(train: Sequence[float], validation: Sequence[float], best_epoch: int) -> str:
    """Losses by epoch, the kept one marked."""
    figure, axes = _figure(6.2, 3.2)
    epochs = np.arange(1, len(train) + 1)
    axes.plot(epochs, train, color=CALIBRATION_COLOUR, label="training (corrupted inputs)")
    axes.plot(epochs, validation, color=NORMAL_COLOUR, label="validation (clean inputs)")
    axes.axvline(best_epoch, color=THRESHOLD_COLOUR, linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.set(xlabel="epoch", ylabel="loss", yscale="log")
    _label_plainly(axes.yaxis)
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def score_chart(calibration: np.ndarray, normal: np.ndarray, anomalies: np.ndarray, threshold: float) -> str:
    """Histograms of the scores on a logarithmic axis, with the threshold."""
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
    axes.legend(frameon=False, fontsize=8)
    return _svg(figure)


def latent_chart(latent: np.ndarray, groups: Mapping[str, np.ndarray]) -> str:
    """Latent vectors on their two main axes, one colour for each group.

    Parameters
    ----------
    latent : ndarray of shape (n_samples, latent_dim)
    groups : mapping of name to ndarray of shape (n_samples,), bool
    """
    figure, axes = _figure(6.2, 4.4)
    centred = latent - latent.mean(axis=0)
    if latent.shape[1] > 2:
        centred = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    elif latent.shape[1] == 1:
        centred = np.column_stack([centred, np.zeros(len(centred))])
    colours = mpl.colormaps["tab10"]
    for number, (name, members) in enumerate(groups.items()):
        points = centred[members][:MOST_POINTS]
        axes.scatter(*points.T, s=7, alpha=0.6, color=colours(number % 10), label=_shown(name), linewidths=0)
    axes.set(xlabel="first main axis of the latent", ylabel="second")
    axes.legend(frameon=False, fontsize=8, markerscale=2)
    return _svg(figure)


def picture_chart(
    samples: np.ndarray,
    reconstructions: np.ndarray,
    errors: np.ndarray,
    titles: Sequence[str],
    **limits: float,
) -> str:
    """Pictures above their reconstructions above their error maps, a column for each.

    All error maps share one colour scale, so that a clean picture looks clean.
    """
    figure = Figure(figsize=(1.15 * len(samples), 3.9), layout="constrained")
    grid = figure.subplots(3, len(samples), squeeze=False)
    errors = errors if errors.ndim == 3 else errors.mean(axis=-1)
    brightest = np.quantile(errors, 0.999)
    for column, title in enumerate(titles):
        grid[0, column].imshow(_pixels(samples[column], **limits), cmap="gray", vmin=0, vmax=1)
        grid[1, column].imshow(_pixels(reconstructions[column], **limits), cmap="gray", vmin=0, vmax=1)
        grid[2, column].imshow(errors[column], cmap="inferno", vmin=0, vmax=brightest)
        grid[0, column].set_title(title, fontsize=7)
    for row, words in enumerate(("original", "reconstruction", "error")):
        grid[row, 0].set_ylabel(words, fontsize=8)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
    return _svg(figure)


def feature_chart(
    samples: np.ndarray,
    reconstructions: np.ndarray,
    errors: np.ndarray,
    titles: Sequence[str],
    names: Sequence[str],
) -> str:
    """The features of a few samples in scaled units: value, reconstruction, and the error between them."""
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
    grid[0].set_yticks(rows, [_shown(names[column]) for column in largest], fontsize=7)
    grid[0].invert_yaxis()
    figure.supxlabel("standard deviations from the mean: ● value, | reconstruction", fontsize=8)
    return _svg(figure)


def _label_plainly(axis: Axis) -> None:
    """Label a logarithmic axis 0.01, 0.02, 0.05: powers need mathematical text, and that is turned off."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _pixels(sample: np.ndarray, low: float, high: float) -> np.ndarray:
    pixels = np.clip((sample.astype(np.float64) - low) / (high - low), 0, 1)
    return pixels[..., 0] if pixels.shape[2:] == (1,) else pixels


def _shown(name: str) -> str:
    """A name of the data as a chart can hold it: not too long, and nothing that XML forbids."""
    name = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name
    )
    return name if len(name) <= MOST_CHARACTERS else name[: MOST_CHARACTERS - 1] + "…"


def _svg(figure: Figure) -> str:
    """An SVG as `data:` URI, the same for the same figure."""
    buffer = io.StringIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # names of the data are no formulas, whatever stands between two dollars
    style = {"svg.hashsalt": "residual", "svg.fonttype": "none", "font.family": "sans-serif"}
    with mpl.rc_context(style), warnings.catch_warnings():
        # The browser has the glyphs that our font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue().encode()).decode()

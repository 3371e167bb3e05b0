"""Draw a comparison of methods: a bar for the mean of each method, a dot for each set."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from benchmarks.measures.comparison import Compared, shown
from benchmarks.rows import OURS

OUR_COLOUR, OTHER_COLOUR, DOT_COLOUR = "#1f6f8b", "#b8c4cc", "#33404a"


def draw(path: Path, title: str, compared: list[Compared]) -> None:
    """Draw one panel for each metric, methods ordered by their mean."""
    height = 1.2 + 0.32 * max(len(one.methods) for one in compared)
    figure, panels = plt.subplots(
        1, len(compared), figsize=(4.2 * len(compared) + 0.8, height), squeeze=False, layout="constrained"
    )
    for panel, one in zip(panels[0], compared, strict=True):
        _draw_panel(panel, one)
    figure.suptitle(title)
    save(figure, path)


def _draw_panel(panel: plt.Axes, one: Compared) -> None:
    means = one.values.mean(axis=0)
    order = np.argsort(means if not one.lower_is_better else -means)
    for place, index in enumerate(order):
        colour = OUR_COLOUR if one.methods[index].startswith(OURS) else OTHER_COLOUR
        panel.barh(place, means[index], color=colour, height=0.7)
        dots = {"linestyle": "", "marker": ".", "markersize": 3.5, "color": DOT_COLOUR, "alpha": 0.55}
        panel.plot(one.values[:, index], np.full(len(one.sets), place), **dots)
    label_bars(panel, [f"{one.methods[index]}  {shown(means[index])}" for index in order])
    panel.set_xlabel(f"{one.metric}: mean (bar) and {len(one.sets)} sets (dots)")


def label_bars(panel: plt.Axes, labels: list[str]) -> None:
    """Label the bars at 0, 1, ... and remove the frame above and to the right."""
    panel.set_yticks(range(len(labels)), labels)
    panel.spines[["top", "right"]].set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write an image and close its figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)

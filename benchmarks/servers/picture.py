"""The picture of a comparison of servers: requests a second, a panel for each kind of request."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.figures import OTHER_COLOUR, OUR_COLOUR
from benchmarks.servers.contenders import OURS
from benchmarks.servers.engine import ENGINE
from benchmarks.servers.summary import Median

ENGINE_COLOUR = "#e0b050"
COLUMNS = 3


def draw(path: Path, medians: Sequence[Median]) -> None:
    """One panel for each work, number of rows and body, at the highest concurrency that most were run at."""
    panels = _panels([median for median in medians if median.contender != ENGINE])
    if not panels:
        return
    n_lines = -(-len(panels) // COLUMNS)
    tallest = max(map(len, panels.values()))
    figure, axes = plt.subplots(
        n_lines,
        min(COLUMNS, len(panels)),
        figsize=(4.6 * min(COLUMNS, len(panels)), n_lines * (1.0 + 0.3 * tallest)),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (title, shown) in zip(axes.flat, panels.items(), strict=False):
        _draw_panel(axis, title, shown)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _panels(medians: Sequence[Median]) -> dict[str, list[Median]]:
    """Panels in order, each of one concurrency: 32 of single rows where it was run, else the highest."""
    cases: dict[tuple, set[int]] = {}
    for median in medians:
        cases.setdefault(median.case[:3], set()).add(median.case[3])
    panels = {}
    for (work, body, n_rows), found in cases.items():
        concurrency = 32 if 32 in found else max(found)
        shown = [median for median in medians if median.case == (work, body, n_rows, concurrency)]
        title = f"{work}, {body}, {n_rows:,} row{'s' if n_rows > 1 else ''}, c = {concurrency}"
        panels[title] = sorted(shown, key=_rate)
    return panels


def _rate(median: Median) -> float:
    return median.figures["requests_per_second"] * median.case[2]


def _draw_panel(axis: plt.Axes, title: str, medians: Sequence[Median]) -> None:
    for place, median in enumerate(medians):
        colour = OUR_COLOUR if median.contender == OURS else OTHER_COLOUR
        axis.barh(place, _rate(median), color=colour, height=0.7)
        n_rows = median.case[2]
        axis.plot(
            [median.lowest * n_rows, median.highest * n_rows], [place, place], color="#33404a", linewidth=1.2
        )
    axis.set_yticks(range(len(medians)), [f"{median.contender}  {_rate(median):,.0f}" for median in medians])
    axis.set_xlabel("rows/s: median, and lowest to highest")
    axis.set_title(title, fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.margins(x=0.02)
    axis.set_xlim(left=0)

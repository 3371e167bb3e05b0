"""Draw a comparison of servers: rows a second, one panel for each kind of request."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import FuncFormatter, MaxNLocator

from benchmarks.charts import DOT_COLOUR, OTHER_COLOUR, OUR_COLOUR, label_bars, plt, save
from benchmarks.rows import OURS
from benchmarks.servers.engine import ENGINE
from benchmarks.servers.summary import Median

ENGINE_COLOUR = "#c98a1b"
COLUMNS = 3
SINGLE_CONCURRENCY = 32  # for single rows if it was run; otherwise, and for bulk, the highest one
FAR_CEILING = 4.0  # times the longest bar: a higher ceiling is not drawn, it would make all bars short


def draw(path: Path, medians: Sequence[Median]) -> None:
    """Draw one panel for each work and number of rows, with a bar for each contender and body."""
    panels = _panels([median for median in medians if median.contender != ENGINE])
    if not panels:
        return
    n_columns = min(COLUMNS, len(panels))
    n_lines = -(-len(panels) // n_columns)
    tallest = max(map(len, panels.values()))
    figure, axes = plt.subplots(
        n_lines,
        n_columns,
        figsize=(4.8 * n_columns, n_lines * (1.1 + 0.26 * tallest)),
        squeeze=False,
        layout="constrained",
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, ((work, n_rows), shown) in zip(axes.flat, panels.items(), strict=False):
        _draw_panel(axis, shown, tallest)
        _draw_ceiling(axis, [median for median in medians if median.contender == ENGINE], work)
        rows = f"{n_rows:,} rows" if n_rows > 1 else "1 row"
        axis.set_title(f"{work}, {rows}, c = {shown[0].case[3]}", fontsize=10)
    save(figure, path)


def _panels(medians: Sequence[Median]) -> dict[tuple[str, int], list[Median]]:
    """Choose one concurrency for each panel; return its medians from the slowest to the fastest."""
    found: dict[tuple[str, int], list[Median]] = {}
    for median in medians:
        found.setdefault((median.case[0], median.case[2]), []).append(median)
    panels = {}
    for key, all_of_it in found.items():
        run = {median.case[3] for median in all_of_it}
        concurrency = SINGLE_CONCURRENCY if key[1] == 1 and SINGLE_CONCURRENCY in run else max(run)
        panels[key] = sorted((median for median in all_of_it if median.case[3] == concurrency), key=_rate)
    return panels


def _rate(median: Median) -> float:
    return median.figures["requests_per_second"] * median.case[2]


def _draw_panel(axis: plt.Axes, medians: Sequence[Median], tallest: int) -> None:
    labels = []
    for place, median in enumerate(medians):
        n_rows = median.case[2]
        colour = OUR_COLOUR if median.contender == OURS else OTHER_COLOUR
        axis.barh(place, _rate(median), color=colour, height=0.7)
        spread = [median.lowest * n_rows, median.highest * n_rows]
        axis.plot(spread, [place, place], color=DOT_COLOUR, linewidth=1.2)
        labels.append(f"{median.contender}, {median.case[1]}  {_rate(median):,.0f}")
    label_bars(axis, labels)
    axis.set_ylim(len(medians) - tallest - 0.6, len(medians) - 0.4)
    axis.set_xlabel("rows/s: median, lowest to highest")
    axis.xaxis.set_major_locator(MaxNLocator(4))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_xlim(left=0)


def _draw_ceiling(axis: plt.Axes, engine: Sequence[Median], work: str) -> None:
    """Draw the best rate of the engine's processes, unless it is far above the longest bar."""
    rates = [_rate(median) for median in engine if median.case[0] == work]
    if rates and max(rates) < FAR_CEILING * axis.get_xlim()[1]:
        axis.axvline(
            max(rates), color=ENGINE_COLOUR, linestyle="--", linewidth=1.2, label="engine alone, best"
        )
        axis.set_xlim(right=max(max(rates) * 1.03, axis.get_xlim()[1]))
        axis.legend(loc="lower right", fontsize=8, frameon=False)

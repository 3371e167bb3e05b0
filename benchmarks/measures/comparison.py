"""Compare methods over many sets: means, medians, average ranks and Wilcoxon's test."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata, wilcoxon

from benchmarks.rows import OURS, Row, table_head, table_line


@dataclasses.dataclass(frozen=True)
class Compared:
    """One metric of several methods, over the sets and seeds that all of them have.

    Attributes
    ----------
    metric : str
    methods, sets : tuple of str
    values : ndarray of shape (n_sets, n_methods), float64
        Mean over the seeds.
    ranks : ndarray of shape (n_methods,)
        Mean over the sets; 1 is best, ties share their mean rank.
    n_left_out : int
        Sets for which a method has no row.
    """

    metric: str
    methods: tuple[str, ...]
    sets: tuple[str, ...]
    values: np.ndarray
    ranks: np.ndarray
    n_left_out: int
    lower_is_better: bool = False

    def against(self, method: str) -> tuple[int, int, float]:
        """Return the numbers of sets where ours is better and where it is worse, and Wilcoxon's p-value.

        The p-value is NaN if no set differs.

        References
        ----------
        Demšar (2006). Statistical comparisons of classifiers over multiple data sets. JMLR 7, 1-30.
        """
        ours, other = (self.values[:, self.methods.index(name)] for name in (OURS, method))
        difference = other - ours if self.lower_is_better else ours - other
        if not difference.any():
            return 0, 0, float("nan")
        p_value = float(wilcoxon(difference).pvalue)
        return int((difference > 0).sum()), int((difference < 0).sum()), p_value


def compare(
    rows: Sequence[Row], metric: str, methods: Sequence[str], *, lower_is_better: bool = False
) -> Compared:
    """Compare the methods that have rows with a metric.

    A set counts if every method has it; a seed of it counts if every method has the seed.
    """
    figures = {(row["set"], row["seed"], row["method"]): row.get(metric) for row in rows}
    figures = {key: value for key, value in figures.items() if value is not None}
    present = tuple(method for method in methods if any(method == key[2] for key in figures))
    names = sorted({name for name, _, _ in figures}, key=natural)
    means = {name: _means(figures, name, present) for name in names}
    sets = tuple(name for name in names if means[name] is not None)
    values = np.array([means[name] for name in sets]).reshape(len(sets), len(present))
    signed = values if lower_is_better else -values
    ranks = rankdata(signed, axis=1).mean(axis=0) if sets else np.full(len(present), np.nan)
    return Compared(metric, present, sets, values, ranks, len(names) - len(sets), lower_is_better)


def _means(
    figures: dict[tuple[str, int, str], float], name: str, methods: Sequence[str]
) -> list[float] | None:
    """Return the mean of each method over the seeds that all of them have for a set."""
    seeds = {seed for found, seed, _ in figures if found == name}
    shared = [seed for seed in sorted(seeds) if all((name, seed, method) in figures for method in methods)]
    if not shared:
        return None
    return [float(np.mean([figures[name, seed, method] for seed in shared])) for method in methods]


def natural(name: str) -> tuple[int, str]:
    """Return a sort key: names that begin with a number, as in ADBench, are ordered by it."""
    digits = name.partition("_")[0]
    return (int(digits) if digits.isdecimal() else 10**9, name)


def tables(compared: Sequence[Compared]) -> list[str]:
    """Return Markdown: for each metric a table of all sets, then means, medians, ranks and tests."""
    lines = []
    for one in compared:
        lines += ["", f"### {one.metric} over {len(one.sets)} sets", ""]
        if one.n_left_out:
            lines += [f"{one.n_left_out} sets are left out, because not every method has them.", ""]
        if one.sets:
            lines += _table(one)
        else:
            lines.append("No set has this metric for every method.")
    return lines


def overview(compared: Sequence[Compared]) -> list[str]:
    """Return Markdown: a line for each method with mean, median, rank and test of each metric."""
    compared = [one for one in compared if one.sets]
    if not compared:
        return []
    sizes = {one.metric: len(one.sets) for one in compared}
    n_sets = ", ".join(f"{size} sets with {metric}" for metric, size in sizes.items())
    if len(set(sizes.values())) == 1:
        n_sets = f"{len(compared[0].sets)} sets"
    head = ["method"]
    for one in compared:
        head += [f"{one.metric} mean", "median", "rank", "p"]
    methods = list(dict.fromkeys(method for one in compared for method in one.methods))
    lines = [
        [method, *(cell for one in compared for cell in _overview_cells(one, method))] for method in methods
    ]
    return ["", f"### Means over {n_sets}", "", *table_head(head).splitlines(), *map(table_line, lines)]


def _overview_cells(one: Compared, method: str) -> list[str]:
    if method not in one.methods:
        return ["", "", "", ""]
    values = one.values[:, one.methods.index(method)]
    rank = f"{one.ranks[one.methods.index(method)]:.2f}"
    return [shown(values.mean()), shown(np.median(values)), rank, _p_cell(one, method)]


def _p_cell(one: Compared, method: str) -> str:
    if method == OURS or OURS not in one.methods:
        return ""
    _, _, p_value = one.against(method)
    return "" if np.isnan(p_value) else f"{p_value:.2g}"


def _table(one: Compared) -> list[str]:
    rows = [[name, *map(shown, values)] for name, values in zip(one.sets, one.values, strict=True)]
    rows += [
        ["mean", *map(shown, one.values.mean(axis=0))],
        ["median", *map(shown, np.median(one.values, axis=0))],
        ["average rank", *(f"{rank:.2f}" for rank in one.ranks)],
    ]
    if OURS in one.methods and len(one.methods) > 1:
        rows += _tests(one)
    return [*table_head(["set", *one.methods]).splitlines(), *map(table_line, rows)]


def _tests(one: Compared) -> list[list[str]]:
    counts = [one.against(method)[:2] for method in one.methods]
    shares = [
        "" if method == OURS else f"{better} : {worse}"
        for method, (better, worse) in zip(one.methods, counts, strict=True)
    ]
    return [
        [f"sets where {OURS} is better : worse", *shares],
        ["Wilcoxon p", *(_p_cell(one, method) for method in one.methods)],
    ]


def shown(value: float | None) -> str:
    """Format a figure; tiny ones in scientific notation."""
    if value is None:
        return "none"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"

"""Medians over the repeats of a run, and their table."""

import dataclasses
import statistics
from collections.abc import Iterator, Sequence

from benchmarks.rows import Row
from benchmarks.servers.contenders import REFERENCE

CASE = ("work", "body", "rows", "concurrency")
FIGURES = ("requests_per_second", "p50_ms", "p99_ms", "cpu_us_per_request", "memory_mb", "cold_start_seconds")


@dataclasses.dataclass(frozen=True)
class Median:
    """One contender in one case, over its clean repeats, or over all where none is clean.

    Attributes
    ----------
    case : tuple
        work, body, rows, concurrency.
    figures : dict
        Medians of `FIGURES`, None where there is none.
    lowest, highest : float
        Of requests per second.
    ratio : float or None
        Of requests per second to the reference's in the same case.
    """

    contender: str
    case: tuple[str, str, int, int]
    figures: dict[str, float | None]
    lowest: float
    highest: float
    n_runs: int
    dirty: bool
    errors: int
    ratio: float | None = None


def summarise(rows: Sequence[Row]) -> list[Median]:
    """Medians in the order in which cases and contenders first appear, by work, rows, body, concurrency."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((tuple(row[name] for name in CASE), row["contender"]), []).append(row)
    medians = [_median(contender, case, runs) for (case, contender), runs in groups.items()]
    medians.sort(
        key=lambda median: (median.case[0] != "dense", median.case[2], median.case[1], median.case[3])
    )
    reference = {median.case: median for median in medians if median.contender == REFERENCE}
    return [
        dataclasses.replace(median, ratio=_ratio(median, reference.get(median.case))) for median in medians
    ]


def _median(contender: str, case: tuple, runs: Sequence[Row]) -> Median:
    used = [run for run in runs if not run["dirty"]] or list(runs)
    rates = [run["requests_per_second"] for run in used]
    figures = {}
    for name in FIGURES:
        values = [run[name] for run in used if run[name] is not None]
        figures[name] = statistics.median(values) if values else None
    dirty = any(run["dirty"] for run in used)
    return Median(
        contender, case, figures, min(rates), max(rates), len(used), dirty, sum(run["errors"] for run in runs)
    )


def _ratio(median: Median, reference: Median | None) -> float | None:
    if reference is None or not reference.figures["requests_per_second"]:
        return None
    return median.figures["requests_per_second"] / reference.figures["requests_per_second"]


HEADER = (
    "| contender | work | body | rows | c | requests/s | rows/s | ratio | p50 ms | p99 ms | "
    "CPU us a request | memory MB | cold start s |\n"
    "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def table(medians: Sequence[Median]) -> Iterator[str]:
    """Lines of Markdown; an asterisk marks what others disturbed in every repeat."""
    yield HEADER
    for median in medians:
        yield table_line(median)


def table_line(median: Median) -> str:
    """One line of the table."""
    figures, (work, body, n_rows, concurrency) = median.figures, median.case
    rate = figures["requests_per_second"]
    cells = [
        f"`{median.contender}`{'*' if median.dirty else ''}",
        work,
        body,
        f"{n_rows:,}",
        str(concurrency),
        _number(rate),
        _number(rate * n_rows),
        "" if median.ratio is None else f"{median.ratio:.2f}",
        *(_number(figures[name]) for name in FIGURES[1:]),
    ]
    return "| " + " | ".join(cells) + " |"


def _number(value: float | None) -> str:
    """Three digits at least, no more than tell something."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"

"""Medians over the repeats of a run, and the table of each mode."""

import dataclasses
import statistics
from collections.abc import Iterator, Sequence

from benchmarks.rows import Row, table_head, table_line
from benchmarks.servers.contenders import REFERENCE

CASE = ("work", "body", "rows", "concurrency")
FIGURES = ("requests_per_second", "p50_ms", "p99_ms", "cpu_us_per_request", "memory_mb", "cold_start_seconds")


@dataclasses.dataclass(frozen=True)
class Median:
    """One contender in one case, over its clean repeats, or over all if none is clean.

    Attributes
    ----------
    case : tuple
        work, body, rows, concurrency.
    figures : dict
        Medians of `FIGURES`, None for a figure that no repeat has.
    lowest, highest : float
        Requests per second.
    ratio : float or None
        Requests per second divided by the reference's in the same case.
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
    """Return the medians, ordered by work, rows, body and concurrency."""
    medians = [_median(contender, tuple(case), runs) for (contender, *case), runs in _groups(rows).items()]
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
    figures = {name: _middle(used, name) for name in FIGURES}
    dirty = any(run["dirty"] for run in used)
    return Median(
        contender, case, figures, min(rates), max(rates), len(used), dirty, sum(run["errors"] for run in runs)
    )


def _ratio(median: Median, reference: Median | None) -> float | None:
    if reference is None or not reference.figures["requests_per_second"]:
        return None
    return median.figures["requests_per_second"] / reference.figures["requests_per_second"]


HEADER = table_head(
    ("contender", "work", "body"),
    (
        *("rows", "c", "requests/s", "rows/s", "ratio", "p50 ms", "p99 ms"),
        *("CPU us a request", "memory MB", "cold start s"),
    ),
)


def table(medians: Sequence[Median]) -> Iterator[str]:
    """Yield a table in Markdown; an asterisk marks medians whose repeats were all disturbed by other work."""
    yield HEADER
    for median in medians:
        yield median_line(median)


def median_line(median: Median) -> str:
    """Return one line of the table."""
    figures, (work, body, n_rows, concurrency) = median.figures, median.case
    rate = figures["requests_per_second"]
    cells = [
        *(_name(median), work, body, f"{n_rows:,}", str(concurrency), _number(rate), _number(rate * n_rows)),
        "" if median.ratio is None else f"{median.ratio:.2f}",
        *(_number(figures[name]) for name in FIGURES[1:]),
    ]
    return table_line(cells)


PROXY_HEADER = table_head(
    ("contender", "work", "body"),
    (
        *("rows", "c", "requests/s", "of those without", "p50 ms", "without"),
        *("p99 ms", "without", "CPU us a request", "without"),
    ),
)


def proxy_table(medians: Sequence[Median], plain: Sequence[Median]) -> Iterator[str]:
    """Yield the cost of the proxy: each figure with the proxy and, if it was measured, without."""
    without = {(median.contender, median.case): median.figures for median in plain}
    yield PROXY_HEADER
    for median in medians:
        figures, (work, body, n_rows, concurrency) = median.figures, median.case
        bare = without.get((median.contender, median.case), dict.fromkeys(FIGURES))
        rate = figures["requests_per_second"]
        share = rate / bare["requests_per_second"] if bare["requests_per_second"] else None
        cells = [_name(median), work, body, f"{n_rows:,}", str(concurrency), _number(rate), _number(share)]
        for name in ("p50_ms", "p99_ms", "cpu_us_per_request"):
            cells += [_number(figures[name]), _number(bare[name])]
        yield table_line(cells)


MIXED_HEADER = table_head(
    ("contender", "work", "bulk body"),
    ("bulk rows", "c", "bulk rows/s", "single rows/s", "p50 ms", "p99 ms"),
)


def mixed_table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield medians of single rows and of the bulk requests posted at the same time."""
    yield MIXED_HEADER
    for case, runs in _groups(rows).items():
        contender, work, body, n_rows, concurrency = case
        values = [_middle(runs, name) for name in ("requests_per_second", "p50_ms", "p99_ms")]
        bulk = _middle(runs, "bulk_requests_per_second")
        cells = [f"`{contender}`", work, body, f"{n_rows:,}", str(concurrency), _number(bulk * n_rows)]
        yield table_line([*cells, *map(_number, values)])


OVERLOAD_FIGURES = (
    *("peak_per_second", "offered_per_second", "accepted_per_second", "of_peak"),
    *("accepted_p99_ms", "refused_p50_ms", "longest_ms"),
)
OVERLOAD_HEADER = table_head(
    ("contender", "work"),
    (
        *("peak/s", "offered/s", "accepted/s", "of peak", "accepted p99 ms", "refused p50 ms"),
        *("longest ms", "failed", "slowest probe ms", "probes failed"),
    ),
)


def overload_table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield medians over the repeats; failures and the slowest probe are of all repeats."""
    yield OVERLOAD_HEADER
    for (contender, work, *_), runs in _groups(rows).items():
        probes = [probe for run in runs for probe in run["probes"].values()]
        cells = [f"`{contender}`", work, *(_number(_middle(runs, name)) for name in OVERLOAD_FIGURES)]
        cells += [str(sum(run["failed"] + run["unanswered"] for run in runs))]
        cells += [_number(max(probe["longest_ms"] for probe in probes))]
        cells += [str(sum(probe["failed"] for probe in probes))]
        yield table_line(cells)


def _groups(rows: Sequence[Row]) -> dict[tuple, list[Row]]:
    """Collect the repeats of each contender in each case."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault((row["contender"], *(row[name] for name in CASE)), []).append(row)
    return groups


def _middle(runs: Sequence[Row], name: str) -> float | None:
    values = [run[name] for run in runs if run[name] is not None]
    return statistics.median(values) if values else None


def _name(median: Median) -> str:
    return f"`{median.contender}`{'*' if median.dirty else ''}"


def _number(value: float | None) -> str:
    """Return a number with about three significant digits."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"

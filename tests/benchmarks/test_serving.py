"""The benchmark of servers parses and summarises its measurements; pytest starts no server."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import serving
from benchmarks.environments import ROOT
from benchmarks.errors import BenchmarkError
from benchmarks.rows import read_rows
from benchmarks.servers import usage, wrk
from benchmarks.servers.contenders import CONTENDERS, RESIDUAL, Start
from benchmarks.servers.plan import DEFAULTS, MIXED, NEW_HEADS, OVERLOAD, PLAIN, PROXY
from benchmarks.servers.server import bulk_seconds, compare_scores
from benchmarks.servers.summary import (
    HEADER,
    median_line,
    mixed_table,
    overload_table,
    proxy_table,
    summarise,
    table,
)
from benchmarks.servers.work import FITS, SHAPES

RESULT = (
    'Running 4s test\nRESULT {"requests": %d, "microseconds": 4000000, "mean": %.1f, '
    '"p50": 500, "p99": 2500, "status": 1, "socket": 2}\n'
)


def row(contender="residual", rate=100.0, **changes):
    """Return a row as the file has it."""
    case = {"mode": "plain", "work": "dense", "body": "json", "rows": 1, "concurrency": 32, "repeat": 0}
    figures = {"p50_ms": 1.0, "p99_ms": 2.0, "cpu_us_per_request": 50.0, "memory_mb": 99.0}
    figures |= {"cold_start_seconds": 0.7, "errors": 0, "dirty": False}
    return {"contender": contender, **case, "requests_per_second": rate, **figures, **changes}


def test_many_requests_are_counted_by_the_clock():
    """The result has milliseconds and counts both kinds of errors."""
    load = wrk.read_result(RESULT % (80_000, 1500.0), 32)

    assert load == wrk.Load(requests=80_000, requests_per_second=20_000, p50_ms=0.5, p99_ms=2.5, errors=3)


def test_few_requests_are_counted_by_their_mean():
    """The one that the end cuts off counts for its part: 2 connections of 800 ms, not 8 answers in 4 s."""
    assert wrk.read_result(RESULT % (8, 800_000.0), 2).requests_per_second == pytest.approx(2.5)


def test_no_answer_at_all_is_no_rate():
    """A server that is slower than the run has a rate of 0."""
    assert wrk.read_result(RESULT % (0, 0.0), 1).requests_per_second == 0


def test_wrk_without_a_result_is_an_error():
    """The error repeats the output of wrk."""
    with pytest.raises(BenchmarkError, match="unable to connect"):
        wrk.read_result("unable to connect to 127.0.0.1:1 Connection refused\n", 1)


def test_a_missing_wrk_is_named(monkeypatch):
    """The error comes before anything is started."""
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(BenchmarkError, match="wrk must be on the PATH"):
        wrk.check_installed()


def test_bulk_runs_hold_several_requests():
    """The duration of a bulk run is bounded."""
    assert bulk_seconds(4, 0.1) == 4
    assert bulk_seconds(4, 2.0) == 16
    assert bulk_seconds(4, 30.0) == 60


@pytest.mark.parametrize(
    ("got", "message"),
    [([1.0], "shape"), ([1.0, 2.001], "within 1e-05"), ([1.0, np.nan], "within 1e-05")],
)
def test_another_score_is_refused(got, message):
    """A value that is not a number is refused, too."""
    wanted = np.array([1.0, 2.0])
    compare_scores(wanted * (1 + 1e-6), wanted, "a peer")

    with pytest.raises(BenchmarkError, match=f"a peer.*{message}"):
        compare_scores(np.array(got), wanted, "a peer")


def test_medians_leave_dirty_runs_out():
    """Dirty runs count only if none is clean; the reference of a ratio is the median in the same case."""
    rows = [row(rate=rate) for rate in (300.0, 500.0)]
    rows += [row(rate=900.0, dirty=True, errors=1), row("fastapi-tuned", 100.0), row(rate=7.0, concurrency=1)]

    alone, ours, reference = summarise(rows)

    assert (ours.figures["requests_per_second"], ours.lowest, ours.highest, ours.n_runs) == (400, 300, 500, 2)
    assert (ours.ratio, ours.dirty, ours.errors) == (4.0, False, 1)
    assert reference.ratio == 1
    assert alone.ratio is None


def test_runs_that_are_all_dirty_are_marked():
    """The table marks them with an asterisk."""
    (median,) = summarise([row(dirty=True), row(rate=200.0, dirty=True)])

    assert median.dirty
    assert median_line(median).startswith(
        "| `residual`* | dense | json | 1 | 32 | 150 | 150 |  | 1.00 | 2.00 |"
    )
    assert median_line(median).count("|") == HEADER.splitlines()[0].count("|")


def test_dirty_runs_are_repeated_and_the_cleanest_counts():
    """A run is repeated at most three times."""
    shares = iter([0.4, 0.1, 0.2, 0.0])

    figures = usage.cleanly(lambda: {"foreign_cpu": next(shares)})

    assert figures == {"foreign_cpu": 0.1, "dirty": True, "attempts": 3}
    assert usage.cleanly(lambda: {"foreign_cpu": next(shares)}) == {
        "foreign_cpu": 0.0,
        "dirty": False,
        "attempts": 1,
    }


def test_foreign_share_is_of_the_whole_machine():
    """Others used 2 s of the 4 s that 4 CPUs have in 1 s."""
    assert usage.foreign_share(3.0, 1.0, 1.0, 4) == 0.5
    assert usage.foreign_share(1.0, 1.2, 1.0, 4) == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_a_tree_has_children_that_left_and_counts_those_that_ended():
    """A child in its own session is known by its mark; an ended child's CPU time counts for its parent."""
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    program = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-c', {burn!r}])\n"
        "child = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.readline()\n"
        "child.kill()"
    )
    environ = {**os.environ, usage.MARK: "of-this-test"}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        child = int(process.stdout.readline())

        assert {process.pid, child} <= set(usage.tree(process.pid, "of-this-test"))
        assert child in usage.tree(1_000_000_000, "of-this-test")
        assert usage.cpu_seconds([process.pid]) >= 0.1
        assert usage.memory_mb([process.pid]) > 1
        process.communicate("\n")
    assert usage.tree(process.pid, "of-this-test") == []


@pytest.mark.parametrize("name", sorted(CONTENDERS))
def test_every_contender_has_a_lock(name):
    """A lock has hashes, and the same version of the engine as our service."""
    if not CONTENDERS[name].has_environment:
        return
    lock = (ROOT / "requirements" / f"bench-{name}.txt").read_text()
    ours = (ROOT / "requirements" / "service.txt").read_text()
    (engine,) = [line for line in ours.splitlines() if line.startswith("onnxruntime==")]

    assert "--hash=sha256:" in lock
    assert "index-url" not in lock
    assert engine in lock


def test_our_service_is_started_as_it_is_deployed(tmp_path):
    """It is started with API keys, and ignores the user's own settings."""
    work = type("FakeWork", (), {"store": tmp_path, "name": "dense"})()
    start = Start(work, 8123, bulk=False, folder=tmp_path)

    assert RESIDUAL.prepare(start)[-1].endswith("deploy/gunicorn.conf.py")
    environ = RESIDUAL.environ(start)
    assert environ["RESIDUAL_BIND"] == "127.0.0.1:8123"
    assert len(environ["RESIDUAL_API_KEYS_SHA256"]) == 64
    assert "Authorization" in RESIDUAL.headers


def test_every_work_has_a_shape():
    """Every sample has 784 values, so that bodies have the same size."""
    assert {int(np.prod(SHAPES[name])) for name in FITS} == {784}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--contenders", "residual,triton-server"], "must be among residual"),
        (["--rows", "1,many"], "must be integers of at least 1 separated by commas"),
        (["--bodies", "xml"], "must be among json, npy, raw"),
    ],
)
def test_mistakes_of_the_command_line_are_named(arguments, message, capsys):
    """The error comes before anything is created."""
    with pytest.raises(SystemExit):
        serving.main([*arguments, "--out", "unused.json"])

    assert message in capsys.readouterr().err


def test_the_page_names_every_contender():
    """The page has the description from the code."""
    page = (ROOT / "docs" / "serving.md").read_text()

    for contender in CONTENDERS.values():
        assert f"| `{contender.name}` | {contender.words} |" in page


def test_figures_of_the_page_are_measured():
    """Every line of its tables of figures is one that the benchmark prints of the committed rows."""
    results = ROOT / "benchmarks" / "results" / "serving.json"
    page = (ROOT / "docs" / "serving.md").read_text().partition("## Figures")[2]
    shown = {line for line in page.splitlines() if line.startswith("| `")}
    rows = read_rows(results)
    of_mode = {mode: [one for one in rows if one["mode"] == mode] for mode in DEFAULTS}
    plain = summarise(of_mode[PLAIN])

    printed = {
        *table(plain),
        *table(summarise(of_mode[NEW_HEADS])),
        *proxy_table(summarise(of_mode[PROXY]), plain),
        *mixed_table(of_mode[MIXED]),
        *overload_table(of_mode[OVERLOAD]),
    }
    assert bool(shown) == results.exists()
    assert shown <= printed


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_our_service_is_measured_and_not_again(tmp_path, capsys, monkeypatch):
    """A short run has every figure; the second reads it from the file."""
    monkeypatch.setattr(usage, "DIRTY_SHARE", 1.1)  # others may run tests, too
    arguments = ["--contenders", "residual", "--work", "dense", "--bodies", "json", "--rows", "1"]
    arguments += ["--concurrency", "4", "--seconds", "1", "--repeats", "1", "--out", str(tmp_path / "s.json")]

    assert serving.main(arguments) == 0
    start = time.monotonic()
    assert serving.main(arguments) == 0

    assert time.monotonic() - start < 5
    (measured,) = read_rows(tmp_path / "s.json")
    assert measured["requests_per_second"] > 10
    assert measured["errors"] == 0
    assert (tmp_path / "s.png").stat().st_size > 1000
    assert "`residual`" in capsys.readouterr().out

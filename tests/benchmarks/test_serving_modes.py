"""The modes of the benchmark of servers: the cases that they run, and the figures of their clients."""

import asyncio
import contextlib
import http.server
import json
import subprocess
import sys
import threading

import pytest

from benchmarks import serving
from benchmarks.environments import ROOT
from benchmarks.errors import BenchmarkError
from benchmarks.servers import open_loop, proxy
from benchmarks.servers.plan import ServingPlan, needed_bodies
from benchmarks.servers.summary import (
    MIXED_HEADER,
    OVERLOAD_HEADER,
    PROXY_HEADER,
    mixed_table,
    overload_table,
    proxy_table,
    summarise,
)
from tests.benchmarks.test_serving import row


def plan(*arguments):
    """Parse a command line into a plan."""
    return ServingPlan(serving._parser().parse_args([*arguments, "--out", "unused.json"]))


def loads(plan, name="residual"):
    """Return body, rows and connections of each case."""
    return [(case["body"], case["rows"], case["concurrency"]) for case in plan.cases(name, "dense", 0)]


def test_connections_are_those_of_single_rows_or_of_bulk():
    """Bulk requests use few connections, which is enough to saturate the server."""
    options = ["--bodies", "json,raw", "--rows", "1,1000", "--concurrency", "8", "--bulk-concurrency", "2"]

    assert loads(plan(*options)) == [("json", 1, 8), ("raw", 1, 8), ("json", 1000, 2), ("raw", 1000, 2)]
    assert loads(plan(*options), "mlserver") == [("json", 1, 8), ("json", 1000, 2)]


def test_the_engine_has_batches_and_processes():
    """The requested bodies and connections do not matter."""
    assert loads(plan("--rows", "1"), "engine")[:3] == [("array", 1, 1), ("array", 1, 2), ("array", 32, 1)]


def test_mixed_runs_vary_the_connections_of_single_rows():
    """Runs are made with each kind of bulk request; both kinds are checked first."""
    mixed = plan("--mixed", "--bodies", "json", "--rows", "1,10000", "--concurrency", "1,8")

    assert mixed.contenders == ["residual", "fastapi-tuned"]
    assert loads(mixed) == [("json", 10_000, 1), ("json", 10_000, 8)]
    assert needed_bodies(mixed.cases("residual", "dense", 0)[0]) == [("json", 10_000), ("json", 1)]


def test_overload_is_of_the_slow_model_alone():
    """Each repeat has one case."""
    overload = plan("--overload", "--repeats", "2")

    assert [(case["work"], case["body"], case["rows"]) for case in overload.all_cases()] == [
        ("conv", "npy", 32)
    ] * 2


def test_the_engine_has_no_mode(capsys):
    """The engine has no server, so modes do not apply to it."""
    with pytest.raises(SystemExit):
        serving.main(["--mixed", "--contenders", "engine", "--out", "unused.json"])

    assert "engine has no server to measure with --mixed" in capsys.readouterr().err


def test_the_proxy_is_that_of_the_compose_file(tmp_path):
    """Only addresses and folders differ."""
    text = proxy.CONFIGURATION.read_text()

    changed = proxy.configuration(text, 8081, 8001, tmp_path)

    assert "server 127.0.0.1:8001 max_fails=0;" in changed
    assert "listen 127.0.0.1:8081;" in changed
    assert f"pid {tmp_path}/nginx.pid;" in changed
    differing = [new for old, new in zip(text.splitlines(), changed.splitlines(), strict=True) if old != new]
    assert len(differing) == 8


def test_a_proxy_without_our_addresses_is_refused(tmp_path):
    """The benchmark does not measure a server at an unknown address."""
    with pytest.raises(BenchmarkError, match="listen 8080"):
        proxy.configuration("server service:8000;", 8081, 8001, tmp_path)


def test_a_missing_nginx_is_named():
    """The error names the program that was requested."""
    with pytest.raises(BenchmarkError, match="/nowhere/nginx must be an nginx"):
        proxy.program("/nowhere/nginx")


async def serve_and_offer(answers, rate, seconds):
    """Figures of an open loop against a server that gives these answers in turn."""
    texts = iter(answers)

    async def answer(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                text = next(texts)
                if not text:
                    break
                writer.write(text[:20])
                await writer.drain()
                writer.write(text[20:])
                if b"close" in text:
                    break
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = open_loop.OpenLoop(port, b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
    await client.run(rate, seconds)
    for connection in client.idle:
        connection._transport.close()
    server.close()
    await asyncio.sleep(0.05)
    return open_loop.figures(client, seconds)


def test_open_loop_notes_what_became_of_every_request():
    """Accepted, refused with or without a farewell, or not answered at all."""
    accepted = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[[]]"
    refused = b"HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    answers = [accepted] * 10 + [refused] * 6 + [b""] * 2 + [accepted] * 100

    figures = asyncio.run(serve_and_offer(answers, 100, 0.4))

    assert (figures["refused"], figures["failed"], figures["unanswered"]) == (6, 2, 0)
    assert 32 <= figures["accepted"] + 8 <= 41
    assert figures["statuses"]["0"] == 2
    assert 0 < figures["accepted_p50_ms"] <= figures["longest_ms"]


def test_open_loop_without_a_server_fails_every_request():
    """The run still ends."""
    client = open_loop.OpenLoop(1, b"")  # nobody listens on port 1

    asyncio.run(client.run(100, 0.1))

    assert open_loop.figures(client, 0.1)["failed"] == len(client.answers) > 0


class _Probed(http.server.BaseHTTPRequestHandler):
    """A server that is healthy except for one path."""

    def do_GET(self):
        """Answer."""
        self.send_response(200 if self.path == "/livez" and self.headers["X-Key"] == "k" else 500)
        self.end_headers()

    def log_message(self, *arguments):
        """Log nothing."""


def test_probes_count_what_is_not_200():
    """Each path is counted by itself, with its headers."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Probed) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        command = [sys.executable, "-m", "benchmarks.servers.probes", str(server.server_port), "0.2"]
        output = subprocess.run(
            [*command, '{"X-Key": "k"}', "/livez", "/readyz"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        server.shutdown()
        thread.join()

    probed = json.loads(output)
    assert probed["/livez"]["failed"] == 0
    assert probed["/readyz"]["failed"] == probed["/readyz"]["asked"] >= 1
    assert probed["/livez"]["longest_ms"] > 0


def cells(line):
    """Return the cells of a line of a table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_cost_of_the_proxy_stands_beside_what_is_without():
    """A run through the proxy is compared with the direct run of the same contender and case."""
    plain = summarise([row(rate=400.0), row("fastapi-tuned", rate=50.0)])

    header, line = proxy_table(summarise([row(rate=300.0, mode="proxy")]), plain)

    assert header == PROXY_HEADER
    assert cells(line)[5:9] == ["300", "0.75", "1.00", "1.00"]
    assert len(cells(line)) == len(cells(header.splitlines()[0]))


def test_mixed_runs_are_shown_as_medians():
    """Bulk requests are shown in rows per second."""
    rows = [row(rate=rate, mode="mixed", rows=10_000, bulk_requests_per_second=2.0) for rate in (10.0, 30.0)]

    header, line = mixed_table(rows)

    assert header == MIXED_HEADER
    assert cells(line) == ["`residual`", "dense", "json", "10,000", "32", "20,000", "20.0", "1.00", "2.00"]


def test_overload_is_shown_with_its_slowest_probe():
    """The table also has the count of failed requests."""
    probes = {"/livez": {"longest_ms": 3.0, "failed": 0}, "/metrics": {"longest_ms": 7.0, "failed": 1}}
    figures = {"peak_per_second": 100.0, "offered_per_second": 500.0, "accepted_per_second": 90.0}
    figures |= {"of_peak": 0.9, "accepted_p99_ms": 900.0, "refused_p50_ms": None, "longest_ms": 950.0}
    run = row(mode="overload", failed=1, unanswered=2, probes=probes, **figures)

    header, line = overload_table([run])

    assert header == OVERLOAD_HEADER
    assert cells(line)[2:] == ["100", "500", "90.0", "0.90", "900", "", "950", "3", "7.00", "1"]

"""The client and the service as it is run: limits that cut an upload short, and workers that are replaced."""

import signal

import numpy as np
import pytest

from residual_client import Client
from residual_client.__main__ import main
from tests.gunicorn_server import GunicornServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(store, tmp_path_factory, arguments):
    """Two workers that take 100 kB at a time."""
    log = tmp_path_factory.mktemp("gunicorn") / "log"
    server = GunicornServer(store, log, arguments, default_model="tiny", max_body_bytes=100_000)
    yield server
    assert server.stop() == 0


def test_no_call_is_lost_while_workers_are_replaced(server, detectors):
    """No score changes, and the client finds out the limit of bytes on the way."""
    samples = np.random.default_rng(8).normal(size=(50_000, 3))
    expected = detectors["tiny"].score(samples).score

    with Client(server.url) as client:
        for attempt in range(30):
            if attempt % 10 == 5:
                server.process.send_signal(signal.SIGHUP)
            assert np.array_equal(client.score(samples[:20_000]).score, expected[:20_000])
            assert client.score(samples[attempt : attempt + 1]).score[0] == expected[attempt]
        assert np.array_equal(client.score(samples).score, expected)


def test_command_writes_what_the_folder_says(server, store, tmp_path, capsys):
    """The outputs are equal for every verb on a table."""
    rows = np.random.default_rng(9).normal(size=(5000, 3)).tolist()
    table = tmp_path / "rows.csv"
    table.write_text("a,b,c\n" + "".join(",".join(map(repr, row)) + "\n" for row in rows))
    for verb in ("score", "denoise", "encode", "classify"):
        by_service, by_folder = tmp_path / "service.csv", tmp_path / "folder.csv"
        assert main([verb, str(table), "--url", server.url, "--out", str(by_service)]) == 0
        assert main([verb, str(table), "--model", f"{store.root}/tiny", "--out", str(by_folder)]) == 0
        assert by_service.read_bytes() == by_folder.read_bytes()
    assert "error" not in capsys.readouterr().err

"""Each noted request is counted and logged once."""

import os
import threading

import numpy as np
import pytest

from service.http.request_record import Run, open_record
from service.watching import stdout
from service.watching.metrics import Metrics
from service.watching.pending import Pending
from service.watching.stdout import LineWriter
from tests.service.responses import read_metrics


@pytest.fixture
def metrics():
    """Counters of their own."""
    return Metrics()


def counted(metrics, name, *labels):
    """Return the value of one series."""
    return read_metrics(metrics.exposition().decode()).get((name, *labels), 0)


def test_notes_are_counted_when_they_are_written(metrics):
    """Notes are counted once, when they are written."""
    pending = Pending(metrics)
    pending.close(open_record("POST", "/score", None, None, "/score"), 200)
    before = counted(metrics, "residual_requests_total", "200", "/score", "", "")

    pending.write()
    pending.write()

    assert (before, counted(metrics, "residual_requests_total", "200", "/score", "", "")) == (0, 1)


def test_scrape_counts_what_is_noted(metrics):
    """A client that has an answer finds it counted in the process that gave it."""
    pending = Pending(metrics)
    metrics.read_after(pending.write)

    pending.close(open_record("POST", "/score", None, None, "/score"), 200)

    assert counted(metrics, "residual_requests_total", "200", "/score", "", "") == 1


def test_runs_of_several_requests_are_counted_by_their_model(metrics, registry):
    """Rows, anomalies by the model's own threshold, and runs."""
    pending, manifest = Pending(metrics), registry.entry("tiny").detector.manifest
    threshold = manifest.threshold.value
    for scores in ([0.0, 2 * threshold], [threshold]):
        pending.note_run(Run(manifest, len(scores), 0.001, [np.array(scores)]))

    pending.write()

    assert counted(metrics, "residual_rows_total", "tiny", "1") == 3
    assert counted(metrics, "residual_anomalies_total", "tiny", "1") == 1
    assert counted(metrics, "residual_batch_rows_count", "tiny") == 2


def test_threads_lose_nothing(metrics):
    """Some threads note while another writes."""
    pending, stop = Pending(metrics), threading.Event()

    def note():
        for _ in range(500):
            pending.close(open_record("POST", "/score", None, None, "/score"), 200)

    def write():
        while not stop.is_set():
            pending.write()

    writers, noters = [[threading.Thread(target=work) for _ in range(3)] for work in (write, note)]
    for thread in writers + noters:
        thread.start()
    for thread in noters:
        thread.join()
    stop.set()
    for thread in writers:
        thread.join()
    pending.write()

    assert counted(metrics, "residual_requests_total", "200", "/score", "", "") == 1500


def test_lines_that_nobody_read_are_counted(metrics, monkeypatch):
    """The log cannot say itself that it lacks lines."""
    reader, end = os.pipe()
    monkeypatch.setattr(stdout, "writer", LineWriter(end))
    for _ in range(1000):
        stdout.writer.write(b"x" * 99 + b"\n")

    Pending(metrics).write()

    n_written = len(os.read(reader, 2**20)) // 100
    os.close(reader)
    os.close(end)
    assert counted(metrics, "residual_log_lines_dropped_total") == 1000 - n_written > 100

"""Merging the metrics of ended workers: no sum changes, and no file is left of them."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service.watching import ended_workers
from service.watching.ended_workers import ENDED, merge_ended, reading
from service.watching.metrics import WorkersCollector

# A worker with counters of its own number, as the service has them.
WORKER = """
import sys
from prometheus_client import Counter, Gauge, Histogram
number = int(sys.argv[1])
counter = Counter("requests", "Requests.", ["endpoint", "code"])
counter.labels("/score", "200").inc(number)
counter.labels(f"/{number}", "404").inc()
seconds = Histogram("seconds", "Seconds.", ["endpoint"], buckets=(0.1, 1))
for _ in range(number):
    seconds.labels("/score").observe(0.0625 * number)
Gauge("last", "Last run.", ["model"], multiprocess_mode="max").labels("tiny").set(100 - number)
Gauge("streams", "Open streams.", multiprocess_mode="livesum").inc()
import os
print(os.getpid())
"""


def run_worker(folder: Path, number: int) -> int:
    """Run a worker to its end and return its process id."""
    environ = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(folder)}
    result = subprocess.run(
        [sys.executable, "-c", WORKER, str(number)], env=environ, capture_output=True, text=True, check=True
    )
    return int(result.stdout)


def series(folder: Path) -> dict[tuple, float]:
    """Return every series, without the gauges of running workers."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in WorkersCollector(folder).collect()
        for sample in family.samples
        if sample.name != "streams"
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, list[int]]:
    """A folder with the files of three workers, and their process ids."""
    folder = tmp_path_factory.mktemp("metrics")
    return folder, [run_worker(folder, number) for number in (1, 2, 3)]


@pytest.fixture
def workers(written, tmp_path) -> tuple[Path, list[int]]:
    """A copy of that folder."""
    for path in written[0].glob("*.db"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path, written[1]


def test_sums_stay_and_files_go(workers):
    """Also when a file of merged ones is there, and for a worker that was killed before it had written."""
    folder, processes = workers
    before = series(folder)

    for n_ended in (1, 2, 3):
        (folder / f"counter_{n_ended}.db").touch()
        merge_ended(folder, processes[n_ended:])
        assert series(folder) == before

    assert before["requests_total", ("code", "200"), ("endpoint", "/score")] == 6
    assert before["seconds_sum", ("endpoint", "/score")] == 0.0625 * (1 + 4 + 9)
    assert before["seconds_bucket", ("endpoint", "/score"), ("le", "0.1")] == 1
    assert before["last", ("model", "tiny")] == 99
    names = {f"{kind}_{ENDED}.db" for kind in ("counter", "histogram", "gauge_max")}
    assert {path.name for path in folder.glob("*.db")} == names


def test_gauges_of_running_workers_stay(workers):
    """Those of ended ones are dropped."""
    folder, (first, *others) = workers

    merge_ended(folder, {first})

    (open_streams,) = [family for family in WorkersCollector(folder).collect() if family.name == "streams"]
    assert [sample.value for sample in open_streams.samples] == [1]
    assert not any(path.name.endswith(f"_{process}.db") for process in others for path in folder.iterdir())
    assert len(list(folder.glob(f"*_{first}.db"))) == 4


def test_many_series_are_merged(workers):
    """More than the first size of a file holds."""
    folder, _ = workers
    values = {f'["m", "m_total", {{"endpoint": "/{number}"}}, "M."]': (1.0, 0.0) for number in range(3000)}
    for process in (11, 12):
        ended_workers._write(folder / f"counter_{process}.db", values)

    merge_ended(folder, [])

    found = series(folder)
    assert [found["m_total", ("endpoint", f"/{number}")] for number in (0, 2999)] == [2, 2]
    assert found["requests_total", ("code", "200"), ("endpoint", "/score")] == 6


def test_scrapes_never_see_another_sum(workers):
    """Whenever they come."""
    folder, processes = workers
    before, seen, stop = series(folder), [], threading.Event()

    def scrape() -> None:
        while not stop.is_set():
            seen.append(series(folder))

    scraping = threading.Thread(target=scrape)
    scraping.start()
    for n_ended in (1, 2, 3):
        merge_ended(folder, processes[n_ended:])
    stop.set()
    scraping.join()

    assert all(each == before for each in [*seen, series(folder)])


def test_scrape_that_never_ends_does_not_stop_the_master(workers, monkeypatch, caplog):
    """The files are merged when the next worker ends."""
    folder, _ = workers
    monkeypatch.setattr(ended_workers, "LOCK_SECONDS", 0.05)

    with reading(folder):
        merge_ended(folder, [])
        assert len(list(folder.glob("*.db"))) == 12
    merge_ended(folder, [])

    assert "cannot be merged" in caplog.text
    assert len(list(folder.glob("*.db"))) == 3


def test_full_file_system_does_not_stop_the_master(workers, monkeypatch, caplog):
    """Writing to mapped memory would end it; nothing is lost."""
    folder, _ = workers
    before = series(folder)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    merge_ended(folder, [])

    assert "No space left" in caplog.text
    assert series(folder) == before

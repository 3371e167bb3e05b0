"""Versions are loaded in a child process before a worker takes them."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from detector import DetectorError
from service.models.trial import Trial, TrialKilled
from tests.model_folder import loop_for_ever, need_much_memory, publish_model, replace_graph


@pytest.fixture
def trial():
    """A trial with hardly any processor time, and 1 GiB."""
    trial = Trial(0.1, 2**30)
    yield trial
    trial.stop()


def test_good_versions_pass_in_one_process_until_it_may_rest(store, trial):
    """Importing the libraries costs more than loading a version."""
    folders = [publish_model(store) for _ in range(3)]

    trial.check(folders[0])
    first = trial._process.pid
    trial.check(folders[1])
    assert trial._process.pid == first

    trial.rest()
    assert trial._process is None
    trial.check(folders[2])
    assert trial._process.pid != first


def test_refused_version_has_the_reason_that_a_worker_would_find(store, trial):
    """The process goes on with the next version."""
    folder, whole = publish_model(store), publish_model(store)
    (folder / "README.md").unlink()

    with pytest.raises(DetectorError, match=r"^README\.md cannot be read"):
        trial.check(folder)
    trial.check(whole)


def test_version_that_needs_too_much_memory_is_refused_with_the_limit(store, trial):
    """It ends neither the worker nor the machine."""
    folder, whole = publish_model(store), publish_model(store)
    replace_graph(folder, need_much_memory)

    with pytest.raises(DetectorError, match=r"allocate.* \(it may use 1073741824 bytes of memory\)$"):
        trial.check(folder)
    trial.check(whole)


def test_endless_version_is_ended_and_the_next_one_checked(store, trial):
    """By its processor time, or, if the machine is busy, by the clock."""
    folder, whole = publish_model(store), publish_model(store)
    replace_graph(folder, loop_for_ever)

    with pytest.raises(DetectorError, match="load and pass its self-test"):
        trial.check(folder)
    trial.check(whole)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_version_that_never_arrives_is_ended_by_the_clock(store, monkeypatch):
    """A read that hangs, such as from a dead network mount, uses no processor time."""
    folder = publish_model(store)
    (folder / "README.md").unlink()
    os.mkfifo(folder / "manifest.json.pipe")
    shutil.move(folder / "manifest.json.pipe", folder / "manifest.json")
    trial = Trial(1, 2**30)
    trial._clock_seconds = 0.2

    with pytest.raises(TrialKilled, match=r"within 0\.2 seconds"):
        trial.check(folder)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (signal.SIGKILL, TrialKilled, "had no memory left"),
        (signal.SIGSEGV, DetectorError, "for a trial: SIGSEGV"),
    ],
)
def test_crash_ends_only_the_child(store, trial, number, kind, words):
    """The next version gets a new process."""
    folder, whole = publish_model(store), publish_model(store)
    replace_graph(folder, loop_for_ever)
    trial.rest()

    def crash() -> None:
        end = time.monotonic() + 10
        while time.monotonic() < end and (trial._process is None or not _is_busy(trial._process.pid)):
            time.sleep(0.01)
        os.kill(trial._process.pid, number)

    threading.Thread(target=crash, daemon=True).start()
    with pytest.raises(kind, match=words):
        trial.check(folder)
    trial.check(whole)


def _is_busy(pid: int) -> bool:
    """Whether a child has started: then it lowers its priority, after the first rest."""
    return os.getpriority(os.PRIO_PROCESS, pid) > 0


def test_child_ends_with_its_parent(store, trial):
    """The end of its input ends it, and its processor time a version that loops: nothing is left behind."""
    trial.check(publish_model(store))
    process = trial._process

    trial.stop()

    assert process.returncode is not None
    assert not Path(f"/proc/{process.pid}").exists()

"""The life of models in a running service."""

import ctypes
import logging
import shutil
import time
import weakref
from pathlib import Path

import pytest

from detector import ModelStore, StoreError
from service.http.problems import Problem
from service.models import registry
from service.models.policy import Policy
from service.models.registry import MAX_ASKED, RETRY_SECONDS, ModelRegistry, NotLoaded, check_ready
from service.models.trial import Trial
from tests.model_folder import (
    loop_for_ever,
    publish_model,
    replace_graph,
    rewrite_manifest,
    write_model_folder,
)
from tests.service.polls import follow

ROOT = Path(__file__).parents[3]


class Observer:
    """Writes down what the registry tells; a test sets when versions were run."""

    def __init__(self) -> None:
        self.loads, self.polls, self.runs = [], 0, {}

    def count_reload(self, model: str, result: str) -> None:
        """See `service.models.registry.Observer`."""
        self.loads.append((model, result))

    def note_poll(self) -> None:
        """See `service.models.registry.Observer`."""
        self.polls += 1

    def last_run(self, model: str, version: int) -> float:
        """See `service.models.registry.Observer`."""
        return self.runs.get((model, version), 0.0)


@pytest.fixture
def observer() -> Observer:
    """Return the observer of the registries."""
    return Observer()


@pytest.fixture
def loads(observer) -> list[tuple[str, str]]:
    """Return the loads that the registry counted."""
    return observer.loads


@pytest.fixture
def make_models(observer):
    """Registries that are stopped after the test."""
    made = []

    def make(store: ModelStore, **parts: object) -> ModelRegistry:
        made.append(ModelRegistry(store, observer, **parts))
        return made[-1]

    yield make
    for models in made:
        models.stop()


@pytest.fixture
def models(tmp_path, make_models) -> ModelRegistry:
    """A registry over a store with `tiny` version 1, polled once."""
    store = ModelStore(tmp_path / "models")
    publish_model(store)
    models = make_models(store)
    models.poll()
    return models


@pytest.fixture
def store(models) -> ModelStore:
    """Its store."""
    return ModelStore(models._store.root)


def served(models: ModelRegistry, **which: object) -> int:
    """Return the version that answers for `tiny`."""
    return models.entry("tiny", **which).detector.manifest.version


def test_poll_finds_a_new_version(models, store, loads):
    """The highest version serves a bare name; requests for the earlier one are still answered."""
    publish_model(store)
    assert served(models) == 1

    follow(models)

    assert served(models) == 2
    assert served(models, version=1) == 1
    assert loads == [("tiny", "loaded")] * 2


def test_poll_keeps_the_detector_of_an_unchanged_version(models):
    """Nothing is loaded twice."""
    before = models.entry("tiny").detector

    follow(models)

    assert models.entry("tiny").detector is before


def test_poll_keeps_the_snapshot_of_an_unchanged_store(models, store):
    """Caches depend on the identity of the snapshot."""
    before = models.models
    follow(models)
    assert models.models is before

    publish_model(store)
    follow(models)
    assert models.models is not before


def test_poll_finds_a_new_model(models, store):
    """A new model in the store is served."""
    publish_model(store, "other")

    follow(models)

    assert models.entry("other").detector.manifest.name == "other"


def test_poll_follows_labels(models, store):
    """A label moves without a new version."""
    publish_model(store)
    store.set_label("tiny", "stable", 1)
    follow(models)
    assert served(models) == 1

    store.set_label("tiny", "stable", 2)
    follow(models)

    assert served(models) == served(models, label="stable") == 2


def test_poll_keeps_what_serves_when_a_new_version_is_broken(models, store, loads, caplog):
    """A refused version changes nothing for clients, and is told in models, count and log."""
    folder = publish_model(store)
    (folder / "model.onnx").write_bytes(b"x")

    follow(models)

    assert served(models) == 1
    assert "model.onnx must have" in models.models["tiny"].versions[2].reason
    assert loads[-1] == ("tiny", "failed")
    assert caplog.records[-1].fields["reason"] == models.models["tiny"].versions[2].reason


def test_poll_tries_a_refused_version_again_only_when_it_changed(models, store, loads):
    """A broken folder is not read every two seconds."""
    folder = publish_model(store)
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(b"x")
    follow(models)
    follow(models)
    assert loads.count(("tiny", "failed")) == 1

    (folder / "model.onnx").write_bytes(graph)
    follow(models)

    assert served(models) == 2
    assert models.models["tiny"].versions[2].reason is None


def test_poll_serves_a_loaded_version_on_when_its_folder_breaks(models, store):
    """The version in memory was verified, so it stays; the reason is listed."""
    (store.folder("tiny", 1) / "golden.npz").write_bytes(b"x")

    follow(models)

    assert served(models) == 1
    assert "golden.npz" in models.models["tiny"].versions[1].reason


def test_poll_keeps_a_label_on_its_former_target_while_the_new_one_is_broken(models, store):
    """A label that moves to a refused version does not take the model down."""
    store.set_label("tiny", "stable", 1)
    follow(models)
    folder = publish_model(store)
    (folder / "model.onnx").unlink()
    store.set_label("tiny", "stable", 2)

    follow(models)

    assert served(models) == 1


def test_label_of_a_version_that_never_loaded_answers_nothing(models, store):
    """Another version than the one that was asked for would be a wrong answer."""
    folder = publish_model(store)
    (folder / "model.onnx").unlink()
    store.set_label("tiny", "canary", 2)

    follow(models)

    with pytest.raises(StoreError, match="no version 2"):
        models.entry("tiny", label="canary")


CUT = '{"stable": 1'


@pytest.mark.parametrize("content", [CUT, "", "[1]", '{"stable": "1"}'])
def test_poll_changes_nothing_while_the_labels_cannot_be_read(models, store, loads, caplog, content):
    """A broken labels.json moves no label and lets no new version in; it is logged once, and its end too."""
    publish_model(store)
    store.set_label("tiny", "stable", 1)
    follow(models)
    (store.root / "tiny" / "labels.json").write_text(content)
    publish_model(store)

    follow(models)
    follow(models)

    assert served(models) == served(models, label="stable") == 1
    assert list(models.models["tiny"].versions) == [1, 2]
    assert len(loads) == 2
    assert sum("tiny is not updated" in record.message for record in caplog.records) == 1
    assert "labels.json" in models.faults["tiny"]

    (store.root / "tiny" / "labels.json").write_text('{"stable": 3}')
    with caplog.at_level(logging.INFO):
        follow(models)
    assert served(models) == 3
    assert models.faults == {}
    assert caplog.records[0].message == "tiny is not updated: " + caplog.records[0].message.partition(": ")[2]
    assert "tiny can be read again" in caplog.text


def test_poll_freezes_the_bare_name_too_while_new_labels_cannot_be_read(models, store):
    """The file may have been about to hold the new version back."""
    (store.root / "tiny" / "labels.json").write_text(CUT)
    publish_model(store)

    follow(models)

    assert served(models) == 1


@pytest.mark.parametrize("content", [CUT, ""])
def test_start_with_broken_labels_serves_no_bare_name(store, make_models, content):
    """Nobody knows what `stable` held back; a request that names its version is answered."""
    publish_model(store)
    (store.root / "tiny" / "labels.json").write_text(content)
    fresh = make_models(store)
    fresh.poll()

    assert not fresh.serves("tiny")
    with pytest.raises(
        Problem, match=r"nobody knows which version of tiny is meant: .*labels\.json cannot be read"
    ):
        fresh.entry("tiny")
    with pytest.raises(Problem, match=r"labels\.json"):
        fresh.entry("tiny", label="stable")
    fresh.load(("tiny", 1)).result()
    assert served(fresh, version=1) == 1
    with pytest.raises(Problem, match=r"required models are not loaded: tiny; .*labels\.json cannot be read"):
        check_ready(fresh, ["tiny"])

    store.root.joinpath("tiny", "labels.json").write_text('{"stable": 1}')
    fresh.poll()
    assert served(fresh) == 1
    check_ready(fresh, ["tiny"])


def test_poll_unloads_a_version_that_is_gone(models, store):
    """A removed version is not served any more; neither is a model whose folder was removed."""
    publish_model(store, "other")
    publish_model(store)
    follow(models)
    shutil.rmtree(store.folder("tiny", 2))
    follow(models)
    assert served(models) == 1

    shutil.rmtree(store.root / "tiny")
    follow(models)

    assert list(models.models) == ["other"]


def test_poll_drops_a_model_of_which_nothing_was_loaded(models, store):
    """An empty folder is no reason to list what never served."""
    (publish_model(store, "broken") / "model.onnx").unlink()
    follow(models)
    shutil.rmtree(store.root / "broken" / "1")

    models.poll()

    assert list(models.models) == ["tiny"]
    assert models.faults == {}


def test_version_that_is_gone_serves_until_another_one_does(models, store):
    """The store may keep one version only: the old one answers until the new one is loaded."""
    publish_model(store)
    store.retain("tiny", 1)

    models.poll()
    assert served(models) == 1
    assert models.models["tiny"].versions[1].reason.startswith("its folder is gone")
    assert models.models["tiny"].failing == ()

    models.poll()
    assert served(models) == 2
    assert list(models.models["tiny"].versions) == [2]


def _remove(store: ModelStore) -> None:
    store.root.rename(store.root.with_name("elsewhere"))


def _empty(store: ModelStore) -> None:
    _remove(store)
    store.root.mkdir()


def _file(store: ModelStore) -> None:
    _remove(store)
    store.root.write_text("")


def _empty_model(store: ModelStore) -> None:
    (store.root / "tiny").rename(store.root.parent / "elsewhere")
    (store.root / "tiny").mkdir()


@pytest.mark.parametrize(
    ("lose", "name", "words"),
    [
        (_remove, "", "is not a folder"),
        (_empty, "", "is empty"),
        (_file, "", "is not a folder"),
        (_empty_model, "tiny", "tiny has no version any more"),
    ],
)
def test_poll_keeps_everything_when_the_store_is_gone(models, store, caplog, observer, lose, name, words):
    """An unmounted volume is no reason to stop serving; it is logged once, and polls go on."""
    before = observer.polls
    lose(store)

    follow(models)

    assert served(models) == 1
    assert words in models.faults[name]
    assert [words in record.message for record in caplog.records] == [True]
    assert observer.polls == before + 2
    check_ready(models, ["tiny"])


def test_poll_sees_no_staging_folder(models, store, loads):
    """A version that is being written, or whose writer died, does not exist yet."""
    with store.stage("tiny") as staged:
        write_model_folder(staged)
        follow(models)

    assert list(models.models["tiny"].versions) == [1]
    assert loads == [("tiny", "loaded")]


@pytest.mark.parametrize("changes", [{"name": "other"}, {"version": 7}])
def test_poll_refuses_a_manifest_that_names_another_folder(models, store, changes):
    """A folder copied to another place is not the model it seems to be."""
    folder = publish_model(store)
    rewrite_manifest(folder, **changes)

    follow(models)

    assert "must name model tiny version 2 like its folder" in models.models["tiny"].versions[2].reason


def test_one_refused_model_leaves_the_others_alone(models, store):
    """Each model is loaded for itself."""
    folder = publish_model(store, "broken")
    (folder / "manifest.json").write_text("{}")

    follow(models)

    assert served(models) == 1
    assert not models.serves("broken")
    assert models.serves("tiny")
    assert not models.serves("nothing")


def test_report_is_refused_when_it_changed_on_disk(models, store):
    """The report is served only as its manifest names it."""
    assert models.report("tiny", 1).startswith(b"<!doctype html>")
    (store.folder("tiny", 1) / "report.html").write_text("<script>")

    with pytest.raises(Exception, match=r"report\.html must have"):
        models.report("tiny", 1)


def test_start_polls_until_stop(models, store):
    """A published version is found without anybody asking."""
    models.start(0.02)
    publish_model(store)

    wait_until(lambda: served(models) == 2)
    models.stop()


def test_start_outlives_a_poll_that_fails(models, store, monkeypatch, caplog):
    """An error in one poll does not stop the next one."""
    polls = []

    def broken_poll() -> None:
        polls.append(1)
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(models, "poll", broken_poll)
    with caplog.at_level(logging.ERROR):
        models.start(0.01)
        wait_until(lambda: len(polls) > 2)
        models.stop()

    assert any("poll failed" in record.message for record in caplog.records)


def wait_until(holds, seconds=10.0):
    """Wait for a condition, with a bound."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def test_poll_keeps_a_model_whose_folder_cannot_be_read_and_finds_others(models, store, caplog):
    """An unreadable folder keeps its loaded versions and does not stop the discovery of other models."""
    publish_model(store, "first")
    follow(models)
    folder = store.root / "first"
    folder.rename(store.root / ".aside")
    folder.symlink_to("first")
    publish_model(store, "second")

    follow(models)

    assert models.serves("first")
    assert models.serves("second")
    assert "first is not updated" in caplog.text


# --- copies and swaps ---------------------------------------------------------------------------------------


def test_version_that_is_copied_is_tried_once_it_stands_still(models, store, loads, tmp_path):
    """File after file: no poll in between calls it refused, and the whole version is loaded."""
    whole = publish_model(ModelStore(tmp_path / "elsewhere"))
    copy = store.folder("tiny", 2)
    copy.mkdir()
    rewrite_manifest(whole, version=2)

    for path in sorted(whole.iterdir()):
        shutil.copy(path, copy)
        models.poll()
        assert models.models["tiny"].failing == ()
        assert served(models) == 1
    models.poll()

    assert served(models) == 2
    assert loads == [("tiny", "loaded")] * 2


def test_copy_that_was_broken_off_is_refused_until_it_goes_on(models, store, loads):
    """What stands still is tried, and a version that cannot be loaded is a state that ends with its cause."""
    folder = publish_model(store)
    rest = (folder / "README.md").read_text()
    (folder / "README.md").unlink()
    follow(models)
    assert models.models["tiny"].failing == (2,)
    assert models.models["tiny"].versions[2].state == "refused"

    (folder / "README.md").write_text(rest)
    models.poll()
    assert models.models["tiny"].failing == ()
    models.poll()

    assert served(models) == 2
    assert loads == [("tiny", "loaded"), ("tiny", "failed"), ("tiny", "loaded")]


def test_version_that_nobody_means_is_not_failing(models, store):
    """A broken version below the one that serves needs nobody's attention, until a label means it."""
    (publish_model(store) / "model.onnx").unlink()
    publish_model(store)
    follow(models)
    assert (served(models), models.models["tiny"].failing) == (3, ())

    store.set_label("tiny", "canary", 2)
    follow(models)
    assert models.models["tiny"].failing == (2,)


def test_label_of_a_version_that_is_not_in_the_store_is_failing(models, store):
    """Such as after a version was removed by hand."""
    (store.root / "tiny" / "labels.json").write_text('{"stable": 7}')

    follow(models)

    assert served(models) == 1  # what served before
    assert models.models["tiny"].failing == (7,)


# --- which versions are loaded ------------------------------------------------------------------------------


def resident_bytes() -> int:
    """Return the memory of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)
    return int(line.split()[1]) * 1024


def loaded(models: ModelRegistry) -> list[int]:
    """Return the versions of `tiny` in memory."""
    return list(models.models["tiny"].loaded)


def test_start_loads_the_newest_and_the_labelled_versions(store, make_models, loads):
    """The version that serves first; all others are listed."""
    for _ in range(6):
        publish_model(store)
    store.set_label("tiny", "stable", 3)
    fresh = make_models(store)
    order = []
    fresh.on_swap(lambda: order.append(loaded(fresh)))

    fresh.poll()

    assert loaded(fresh) == [3, 6, 7]
    assert served(fresh) == 3
    assert order == [[], [3], [3, 7], [3, 6, 7]]
    assert [entry.state for entry in fresh.models["tiny"].versions.values()].count("available") == 4
    assert len(loads) == 1 + 3  # one by the fixture


def test_start_goes_down_to_a_version_that_loads(store, make_models):
    """Refused versions do not count as the newest."""
    for _ in range(4):
        publish_model(store)
    for version in (4, 5):
        (store.folder("tiny", version) / "model.onnx").unlink()
    fresh = make_models(store)

    fresh.poll()

    assert loaded(fresh) == [2, 3]
    assert served(fresh) == 3


def test_request_loads_a_version_that_is_not_loaded(store, make_models, loads):
    """Once for all who wait; and it is not what the bare name means, even before anything else is loaded."""
    for _ in range(4):
        publish_model(store)
    fresh = make_models(store)
    fresh._follow()
    with pytest.raises(NotLoaded) as missing:
        served(fresh, version=1)
    with pytest.raises(NotLoaded):
        served(fresh)

    assert len({id(fresh.load(missing.value.key)) for _ in range(5)}) <= 2
    fresh.load(missing.value.key).result()

    assert served(fresh, version=1) == 1
    with pytest.raises(NotLoaded) as missing:
        served(fresh)
    assert missing.value.key == ("tiny", 5)
    assert len(loads) == 2


def test_longest_unused_version_makes_room(store, make_models, observer):
    """Of the versions that requests asked for, so many stay; versions that the policy wants do not count."""
    for _ in range(6):
        publish_model(store)
    fresh = make_models(store, policy=Policy(newest=1, others=2))
    fresh.poll()
    for version in (1, 2):
        fresh.load(("tiny", version)).result()
    assert loaded(fresh) == [1, 2, 7]
    observer.runs["tiny", 1] = time.time() + 1

    fresh.load(("tiny", 3)).result()

    assert loaded(fresh) == [1, 3, 7]
    publish_model(store)
    follow(fresh)
    assert loaded(fresh) == [1, 3, 8]  # version 7 was never asked for


def test_request_for_a_version_that_cannot_be_loaded_is_told_so(store, make_models):
    """From then on the version is refused."""
    for _ in range(3):
        publish_model(store)
    (store.folder("tiny", 1) / "model.onnx").unlink()
    fresh = make_models(store)
    fresh.poll()

    fresh.load(("tiny", 1)).result()

    with pytest.raises(StoreError, match="no version 1"):
        served(fresh, version=1)
    assert "model.onnx" in fresh.models["tiny"].versions[1].reason


def test_request_while_the_store_is_lost_refuses_nothing_for_good(store, make_models):
    """The version that cannot be read now is available again when the store is."""
    for _ in range(3):
        publish_model(store)
    fresh = make_models(store)
    fresh.poll()
    _remove(store)

    fresh.load(("tiny", 1)).result()
    assert fresh.models["tiny"].versions[1].state == "available"
    with pytest.raises(NotLoaded):
        served(fresh, version=1)

    store.root.with_name("elsewhere").rename(store.root)
    fresh.poll()
    fresh.load(("tiny", 1)).result()
    assert served(fresh, version=1) == 1


def test_requests_wait_for_a_limited_number_of_versions(store, make_models):
    """One client that asks for hundreds of versions does not make all others wait."""
    models = make_models(store)
    models.poll()
    with models._changing:
        for version in range(100, 100 + MAX_ASKED):
            models.load(("tiny", version))

        with pytest.raises(Problem, match="16 versions are being loaded"):
            models.load(("tiny", 1))


def test_manifest_and_report_of_a_version_that_is_not_loaded(store, make_models):
    """They are read from its folder."""
    for _ in range(3):
        publish_model(store)
    (store.folder("tiny", 2) / "manifest.json").write_text("{}")
    fresh = make_models(store)
    fresh.poll()

    assert loaded(fresh) == [3, 4]
    assert fresh.manifest("tiny", 1).version == 1
    assert fresh.report("tiny", 1).startswith(b"<!doctype html>")
    with pytest.raises(StoreError, match="version 2 of tiny cannot be read"):
        fresh.manifest("tiny", 2)


# --- memory -------------------------------------------------------------------------------------------------


def test_detector_of_an_unloaded_version_is_freed_at_once(models, store):
    """Nothing refers to it after the poll: no snapshot, no queue, no frame."""
    publish_model(store)
    publish_model(store)
    follow(models)
    gone = weakref.ref(models.entry("tiny", version=2).detector)
    store.retain("tiny", 1)

    models.poll()

    assert loaded(models) == [3]
    assert gone() is None


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_memory_of_unloaded_versions_is_given_back(make_models, tmp_path):
    """At the poll that unloads them, without a request that would clear a cache."""
    store = ModelStore(tmp_path / "digits")
    for version in range(1, 25):
        folder = store.folder("digits", version)
        shutil.copytree(ROOT / "models" / "digits" / "1", folder)
        rewrite_manifest(folder, version=version)
    models = make_models(store, policy=Policy(newest=24))
    models.poll()
    full = resident_bytes()
    store.retain("digits", 1)

    models.poll()

    assert list(models.models["digits"].loaded) == [24]
    assert full - resident_bytes() > 15 * 2**20  # of 23 versions of 1.3 MB


# --- trials -------------------------------------------------------------------------------------------------


def test_endless_version_blocks_neither_the_start_nor_later_versions(store, make_models):
    """The trial ends, the version is refused, an older one serves; a newer one is loaded as usual."""
    replace_graph(publish_model(store), loop_for_ever)
    fresh = make_models(store, trial=Trial(0.1, 2**31))

    fresh.poll()
    assert served(fresh) == 1
    assert "its self-test" in fresh.models["tiny"].versions[2].reason
    assert fresh.models["tiny"].failing == (2,)

    publish_model(store)
    follow(fresh)
    assert served(fresh) == 3
    assert fresh.models["tiny"].failing == ()


def test_version_that_was_refused_for_no_fault_of_its_own_is_tried_again(models, store, monkeypatch, loads):
    """Others wait until their folder changes."""
    publish_model(store)

    def fail(*_: object) -> None:
        raise OSError("no process can be started")

    with monkeypatch.context() as patched:
        patched.setattr(registry, "_load", fail)
        follow(models)
    models.poll()
    assert served(models) == 1
    assert loads[1:] == [("tiny", "failed")]

    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + RETRY_SECONDS)
    models.poll()

    assert served(models) == 2

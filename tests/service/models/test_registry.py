"""The life of models in a running service."""

import logging
import shutil
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector import ModelStore, StoreError
from service.models.registry import ModelRegistry, make_plan, settle_labels
from tests.model_folder import publish_model, rewrite_manifest, write_model_folder

KEYS = st.tuples(st.sampled_from("abc"), st.integers(1, 4))
FOLDERS = st.dictionaries(KEYS, st.integers(0, 3).map(lambda size: (("f", 1, size, 1),)))
LABELS = st.dictionaries(st.sampled_from(["stable", "canary"]), st.integers(1, 5))


@given(found=FOLDERS, known=FOLDERS)
def test_plan_covers_every_version_once(found, known):
    """Found versions are loaded or kept; known ones are unloaded, kept or loaded again."""
    plan = make_plan(found, known)

    assert sorted(plan.load + plan.keep) == sorted(found)
    assert set(plan.unload) == known.keys() - found.keys()
    assert all(found[key] == known[key] for key in plan.keep)
    assert all(known.get(key) != found[key] for key in plan.load)


@given(found=FOLDERS)
def test_plan_of_an_unchanged_store_does_nothing(found):
    """A poll of an unchanged store loads and unloads nothing, not even failed versions."""
    plan = make_plan(found, found)

    assert (plan.load, plan.unload) == ((), ())


@given(wanted=LABELS, former=LABELS, loaded=st.sets(st.integers(1, 5)))
def test_labels_follow_the_store_as_far_as_it_is_loaded(wanted, former, loaded):
    """A label moves when its target is loaded, and stays on a loaded former target until then."""
    settled = settle_labels(wanted, former, loaded)

    assert settled.keys() == wanted.keys()
    for label, version in settled.items():
        if wanted[label] in loaded or former.get(label) not in loaded:
            assert version == wanted[label]
        else:
            assert version == former[label]


@pytest.fixture
def loads() -> list[tuple[str, str]]:
    """Return the loads that the registry counted."""
    return []


@pytest.fixture
def models(tmp_path, loads) -> ModelRegistry:
    """A registry over a store with `tiny` version 1, polled once."""
    store = ModelStore(tmp_path / "models")
    publish_model(store)
    models = ModelRegistry(store, lambda name, result: loads.append((name, result)))
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

    models.poll()

    assert served(models) == 2
    assert served(models, version=1) == 1
    assert loads == [("tiny", "loaded")] * 2


def test_poll_keeps_the_detector_of_an_unchanged_version(models):
    """Nothing is loaded twice."""
    before = models.entry("tiny").detector

    models.poll()

    assert models.entry("tiny").detector is before


def test_poll_keeps_the_snapshot_of_an_unchanged_store(models, store):
    """Caches depend on the identity of the snapshot."""
    before = models.models
    models.poll()
    assert models.models is before

    publish_model(store)
    models.poll()
    assert models.models is not before


def test_poll_finds_a_new_model(models, store):
    """A new model in the store is served."""
    publish_model(store, "other")

    models.poll()

    assert models.entry("other").detector.manifest.name == "other"


def test_poll_follows_labels(models, store):
    """A label moves without a new version."""
    publish_model(store)
    store.set_label("tiny", "stable", 1)
    models.poll()
    assert served(models) == 1

    store.set_label("tiny", "stable", 2)
    models.poll()

    assert served(models) == served(models, label="stable") == 2


def test_poll_keeps_what_serves_when_a_new_version_is_broken(models, store, loads, caplog):
    """A refused version changes nothing for clients, and is told in models, count and log."""
    folder = publish_model(store)
    (folder / "model.onnx").write_bytes(b"x")

    models.poll()

    assert served(models) == 1
    assert "model.onnx must have" in models.models["tiny"].versions[2].reason
    assert loads[-1] == ("tiny", "failed")
    assert caplog.records[-1].fields["reason"] == models.models["tiny"].versions[2].reason


def test_poll_tries_a_refused_version_again_only_when_it_changed(models, store, loads):
    """A broken folder is not read every two seconds."""
    folder = publish_model(store)
    graph = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(b"x")
    models.poll()
    models.poll()
    assert loads.count(("tiny", "failed")) == 1

    (folder / "model.onnx").write_bytes(graph)
    models.poll()

    assert served(models) == 2
    assert models.models["tiny"].versions[2].reason is None


def test_poll_serves_a_loaded_version_on_when_its_folder_breaks(models, store):
    """The version in memory was verified, so it stays; the reason is listed."""
    (store.folder("tiny", 1) / "golden.npz").write_bytes(b"x")

    models.poll()

    assert served(models) == 1
    assert "golden.npz" in models.models["tiny"].versions[1].reason


def test_poll_keeps_a_label_on_its_former_target_while_the_new_one_is_broken(models, store):
    """A label that moves to a refused version does not take the model down."""
    store.set_label("tiny", "stable", 1)
    models.poll()
    folder = publish_model(store)
    (folder / "model.onnx").unlink()
    store.set_label("tiny", "stable", 2)

    models.poll()

    assert served(models) == 1


def test_label_of_a_version_that_never_loaded_answers_nothing(models, store):
    """Another version than the one that was asked for would be a wrong answer."""
    folder = publish_model(store)
    (folder / "model.onnx").unlink()
    store.set_label("tiny", "canary", 2)

    models.poll()

    with pytest.raises(StoreError, match="no version 2"):
        models.entry("tiny", label="canary")


def test_poll_keeps_labels_that_cannot_be_read(models, store, caplog):
    """A broken labels.json changes no label, and is logged once."""
    publish_model(store)
    store.set_label("tiny", "stable", 1)
    models.poll()
    (store.root / "tiny" / "labels.json").write_text("{")

    models.poll()
    models.poll()

    assert served(models) == 1
    assert sum("labels of tiny are not updated" in record.message for record in caplog.records) == 1


def test_poll_unloads_a_version_that_is_gone(models, store):
    """A removed version is not served any more; neither is a model without versions."""
    publish_model(store)
    models.poll()
    shutil.rmtree(store.folder("tiny", 2))
    models.poll()
    assert served(models) == 1

    shutil.rmtree(store.root / "tiny")
    models.poll()

    assert models.models == {}


def test_poll_keeps_everything_when_the_store_is_gone(models, store, caplog):
    """An unmounted volume is no reason to stop serving; it is logged once."""
    store.root.rename(store.root.with_name("elsewhere"))

    models.poll()
    models.poll()

    assert served(models) == 1
    assert sum("the store cannot be read" in record.message for record in caplog.records) == 1


def test_poll_sees_no_staging_folder(models, store, loads):
    """A version that is being written, or whose writer died, does not exist yet."""
    with store.stage("tiny") as staged:
        write_model_folder(staged)
        models.poll()

    assert list(models.models["tiny"].versions) == [1]
    assert loads == [("tiny", "loaded")]


@pytest.mark.parametrize("changes", [{"name": "other"}, {"version": 7}])
def test_poll_refuses_a_manifest_that_names_another_folder(models, store, changes):
    """A folder copied to another place is not the model it seems to be."""
    folder = publish_model(store)
    rewrite_manifest(folder, **changes)

    models.poll()

    assert "must name model tiny version 2 like its folder" in models.models["tiny"].versions[2].reason


def test_one_refused_model_leaves_the_others_alone(models, store):
    """Each model is loaded for itself."""
    folder = publish_model(store, "broken")
    (folder / "manifest.json").write_text("{}")

    models.poll()

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
    models.poll()
    folder = store.root / "first"
    folder.rename(store.root / ".aside")
    folder.symlink_to("first")
    publish_model(store, "second")

    models.poll()

    assert models.serves("first")
    assert models.serves("second")
    assert "first is not updated" in caplog.text

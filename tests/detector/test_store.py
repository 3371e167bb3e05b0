"""The model store: finding, publishing and removing versions, and refusing names."""

import errno
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector import Detector, ModelStore, StoreError
from detector.store import check_name, choose_version, find_folder
from tests.model_folder import publish_model, write_model_folder

HOSTILE_NAMES = [
    "../x",
    "..",
    ".",
    "",
    "A",
    "a" * 65,
    "a/b",
    "/etc",
    ".hidden",
    "-a",
    "a b",
    "a\n",
    "a\0",
    "é",
]


def test_store_that_is_not_there_is_empty(store):
    """A service may start before the first model is published."""
    assert store.names() == []
    assert store.versions("tiny") == []
    assert store.labels("tiny") == {}


def test_store_lists_models_with_their_versions(store):
    """Names are sorted, versions ascend as numbers."""
    for version in (2, 10, 1):
        (store.root / "b" / str(version)).mkdir(parents=True)
    (store.root / "a" / "1").mkdir(parents=True)

    assert store.names() == ["a", "b"]
    assert store.versions("b") == [1, 2, 10]


def test_store_ignores_everything_else(store):
    """Files, hidden folders, names and numbers of another form are no models and no versions."""
    for folder in ("A/1", ".git/1", "lost+found/1", "empty", "tiny/1", "tiny/01", "tiny/0", "tiny/-1"):
        (store.root / folder).mkdir(parents=True)
    for folder in ("tiny/1.0", "tiny/v2", "tiny/.staged-x", "tiny/12345678901", "tiny/٣"):
        (store.root / folder).mkdir(parents=True)
    (store.root / "tiny" / "2").write_text("a file")
    (store.root / "README.md").write_text("a file")

    assert store.names() == ["tiny"]
    assert store.versions("tiny") == [1]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_every_door_refuses_a_hostile_name(store, name):
    """A name is one path component, or nothing is touched."""
    doors: list[Callable[[], object]] = [
        lambda: store.versions(name),
        lambda: store.labels(name),
        lambda: store.folder(name, 1),
        lambda: store.resolve(name),
        lambda: store.stage(name).__enter__(),
        lambda: store.set_label("tiny", name, 1),
        lambda: store.set_label(name, "stable", 1),
        lambda: store.retain(name, 1),
    ]
    for door in doors:
        with pytest.raises(StoreError, match="must match"):
            door()

    assert not store.root.exists()


@pytest.mark.parametrize("name", ["a", "0", "a" * 64, "mnist-8.v2_x"])
def test_plain_names_are_taken(name):
    """Names have lower case, digits, dot, underscore and hyphen."""
    assert check_name(name) == name


@given(name=st.text(max_size=70))
def test_checked_name_is_one_path_component(name):
    """A valid name cannot lead out of its folder."""
    try:
        check_name(name)
    except StoreError:
        return
    assert Path("/store", name).resolve().parent == Path("/store")


# --- versions and labels ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "asked", "version"),
    [
        ({}, {}, 3),
        ({"stable": 2}, {}, 2),
        ({"canary": 2}, {}, 3),
        ({"stable": 2}, {"version": 1}, 1),
        ({"stable": 2, "canary": 3}, {"label": "canary"}, 3),
    ],
)
def test_request_means_a_version(labels, asked, version):
    """A request selects its version or label; else `stable`, else the highest version."""
    assert choose_version("tiny", [1, 2, 3], labels, **asked) == version


@pytest.mark.parametrize(
    ("versions", "labels", "asked", "sentence"),
    [
        ([], {}, {}, "there is no model 'tiny'"),
        ([1, 2], {}, {"version": 3}, "model 'tiny' has no version 3, only [1, 2]"),
        ([1], {"stable": 1}, {"label": "canary"}, "model 'tiny' has no label 'canary', only ['stable']"),
        ([1], {"stable": 7}, {}, "model 'tiny' has no version 7, only [1]"),
    ],
)
def test_request_for_what_is_not_there_is_refused(versions, labels, asked, sentence):
    """The error lists the versions and labels that exist."""
    with pytest.raises(StoreError) as caught:
        choose_version("tiny", versions, labels, **asked)

    assert str(caught.value) == sentence


def test_store_resolves_versions_and_labels_from_disk(store):
    """The store applies the same rule to published versions."""
    for _ in range(3):
        publish_model(store)

    assert store.resolve("tiny") == 3
    store.set_label("tiny", "stable", 1)
    assert store.resolve("tiny") == 1
    assert store.resolve("tiny", version=2) == 2
    store.set_label("tiny", "stable", None)
    assert store.resolve("tiny") == 3


def test_set_label_moves_one_label_and_keeps_the_others(store):
    """The file can be read by other users, and no temporary file remains."""
    for _ in range(2):
        publish_model(store)
    store.set_label("tiny", "stable", 1)
    store.set_label("tiny", "canary", 2)
    store.set_label("tiny", "stable", 2)

    assert store.labels("tiny") == {"stable": 2, "canary": 2}
    assert (store.root / "tiny" / "labels.json").stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in (store.root / "tiny").iterdir()) == [
        "1",
        "2",
        "config.pbtxt",
        "labels.json",
    ]


def test_set_label_refuses_what_is_not_there(store):
    """A label cannot point at a missing version, and a missing label cannot be removed."""
    publish_model(store)

    with pytest.raises(StoreError, match="model 'tiny' has no version 2"):
        store.set_label("tiny", "stable", 2)
    with pytest.raises(StoreError, match="model 'tiny' has no label 'stable'"):
        store.set_label("tiny", "stable", None)
    with pytest.raises(StoreError, match="model 'other' has no label 'stable'"):
        store.set_label("other", "stable", None)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"stable": "1"}', b'{"stable": true}', b'{"stable": 0}', b'{"UP": 1}', b"\xff"],
)
def test_labels_that_are_malformed_are_refused_by_name(store, content):
    """A sentence with the path, from which `stable` is never guessed."""
    publish_model(store)
    (store.root / "tiny" / "labels.json").write_bytes(content)

    with pytest.raises(StoreError, match=r"tiny/labels\.json (cannot be read|must be an object)"):
        store.resolve("tiny")


def test_set_label_is_atomic(store):
    """A reader at the same time sees the old set or the new one, never half a file."""
    publish_model(store)
    publish_model(store)
    store.set_label("tiny", "stable", 1)
    seen, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(store.resolve("tiny"))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        for turn in range(100):
            store.set_label("tiny", "stable", 1 + turn % 2)
        done.set()
        reading.result()

    assert seen <= {1, 2}
    assert store.labels("tiny") == {"stable": 2}


# --- publishing ---------------------------------------------------------------------------------------------


def test_publish_makes_the_next_version(store):
    """The manifest in the folder has its number, and the folder loads."""
    folders = [publish_model(store) for _ in range(3)]

    assert [folder.name for folder in folders] == ["1", "2", "3"]
    assert [Detector.load(folder).manifest.version for folder in folders] == [1, 2, 3]
    assert sorted(path.name for path in (store.root / "tiny").iterdir()) == ["1", "2", "3", "config.pbtxt"]


def test_publish_goes_on_after_the_highest_version(store):
    """A gap is never filled: a number that was seen once is not used for another model."""
    (store.root / "tiny" / "41").mkdir(parents=True)

    assert publish_model(store).name == "42"


def test_publish_leaves_files_that_others_can_read(store):
    """The service may run as another user than the training."""
    before = os.umask(0o077)
    try:
        folder = publish_model(store)
    finally:
        os.umask(before)

    assert folder.stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_publish_refuses_a_version_that_a_file_blocks(store):
    """It ends with a sentence, and leaves nothing behind."""
    (store.root / "tiny").mkdir(parents=True)
    (store.root / "tiny" / "1").write_text("in the way")

    with pytest.raises(StoreError, match="cannot become"):
        publish_model(store)

    assert [path.name for path in (store.root / "tiny").iterdir()] == ["1"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_staged_folder_vanishes_when_it_is_not_published(store, error):
    """An error, or Ctrl-C in the middle, leaves no half model and no empty model folder."""

    def break_off() -> None:
        with store.stage("tiny") as staged:
            write_model_folder(staged)
            raise error

    with pytest.raises(error):
        break_off()

    assert list(store.root.iterdir()) == []


def test_stage_names_a_store_that_cannot_be_written(store):
    """A sentence of the package, so that a fit shows no traceback."""
    store.root.mkdir(exist_ok=True)
    (store.root / "tiny").write_text("")

    with pytest.raises(StoreError, match=f"{store.root / 'tiny'} cannot be written: File exists"):
        store.stage("tiny").__enter__()


def test_staged_folder_is_no_version(store):
    """A version that is being written is not found."""
    publish_model(store)

    with store.stage("tiny") as staged:
        write_model_folder(staged)

        assert store.versions("tiny") == [1]
        assert staged.parent == store.root / "tiny"

    assert sorted(path.name for path in (store.root / "tiny").iterdir()) == ["1", "config.pbtxt"]


def test_reader_never_sees_an_incomplete_version(store):
    """A version that appears while others publish loads, self-test included."""
    loaded, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            for version in store.versions("tiny"):
                if version not in loaded:
                    Detector.load(store.folder("tiny", version))
                    loaded.add(version)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        while len(loaded) < 5 and not reading.done():
            publish_model(store)
        done.set()
        reading.result()

    assert loaded <= set(store.versions("tiny"))


def test_publishers_at_the_same_time_get_different_versions(store):
    """Nobody waits for the other, nobody loses, every folder is whole."""
    start = threading.Barrier(3)

    def publish(_: int) -> list[Path]:
        start.wait(timeout=10)
        return [publish_model(store) for _ in range(5)]

    with ThreadPoolExecutor(3) as pool:
        folders = [folder for published in pool.map(publish, range(3)) for folder in published]

    assert sorted(int(folder.name) for folder in folders) == list(range(1, 16))
    assert {Detector.load(folder).manifest.version for folder in folders} == set(range(1, 16))


def test_stage_sweeps_what_killed_processes_left(store):
    """A folder whose process has ended is removed; one that is being written by another process stays."""
    (store.root / "tiny" / ".staged-killed").mkdir(parents=True)
    (store.root / "tiny" / ".staged-killed" / "model.onnx").write_bytes(b"half")
    (store.root / "other" / ".staged-killed").mkdir(parents=True)
    stage = "import sys; from detector import ModelStore; stage = ModelStore(sys.argv[1]).stage('tiny'); "
    with subprocess.Popen(
        [sys.executable, "-c", f"{stage}print(stage.__enter__(), flush=True); sys.stdin.read()", store.root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        other = Path(process.stdout.readline().strip())
        publish_model(store)

        assert sorted(path.name for path in other.parent.iterdir()) == [other.name, "1", "config.pbtxt"]
        process.kill()
    publish_model(store)

    assert sorted(path.name for path in other.parent.iterdir()) == ["1", "2", "config.pbtxt"]
    assert (store.root / "other" / ".staged-killed").exists()  # swept when that model is published


def test_publish_that_is_live_does_not_fail(store, caplog):
    """The version serves although Triton's file cannot be written: a warning says so."""
    (store.root / "tiny" / "config.pbtxt").mkdir(parents=True)

    folder = publish_model(store)

    assert Detector.load(folder).manifest.version == 1
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{folder} is published, but config.pbtxt is not up to date: ")
    assert sorted(path.name for path in (store.root / "tiny").iterdir()) == ["1", "config.pbtxt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_exception_after_publishing_says_that_the_version_is_live(store, error):
    """Whoever reports the exception can tell the truth."""

    def fail_late() -> None:
        with store.stage("tiny") as staged:
            store.publish(staged, write_model_folder(staged))
            raise error

    with pytest.raises(error) as caught:
        fail_late()

    assert caught.value.__notes__ == ["the new version of tiny was published before this"]
    assert store.versions("tiny") == [1]


# --- retaining ----------------------------------------------------------------------------------------------


def test_retain_keeps_the_newest_and_the_labelled(store):
    """The removed versions are returned, and the next version still has a new number."""
    for _ in range(5):
        publish_model(store)
    store.set_label("tiny", "stable", 2)

    removed = store.retain("tiny", 2)

    assert removed == [1, 3]
    assert store.versions("tiny") == [2, 4, 5]
    assert sorted(path.name for path in (store.root / "tiny").iterdir()) == [
        "2",
        "4",
        "5",
        "config.pbtxt",
        "labels.json",
    ]
    assert publish_model(store).name == "6"


def test_retain_with_nothing_to_remove(store):
    """Nothing is removed if there are fewer versions than may stay."""
    publish_model(store)

    assert store.retain("tiny", 3) == []
    assert store.versions("tiny") == [1]


@pytest.mark.parametrize("keep", [0, -1])
def test_retain_keeps_at_least_one(store, keep):
    """`versions[:-0]` would keep all, and less than one is a typing error."""
    with pytest.raises(StoreError, match=f"keep must be at least 1, got {keep}"):
        store.retain("tiny", keep)


def test_retain_removes_nothing_while_labels_cannot_be_read(store):
    """Without labels the store cannot tell which versions to keep."""
    for _ in range(3):
        publish_model(store)
    (store.root / "tiny" / "labels.json").write_text(json.dumps(["stable"]))

    with pytest.raises(StoreError, match="must be an object of labels"):
        store.retain("tiny", 1)

    assert store.versions("tiny") == [1, 2, 3]


def test_retain_names_a_version_that_cannot_be_removed(store, monkeypatch):
    """A sentence of the package, as for every other fault of the store."""
    publish_model(store)
    publish_model(store)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "rename", refuse)

    with pytest.raises(StoreError, match=r"tiny/1 cannot be removed: Permission denied"):
        store.retain("tiny", 1)


def test_root_may_be_text(tmp_path):
    """The command line and the environment give text."""
    assert ModelStore(str(tmp_path)).root == tmp_path


def test_a_model_that_cannot_be_read_does_not_hide_the_others(store):
    """Its name is listed, and asking for its versions says why."""
    publish_model(store)
    (store.root / "loop").symlink_to("loop")

    assert store.names() == ["loop", "tiny"]
    with pytest.raises(StoreError, match="loop cannot be read"):
        store.versions("loop")


@pytest.fixture
def three(store):
    """A store with three versions of `tiny`."""
    for _ in range(3):
        publish_model(store)
    return store


def test_find_folder_takes_a_folder_a_name_a_label_and_a_version(three):
    """A name means the highest version until a label says otherwise."""
    folder = three.folder("tiny", 3)

    assert find_folder(str(folder)) == folder
    assert find_folder(f"{three.root}/tiny") == folder
    three.set_label("tiny", "canary", 2)
    assert find_folder(f"{three.root}/tiny@canary") == three.folder("tiny", 2)
    three.set_label("tiny", "stable", 1)
    assert find_folder(f"{three.root}/tiny/") == three.folder("tiny", 1)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("other", "there is no model 'other'"),
        ("tiny/7", "no version 7, only [1, 2, 3]"),
        ("tiny@blue", "no label 'blue'"),
        ("tiny@", "got 'STORE/tiny@'"),
        ("Tiny", "model name must match"),
    ],
)
def test_find_folder_says_what_is_not_there(three, model, words):
    """The error has the requested model and the existing ones."""
    with pytest.raises(StoreError) as caught:
        find_folder(f"{three.root}/{model}")

    assert words in str(caught.value).replace(str(three.root), "STORE")


def test_store_that_is_not_one_names_the_right_folder(tmp_path):
    """A model, a version and a folder around a store would be stores without models."""
    store = ModelStore(tmp_path / "data" / "models")
    store.check_place()  # none yet
    publish_model(store)
    publish_model(store)
    store.check_place()

    for root, words in (
        (store.root / "tiny", f"is the folder of one model: give the store, {store.root}"),
        (store.root / "tiny" / "2", f"is a version of a model: give the store, {store.root}"),
        (store.root.parent, f"holds no models, but {store.root} does"),
    ):
        with pytest.raises(StoreError, match=re.escape(words)):
            ModelStore(root).check_place()

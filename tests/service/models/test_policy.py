"""The decision which versions are loaded and which of them serves."""

from hypothesis import given
from hypothesis import strategies as st

from service.models.policy import Entry, Model, Policy, look_again, settle, settle_labels

LABELS = st.dictionaries(st.sampled_from(["stable", "canary"]), st.integers(1, 5))
OLD, NEW = (("model.onnx", 1, 1, 1),), (("model.onnx", 1, 2, 2),)


@given(targets=LABELS, former=LABELS, loaded=st.sets(st.integers(1, 5)))
def test_labels_follow_the_store_as_far_as_it_is_loaded(targets, former, loaded):
    """A label moves when its target is loaded, and stays on a loaded former target until then."""
    settled = settle_labels(targets, former, loaded)

    assert settled.keys() == targets.keys()
    for label, version in settled.items():
        if targets[label] in loaded or former.get(label) not in loaded:
            assert version == targets[label]
        else:
            assert version == former[label]


def test_new_folder_is_due_at_the_second_look_and_at_the_start_of_the_process():
    """It may still be copied."""
    first = look_again(None, OLD, at_start=False)

    assert (first.settled, first.is_due) == (False, False)
    assert look_again(first, OLD, at_start=False).is_due
    assert not look_again(first, NEW, at_start=False).is_due
    assert look_again(None, OLD, at_start=True).is_due


def test_refused_folder_is_due_again_when_it_changed():
    """The former reason is forgotten then."""
    refused = Entry(OLD, settled=True, attempted=OLD, reason="broken")

    assert not look_again(refused, OLD, at_start=False).is_due
    changed = look_again(refused, NEW, at_start=False)
    assert (changed.state, changed.is_due) == ("available", False)
    assert look_again(changed, NEW, at_start=False).is_due


def test_wanted_versions_begin_with_the_one_that_serves():
    """Then come those with a label, then the newest that were not refused and are not being copied."""
    versions = {version: Entry(OLD, settled=True) for version in range(1, 10)}
    versions[9] = Entry(OLD, settled=False)
    versions[8] = Entry(OLD, settled=True, attempted=OLD, reason="broken")

    def wanted(targets: dict[str, int], newest: int) -> list[int]:
        return Policy(newest).wanted(Model("m", versions, targets, {}))

    assert wanted({}, 2) == [7, 6]
    assert wanted({"canary": 3}, 1) == [7, 3]
    assert wanted({"canary": 3, "stable": 4}, 2) == [4, 3, 7, 6]
    assert wanted({"stable": 8}, 1) == [7]
    assert wanted({"stable": 11}, 1) == [7]


def test_nothing_serves_before_the_version_that_is_meant_is_loaded():
    """Not even a version that is already in memory because a request asked for it."""
    model = Model("m", {1: Entry(OLD, settled=True), 2: Entry(OLD, settled=True)}, {}, {})

    assert settle(model).serving_version is None

"""How every command ends, and what it does after publishing."""

import pytest

from detector import ModelStore, StoreError
from tests.model_folder import publish_model, write_model_folder
from training.cli.options import remove_old_versions, run_command


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (OSError(32, "Broken pipe"), 1, "error: [Errno 32] Broken pipe\nnote: {}\n"),
        (StoreError("tiny/1 cannot be removed"), 1, "error: tiny/1 cannot be removed\nnote: {}\n"),
        (KeyboardInterrupt(), 130, "interrupted: {}\n"),
    ],
)
def test_command_that_ends_early_says_what_was_published(tmp_path, capsys, error, status, words):
    """A fault after the new version is live does not read as if nothing had been published."""
    store = ModelStore(tmp_path)

    def publish_and_fail() -> None:
        with store.stage("tiny") as staged:
            store.publish(staged, write_model_folder(staged))
            raise error

    assert run_command(publish_and_fail, interrupted="nothing was published") == status

    assert capsys.readouterr().err == words.format("the new version of tiny was published before this")
    assert store.versions("tiny") == [1]


@pytest.mark.parametrize(
    ("keep", "removed", "left"), [(None, "", [1, 2]), (1, "1", [2]), (2, "none", [1, 2])]
)
def test_old_versions_are_removed_as_asked(tmp_path, capsys, keep, removed, left):
    """Without `--keep` all versions stay."""
    store = ModelStore(tmp_path)
    publish_model(store)
    publish_model(store)

    remove_old_versions(store, "tiny", keep)

    assert capsys.readouterr().out == (f"removed versions: {removed}\n" if removed else "")
    assert store.versions("tiny") == left

"""The model store: find, publish, label and remove versions.

A version is the folder `<root>/<name>/<version>`. The folder of a model also holds `labels.json`, and
`config.pbtxt`, which describes the newest version for Triton.
"""

import contextlib
import dataclasses
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import cast

from detector.errors import DetectorError, StoreError
from detector.files import MANIFEST_FILE
from detector.manifest import Manifest, read_manifest, write_manifest
from detector.schema import NAME_PATTERN
from detector.triton import CONFIG_FILE, config_text

LABELS_FILE = "labels.json"
STABLE = "stable"
_STAGED = ".staged-"
_VERSION_PATTERN = re.compile(r"[1-9][0-9]{0,9}")

logger = logging.getLogger(__name__)


class ModelStore:
    """A folder of models. A version that appears is complete and does not change, so readers need no lock.

    Parameters
    ----------
    root : str or Path
        Need not exist yet.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def names(self) -> list[str]:
        """Return the sorted names of the models that have at least one version.

        A model whose folder cannot be read is included, so that `versions` says why. Raise `StoreError` if
        the store exists but cannot be read.
        """
        valid = filter(NAME_PATTERN.fullmatch, _entries(self.root))
        return [name for name in valid if self._has_versions(name)]

    def check_place(self) -> None:
        """Raise `StoreError`, with the right folder, if this one is within a store or only holds one.

        It would be an empty store, without a word. A folder that cannot be read is none of these.
        """
        root = self.root.resolve()
        with contextlib.suppress(OSError):
            if self._find_manifest("*/*") is None:
                if self._find_manifest("."):
                    raise StoreError(
                        f"{self.root} is a version of a model: give the store, {root.parents[1]}"
                    )
                if self._find_manifest("*"):
                    raise StoreError(f"{self.root} is the folder of one model: give the store, {root.parent}")
                deeper = self._find_manifest("*/*/*")
                if deeper:
                    store = deeper.parents[2]
                    raise StoreError(f"{self.root} holds no models, but {store} does: give that")

    def _find_manifest(self, folders: str) -> Path | None:
        """Return a manifest in folders of this pattern."""
        return next(self.root.glob(f"{folders}/{MANIFEST_FILE}"), None)

    def _has_versions(self, name: str) -> bool:
        try:
            return bool(self.versions(name))
        except StoreError:
            return True

    def versions(self, name: str) -> list[int]:
        """Return the published versions of a model, ascending; empty if there is no such model."""
        check_name(name)
        folder = self.root / name
        return sorted(
            int(entry)
            for entry in _entries(folder)
            if _VERSION_PATTERN.fullmatch(entry) and (folder / entry).is_dir()
        )

    def folder(self, name: str, version: int) -> Path:
        """Return the path of a version, whether it exists or not."""
        check_name(name)
        return self.root / name / str(version)

    def labels(self, name: str) -> dict[str, int]:
        """Return the labels of a model and their versions; empty if there are none.

        Raise `StoreError` if `labels.json` cannot be read, or does not map labels to positive integers.
        """
        check_name(name)
        path = self.root / name / LABELS_FILE
        try:
            labels = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise StoreError(f"{path} cannot be read: {error}") from error
        well_formed = isinstance(labels, dict) and all(
            NAME_PATTERN.fullmatch(label) and type(version) is int and version > 0
            for label, version in labels.items()
        )
        if not well_formed:
            raise StoreError(f"{path} must be an object of labels and version numbers")
        return cast(dict[str, int], labels)

    def resolve(self, name: str, *, version: int | None = None, label: str | None = None) -> int:
        """Choose the given version, or the version of the label, or of the label `stable`, or the highest.

        Raise `StoreError` if there is no such model, version or label.
        """
        return choose_version(name, self.versions(name), self.labels(name), version=version, label=label)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """Make a temporary folder next to the versions of a model; remove it at the end unless published.

        Folders that killed processes left there are removed first. An exception that ends the block after the
        folder was published gets a note that says so.

        Raise `StoreError` if the store cannot be written.
        """
        check_name(name)
        folder = self.root / name
        with contextlib.ExitStack() as held:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with _locked(folder):  # a new folder is locked before another process can see it
                    _sweep(folder)
                    staged = Path(tempfile.mkdtemp(prefix=_STAGED, dir=folder))
                    held.enter_context(_locked(staged))
            except OSError as error:
                raise StoreError(f"{folder} cannot be written: {error.strerror}") from error
            try:
                yield staged
            except BaseException as error:
                if not staged.exists():
                    error.add_note(f"the new version of {name} was published before this")
                raise
            finally:
                shutil.rmtree(staged, ignore_errors=True)
                with contextlib.suppress(OSError):  # not empty: the model has versions
                    folder.rmdir()

    def publish(self, staged: Path, manifest: Manifest) -> tuple[Path, Manifest]:
        """Make a staged folder the next version of its model: complete and on disk before it appears.

        Once the version has appeared, nothing is raised: if `config.pbtxt` cannot be written, a warning is
        logged.

        Parameters
        ----------
        staged : Path
            From `stage`; holds every file that the manifest lists.
        manifest : Manifest
            Its version is replaced by the next free one.

        Returns
        -------
        tuple of Path and Manifest
            The version folder and the published manifest.

        Raises
        ------
        StoreError
            If the folder cannot be renamed.
        """
        while True:
            version = max(self.versions(manifest.name), default=0) + 1
            manifest = dataclasses.replace(manifest, version=version)
            write_manifest(staged, manifest)
            _sync(staged)
            final = self.folder(manifest.name, version)
            try:
                staged.rename(final)
            except OSError as error:
                if final.is_dir():  # another process published this version meanwhile
                    continue
                raise StoreError(f"{staged} cannot become {final}: {error.strerror}") from error
            try:
                _sync_path(final.parent)
                self.write_config(manifest.name)
            except (OSError, DetectorError) as error:
                logger.warning("%s is published, but %s is not up to date: %s", final, CONFIG_FILE, error)
            return final, manifest

    def write_config(self, name: str) -> Path:
        """Describe the newest version of a model in `config.pbtxt`, for Triton.

        Raises
        ------
        StoreError
            If there is no such model, or its folder cannot be written.
        IntegrityError, ManifestError
            If the manifest of that version cannot be read.
        """
        path = self.root / name / CONFIG_FILE
        while True:
            newest = choose_version(name, self.versions(name), {})
            text = config_text(read_manifest(self.folder(name, newest))[0])
            try:
                _replace(path, text)
            except OSError as error:
                raise StoreError(f"{path} cannot be written: {error.strerror}") from error
            # Else another process published meanwhile, and may have written its version before this one.
            if self.versions(name)[-1] == newest:
                return path

    def set_label(self, name: str, label: str, version: int | None) -> None:
        """Point a label at a version, or remove it with None; readers see all old or all new labels.

        Raise `StoreError` if there is no such version, no such label to remove, or the label is not a name.
        """
        check_name(label, what="label")
        labels = self.labels(name)
        if version is not None:
            labels[label] = self.resolve(name, version=version)
        elif labels.pop(label, None) is None:
            raise StoreError(f"model {name[:80]!r} has no label {label[:80]!r}, only {sorted(labels)}")
        path = self.root / name / LABELS_FILE
        _replace(path, json.dumps(labels, indent=2, sort_keys=True) + "\n")

    def retain(self, name: str, keep: int) -> list[int]:
        """Remove all versions but the newest `keep` and those with a label; return them, ascending.

        Raise `StoreError` if there is no such model, `keep` is below 1, or a version cannot be removed.
        """
        if keep < 1:
            raise StoreError(f"keep must be at least 1, got {keep}")
        versions, labelled = self.versions(name), set(self.labels(name).values())
        if not versions:
            raise StoreError(f"there is no model {name[:80]!r}")
        removed = [version for version in versions[:-keep] if version not in labelled]
        for version in removed:
            folder = self.folder(name, version)
            with self.stage(name) as trash:  # renamed first, so that no reader sees half a version
                try:
                    folder.rename(trash / str(version))
                except OSError as error:
                    raise StoreError(f"{folder} cannot be removed: {error.strerror}") from error
        return removed


def choose_version(
    name: str,
    versions: Collection[int],
    labels: Mapping[str, int],
    *,
    version: int | None = None,
    label: str | None = None,
) -> int:
    """Apply the rule of `ModelStore.resolve`, with its errors, to any versions, such as those loaded."""
    if not versions:
        raise StoreError(f"there is no model {name[:80]!r}")
    if label is None and version is None:
        label = STABLE if STABLE in labels else None
    if label is not None:
        if label not in labels:
            raise StoreError(f"model {name[:80]!r} has no label {label[:80]!r}, only {sorted(labels)}")
        version = labels[label]
    if version is None:
        return max(versions)
    if version not in versions:
        raise StoreError(f"model {name!r} has no version {version}, only {sorted(versions)}")
    return version


def find_folder(model: str | Path) -> Path:
    """Find the version folder: a path to it, `STORE/NAME`, `STORE/NAME@LABEL` or `STORE/NAME/VERSION`.

    Raise `StoreError` if there is no such folder, model, label or version.
    """
    path = Path(model)
    if (path / MANIFEST_FILE).is_file():
        return path
    name, at, label = path.name.partition("@")
    store, version = ModelStore(path.parent), None
    if name.isdecimal() and not path.is_dir():
        store, name, version = ModelStore(path.parent.parent), path.parent.name, int(name)
    try:
        return store.folder(name, store.resolve(name, version=version, label=label if at else None))
    except StoreError as error:
        raise StoreError(
            f"the model must be a version folder, STORE/NAME or STORE/NAME@LABEL, got {str(model)!r}: {error}"
        ) from error


def check_name(name: str, what: str = "model name") -> str:
    """Return the name if it is safe as one path component, and raise `StoreError` otherwise.

    Safe are 1 to 64 of a-z, 0-9, dot, underscore and hyphen, starting with a letter or digit.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise StoreError(f"a {what} must match {NAME_PATTERN.pattern}, got {name[:80]!r}")
    return name


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"{folder} cannot be read: {error.strerror}") from error


def _replace(path: Path, text: str) -> None:
    """Replace a file atomically: a reader sees all of the old content or all of the new."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_path(path.parent)


def _sweep(folder: Path) -> None:
    """Remove the staged folders of processes that have ended: nobody holds their locks."""
    for staged in folder.glob(f"{_STAGED}*"):
        with contextlib.suppress(OSError), _locked(staged, wait=False):
            shutil.rmtree(staged, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder, which ends with the process at the latest.

    Raise `BlockingIOError` if another process holds it and `wait` is false. On a file system without locks,
    to wait for one does nothing, and not to wait raises `OSError`.
    """
    import fcntl  # not at the top: reading a store also works on Windows

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if wait:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    """Write a folder and its files to disk, readable for a service that runs as another user."""
    for path in folder.iterdir():
        path.chmod(0o644)
        _sync_path(path)
    folder.chmod(0o755)
    _sync_path(folder)


def _sync_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The model store, `<root>/<name>/<version>/` with `labels.json`: find, publish, label, retain.

Beside the versions of a model `config.pbtxt` describes the newest one for Triton.
"""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from detector.errors import StoreError
from detector.files import MANIFEST_FILE
from detector.manifest import Manifest, read_manifest, write_manifest
from detector.schema import NAME_PATTERN
from detector.triton import CONFIG_FILE, config_text

LABELS_FILE = "labels.json"
STABLE = "stable"
_VERSION_PATTERN = re.compile(r"[1-9][0-9]{0,9}")


class ModelStore:
    """A folder of models. Reading never blocks publishing: what appears is complete, what is there stays.

    Parameters
    ----------
    root : str or Path
        Need not exist yet.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def names(self) -> list[str]:
        """Names of the models that have at least one version, sorted.

        A model whose folder cannot be read is among them: who asks for its versions is told why.

        Raises
        ------
        StoreError
            If the store is there but cannot be read.
        """
        return [
            name for name in _entries(self.root) if NAME_PATTERN.fullmatch(name) and self._has_versions(name)
        ]

    def _has_versions(self, name: str) -> bool:
        try:
            return bool(self.versions(name))
        except StoreError:
            return True

    def versions(self, name: str) -> list[int]:
        """Published versions of a model, ascending; empty for a model that is not there."""
        check_name(name)
        folder = self.root / name
        return sorted(
            int(entry)
            for entry in _entries(folder)
            if _VERSION_PATTERN.fullmatch(entry) and (folder / entry).is_dir()
        )

    def folder(self, name: str, version: int) -> Path:
        """Where a version lies, or would lie."""
        check_name(name)
        return self.root / name / str(version)

    def labels(self, name: str) -> dict[str, int]:
        """Labels of a model and the versions they stand for; empty where there are none.

        Raises
        ------
        StoreError
            If `labels.json` is not an object of labels and positive integers.
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
        return labels

    def resolve(self, name: str, *, version: int | None = None, label: str | None = None) -> int:
        """The version that a request means: as given, by label, else label `stable`, else the highest.

        Raises
        ------
        StoreError
            If there is no such model, version or label.
        """
        return choose_version(name, self.versions(name), self.labels(name), version=version, label=label)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Path]:
        """A temporary folder beside the versions of a model; gone at the end unless it was published.

        Raises
        ------
        StoreError
            If the store cannot be written.
        """
        check_name(name)
        try:
            (self.root / name).mkdir(parents=True, exist_ok=True)
            staged = Path(tempfile.mkdtemp(prefix=".staged-", dir=self.root / name))
        except OSError as error:
            raise StoreError(f"{self.root / name} cannot be written: {error.strerror}") from error
        try:
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            with contextlib.suppress(OSError):  # the model's folder, where nothing was ever published in it
                staged.parent.rmdir()

    def publish(self, staged: Path, manifest: Manifest) -> tuple[Path, Manifest]:
        """Make a staged folder the next version of its model: complete and on disk before it appears.

        Parameters
        ----------
        staged : Path
            From `stage`, holding every file that the manifest lists.
        manifest : Manifest
            Its version is replaced by the next free one.

        Returns
        -------
        tuple of Path and Manifest
            The version folder and the manifest as it was published.

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
                if final.is_dir():  # somebody else published this version meanwhile
                    continue
                raise StoreError(f"{staged} cannot become {final}: {error.strerror}") from error
            _sync_path(final.parent)
            self.write_config(manifest.name)
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
            if self.versions(name)[-1] == newest:  # else somebody published, and perhaps wrote before us
                return path

    def set_label(self, name: str, label: str, version: int | None) -> None:
        """Point a label at a version, or take it away with None; other readers see the old set or the new.

        Raises
        ------
        StoreError
            If there is no such version, no such label to take away, or the label is not a name.
        """
        check_name(label, what="label")
        labels = self.labels(name)
        if version is not None:
            labels[label] = self.resolve(name, version=version)
        elif labels.pop(label, None) is None:
            raise StoreError(f"model {name!r} has no label {label!r}, only {sorted(labels)}")
        path = self.root / name / LABELS_FILE
        _replace(path, json.dumps(labels, indent=2, sort_keys=True) + "\n")

    def retain(self, name: str, keep: int) -> list[int]:
        """Remove all but the newest `keep` versions and those that a label names.

        Returns
        -------
        list of int
            The versions removed, ascending.

        Raises
        ------
        StoreError
            If there is no such model, `keep` is below 1, or a version cannot be removed.
        """
        if keep < 1:
            raise StoreError(f"keep must be at least 1, got {keep}")
        versions, labelled = self.versions(name), set(self.labels(name).values())
        if not versions:
            raise StoreError(f"there is no model {name!r}")
        removed = [version for version in versions[:-keep] if version not in labelled]
        for version in removed:
            with self.stage(name) as trash:  # first out of sight as a whole, then gone
                self.folder(name, version).rename(trash / str(version))
        return removed


def choose_version(
    name: str,
    versions: list[int],
    labels: Mapping[str, int],
    *,
    version: int | None = None,
    label: str | None = None,
) -> int:
    """The rule of `ModelStore.resolve` for any set of versions, say of those that are loaded.

    Raises
    ------
    StoreError
        If there is no such model, version or label.
    """
    if not versions:
        raise StoreError(f"there is no model {name!r}")
    if label is None and version is None:
        label = STABLE if STABLE in labels else None
    if label is not None:
        if label not in labels:
            raise StoreError(f"model {name!r} has no label {label!r}, only {sorted(labels)}")
        version = labels[label]
    if version is None:
        return max(versions)
    if version not in versions:
        raise StoreError(f"model {name!r} has no version {version}, only {sorted(versions)}")
    return version


def find_folder(model: str | Path) -> Path:
    """The version folder that a text means: itself, `STORE/NAME`, `STORE/NAME@LABEL` or `STORE/NAME/VERSION`.

    Raises
    ------
    StoreError
        If there is no such folder, model, label or version.
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
    """The name itself, safe as one path component.

    Raises
    ------
    StoreError
        If it is not 1 to 64 of a-z, 0-9, dot, underscore and hyphen, a letter or digit first.
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
    """Write a file; who reads it meanwhile sees all of the old one or all of the new."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)
    _sync_path(path.parent)


def _sync(folder: Path) -> None:
    """Bring a folder and its files to disk, readable for a service that runs as somebody else."""
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

"""Poll the store, load and verify versions, and swap in one snapshot of all models at a time."""

import dataclasses
import functools
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from detector import Detector, DetectorError, ManifestError, ModelStore, StoreError
from detector.files import REPORT_FILE, read_file
from detector.store import choose_version
from service.http.problems import Problem
from service.models.malloc import give_back

logger = logging.getLogger(__name__)
Key = tuple[str, int]  # model name, version
Signature = tuple[tuple[str, int, int, int], ...]  # name, inode, bytes and modification time of each file
LOADED = "loaded"
FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One version of the store, after an attempt to load it.

    Attributes
    ----------
    signature : tuple
        State of the folder before the attempt.
    reason : str or None
        Why this attempt failed.
    """

    signature: Signature
    reason: str | None


@dataclasses.dataclass(frozen=True)
class Loaded(Entry):
    """A version that serves; its detector is from this attempt, or from an earlier one if this one failed."""

    detector: Detector
    loaded_at: float  # seconds since 1970


@dataclasses.dataclass(frozen=True)
class Model:
    """The versions and labels of one model; immutable."""

    name: str
    versions: Mapping[int, Entry]
    labels: Mapping[str, int]

    @functools.cached_property
    def loaded(self) -> Mapping[int, Loaded]:
        """The versions that can serve, ascending."""
        entries = sorted(self.versions.items())
        return {version: entry for version, entry in entries if isinstance(entry, Loaded)}

    def choose(self, *, version: int | None = None, label: str | None = None) -> int:
        """Return the loaded version for a request, by default the one that the bare name means.

        Raise `StoreError` if the version or label does not exist or is not loaded.
        """
        if version is None and label is None and self.serving_version is not None:
            return self.serving_version
        return choose_version(self.name, self.loaded, self.labels, version=version, label=label)

    @functools.cached_property
    def serving_version(self) -> int | None:
        """The version that requests for the bare name get; None if no version serves them."""
        try:
            return choose_version(self.name, self.loaded, self.labels)
        except StoreError:
            return None


@dataclasses.dataclass(frozen=True)
class Plan:
    """The changes that a poll of the store requires."""

    load: tuple[Key, ...]
    keep: tuple[Key, ...]
    unload: tuple[Key, ...]


def make_plan(found: Mapping[Key, Signature], known: Mapping[Key, Signature]) -> Plan:
    """Load versions that are new or changed since the last attempt, keep the others, unload removed ones."""
    keep = tuple(sorted(key for key in found if known.get(key) == found[key]))
    return Plan(
        load=tuple(sorted(found.keys() - set(keep))),
        keep=keep,
        unload=tuple(sorted(known.keys() - found.keys())),
    )


def settle_labels(
    wanted: Mapping[str, int], former: Mapping[str, int], loaded: Collection[int]
) -> dict[str, int]:
    """Return the labels to serve: a label keeps its former target if the wanted version is not loaded.

    If the former target is not loaded either, the label gets the wanted version, and requests for it fail
    rather than being answered by another version.
    """
    return {
        label: former[label] if version not in loaded and former.get(label) in loaded else version
        for label, version in wanted.items()
    }


class ModelRegistry:
    """The models of a store that serve requests. Reading needs no lock; one poll runs at a time.

    Parameters
    ----------
    store : ModelStore
    on_load : callable
        Called with the model name and `loaded` or `failed` after every attempt to load a version.

    Attributes
    ----------
    models : mapping of str to Model
        The current snapshot, by name; never changed, only replaced.
    unread : str or None
        Why the store could not be read so far; None once it was read, even if later polls fail.
    """

    def __init__(self, store: ModelStore, on_load: Callable[[str, str], None]) -> None:
        self._store = store
        self._on_load = on_load
        self.models: Mapping[str, Model] = {}
        self._polling = threading.Lock()
        self._stopped = threading.Event()
        self._complaints: dict[str, str] = {}
        self.unread: str | None = "it was not polled"

    def loaded(self) -> Iterator[Loaded]:
        """Yield every version that can serve."""
        for model in self.models.values():
            yield from model.loaded.values()

    def entry(self, name: str, *, version: int | None = None, label: str | None = None) -> Loaded:
        """Return the loaded version for a request; arguments as for `Model.choose`.

        Raise `StoreError` if no such model, version or label is loaded.
        """
        model = self.model(name)
        return model.loaded[model.choose(version=version, label=label)]

    def model(self, name: str) -> Model:
        """Return a model of the store, loaded or refused.

        Raise `StoreError` if the store has no such model.
        """
        if name not in self.models:
            raise StoreError(f"there is no model {name[:80]!r}")
        return self.models[name]

    def serves(self, name: str) -> bool:
        """Tell whether requests for a bare name are answered."""
        return name in self.models and self.models[name].serving_version is not None

    def report(self, name: str, version: int) -> bytes:
        """Return the HTML report of a loaded version, exactly the bytes whose hash is in the manifest.

        Raises
        ------
        StoreError
            If no such version is loaded.
        IntegrityError
            If the file has changed since the version was loaded.
        """
        manifest = self.entry(name, version=version).detector.manifest
        return read_file(self._store.folder(name, version), REPORT_FILE, manifest.files[REPORT_FILE])

    def start(self, seconds: float) -> None:
        """Poll at this interval in a daemon thread."""

        def run() -> None:
            while not self._stopped.wait(seconds):
                try:
                    self.poll()
                except Exception:  # the thread must survive any error of a poll
                    logger.exception("poll failed")

        threading.Thread(target=run, name="registry", daemon=True).start()

    def stop(self) -> None:
        """Stop polling."""
        self._stopped.set()

    def poll(self) -> None:
        """Read the store once and swap in a new snapshot if it changed; keep all models if reading fails."""
        with self._polling:
            try:
                found = self._scan()
            except (StoreError, OSError) as error:
                self._complain("store", f"the store cannot be read, loaded models stay: {error}")
                self.unread = self.unread and str(error)
                return
            self._complaints.pop("store", None)
            models = self._arrange(self._renew(found))
            if models != self.models:  # caches of readers and heads live as long as a snapshot
                self.models = models
            self.unread = None

    def _scan(self) -> dict[Key, Signature]:
        """Return every version of the store with the state of its folder."""
        root = self._store.root
        if not root.is_dir():
            raise StoreError(f"{root} is not a folder")
        found: dict[Key, Signature] = {}
        for name in self._store.names():
            try:
                versions = self._store.versions(name)
            except StoreError as error:
                self._complain(f"folder of {name}", f"{name} is not updated: {error}")
                known = self.models[name].versions if name in self.models else {}
                found |= {(name, version): entry.signature for version, entry in known.items()}
                continue
            self._complaints.pop(f"folder of {name}", None)
            found |= {(name, version): _signature(self._store.folder(name, version)) for version in versions}
        return found

    def _renew(self, found: Mapping[Key, Signature]) -> dict[Key, Entry]:
        known = {
            (model.name, version): entry
            for model in self.models.values()
            for version, entry in model.versions.items()
        }
        plan = make_plan(found, {key: entry.signature for key, entry in known.items()})
        for name, version in plan.unload:
            logger.info("unloaded", extra={"fields": {"model": name, "version": version}})
        entries = {key: known[key] for key in plan.keep}
        entries |= {key: self._attempt(key, found[key], known.get(key)) for key in plan.load}
        if plan.load or plan.unload:
            give_back()  # memory of the files, and of weights before ONNX Runtime packed them
        return entries

    def _attempt(self, key: Key, signature: Signature, former: Entry | None) -> Entry:
        """Load one version; if that fails, keep the detector that served before."""
        name, version = key
        fields = {"model": name, "version": version}
        try:
            detector = _load(self._store.folder(name, version), key)
        except Exception as error:  # a graph may raise anything, and must not affect other models
            reason = str(error) if isinstance(error, DetectorError) else f"{type(error).__name__}: {error}"
            logger.error("not loaded", extra={"fields": {**fields, "reason": reason}})
            self._on_load(name, FAILED)
            if former is None:
                return Entry(signature, reason)
            return dataclasses.replace(former, signature=signature, reason=reason)
        logger.info("loaded", extra={"fields": {**fields, "digest": detector.digest}})
        self._on_load(name, LOADED)
        return Loaded(signature, None, detector, time.time())

    def _arrange(self, entries: Mapping[Key, Entry]) -> dict[str, Model]:
        models = {}
        for name in sorted({name for name, _ in entries}):
            versions = {key[1]: entries[key] for key in sorted(entries) if key[0] == name}
            model = Model(name, versions, {})
            former = self.models[name].labels if name in self.models else {}
            labels = settle_labels(self._wanted_labels(name, former), former, model.loaded)
            models[name] = dataclasses.replace(model, labels=labels)
        return models

    def _wanted_labels(self, name: str, former: Mapping[str, int]) -> Mapping[str, int]:
        try:
            labels = self._store.labels(name)
        except StoreError as error:
            self._complain(name, f"the labels of {name} are not updated: {error}")
            return former
        self._complaints.pop(name, None)
        return labels

    def _complain(self, about: str, sentence: str) -> None:
        """Log a fault of the store when it appears or changes, not at every poll."""
        if self._complaints.get(about) != sentence:
            self._complaints[about] = sentence
            logger.error(sentence)


def _load(folder: Path, key: Key) -> Detector:
    """Load and verify a detector; its self-test runs every graph, so it is warmed up."""
    detector = Detector.load(folder)
    named = (detector.manifest.name, detector.manifest.version)
    if named != key:
        raise ManifestError(
            f"manifest.json must name model {key[0]} version {key[1]} like its folder, "
            f"got {named[0]} version {named[1]}"
        )
    return detector


def _signature(folder: Path) -> Signature:
    """Return the state of a folder; it changes with the content, and is empty if reading fails."""
    try:
        stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    except OSError:
        return ()
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def check_ready(models: ModelRegistry, needed: Sequence[str]) -> None:
    """Raise a problem if the store was never read or a needed model does not serve."""
    if models.unread:
        raise Problem("not-ready", f"the store has not been read yet: {models.unread}")
    missing = [name for name in needed if not models.serves(name)]
    if missing:
        raise Problem("not-ready", f"required models are not loaded: {', '.join(missing)}")

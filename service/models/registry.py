"""Poll the store, load and verify versions, and swap in one snapshot of all models at a time."""

import dataclasses
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from detector import Detector, DetectorError, Manifest, ManifestError, ModelStore, StoreError
from detector.files import REPORT_FILE, read_file
from detector.manifest import read_manifest
from service.http.problems import Problem
from service.models.malloc import give_back
from service.models.policy import (
    LOADED,
    Entry,
    Key,
    Loaded,
    Model,
    Policy,
    Signature,
    look_again,
    settle,
)
from service.models.trial import Trial, TrialKilled

logger = logging.getLogger(__name__)
FAILED = "failed"
MAX_ASKED = 16  # versions that requests may wait for at a time
RETRY_SECONDS = 300  # until a version is tried again whose failure need not be its own


class NotLoaded(Problem):
    """A request asks for a version that must be loaded first, by `ModelRegistry.load(key)`."""

    def __init__(self, key: Key) -> None:
        super().__init__("not-ready", f"version {key[1]} of {key[0]} is not loaded, try again in a moment")
        self.key = key


class Observer(Protocol):
    """Counts what the registry does, and knows which versions were used."""

    def count_reload(self, model: str, result: str) -> None:
        """Count one attempt to load a version, `loaded` or `failed`."""

    def note_poll(self) -> None:
        """Note that a poll is finished."""

    def last_run(self, model: str, version: int) -> float:
        """Return when a version was last run, in seconds since 1970; 0 for never."""


class ModelRegistry:
    """The models of a store that serve requests. Reading needs no lock; one poll runs at a time.

    A version is loaded only after its folder looked the same at two polls, except at the start.

    Parameters
    ----------
    store : ModelStore
    observer : Observer
    policy : Policy
        Which versions are loaded without a request for them.
    trial : Trial or None
        Where versions are loaded first.

    Attributes
    ----------
    models : mapping of str to Model
        The current snapshot, by name; never changed, only replaced.
    faults : mapping of str to str
        What the last poll could not read, in a sentence, by the name of the model; "" is the whole store.
    unread : str or None
        Why the store could not be read so far; None once it was read, even if later polls fail.
    """

    def __init__(
        self,
        store: ModelStore,
        observer: Observer,
        policy: Policy = Policy(),  # noqa: B008 - it is immutable
        trial: Trial | None = None,
    ) -> None:
        self._store = store
        self._observer = observer
        self._policy = policy
        self._trial = trial
        self.models: Mapping[str, Model] = {}
        self.faults: Mapping[str, str] = {}
        self.unread: str | None = "it was not polled"
        self._polling = threading.Lock()
        self._changing = threading.Lock()  # held by whoever replaces the snapshot
        self._queueing = threading.Lock()
        self._loader = ThreadPoolExecutor(1, "loader")
        self._loading: dict[Key, Future[None]] = {}
        self._forget: list[Callable[[], None]] = []
        self._serving = threading.Event()
        self._stopped = threading.Event()

    def loaded(self) -> Iterator[Loaded]:
        """Yield every version that can serve."""
        for model in self.models.values():
            yield from model.loaded.values()

    def entry(self, name: str, *, version: int | None = None, label: str | None = None) -> Loaded:
        """Return the loaded version for a request; arguments and errors as for `Model.choose`.

        Raise `StoreError` also if there is no such model, and `NotLoaded` if the version must be loaded.
        """
        model = self.model(name)
        chosen = model.choose(version=version, label=label)
        if chosen not in model.loaded:
            raise NotLoaded((name, chosen))
        return model.loaded[chosen]

    def manifest(self, name: str, version: int | None = None) -> Manifest:
        """Return the manifest of a version, loaded or not; arguments and errors as for `entry`.

        Raise `StoreError` also if it cannot be read.
        """
        model = self.model(name)
        chosen = model.choose(version=version)
        if chosen in model.loaded:
            return model.loaded[chosen].detector.manifest
        try:
            return read_manifest(self._store.folder(name, chosen))[0]
        except DetectorError as error:
            raise StoreError(f"version {chosen} of {name} cannot be read: {error}") from error

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
        """Return the HTML report of a version, exactly the bytes whose hash is in the manifest.

        Raises
        ------
        StoreError
            If there is no such version, or its manifest cannot be read.
        IntegrityError
            If the file has other bytes.
        """
        manifest = self.manifest(name, version)
        return read_file(self._store.folder(name, version), REPORT_FILE, manifest.files[REPORT_FILE])

    def on_swap(self, forget: Callable[[], None]) -> None:
        """Call a function after every new snapshot, in any thread, to drop references to the former one."""
        self._forget.append(forget)

    def start(self, seconds: float) -> None:
        """Poll now and then at this interval, in a daemon thread."""

        def run() -> None:
            while True:
                try:
                    self.poll()
                except Exception:  # the thread must survive any error of a poll
                    if not self._stopped.is_set():
                        logger.exception("poll failed")
                if self._stopped.wait(seconds):
                    return

        threading.Thread(target=run, name="registry", daemon=True).start()

    def wait(self, seconds: float) -> None:
        """Wait until every model serves that can, but not longer than this."""
        self._serving.wait(seconds)

    def stop(self) -> None:
        """Stop polling and loading."""
        self._stopped.set()
        self._loader.shutdown(wait=False, cancel_futures=True)
        if self._trial:
            self._trial.stop()

    # --- polling --------------------------------------------------------------------------------------------

    def poll(self) -> None:
        """Read the store once, and load and unload versions; keep all models if reading fails."""
        with self._polling:
            try:
                if self._follow():
                    give_back()
                self._load_wanted()
            finally:
                self._serving.set()
                if self._trial:
                    self._trial.rest()
            self._observer.note_poll()

    def _follow(self) -> bool:
        """Swap in the models and labels of the store, with nothing loaded yet; return whether it changed."""
        with self._changing:
            try:
                names = self._names()
            except (StoreError, OSError) as error:
                self._tell({"": f"the store cannot be read, loaded models stay: {error}"})
                self.unread = self.unread and str(error)
                return False
            models, faults = {}, {}
            for name in names:
                former = self.models.get(name)
                try:
                    models[name] = self._look(name, former)
                except (StoreError, OSError) as error:
                    faults[name] = f"{name} is not updated: {error}"
                    models[name] = former or Model(name, {}, {}, {}, unread=str(error))
            faults |= {name: model.unread for name, model in models.items() if model.unread}
            self._tell(faults)
            self.unread = None
            return self._swap(models)

    def _names(self) -> list[str]:
        """Return the models of the store, and loaded ones whose folder has become empty.

        Raise `StoreError` if the store has gone.
        """
        root = self._store.root
        if not root.is_dir():
            raise StoreError(f"{root} is not a folder")
        loaded = [name for name, model in self.models.items() if model.loaded]
        names = {*self._store.names(), *(name for name in loaded if (root / name).is_dir())}
        if loaded and not names:
            raise StoreError(f"{root} is empty")
        return sorted(names)

    def _look(self, name: str, former: Model | None) -> Model:
        """Return a model as the store has it now; raise `StoreError` if it must stay as it is."""
        found = self._store.versions(name)
        if not found:
            raise StoreError(f"{self._store.root / name} has no version any more")
        known, at_start = (former.versions, False) if former else ({}, self.unread is not None)
        targets, unread = {}, None
        try:
            targets = self._store.labels(name)
        except StoreError as error:
            if former and former.unread is None:
                raise
            unread = str(error)
        versions = {
            version: look_again(
                known.get(version), _signature(self._store.folder(name, version)), at_start=at_start
            )
            for version in found
        }
        if former and former.serving_version is not None and former.serving_version not in found:
            gone = former.loaded[former.serving_version]
            versions[former.serving_version] = dataclasses.replace(
                gone, signature=None, reason="its folder is gone, so it serves until another version does"
            )
        if former is None:
            return Model(name, versions, targets, {}, unread=unread)
        return dataclasses.replace(former, versions=versions, targets=targets, unread=unread)

    def _tell(self, faults: Mapping[str, str]) -> None:
        """Log a fault of the store when it appears or changes, not at every poll."""
        for name, sentence in faults.items():
            if self.faults.get(name) != sentence:
                logger.error(sentence)
        for name in self.faults.keys() - faults.keys():
            logger.info("%s can be read again", name or "the store")
        self.faults = faults

    # --- loading --------------------------------------------------------------------------------------------

    def _load_wanted(self) -> None:
        """Load the versions that the policy wants, first those that serve; skip models with a fault."""
        tried: set[Key] = set()
        for only_serving in (True, False):
            for name in list(self.models):
                while (key := self._next_due(name, tried, only_serving=only_serving)) is not None:
                    tried.add(key)
                    self._submit(key).result()
            self._serving.set()

    def _next_due(self, name: str, tried: set[Key], *, only_serving: bool) -> Key | None:
        if name in self.faults or "" in self.faults:
            return None
        model = self.models[name]
        for version in self._policy.wanted(model)[: 1 if only_serving else None]:
            if model.versions[version].is_due and (name, version) not in tried:
                return name, version
        return None

    def load(self, key: Key) -> Future[None]:
        """Load a version that a request asks for, in another thread.

        The future is done when the version is loaded or refused. Raise the problem `overloaded` if too many
        versions are waited for.
        """
        if key not in self._loading and len(self._loading) >= MAX_ASKED:
            raise Problem("overloaded", f"{MAX_ASKED} versions are being loaded, try again in a moment")
        return self._submit(key, asked=True)

    def _submit(self, key: Key, *, asked: bool = False) -> Future[None]:
        with self._queueing:
            if key not in self._loading:
                self._loading[key] = self._loader.submit(self._work, key, asked=asked)
            return self._loading[key]

    def _work(self, key: Key, *, asked: bool) -> None:
        try:
            self._attempt(key, asked=asked)
        finally:
            with self._queueing:
                del self._loading[key]
            # Memory of the files, of weights before ONNX Runtime packed them, and of versions that went.
            give_back()

    def _attempt(self, key: Key, *, asked: bool) -> None:
        """Load a version, unless that was done while this waited."""
        name, version = key
        entry = self.models[name].versions.get(version) if name in self.models else None
        if entry is None or (isinstance(entry, Loaded) and not entry.is_due):
            return
        attempted = self._try(key, entry, asked=asked)
        if not self._stopped.is_set():
            self._enter(key, attempted)

    def _try(self, key: Key, entry: Entry, *, asked: bool) -> Entry:
        """Return the entry of a version after an attempt to load it; a former detector stays if it fails."""
        name, version = key
        fields: dict[str, object] = {"model": name, "version": version}
        folder = self._store.folder(name, version)
        try:
            if self._trial:
                self._trial.check(folder)
            detector = _load(folder, key)
        except Exception as error:  # a graph may raise anything, and must not affect other models
            reason = str(error) if isinstance(error, DetectorError) else f"{type(error).__name__}: {error}"
            retry_at = math.inf
            if isinstance(error, (TrialKilled, OSError, MemoryError)):
                retry_at = time.monotonic() + RETRY_SECONDS
            if self._stopped.is_set() or _signature(folder) != entry.signature:
                return entry  # the folder has changed or gone since the last poll: the next one looks again
            logger.error("not loaded", extra={"fields": {**fields, "reason": reason}})
            self._observer.count_reload(name, FAILED)
            return dataclasses.replace(entry, attempted=entry.signature, reason=reason, retry_at=retry_at)
        logger.info("loaded", extra={"fields": {**fields, "digest": detector.digest}})
        self._observer.count_reload(name, LOADED)
        return Loaded(
            entry.signature,
            entry.settled,
            entry.signature,
            detector=detector,
            loaded_at=time.time(),
            asked=asked,
        )

    def _enter(self, key: Key, entry: Entry) -> None:
        """Swap in a version after an attempt to load it; polls since the attempt began have the last word."""
        name, version = key
        with self._changing:
            model = self.models.get(name)
            if model is None or version not in model.versions:
                return
            now = model.versions[version]
            entry = dataclasses.replace(entry, signature=now.signature, settled=now.settled)
            versions = {**model.versions, version: entry}
            self._swap({**self.models, name: dataclasses.replace(model, versions=versions)})

    def _swap(self, models: Mapping[str, Model]) -> bool:
        """Serve with these models, unload what the policy does not want, and return whether this is a change.

        `_changing` is held.
        """
        former = set(_keys_of(self.models.values()))
        models = {name: settle(model) for name, model in models.items()}
        for name, version in self._policy.surplus(models.values(), self._observer.last_run):
            model = models[name]
            entry = Entry(model.versions[version].signature, model.versions[version].settled)
            models[name] = dataclasses.replace(model, versions={**model.versions, version: entry})
        if models == self.models:
            return False
        self.models = models
        for forget in self._forget:
            forget()
        for name, version in sorted(former - set(_keys_of(models.values()))):
            logger.info("unloaded", extra={"fields": {"model": name, "version": version}})
        return True


def _keys_of(models: Iterable[Model]) -> Iterator[Key]:
    """Yield the versions that are loaded."""
    for model in models:
        for version in model.loaded:
            yield model.name, version


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
        with os.scandir(folder) as entries:
            stats = sorted((entry.name, entry.stat()) for entry in entries)
    except OSError:
        return ()
    return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def check_ready(models: ModelRegistry, needed: Sequence[str]) -> None:
    """Raise a problem if the store was never read or a needed model does not serve."""
    if models.unread:
        raise Problem("not-ready", f"the store has not been read yet: {models.unread}")
    missing = [name for name in needed if not models.serves(name)]
    if missing:
        sentence = f"required models are not loaded: {', '.join(missing)}"
        reasons = [models.faults[name] for name in missing if name in models.faults]
        raise Problem("not-ready", "; ".join([sentence, *reasons]))

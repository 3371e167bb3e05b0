"""Decide which versions are loaded and which of them serve: immutable values and pure functions."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from detector import Detector
from detector.store import STABLE, choose_version
from service.http.problems import Problem

Key = tuple[str, int]  # model name, version
Signature = tuple[tuple[str, int, int, int], ...]  # name, inode, bytes and modification time of each file

LOADED = "loaded"
REFUSED = "refused"
AVAILABLE = "available"  # not loaded; a request for it loads it


@dataclasses.dataclass(frozen=True)
class Entry:
    """One published version.

    Attributes
    ----------
    signature : tuple or None
        State of the folder at the last poll; None if it is gone.
    settled : bool
        Whether the folder looked the same at two polls, so that nobody is copying it.
    attempted : tuple or None
        State of the folder at the last attempt to load it; None before the first.
    reason : str or None
        Why that attempt failed.
    retry_at : float
        When to try an unchanged folder again, in seconds of `time.monotonic`.
    """

    signature: Signature | None
    settled: bool
    attempted: Signature | None = None
    reason: str | None = None
    retry_at: float = math.inf

    @property
    def state(self) -> str:
        """The word for it in `/models`."""
        return AVAILABLE if self.reason is None else REFUSED

    @property
    def is_due(self) -> bool:
        """Whether a poll may try to load it."""
        return self.settled and (self.attempted != self.signature or time.monotonic() >= self.retry_at)


@dataclasses.dataclass(frozen=True)
class Loaded(Entry):
    """A version that serves; its detector is from an earlier attempt if the last one failed.

    Attributes
    ----------
    detector : Detector
    loaded_at : float
        In seconds since 1970.
    asked : bool
        Whether a request asked for it before it was loaded.
    """

    detector: Detector = dataclasses.field(kw_only=True)
    loaded_at: float = dataclasses.field(kw_only=True)
    asked: bool = dataclasses.field(kw_only=True)

    @property
    def state(self) -> str:
        """See `Entry`."""
        return LOADED


@dataclasses.dataclass(frozen=True)
class Model:
    """The versions and labels of one model.

    Attributes
    ----------
    name : str
    versions : mapping of int to Entry
    targets : mapping of str to int
        The labels in the store.
    labels : mapping of str to int
        The labels that serve: each follows its target once that is loaded.
    serving_version : int or None
        The loaded version that requests for the bare name get; None if there is none.
    unread : str or None
        Why the labels could not be read so far, so that nobody knows which version the bare name means.
    """

    name: str
    versions: Mapping[int, Entry]
    targets: Mapping[str, int]
    labels: Mapping[str, int]
    serving_version: int | None = None
    unread: str | None = None

    @functools.cached_property
    def loaded(self) -> Mapping[int, Loaded]:
        """The versions in memory, ascending."""
        entries = sorted(self.versions.items())
        return {version: entry for version, entry in entries if isinstance(entry, Loaded)}

    @functools.cached_property
    def usable(self) -> Mapping[int, Entry]:
        """The versions whose requests are answered, if need be after loading; ascending."""
        return {version: entry for version, entry in sorted(self.versions.items()) if entry.state != REFUSED}

    @functools.cached_property
    def failing(self) -> tuple[int, ...]:
        """Versions that a label or the bare name means and that cannot be loaded or are not in the store."""
        found = self.versions
        present = [version for version, entry in found.items() if entry.signature is not None]
        newest = {max(present)} if present and STABLE not in self.targets and self.unread is None else set()
        meant = sorted({*self.targets.values(), *newest})
        return tuple(version for version in meant if version not in found or found[version].reason)

    def ready(self) -> list[int]:
        """Return the versions that are loaded or that a poll may load, the newest first."""
        return [
            version
            for version, entry in sorted(self.versions.items(), reverse=True)
            if entry.signature is not None
            and (isinstance(entry, Loaded) or entry.is_due or (entry.settled and entry.state != REFUSED))
        ]

    def choose(self, *, version: int | None = None, label: str | None = None) -> int:
        """Return the usable version for a request, by default the one that the bare name means.

        Raise `StoreError` if the version or label does not exist or was refused, and the problem `not-ready`
        if the labels are unknown.
        """
        if version is None and self.unread is not None:
            raise Problem("not-ready", f"nobody knows which version of {self.name} is meant: {self.unread}")
        if version is None and label is None and self.serving_version is not None:
            return self.serving_version
        return choose_version(self.name, self.usable, self.labels, version=version, label=label)


@dataclasses.dataclass(frozen=True)
class Policy:
    """How many versions are loaded in addition to those that serve and those with a label.

    Attributes
    ----------
    newest : int
        Versions of each model.
    others : int
        Versions of all models together that requests asked for; the longest unused one is unloaded first.
    """

    newest: int = 2
    others: int = 4

    def wanted(self, model: Model) -> list[int]:
        """Return the versions that must be loaded, in the order of loading: first the one that serves."""
        ready = model.ready()
        labelled = sorted(model.targets.values())
        wanted = dict.fromkeys([target_of(model), *labelled, *ready[: self.newest]])
        return [version for version in wanted if version in ready]

    def surplus(self, models: Iterable[Model], last_run: Callable[[str, int], float]) -> set[Key]:
        """Return the loaded versions that must be unloaded.

        Parameters
        ----------
        models : iterable of Model
        last_run : callable
            When a version was last run, in seconds since 1970; 0 for never.
        """
        used: dict[Key, float] = {}
        for model in models:
            kept = {*list(model.loaded)[-self.newest :], *model.labels.values(), model.serving_version}
            for version in model.loaded.keys() - kept:
                entry = model.loaded[version]
                asked_at = entry.loaded_at if entry.asked else 0.0
                used[model.name, version] = max(asked_at, last_run(model.name, version))
        recent = sorted((key for key in used if used[key]), key=lambda key: used[key], reverse=True)
        return used.keys() - set(recent[: self.others])


def target_of(model: Model) -> int | None:
    """Return the version that the bare name means in the store: `stable`, or the newest that is ready."""
    if model.unread is not None:
        return None
    if STABLE in model.targets:
        return model.targets[STABLE]
    return next(iter(model.ready()), None)


def settle(model: Model) -> Model:
    """Let the bare name and the labels follow the store as far as versions are loaded.

    Versions whose folder is gone are dropped, except the one that serves until another one does.
    """
    candidates = (target_of(model), model.serving_version)
    serving = next((version for version in candidates if version in model.loaded), None)
    versions = {
        version: entry
        for version, entry in model.versions.items()
        if entry.signature is not None or version == serving
    }
    settled = dataclasses.replace(model, versions=versions, serving_version=serving)
    labels = settle_labels(model.targets, model.labels, settled.loaded)
    return dataclasses.replace(settled, labels=labels)


def settle_labels(
    targets: Mapping[str, int], former: Mapping[str, int], loaded: Collection[int]
) -> dict[str, int]:
    """Return the labels to serve: a label keeps its former version if its target is not loaded.

    If the former version is not loaded either, the label gets its target, and requests for it wait or fail
    rather than being answered by another version.
    """
    return {
        label: former[label] if version not in loaded and former.get(label) in loaded else version
        for label, version in targets.items()
    }


def look_again(former: Entry | None, signature: Signature, *, at_start: bool) -> Entry:
    """Return the entry of a version after a poll; at the start of the process one look is enough."""
    unchanged = former is not None and former.signature == signature
    settled = unchanged or at_start
    if former is None or not (unchanged or isinstance(former, Loaded)):
        return Entry(signature, settled)
    return dataclasses.replace(former, signature=signature, settled=settled)

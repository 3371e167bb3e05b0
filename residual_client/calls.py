"""The steps of every call, shared by `Client` and `AsyncClient`, which only send: docs/decisions/0025.

A call is a generator that yields requests and pauses, and receives answers.
"""

import dataclasses
import secrets
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from detector.calibration import select_false_discovery
from detector.errors import InputError
from detector.reading import Reading
from detector.results import Classes, Scores
from detector.schema import NAME_PATTERN
from detector.tables import is_table, table_columns, text_columns
from detector.windows import is_series
from residual_client import frames, wire
from residual_client.errors import Problem, RequestError
from residual_client.retries import Retries, Steps, retry_after_seconds
from residual_client.samples import Samples, collect, rows_of_columns
from residual_client.wire import Answer, Request

MAX_CONTRIBUTIONS = 1_000_000  # in one answer, the limit of the service

Part = TypeVar("Part")


@dataclasses.dataclass(frozen=True)
class Wanted(Generic[Part]):
    """The media type of an answer, and the function that reads it."""

    media_type: str
    read: Callable[[Answer], Part]


ARRAY = Wanted(wire.NPY, wire.read_array)
CLASSES = Wanted(wire.JSON, wire.read_classes)
CELLS = Wanted(wire.JSON, wire.read_reconstruction)


@dataclasses.dataclass(frozen=True)
class Target:
    """The model that answers; without a name the service's default model.

    Attributes
    ----------
    name : str or None
    version : int or None
    label : str or None
        At most one of the two, and only with a name.
    is_resolved : bool
        Whether the client looked up the version itself.
    """

    name: str | None = None
    version: int | None = None
    label: str | None = None
    is_resolved: bool = False

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise RequestError(f"give a version or a label, got {self.version} and {self.label!r}")
        if self.name is None and (self.version is not None or self.label is not None):
            raise RequestError("a version or a label needs the name of a model")
        for what, name in (("model", self.name), ("label", self.label)):
            if name is not None and not NAME_PATTERN.fullmatch(str(name)):  # `..` would be another path
                raise RequestError(f"a {what} must match {NAME_PATTERN.pattern}, got {name!r:.80}")
        if self.version is not None and (type(self.version) is not int or self.version < 1):
            raise RequestError(f"a version must be a positive integer, got {self.version!r:.80}")

    def path(self, verb: str) -> str:
        """Return the path of a verb."""
        if self.name is None:
            return f"/{verb}"
        below = "" if self.version is None else f"/versions/{self.version}"
        if self.label is not None:
            below = f"/labels/{_quote(self.label)}"
        return f"/models/{_quote(self.name)}{below}/{verb}"


@dataclasses.dataclass
class RequestLimits:
    """How much one request may hold. Reduced when the service refuses a request as too large."""

    body_bytes: int
    rows: int

    def shrink(self, problem: Problem, n_bytes: int, n_rows: int) -> None:
        """Halve the bytes or the rows of a request that the service, or a proxy, refused as too large."""
        if problem.status == 413 and problem.type != "too-many-rows":
            self.body_bytes = max(1, n_bytes // 2)
        else:
            self.rows = max(1, n_rows // 2)


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What a call needs to know about the version that answers it."""

    target: Target
    kind: str
    sample_shape: tuple[int, ...]
    feature_names: tuple[str, ...] | None
    text_columns: frozenset[str]  # features that are text categories
    reading: Reading = dataclasses.field(default_factory=Reading)  # how its data were written

    @classmethod
    def of_manifest(cls, target: Target, manifest: Mapping[str, Any]) -> "ModelInfo":
        """Take the needed fields from a manifest."""
        names = manifest.get("feature_names")
        return cls(
            target,
            manifest["kind"],
            tuple(manifest["sample_shape"]),
            None if names is None else tuple(names),
            text_columns(manifest.get("categories")),
            Reading.of(manifest.get("reading")),
        )

    def is_series(self, samples: Any) -> bool:
        """Whether samples for a sequence model are one series, which must be sent in one request."""
        return self.kind == "sequence" and is_series(np.shape(samples), self.sample_shape)


@dataclasses.dataclass(frozen=True)
class Calls:
    """The calls of a client."""

    target: Target
    headers: Mapping[str, str]  # sent with every request
    retries: Retries
    limits: RequestLimits
    _manifests: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def score(
        self, samples: Any, alpha: float | None, fdr: float | None, explain: int | Literal["map"] | None
    ) -> Steps[Any]:
        """Score samples; see `Client.score`."""
        options = {"alpha": alpha, "fdr": fdr, "explain": explain}
        named = explain is not None and explain != "map"
        most = max(1, MAX_CONTRIBUTIONS // explain) if isinstance(explain, int) and explain > 0 else None
        parts = yield from self._verb(
            "score",
            samples,
            options,
            Wanted(wire.JSON, lambda answer: wire.read_scores(answer, named=named)),
            most_rows=most,
            keep_values=named,
        )
        scores = Scores.join(parts)
        if fdr is not None and len(parts) > 1:
            scores = dataclasses.replace(scores, selected=select_false_discovery(scores.p_value, fdr))
        return frames.scores_frame(scores, samples.index) if frames.is_pandas(samples) else scores

    def classify(self, samples: Any) -> Steps[Any]:
        """Classify samples; see `Client.classify`."""
        classes = Classes.join((yield from self._verb("classify", samples, {}, CLASSES)))
        return frames.classes_frame(classes, samples.index) if frames.is_pandas(samples) else classes

    def denoise(self, samples: Any) -> Steps[Any]:
        """Reconstruct samples; see `Client.denoise`."""
        model, form = yield from self._prepare(samples, keep_values=False)
        wanted: Wanted[Any] = ARRAY if form.accepts_npy else CELLS
        parts = yield from self._send("denoise", model, samples, form, {}, wanted, None)
        rows = _joined(parts)
        if model is None or model.feature_names is None or not frames.is_pandas(samples):
            return rows
        return frames.rows_frame(rows, model.feature_names, samples)

    def encode(self, samples: Any, dtype: str) -> Steps[np.ndarray]:
        """Encode samples; see `Client.encode`."""
        return np.concatenate((yield from self._verb("encode", samples, {"dtype": dtype}, ARRAY)))

    def decode(self, latent: Any, dtype: str) -> Steps[np.ndarray]:
        """Decode latent vectors; see `Client.decode`."""
        return np.concatenate((yield from self._verb("decode", latent, {"dtype": dtype}, ARRAY)))

    def models(self) -> Steps[list[dict[str, Any]]]:
        """List the models of the service."""
        models: list[dict[str, Any]] = wire.read_json((yield from self._get("/models")))["models"]
        return models

    def ready(self) -> Steps[bool]:
        """Ask once, without retries, whether the service is ready."""
        answer = yield Request("GET", "/readyz", headers=self.headers)
        return isinstance(answer, Answer) and answer.status == 200

    def describe(self) -> Steps[ModelInfo]:
        """Describe the version that answers now."""
        target, manifest = yield from self.manifest()
        return ModelInfo.of_manifest(target, manifest)

    def manifest(self) -> Steps[tuple[Target, dict[str, Any]]]:
        """Find the version that answers now and its manifest, which is fetched once.

        Raise `RequestError` if no model was named and there is no default model, there is no such label, or
        the version is not loaded.
        """
        name = self.target.name
        if name is None:
            name = wire.read_json((yield from self._get("/models"))).get("default_model")
            if name is None:
                raise RequestError("the service has no default model: name one")
        document = wire.read_json((yield from self._get(f"/models/{_quote(name)}")))
        version = self._version(document)
        digest = next((v.get("digest") for v in document["versions"] if v["version"] == version), None)
        target = Target(name, version, is_resolved=self.target.version is None or self.target.is_resolved)
        manifest = digest and self._manifests.get(digest)
        if manifest is None:
            path = f"/models/{_quote(name)}/versions/{version}"
            described = wire.read_json((yield from self._get(path, is_resolved=target.is_resolved)))
            if described.get("manifest") is None:
                raise RequestError(f"version {version} of model {name!r} is not loaded")
            manifest = described["manifest"]
            self._manifests.clear()
            self._manifests[described.get("digest", "")] = manifest
        return target, manifest

    def _version(self, document: Mapping[str, Any]) -> int:
        if self.target.version is not None:
            return self.target.version
        if self.target.label is None:
            version = document["version"]
            if version is None:
                raise RequestError(f"no version of model {document['name']!r} is loaded")
            return int(version)
        if self.target.label not in document["labels"]:
            known = sorted(document["labels"])
            raise RequestError(f"model {document['name']!r} has no label {self.target.label!r}, only {known}")
        return int(document["labels"][self.target.label])

    def _get(self, path: str, *, is_resolved: bool = False) -> Steps[Answer]:
        return (yield from self._record(Request("GET", path, headers=self.headers, is_resolved=is_resolved)))

    def _verb(
        self,
        verb: str,
        samples: Any,
        options: Mapping[str, Any],
        wanted: Wanted[Part],
        most_rows: int | None = None,
        keep_values: bool = False,
    ) -> Steps[list[Part]]:
        model, form = yield from self._prepare(samples, keep_values=keep_values or verb == "decode")
        return (yield from self._send(verb, model, samples, form, options, wanted, most_rows))

    def _prepare(self, samples: Any, *, keep_values: bool) -> Steps[tuple[ModelInfo | None, Samples]]:
        """Choose the form to send samples in, which for a table depends on the model."""
        if not is_table(samples):
            return None, collect(samples, keep_values=keep_values)
        model = yield from self.describe()
        if model.feature_names is None:
            raise RequestError(
                f"a model of kind {model.kind} without feature names takes arrays, not a table"
            )
        try:
            columns = table_columns(samples, model.feature_names, model.reading.ignored)
        except InputError as error:
            raise RequestError(str(error)) from error
        return model, rows_of_columns(columns, texts=bool(model.text_columns), keep_values=keep_values)

    def _send(
        self,
        verb: str,
        model: ModelInfo | None,
        samples: Any,
        form: Samples,
        options: Mapping[str, Any],
        wanted: Wanted[Part],
        most_rows: int | None,
    ) -> Steps[list[Part]]:
        """Send samples in as many requests as needed, all to one version, and return the answers in order."""
        n_rows = len(form)
        if model is None and self._rows_at_a_time(form, most_rows) < n_rows:
            model = yield from self.describe()
        target = self.target if model is None else model.target
        whole = model is not None and verb != "decode" and _is_one_series(model, samples, form)
        parts: list[Part] = []
        start = 0
        while start < n_rows or not parts:
            stop = n_rows if whole else min(n_rows, start + self._rows_at_a_time(form, most_rows))
            request = self._request(verb, target, form.body(start, stop), options, wanted.media_type)
            try:
                answer = yield from self._record(request, first_row=start)
            except Problem as problem:
                if not problem.is_too_much or stop - start <= 1 or whole:
                    raise
                if model is None:
                    model = yield from self.describe()
                    target, whole = model.target, verb != "decode" and _is_one_series(model, samples, form)
                    if whole:
                        raise
                self.limits.shrink(problem, len(request.content), stop - start)
                continue
            parts.append(wanted.read(answer))
            start = stop
        return parts

    def _rows_at_a_time(self, form: Samples, most_rows: int | None) -> int:
        rows = int(self.limits.body_bytes // max(form.row_bytes(), 1))
        return max(1, min(rows, self.limits.rows, most_rows or self.limits.rows))

    def _request(
        self, verb: str, target: Target, body: tuple[str, bytes], options: Mapping[str, Any], accept: str
    ) -> Request:
        media_type, content = body
        headers = {**self.headers, "content-type": media_type, "accept": accept}
        params = {name: value for name, value in options.items() if value is not None}
        return Request("POST", target.path(verb), params, headers, content, target.is_resolved)

    def _record(self, request: Request, *, first_row: int = 0) -> Steps[Answer]:
        """Send a request, repeated with the same request id, and return the answer if it is a success."""
        headers = {**request.headers, wire.REQUEST_ID: secrets.token_hex(16)}
        answer = yield from self.retries.record(dataclasses.replace(request, headers=headers))
        return wire.check(answer, retry_after=retry_after_seconds(answer), first_row=first_row)


def _is_one_series(model: ModelInfo, samples: Any, form: Samples) -> bool:
    if is_table(samples):
        return model.kind == "sequence"
    return form.accepts_npy and model.is_series(samples)


def _joined(parts: list[Any]) -> Any:
    """Join rows to one array, or to a list if they hold texts."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    rows = [row for part in parts for row in part]
    array = np.asarray(rows)
    return array.astype(np.float32) if array.dtype.kind in "fiu" else rows


def _quote(name: str) -> str:
    return urllib.parse.quote(name, safe="")

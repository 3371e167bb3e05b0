"""`manifest.json`: what a model folder means, read strictly and written canonically."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from detector.errors import IntegrityError, ManifestError
from detector.files import DIGEST_FILE, MANIFEST_FILE, FileEntry, read_bytes, required_files
from detector.schema import (
    CLASSIFIER_FIELDS,
    CLASSIFY_VERB,
    FILE_FIELDS,
    FIRST_SCHEMA,
    FROM_LATENT,
    LATENT_INT8_FIELDS,
    LATENT_VERBS,
    MERGE_RULES,
    NO_PROMISE,
    READABLE_SCHEMAS,
    REFUSED,
    SCHEMA_VERSION,
    THRESHOLD_FIELDS,
    VERBS,
    Check,
    fields_of,
)

Categories = Mapping[str, tuple[str, ...] | tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The decision rule `score > value`, and what it promises.

    Attributes
    ----------
    value : float
        Positive; the `rank`-th largest calibration score.
    alpha : float
        The false-alarm rate on normal data that was asked for, in (0, 1).
    promise : str
        `calibration-conditional`: the realised rate is at most `alpha` with probability `confidence`
        over the draw of the calibration split. `none`: it is `alpha` on average only.
    confidence : float or None
        In (0, 1); None where nothing is promised.
    rank : int
        k, from 1 (the largest score) to `n_calibration`.
    n_calibration : int
        How many calibration scores there are.
    expected_rate : float
        rank / (n_calibration + 1), the rate to expect on normal data.
    """

    value: float
    alpha: float
    promise: str
    confidence: float | None
    rank: int
    n_calibration: int
    expected_rate: float


@dataclasses.dataclass(frozen=True)
class LatentInt8:
    """How a latent is written as 8-bit integers: `latent = offset + scale * q` with q in [-128, 127].

    Attributes
    ----------
    offset, scale : tuple of float
        One for each component of the latent's last axis; a scale is positive.
    """

    offset: tuple[float, ...]
    scale: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Classifier:
    """What `classifier.onnx` tells apart.

    Attributes
    ----------
    classes : tuple of str
        At least two, different, in the order of the probabilities.
    temperature : float
        Positive; the logits are divided by it within the graph.
    n_labelled : mapping of str to int
        Labelled samples of each class that led to it.
    training, evaluation : mapping
        How it was fitted and its figures: facts for people, nothing is computed from them.
    """

    classes: tuple[str, ...]
    temperature: float
    n_labelled: Mapping[str, int]
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One model folder in words; `docs/model-folder.md` says what each field means.

    Attributes
    ----------
    sample_shape : tuple of int
        One sample, the batch left out: (30,) for a row, (28, 28) for a grey image, (32, 32, 3) for a
        coloured one, (window, n_channels) for a window of a series.
    value_range : tuple of float, or None
        Lowest and highest raw value of a pixel; None for vectors and sequences.
    feature_names, units : tuple of str, or None
        One for each feature of a vector model, or channel of a sequence model.
    window, stride : int or None
        Steps of a window of a series, and from one to the next, at most a window; None for other kinds.
    latent_shape : tuple of int, or None
        One latent vector; None where the model has no bottleneck.
    architecture, training, data, evaluation, tools : mapping
        Facts for people and reports; nothing is computed from them.
    merge : str or None
        How the scores of a series' windows become one score for each step, one of `MERGE_RULES`; None for
        other kinds.
    latent_int8 : LatentInt8 or None
        None where the latent has no 8-bit form.
    classifier : Classifier or None
        None where there is no `classifier.onnx`.
    reconstruction : str
        `latent`: decoding what was encoded gives the reconstruction. `memory`: `model.onnx` rebuilds a sample
        from others that it remembers, and a latent, where there is one, stands beside it.
    missing : str
        `refuse`, or `median`: a value of a row may be missing, NaN in the graph's input.
    categories : mapping of str to tuple of str or of float, or None
        By feature name, of a vector model, what a category may be: texts, which are their positions in the
        graph's input, or numbers, which are themselves. None where all features are measured.
    unknown_category : str or None
        What another value of such a feature is: `own`, a category of its own, or `refuse`. None without
        categories.
    schema_version : int
        1 has no `merge`, `latent_int8` and `classifier`: all None. 1 and 2 have no `reconstruction`: it is
        `latent`; and none of `missing`, which is `refuse`, `categories` and `unknown_category`.
    """

    name: str
    version: int
    kind: str
    created_at: str
    verbs: tuple[str, ...]
    sample_shape: tuple[int, ...]
    dtype: str
    value_range: tuple[float, float] | None
    feature_names: tuple[str, ...] | None
    units: tuple[str, ...] | None
    window: int | None
    stride: int | None
    latent_shape: tuple[int, ...] | None
    score: str
    architecture: Mapping[str, Any]
    training: Mapping[str, Any]
    data: Mapping[str, Any]
    threshold: Threshold
    evaluation: Mapping[str, Any]
    self_test_tolerance: float
    tools: Mapping[str, str]
    files: Mapping[str, FileEntry]
    merge: str | None = None
    latent_int8: LatentInt8 | None = None
    classifier: Classifier | None = None
    reconstruction: str = FROM_LATENT
    missing: str = REFUSED
    categories: Categories | None = None
    unknown_category: str | None = None
    schema_version: int = SCHEMA_VERSION

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read and validate the bytes of a `manifest.json`.

        Raises
        ------
        ManifestError
            Naming the field, what it must be and what it is.
        """
        try:
            document = json.loads(
                content, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
            )
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{MANIFEST_FILE} is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise ManifestError(f"{MANIFEST_FILE} must be a JSON object, got {type(document).__name__}")
        schema = document.get("schema_version")
        if type(schema) is not int or schema not in READABLE_SCHEMAS:
            raise ManifestError(
                f"{MANIFEST_FILE} has schema version {schema!r}, this release reads the versions "
                + ", ".join(map(str, READABLE_SCHEMAS))
            )
        _check_members(document, fields_of(schema), where="")
        threshold = document["threshold"]
        _check_members(threshold, THRESHOLD_FIELDS, where="threshold.")
        for name, entry in document["files"].items():
            _check_members(entry, FILE_FIELDS, where=f"files[{name!r}].")
        members = {name: _frozen(value) for name, value in document.items()}
        members["threshold"] = Threshold(**threshold)
        members["files"] = {name: FileEntry(**entry) for name, entry in document["files"].items()}
        if members.get("categories") is not None:
            members["categories"] = {name: tuple(known) for name, known in document["categories"].items()}
        for name, (form, fields) in _PARTS.items():
            if members.get(name) is not None:
                _check_members(members[name], fields, where=f"{name}.")
                members[name] = form(**{key: _frozen(value) for key, value in members[name].items()})
        manifest = cls(**members)
        _check_consistency(manifest)
        return manifest

    def to_json(self) -> bytes:
        """The canonical bytes: sorted keys, two spaces, one line feed at the end.

        Raises
        ------
        ManifestError
            If it holds NaN or infinity, which JSON has no words for.
        """
        document = dataclasses.asdict(self)
        document = {name: document[name] for name in fields_of(self.schema_version)}
        try:
            text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise ManifestError(f"{MANIFEST_FILE} cannot be written: {error}") from error
        return (text + "\n").encode()


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """The manifest of a model folder, checked against `manifest.sha256`, and its digest.

    Parameters
    ----------
    folder : Path
        A version folder, `models/<name>/<version>`.

    Returns
    -------
    tuple of Manifest and str
        The digest is 64 lower-case hex digits: the one value that stands for the whole folder.

    Raises
    ------
    IntegrityError
        If either file is missing or they do not belong together.
    ManifestError
        If the manifest cannot be read or contradicts itself.
    """
    content = read_bytes(folder, MANIFEST_FILE)
    recorded = read_bytes(folder, DIGEST_FILE)
    digest = hashlib.sha256(content).hexdigest()
    if recorded != digest.encode() + b"\n":
        raise IntegrityError(
            f"{MANIFEST_FILE} and {DIGEST_FILE} do not belong together: the manifest has SHA-256 {digest}, "
            f"the file says {recorded[:80].decode('ascii', 'replace')!r}"
        )
    return Manifest.from_json(content), digest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` and `manifest.sha256` into a folder that is not published yet."""
    content = manifest.to_json()
    Manifest.from_json(content)
    (folder / MANIFEST_FILE).write_bytes(content)
    (folder / DIGEST_FILE).write_bytes(hashlib.sha256(content).hexdigest().encode() + b"\n")


def verbs_of(*, latent: bool, classifier: bool = False) -> tuple[str, ...]:
    """What a model can do."""
    absent = set() if latent else set(LATENT_VERBS)
    absent |= set() if classifier else {CLASSIFY_VERB}
    return tuple(verb for verb in VERBS if verb not in absent)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _refuse_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's members; of two with one name, other readers may see the other."""
    document = dict(members)
    if len(document) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in an object")
    return document


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# --- what each member must be: a test, and the words for it -------------------------------------------------

FIRST_SCHEMA |= dict.fromkeys(("reconstruction", "missing", "categories", "unknown_category"), 3)

# Members that are objects of their own, or null.
_PARTS: dict[str, tuple[Callable[..., Any], dict[str, Check]]] = {
    "latent_int8": (LatentInt8, LATENT_INT8_FIELDS),
    "classifier": (Classifier, CLASSIFIER_FIELDS),
}


def _check_members(document: Any, fields: Mapping[str, Check], where: str) -> None:
    """Every field present, none unknown, each what it must be."""
    if not isinstance(document, dict):
        raise ManifestError(f"{MANIFEST_FILE}: {where[:-1]} must be an object, got {document!r}")
    for name in document.keys() - fields.keys():
        raise ManifestError(f"{MANIFEST_FILE}: unknown field {where}{name}")
    for name, (holds, words) in fields.items():
        if name not in document:
            raise ManifestError(f"{MANIFEST_FILE}: field {where}{name} is missing")
        if not holds(document[name]):
            raise ManifestError(
                f"{MANIFEST_FILE}: {where}{name} must be {words}, got {str(document[name])[:80]!r}"
            )


def _check_consistency(manifest: Manifest) -> None:
    """What no single field shows: fields that contradict each other."""
    rules = (
        *_shape_rules(manifest),
        *_window_rules(manifest),
        *_feature_rules(manifest),
        *_cell_rules(manifest),
        *_threshold_rules(manifest.threshold),
        *_latent_int8_rules(manifest),
        *_classifier_rules(manifest.classifier),
    )
    parts = {"latent": manifest.latent_shape is not None, "classifier": manifest.classifier is not None}
    wanted = sorted(verbs_of(**parts))
    missing = sorted(set(required_files(**parts)) - manifest.files.keys())
    rules += (
        (sorted(manifest.verbs) == wanted, f"verbs must be {wanted} for this latent_shape and classifier"),
        (not missing, f"files must list {missing} too"),
    )
    for holds, words in rules:
        if not holds:
            raise ManifestError(f"{MANIFEST_FILE}: {words}")


Rules = tuple[tuple[bool, str], ...]


def _shape_rules(manifest: Manifest) -> Rules:
    rank, channels = len(manifest.sample_shape), manifest.sample_shape[2:]
    if manifest.kind == "vector":
        return ((rank == 1, "a vector has one dimension"),)
    if manifest.kind == "image":
        return (
            (rank in (2, 3), "an image has two dimensions, or three with its channels"),
            (channels in ((), (1,), (3,)), "an image has one channel or three"),
            (manifest.value_range is not None, "an image model needs a value_range"),
            (manifest.feature_names is None, "an image has no feature_names"),
        )
    return ((rank == 2, "a window of a sequence has two dimensions, steps and channels"),)


def _window_rules(manifest: Manifest) -> Rules:
    window, stride = manifest.window, manifest.stride
    if manifest.kind != "sequence":
        nothing = (window, stride, manifest.merge) == (None, None, None)
        return ((nothing, f"window, stride and merge are for sequences, not for kind {manifest.kind}"),)
    n_steps = manifest.sample_shape[0]
    return (
        (window == n_steps >= 2, f"window must be the first size of sample_shape, {n_steps}, and at least 2"),
        (
            stride is not None and stride <= n_steps,
            "stride must be at most window, so that no step is left out",
        ),
        (manifest.merge is not None, "a sequence model needs a merge rule, " + " or ".join(MERGE_RULES)),
        (manifest.value_range is None, "a sequence has no value_range"),
    )


def _feature_rules(manifest: Manifest) -> Rules:
    n_features, names, units = manifest.sample_shape[-1], manifest.feature_names, manifest.units
    return (
        (names is None or len(names) == n_features, f"feature_names must have {n_features} names"),
        (names is None or len(set(names)) == len(names), "feature_names must differ from each other"),
        (units is None or len(units) == n_features, f"units must have {n_features} entries"),
    )


def _cell_rules(manifest: Manifest) -> Rules:
    """What stands in a row beside measured values."""
    categories, unknown = manifest.categories, manifest.unknown_category
    is_vector = manifest.kind == "vector"
    return (
        (is_vector or manifest.missing == REFUSED, f"missing must be {REFUSED} for kind {manifest.kind}"),
        (is_vector or categories is None, f"categories are for vectors, not for kind {manifest.kind}"),
        (
            categories is None or categories.keys() <= set(manifest.feature_names or ()),
            "categories must be of features that feature_names has",
        ),
        (
            (categories is None) == (unknown is None),
            "unknown_category stands with categories, and only with them",
        ),
    )


def _threshold_rules(rule: Threshold) -> Rules:
    return (
        (rule.rank <= rule.n_calibration, "threshold.rank is above threshold.n_calibration"),
        (
            rule.expected_rate == rule.rank / (rule.n_calibration + 1),
            "threshold.expected_rate must be rank / (n_calibration + 1)",
        ),
        (
            (rule.promise == NO_PROMISE) == (rule.confidence is None),
            "threshold.confidence stands with a promise, and only with one",
        ),
    )


def _latent_int8_rules(manifest: Manifest) -> Rules:
    form = manifest.latent_int8
    if form is None:
        return ()
    if manifest.latent_shape is None:
        return ((False, "latent_int8 needs a latent_shape"),)
    size = manifest.latent_shape[-1]
    return (
        (len(form.offset) == size, f"latent_int8.offset must have {size} numbers"),
        (len(form.scale) == size, f"latent_int8.scale must have {size} numbers"),
    )


def _classifier_rules(classifier: Classifier | None) -> Rules:
    if classifier is None:
        return ()
    same = classifier.n_labelled.keys() == set(classifier.classes)
    return ((same, "classifier.n_labelled must have one count for each of classifier.classes"),)

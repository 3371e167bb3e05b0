"""`manifest.json`: the meaning of a model folder. Read strictly, written canonically.

A field is declared once, with its check, in a dataclass here. To add one, give it a default and
`metadata=schema.since(VERSION, ...)`, so that manifests of earlier schema versions still load.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Self, TypeVar

from detector import schema
from detector.errors import IntegrityError, ManifestError
from detector.files import DIGEST_FILE, MANIFEST_FILE, FileEntry, read_bytes, required_files
from detector.reading import Reading
from detector.schema import Check, must, one_of, or_null, since

Form = TypeVar("Form")
Categories = Mapping[str, tuple[str, ...] | tuple[float, ...]]

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def _members(form: type[Any], version: int = schema.SCHEMA_VERSION) -> dict[str, Check]:
    """Names and checks of the members that a JSON object has in a schema version."""
    fields = dataclasses.fields(form)
    return {each.name: each.metadata for each in fields if each.metadata["since"] <= version}


def _read(form: type[Form], document: Any, where: str, version: int = schema.SCHEMA_VERSION) -> Form:
    """Make a dataclass from a JSON object that has every member, no other, each as its check says.

    The errors have the field's place `where`, the expected value and the given one.
    """
    if not isinstance(document, dict):
        raise ManifestError(f"{MANIFEST_FILE}: {where[:-1]} must be an object, got {document!r}")
    checks = _members(form, version)
    for name in document.keys() - checks.keys():
        raise ManifestError(f"{MANIFEST_FILE}: unknown field {where}{name}")
    for name, check in checks.items():
        if name not in document:
            raise ManifestError(f"{MANIFEST_FILE}: field {where}{name} is missing")
        if not check["holds"](document[name]):
            got = str(document[name])[:80]
            raise ManifestError(f"{MANIFEST_FILE}: {where}{name} must be {check['words']}, got {got!r}")
    return form(**{name: check["read"](document[name], f"{where}{name}") for name, check in checks.items()})


def _part(form: type[Any]) -> Check:
    """Check a member that is an object with a dataclass of its own."""
    return {**schema.OBJECT, "read": lambda value, where: _read(form, value, f"{where}.")}


_FILE_ENTRIES = must(
    lambda value: isinstance(value, dict) and all(map(_FILE_NAME.fullmatch, value)),
    "an object whose keys are plain file names",
    lambda value, where: {
        name: _read(FileEntry, entry, f"{where}[{name!r}].") for name, entry in value.items()
    },
)


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The decision rule `score > value`, and its promise.

    Attributes
    ----------
    value : float
        Positive; the `rank`-th largest calibration score.
    alpha : float
        The requested false-alarm rate on normal data, in (0, 1).
    promise : str
        `calibration-conditional`: the realised rate is at most `alpha` with probability `confidence`
        over the draw of the calibration split. `none`: it is at most `alpha` on average only.
    confidence : float or None
        In (0, 1); None without a promise.
    rank : int
        k, from 1 (the largest score) to `n_calibration`.
    n_calibration : int
        Number of calibration scores.
    expected_rate : float
        rank / (n_calibration + 1), the false-alarm rate to expect on normal data.
    """

    value: float = field(metadata=schema.POSITIVE)
    alpha: float = field(metadata=schema.FRACTION)
    promise: str = field(metadata=one_of(schema.CONDITIONAL_PROMISE, schema.NO_PROMISE))
    confidence: float | None = field(metadata=or_null(schema.FRACTION))
    rank: int = field(metadata=schema.COUNT)
    n_calibration: int = field(metadata=schema.COUNT)
    expected_rate: float = field(metadata=schema.FRACTION)


@dataclasses.dataclass(frozen=True)
class LatentInt8:
    """How a latent is stored as 8-bit integers: `latent = offset + scale * q` with q in [-128, 127].

    Attributes
    ----------
    offset, scale : tuple of float
        One for each component of the latent's last axis; a scale is positive.
    """

    offset: tuple[float, ...] = field(metadata=schema.NUMBERS)
    scale: tuple[float, ...] = field(metadata=schema.POSITIVES)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """The classes that `classifier.onnx` distinguishes.

    Attributes
    ----------
    classes : tuple of str
        At least two, different, in the order of the probabilities.
    temperature : float
        Positive; the graph divides the logits by it.
    n_labelled : mapping of str to int
        Number of labelled samples of each class that it was fitted on.
    training, evaluation : mapping
        How it was fitted, and its test figures: for people, nothing is computed from them.
    """

    classes: tuple[str, ...] = field(metadata=schema.CLASSES)
    temperature: float = field(metadata=schema.POSITIVE)
    n_labelled: Mapping[str, int] = field(metadata=schema.COUNTS)
    training: Mapping[str, Any] = field(metadata=schema.OBJECT)
    evaluation: Mapping[str, Any] = field(metadata=schema.OBJECT)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The description of one model folder; `docs/model-folder.md` explains each field.

    Attributes
    ----------
    sample_shape : tuple of int
        Shape of one sample, without the batch: (30,) for a row, (28, 28) for a grey image, (32, 32, 3) for a
        colour image, (window, n_channels) for a window of a series.
    value_range : tuple of float, or None
        Lowest and highest raw value of a pixel; None for vectors and sequences.
    feature_names, units : tuple of str, or None
        One for each feature of a vector model, or channel of a sequence model.
    window, stride : int or None
        Length of a window in steps, and steps from one window to the next, at most `window`; None unless the
        kind is `sequence`.
    latent_shape : tuple of int, or None
        Shape of one latent vector; None where the model has no bottleneck.
    architecture, training, data, evaluation, tools : mapping
        Facts for people and reports; nothing is computed from them.
    merge : str or None
        How window scores become one score for each step of a series, one of `schema.MERGE_RULES`; None unless
        the kind is `sequence`.
    latent_int8 : LatentInt8 or None
        None where the latent has no 8-bit form.
    classifier : Classifier or None
        None where there is no `classifier.onnx`.
    reconstruction : str
        `latent`: the reconstruction is the decoded latent. `memory`: `model.onnx` rebuilds a sample from
        samples that it remembers, and the latent, if any, belongs to a separate autoencoder.
    missing : str
        `refuse`, or `median`: values of a row may be missing, NaN in the graph's input. For series `gaps`: a
        step whose window holds a missing value has no score; or `interpolate`: as `gaps`, after runs of at
        most `reading.max_gap` missing values were filled.
    categories : mapping of str to tuple of str or of float, or None
        For each feature of a vector model that is a category, its values: texts, which the graph takes as
        their positions, or numbers. None where all features are measured.
    unknown_category : str or None
        What happens to any other value of such a feature: `own`, it is one more category, or `refuse`. None
        without categories.
    reading : Reading
        How the source of the samples was read; its defaults for a folder of an earlier schema.
    schema_version : int
        Fields that a schema version does not have keep their defaults.
    """

    name: str = field(metadata=schema.NAME)
    version: int = field(metadata=schema.COUNT)
    kind: str = field(metadata=one_of(*schema.KINDS))
    created_at: str = field(metadata=schema.TEXT)
    verbs: tuple[str, ...] = field(metadata=schema.SOME_VERBS)
    sample_shape: tuple[int, ...] = field(metadata=schema.SHAPE)
    dtype: str = field(metadata=one_of("float32"))
    value_range: tuple[float, float] | None = field(metadata=or_null(schema.RANGE))
    feature_names: tuple[str, ...] | None = field(metadata=or_null(schema.STRINGS))
    units: tuple[str, ...] | None = field(metadata=or_null(schema.STRINGS))
    window: int | None = field(metadata=or_null(schema.COUNT))
    stride: int | None = field(metadata=or_null(schema.COUNT))
    latent_shape: tuple[int, ...] | None = field(metadata=or_null(schema.SHAPE))
    score: str = field(metadata=schema.TEXT)
    architecture: Mapping[str, Any] = field(metadata=schema.OBJECT)
    training: Mapping[str, Any] = field(metadata=schema.OBJECT)
    data: Mapping[str, Any] = field(metadata=schema.OBJECT)
    threshold: Threshold = field(metadata=_part(Threshold))
    evaluation: Mapping[str, Any] = field(metadata=schema.OBJECT)
    self_test_tolerance: float = field(metadata=schema.FRACTION)
    tools: Mapping[str, str] = field(metadata=schema.OBJECT)
    files: Mapping[str, FileEntry] = field(metadata=_FILE_ENTRIES)
    merge: str | None = field(default=None, metadata=since(2, or_null(one_of(*schema.MERGE_RULES))))
    latent_int8: LatentInt8 | None = field(default=None, metadata=since(2, or_null(_part(LatentInt8))))
    classifier: Classifier | None = field(default=None, metadata=since(2, or_null(_part(Classifier))))
    reconstruction: str = field(
        default=schema.FROM_LATENT, metadata=since(3, one_of(schema.FROM_LATENT, schema.FROM_MEMORY))
    )
    missing: str = field(default=schema.REFUSED, metadata=since(3, one_of(*schema.MISSING_RULES)))
    categories: Categories | None = field(default=None, metadata=since(3, or_null(schema.CATEGORIES)))
    unknown_category: str | None = field(
        default=None, metadata=since(3, or_null(one_of(*schema.UNKNOWN_RULES)))
    )
    reading: Reading = field(default_factory=Reading, metadata=since(4, _part(Reading)))
    schema_version: int = field(default=schema.SCHEMA_VERSION, metadata=schema.COUNT)

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read and validate the bytes of a `manifest.json`.

        Raises
        ------
        ManifestError
            Naming the field, the expected value and the given one.
        """
        try:
            document = json.loads(
                content, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
            )
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{MANIFEST_FILE} is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise ManifestError(f"{MANIFEST_FILE} must be a JSON object, got {type(document).__name__}")
        version = document.get("schema_version")
        if type(version) is not int or version not in schema.READABLE_SCHEMAS:
            raise ManifestError(
                f"{MANIFEST_FILE} has schema version {version!r}, this release reads the versions "
                + ", ".join(map(str, schema.READABLE_SCHEMAS))
            )
        manifest = _read(cls, document, "", version)
        _check_consistency(manifest)
        return manifest

    def to_json(self) -> bytes:
        """Write the canonical bytes: sorted keys, indented by two spaces, one line feed at the end.

        Raise `ManifestError` if a value is NaN or infinite, which JSON cannot express.
        """
        document = dataclasses.asdict(self)
        document = {name: document[name] for name in _members(Manifest, self.schema_version)}
        try:
            text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise ManifestError(f"{MANIFEST_FILE} cannot be written: {error}") from error
        return (text + "\n").encode()


def read_manifest(folder: Path) -> tuple[Manifest, str]:
    """Read the manifest of a model folder, checked against `manifest.sha256`, and its digest.

    Parameters
    ----------
    folder : Path
        A version folder, `models/<name>/<version>`.

    Returns
    -------
    tuple of Manifest and str
        The digest is 64 lower-case hex digits; it covers the whole folder.

    Raises
    ------
    IntegrityError
        If either file is missing or the two do not match.
    ManifestError
        If the manifest cannot be read or contradicts itself.
    """
    content = read_bytes(folder, MANIFEST_FILE)
    recorded = read_bytes(folder, DIGEST_FILE)
    digest = hashlib.sha256(content).hexdigest()
    if recorded != digest.encode() + b"\n":
        raise IntegrityError(
            f"{MANIFEST_FILE} and {DIGEST_FILE} do not match: the manifest has SHA-256 {digest}, "
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
    """Return the verbs of a model with or without a latent and a classifier."""
    absent = set() if latent else set(schema.LATENT_VERBS)
    absent |= set() if classifier else {schema.CLASSIFY_VERB}
    return tuple(verb for verb in schema.VERBS if verb not in absent)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _refuse_duplicates(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its members; with two of one name, readers would disagree about its value."""
    document = dict(members)
    if len(document) < len(members):
        names = [name for name, _ in members]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the member {twice!r} twice")
    return document


# --- fields that must not contradict each other -------------------------------------------------------------


def _check_consistency(manifest: Manifest) -> None:
    """Refuse fields that contradict each other."""
    parts = {"latent": manifest.latent_shape is not None, "classifier": manifest.classifier is not None}
    wanted = sorted(verbs_of(**parts))
    missing = sorted(set(required_files(**parts)) - manifest.files.keys())
    rules = {
        **_shape_rules(manifest),
        **_window_rules(manifest),
        **_feature_rules(manifest),
        **_cell_rules(manifest),
        **_threshold_rules(manifest.threshold),
        **_latent_int8_rules(manifest),
        **_classifier_rules(manifest.classifier),
        f"verbs must be {wanted} for this latent_shape and classifier": sorted(manifest.verbs) == wanted,
        f"files must list {missing} too": not missing,
    }
    for words, holds in rules.items():
        if not holds:
            raise ManifestError(f"{MANIFEST_FILE}: {words}")


Rules = dict[str, bool]  # conditions in the words of the error, and whether they hold


def _shape_rules(manifest: Manifest) -> Rules:
    rank, channels = len(manifest.sample_shape), manifest.sample_shape[2:]
    if manifest.kind == "vector":
        return {"a vector has one dimension": rank == 1}
    if manifest.kind == "image":
        return {
            "an image has two dimensions, or three with its channels": rank in (2, 3),
            "an image has one channel or three": channels in ((), (1,), (3,)),
            "an image model needs a value_range": manifest.value_range is not None,
            "an image has no feature_names": manifest.feature_names is None,
        }
    return {"a window of a sequence has two dimensions, steps and channels": rank == 2}


def _window_rules(manifest: Manifest) -> Rules:
    window, stride, merge = manifest.window, manifest.stride, manifest.merge
    if manifest.kind != "sequence":
        words = f"window, stride and merge are for sequences, not for kind {manifest.kind}"
        return {words: (window, stride, merge) == (None, None, None)}
    n_steps = manifest.sample_shape[0]
    covered = stride is not None and stride <= n_steps
    return {
        f"window must be the first size of sample_shape, {n_steps}, and at least 2": window == n_steps >= 2,
        "stride must be at most window, so that no step is left out": covered,
        "a sequence model needs a merge rule, " + " or ".join(schema.MERGE_RULES): merge is not None,
        "a sequence has no value_range": manifest.value_range is None,
    }


def _feature_rules(manifest: Manifest) -> Rules:
    n_features, names, units = manifest.sample_shape[-1], manifest.feature_names, manifest.units
    return {
        f"feature_names must have {n_features} names": names is None or len(names) == n_features,
        "feature_names must differ from each other": names is None or len(set(names)) == len(names),
        f"units must have {n_features} entries": units is None or len(units) == n_features,
    }


def _cell_rules(manifest: Manifest) -> Rules:
    """Check categories and missing values."""
    kind, categories, missing = manifest.kind, manifest.categories, manifest.missing
    is_vector, named = kind == "vector", (categories or {}).keys() <= set(manifest.feature_names or ())
    both = (categories is None) == (manifest.unknown_category is None)
    allowed = schema.MISSING_RULES_OF[kind]
    filled = (missing == schema.INTERPOLATED) == (manifest.reading.max_gap is not None)
    return {
        f"missing must be {' or '.join(allowed)} for kind {kind}": missing in allowed,
        "reading.max_gap must be given with missing interpolate, and only with it": filled,
        f"categories are for vectors, not for kind {kind}": is_vector or categories is None,
        "categories must be features that feature_names lists": named,
        "unknown_category must be given with categories, and only with them": both,
    }


def _threshold_rules(rule: Threshold) -> Rules:
    expected_rate = rule.rank / (rule.n_calibration + 1)
    both = (rule.promise == schema.NO_PROMISE) == (rule.confidence is None)
    return {
        "threshold.rank is above threshold.n_calibration": rule.rank <= rule.n_calibration,
        "threshold.expected_rate must be rank / (n_calibration + 1)": rule.expected_rate == expected_rate,
        "threshold.confidence must be given with a promise, and only with one": both,
    }


def _latent_int8_rules(manifest: Manifest) -> Rules:
    form = manifest.latent_int8
    if form is None:
        return {}
    if manifest.latent_shape is None:
        return {"latent_int8 needs a latent_shape": False}
    size = manifest.latent_shape[-1]
    return {
        f"latent_int8.offset must have {size} numbers": len(form.offset) == size,
        f"latent_int8.scale must have {size} numbers": len(form.scale) == size,
    }


def _classifier_rules(classifier: Classifier | None) -> Rules:
    if classifier is None:
        return {}
    same = classifier.n_labelled.keys() == set(classifier.classes)
    return {"classifier.n_labelled must have one count for each of classifier.classes": same}

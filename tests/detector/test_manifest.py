"""`manifest.json`: written fields are read back, and every error names its field."""

import copy
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.errors import IntegrityError, ManifestError
from detector.files import FileEntry, describe_files, required_files
from detector.manifest import (
    Classifier,
    LatentInt8,
    Manifest,
    Threshold,
    read_manifest,
    verbs_of,
    write_manifest,
)
from detector.reading import Reading
from detector.schema import MERGE_RULES, MISSING_RULES_OF, UNKNOWN_RULES
from tests.model_folder import write_model_folder

FIELDS = [field.name for field in dataclasses.fields(Manifest)]
THRESHOLD_FIELDS = [field.name for field in dataclasses.fields(Threshold)]
SINCE_SCHEMA_3 = ("reconstruction", "missing", "categories", "unknown_category")
SINCE_SCHEMA_4 = ("reading",)
MISSING = object()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, Any]:
    """A valid manifest as a JSON document; `document` hands out copies."""
    folder = tmp_path_factory.mktemp("folder")
    write_model_folder(folder)
    return json.loads((folder / "manifest.json").read_bytes())


@pytest.fixture
def document(written) -> dict[str, Any]:
    return copy.deepcopy(written)


def change(document: dict[str, Any], field: str, value: Any) -> None:
    """Set, or with MISSING remove, one member by its path, say `threshold.rank`."""
    *path, last = field.split("/")
    for member in path:
        document = document[member]
    if value is MISSING:
        del document[last]
    else:
        document[last] = value


def add_parts(document: dict[str, Any]) -> None:
    """Give the manifest both of its optional parts."""
    document["latent_int8"] = {"offset": [0.0, 1.0], "scale": [0.5, 1e-3]}
    document["classifier"] = copy.deepcopy(CLASSIFIER)
    document["verbs"] = list(verbs_of(latent=True, classifier=True))
    document["files"]["classifier.onnx"] = {"sha256": "0" * 64, "size": 1}


def refusal(document: Any) -> str:
    """Return the sentence with which a document is refused."""
    with pytest.raises(ManifestError) as caught:
        Manifest.from_json(json.dumps(document).encode())
    return str(caught.value)


texts = st.text(st.characters(codec="utf-8"), max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(texts, json_values, max_size=3)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)


@st.composite
def thresholds(draw: st.DrawFn) -> Threshold:
    n_calibration = draw(st.integers(1, 10_000))
    rank = draw(st.integers(1, n_calibration))
    confidence = draw(st.none() | st.just(0.95))
    return Threshold(
        value=draw(st.floats(min_value=0, exclude_min=True, allow_infinity=False)),
        alpha=draw(st.floats(0, 1, exclude_min=True, exclude_max=True)),
        promise="none" if confidence is None else "calibration-conditional",
        confidence=confidence,
        rank=rank,
        n_calibration=n_calibration,
        expected_rate=rank / (n_calibration + 1),
    )


numbers = st.floats(allow_nan=False, allow_infinity=False)
positive_numbers = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


@st.composite
def latent_int8s(draw: st.DrawFn, size: int) -> LatentInt8:
    offset = draw(st.lists(numbers, min_size=size, max_size=size))
    scale = draw(st.lists(positive_numbers, min_size=size, max_size=size))
    return LatentInt8(tuple(offset), tuple(scale))


@st.composite
def classifiers(draw: st.DrawFn) -> Classifier:
    classes = draw(st.lists(texts, min_size=2, max_size=4, unique=True).map(tuple))
    n_labelled = {name: draw(st.integers(1, 10_000)) for name in classes}
    return Classifier(classes, draw(positive_numbers), n_labelled, draw(objects), draw(objects))


@st.composite
def category_fields(draw: st.DrawFn, names: tuple[str, ...] | None) -> dict[str, Any]:
    if not names or not draw(st.booleans()):
        return {}
    known = st.lists(texts, min_size=1, max_size=3, unique=True) | st.lists(
        st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=3, unique=True
    )
    categories = draw(st.dictionaries(st.sampled_from(names), known.map(tuple), min_size=1))
    return {"categories": categories, "unknown_category": draw(st.sampled_from(UNKNOWN_RULES))}


readings = st.builds(
    Reading,
    missing_values=st.lists(texts, max_size=3).map(tuple),
    delimiter=st.none() | texts,
    skip_rows=st.integers(0, 9),
    resize=st.none() | st.tuples(st.integers(1, 512), st.integers(1, 512)),
)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    kind, shape = draw(
        st.one_of(
            st.tuples(st.just("vector"), st.tuples(st.integers(1, 5))),
            st.tuples(st.just("image"), st.sampled_from([(8, 8), (28, 28), (32, 32, 3)])),
            st.tuples(st.just("sequence"), st.tuples(st.integers(2, 64), st.integers(1, 5))),
        )
    )
    some_names = st.lists(texts, min_size=shape[-1], max_size=shape[-1], unique=True).map(tuple)
    names = None if kind == "image" else draw(st.none() | some_names)
    latent_shape = draw(st.none() | st.tuples(st.integers(1, 16)))
    classifier = draw(st.none() | classifiers())
    parts = {"latent": latent_shape is not None, "classifier": classifier is not None}
    missing = draw(st.sampled_from(MISSING_RULES_OF[kind]))
    entries = st.builds(FileEntry, sha256=digests, size=st.integers(0, 2**40))
    return Manifest(
        name=draw(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)),
        version=draw(st.integers(1, 2**31)),
        kind=kind,
        created_at=draw(texts),
        verbs=tuple(draw(st.permutations(verbs_of(**parts)))),
        sample_shape=shape,
        dtype="float32",
        value_range=(0.0, 255.0) if kind == "image" else None,
        feature_names=names,
        units=None if kind == "image" else draw(st.none() | some_names),
        window=shape[0] if kind == "sequence" else None,
        stride=draw(st.integers(1, shape[0])) if kind == "sequence" else None,
        latent_shape=latent_shape,
        score=draw(texts),
        architecture=draw(objects),
        training=draw(objects),
        data=draw(objects),
        threshold=draw(thresholds()),
        evaluation=draw(objects),
        self_test_tolerance=draw(st.floats(1e-9, 0.5)),
        tools=draw(st.dictionaries(texts, texts, max_size=3)),
        files={name: draw(entries) for name in required_files(**parts)},
        merge=draw(st.sampled_from(MERGE_RULES)) if kind == "sequence" else None,
        latent_int8=draw(st.none() | latent_int8s(latent_shape[-1])) if latent_shape else None,
        classifier=classifier,
        reading=dataclasses.replace(draw(readings), max_gap=3 if missing == "interpolate" else None),
        missing=missing,
        **draw(category_fields(names if kind == "vector" else None)),
    )


@given(manifest=manifests())
def test_manifest_survives_write_and_read(manifest):
    """A manifest is read back equal, and written again as the same bytes."""
    content = manifest.to_json()

    again = Manifest.from_json(content)

    assert again == manifest
    assert again.to_json() == content


def test_write_manifest_leaves_a_canonical_file_and_its_digest(tmp_path):
    """Sorted keys, one line feed at the end; the digest is 64 lower-case hex digits and one line feed."""
    manifest = write_model_folder(tmp_path)
    content = (tmp_path / "manifest.json").read_bytes()
    digest = (tmp_path / "manifest.sha256").read_bytes()

    assert content.endswith(b"}\n")
    assert list(json.loads(content)) == sorted(FIELDS)
    assert len(digest) == 65
    assert read_manifest(tmp_path) == (manifest, digest.decode().rstrip("\n"))


def test_write_manifest_refuses_what_it_could_not_read(tmp_path):
    """A contradiction is found when it is written, and leaves the folder as it was."""
    manifest = write_model_folder(tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()

    with pytest.raises(ManifestError, match="feature_names must have 3 names"):
        write_manifest(tmp_path, dataclasses.replace(manifest, feature_names=("a",)))

    assert (tmp_path / "manifest.json").read_bytes() == before


def test_write_manifest_refuses_a_figure_that_is_not_finite(tmp_path):
    """NaN is no JSON: an evaluation that failed must not be written as if it had a figure."""
    manifest = write_model_folder(tmp_path)

    with pytest.raises(ManifestError, match=r"manifest\.json cannot be written: .*nan"):
        write_manifest(tmp_path, dataclasses.replace(manifest, evaluation={"roc_auc": float("nan")}))


def test_describe_files_leaves_out_the_manifest_and_its_digest(tmp_path):
    """The two files cannot contain their own hashes."""
    write_model_folder(tmp_path)

    assert set(describe_files(tmp_path)) == set(required_files(latent=True))


@pytest.mark.parametrize("field", [name for name in FIELDS if name != "schema_version"])
def test_manifest_names_a_missing_field(document, field):
    """Every field is required; there are no silent defaults."""
    change(document, field, MISSING)

    assert refusal(document) == f"manifest.json: field {field} is missing"


@pytest.mark.parametrize("field", THRESHOLD_FIELDS)
def test_manifest_names_a_missing_threshold_field(document, field):
    """Fields within the threshold are required, too."""
    change(document, f"threshold/{field}", MISSING)

    assert refusal(document) == f"manifest.json: field threshold.{field} is missing"


WRONG = [
    ("name", ""),
    ("name", "Upper"),
    ("name", "../up"),
    ("name", "a" * 65),
    ("name", "a\n"),
    ("name", 5),
    ("version", 0),
    ("version", -1),
    ("version", 1.0),
    ("version", True),
    ("version", "1"),
    ("version", 10**400),
    ("kind", "table"),
    ("kind", None),
    ("created_at", 20260101),
    ("verbs", "score"),
    ("verbs", ["score", "score"]),
    ("verbs", ["score", "predict"]),
    ("sample_shape", []),
    ("sample_shape", [0]),
    ("sample_shape", [3.0]),
    ("sample_shape", 3),
    ("sample_shape", [1, 1, 1, 1, 1]),
    ("dtype", "float64"),
    ("value_range", [1, 0]),
    ("value_range", [0, 0]),
    ("value_range", [0]),
    ("value_range", [0, "1"]),
    ("value_range", [0, 10**400]),
    ("feature_names", ["a", "b", 3]),
    ("feature_names", "abc"),
    ("units", [None, None, None]),
    ("window", 0),
    ("stride", 1.5),
    ("latent_shape", [0]),
    ("score", None),
    ("architecture", []),
    ("training", "none"),
    ("data", None),
    ("threshold", 0.5),
    ("evaluation", []),
    ("self_test_tolerance", 0),
    ("self_test_tolerance", 1),
    ("tools", ["numpy"]),
    ("files", ["model.onnx"]),
    ("files", {"../model.onnx": {}}),
    ("files", {".hidden": {}}),
    ("merge", 1),
    ("merge", "first"),
    ("reconstruction", None),
    ("reconstruction", "decoder"),
    ("missing", None),
    ("missing", "mean"),
    ("categories", ["a"]),
    ("categories", {}),
    ("categories", {"a": []}),
    ("categories", {"a": ["x", "x"]}),
    ("categories", {"a": ["x", 1]}),
    ("categories", {"a": [1, 1 + 1e-12]}),
    ("categories", {"a": [1, 1e300]}),
    ("categories", {"a": "xy"}),
    ("unknown_category", "new"),
    ("reading", None),
    ("reading/missing_values", "NA"),
    ("reading/delimiter", 9),
    ("reading/encoding", []),
    ("reading/decimal", None),
    ("reading/thousands", 0),
    ("reading/skip_rows", -1),
    ("reading/time_format", 1),
    ("reading/time_zone", 9),
    ("reading/ignored", [1]),
    ("reading/max_gap", 0),
    ("reading/resize", [96]),
    ("reading/resize", [0, 96]),
    ("latent_int8", [0.1]),
    ("latent_int8/offset", 0.0),
    ("latent_int8/offset", [0.0, "1"]),
    ("latent_int8/scale", [1.0, 0.0]),
    ("latent_int8/scale", [1.0, -1.0]),
    ("classifier", "good"),
    ("classifier/classes", "ab"),
    ("classifier/classes", ["a"]),
    ("classifier/classes", ["a", "a"]),
    ("classifier/classes", ["a", 1]),
    ("classifier/temperature", 0),
    ("classifier/n_labelled", [1, 1]),
    ("classifier/n_labelled", {"a": 1, "b": 0}),
    ("classifier/training", []),
    ("classifier/evaluation", None),
    ("threshold/value", 0),
    ("threshold/value", -1),
    ("threshold/value", "1"),
    ("threshold/value", 10**400),
    ("threshold/alpha", 0),
    ("threshold/alpha", 1),
    ("threshold/promise", "maybe"),
    ("threshold/confidence", 95),
    ("threshold/rank", 0),
    ("threshold/rank", 2.0),
    ("threshold/n_calibration", 0),
    ("threshold/expected_rate", 0),
    ("files/model.onnx/sha256", "0" * 63),
    ("files/model.onnx/sha256", "A" * 64),
    ("files/model.onnx/size", -1),
    ("files/model.onnx/size", 1.5),
]


@pytest.mark.parametrize(
    ("field", "value"), WRONG, ids=[f"{field}={str(value)[:12]}" for field, value in WRONG]
)
def test_manifest_names_a_field_of_the_wrong_value(document, field, value):
    """Each wrong value of a field is refused with the field's name, the expected value and the given one."""
    add_parts(document)
    change(document, field, value)

    spoken = field.replace("files/model.onnx/", "files['model.onnx'].").replace("/", ".")
    assert refusal(document).startswith(f"manifest.json: {spoken} must be ")
    assert repr(str(value)[:80]) in refusal(document)


def test_every_field_is_wrong_once():
    """No field was forgotten in the table above."""
    assert {field for field, _ in WRONG if "/" not in field} == set(FIELDS) - {"schema_version"}
    assert {field[10:] for field, _ in WRONG if field.startswith("threshold/")} == set(THRESHOLD_FIELDS)


@pytest.mark.parametrize(
    "field",
    ["colour", "threshold/colour", "files/model.onnx/colour", "latent_int8/colour", "classifier/colour"],
)
def test_manifest_names_an_unknown_field(document, field):
    """An unknown field may change the meaning of the model, so it is refused."""
    add_parts(document)
    change(document, field, "red")

    assert "unknown field" in refusal(document)
    assert refusal(document).endswith("colour")


@pytest.mark.parametrize("schema", [0, 5, "1", None, [1], True, 1.0, 2.0])
def test_manifest_of_another_schema_is_refused_by_its_number(document, schema):
    """The error has the given version and the versions that this release reads."""
    change(document, "schema_version", schema)

    assert refusal(document) == (
        f"manifest.json has schema version {schema!r}, this release reads the versions 1, 2, 3, 4"
    )


@pytest.mark.parametrize(
    ("schema", "later"),
    [
        (1, ("merge", "latent_int8", "classifier", *SINCE_SCHEMA_3, *SINCE_SCHEMA_4)),
        (2, (*SINCE_SCHEMA_3, *SINCE_SCHEMA_4)),
        (3, SINCE_SCHEMA_4),
    ],
)
def test_manifest_of_an_earlier_schema_is_read_and_written_as_it_was(document, schema, later):
    """Later fields have their defaults, and writing gives the same bytes."""
    for field in later:
        change(document, field, MISSING)
    content = (json.dumps(document | {"schema_version": schema}, indent=2, sort_keys=True) + "\n").encode()

    manifest = Manifest.from_json(content)

    assert (manifest.merge, manifest.latent_int8, manifest.classifier) == (None, None, None)
    assert (manifest.reconstruction, manifest.missing) == ("latent", "refuse")
    assert (manifest.categories, manifest.unknown_category) == (None, None)
    assert manifest.reading == Reading()
    assert manifest.to_json() == content


@pytest.mark.parametrize("schema", [1, 2, 3])
def test_manifest_of_an_earlier_schema_knows_no_later_field(document, schema):
    """A later field in it is one that its reader could not have known."""
    change(document, "schema_version", schema)

    assert "unknown field" in refusal(document)


CLASSIFIER = {
    "classes": ["a", "b"],
    "temperature": 1.5,
    "n_labelled": {"a": 3, "b": 4},
    "training": {},
    "evaluation": {},
}
SEQUENCE = {"kind": "sequence", "sample_shape": [4, 3], "window": 4, "stride": 2, "merge": "last"}
CATEGORIES = {"categories": {"a": ["x", "y"]}, "unknown_category": "refuse"}
CONTRADICTIONS = [
    ({"window": 3}, "window, stride and merge are for sequences, not for kind vector"),
    ({"merge": "last"}, "window, stride and merge are for sequences, not for kind vector"),
    (SEQUENCE | {"sample_shape": [3]}, "a window of a sequence has two dimensions"),
    (SEQUENCE | {"window": 5}, "window must be the first size of sample_shape, 4, and at least 2"),
    (SEQUENCE | {"sample_shape": [1, 3], "window": 1}, "window must be the first size of sample_shape, 1,"),
    (SEQUENCE | {"window": None}, "window must be the first size of sample_shape"),
    (SEQUENCE | {"stride": None}, "stride must be at most window"),
    (SEQUENCE | {"stride": 5}, "stride must be at most window, so that no step is left out"),
    (SEQUENCE | {"merge": None}, "a sequence model needs a merge rule, last or mean"),
    (SEQUENCE | {"value_range": [0, 1]}, "a sequence has no value_range"),
    (SEQUENCE | {"missing": "median"}, "missing must be refuse or gaps or interpolate for kind sequence"),
    (SEQUENCE | {"missing": "interpolate"}, "reading.max_gap must be given with missing interpolate"),
    (SEQUENCE | CATEGORIES, "categories are for vectors, not for kind sequence"),
    (
        CATEGORIES | {"unknown_category": None},
        "unknown_category must be given with categories, and only with them",
    ),
    ({"unknown_category": "own"}, "unknown_category must be given with categories, and only with them"),
    (CATEGORIES | {"categories": {"z": [1]}}, "categories must be features that feature_names lists"),
    (CATEGORIES | {"feature_names": None}, "categories must be features that feature_names lists"),
    ({"sample_shape": [3, 1]}, "a vector has one dimension"),
    ({"kind": "image"}, "an image has two dimensions"),
    ({"kind": "image", "sample_shape": [3, 3]}, "an image model needs a value_range"),
    ({"kind": "image", "sample_shape": [3, 3, 4], "value_range": [0, 1]}, "one channel or three"),
    ({"kind": "image", "sample_shape": [3, 3], "value_range": [0, 1]}, "an image has no feature_names"),
    ({"feature_names": ["a", "b"]}, "feature_names must have 3 names"),
    ({"feature_names": ["a", "b", "a"]}, "feature_names must differ from each other"),
    ({"units": ["mm"]}, "units must have 3 entries"),
    ({"verbs": ["score", "denoise"]}, "verbs must be ['decode', 'denoise', 'encode', 'score']"),
    ({"latent_shape": None}, "verbs must be ['denoise', 'score']"),
    ({"verbs": []}, "verbs must be"),
    ({"files": {}}, "files must list"),
    ({"latent_int8": {"offset": [0], "scale": [1, 1]}}, "latent_int8.offset must have 2 numbers"),
    ({"latent_int8": {"offset": [0, 0], "scale": [1]}}, "latent_int8.scale must have 2 numbers"),
    (
        {"latent_int8": {"offset": [0, 0], "scale": [1, 1]}, "latent_shape": None},
        "latent_int8 needs a latent_shape",
    ),
    ({"classifier": CLASSIFIER | {"n_labelled": {"a": 1}}}, "classifier.n_labelled must have one count"),
    ({"classifier": CLASSIFIER}, "verbs must be ['classify', 'decode', 'denoise', 'encode', 'score']"),
    ({"verbs": ["classify", "decode", "denoise", "encode", "score"]}, "verbs must be ['decode', 'denoise'"),
    ({"classifier": CLASSIFIER, "verbs": list(verbs_of(latent=True, classifier=True))}, "classifier.onnx"),
    ({"threshold/rank": 500}, "threshold.rank is above threshold.n_calibration"),
    ({"threshold/rank": 6}, "threshold.expected_rate must be rank / (n_calibration + 1)"),
    ({"threshold/expected_rate": 0.05}, "threshold.expected_rate must be rank / (n_calibration + 1)"),
    ({"threshold/promise": "none"}, "threshold.confidence must be given with a promise, and only with one"),
    ({"threshold/confidence": None}, "threshold.confidence must be given with a promise, and only with one"),
]


@pytest.mark.parametrize(("changes", "words"), CONTRADICTIONS, ids=[words for _, words in CONTRADICTIONS])
def test_manifest_that_contradicts_itself_is_refused(document, changes, words):
    """Fields that are fine alone and cannot be true together are named."""
    for field, value in changes.items():
        change(document, field, value)

    assert words in refusal(document)


@pytest.mark.parametrize("name", required_files(latent=True))
def test_manifest_must_list_every_required_file(document, name):
    """A folder without a report or a card is not whole either."""
    change(document, "files", {key: entry for key, entry in document["files"].items() if key != name})

    assert refusal(document) == f"manifest.json: files must list ['{name}'] too"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe\xfd", "is not JSON"),
        (b'{"schema_version": NaN}', "NaN is not a JSON number"),
        (b'{"schema_version": -Infinity}', "-Infinity is not a JSON number"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"version": 1, "version": 2}', "an object has the member 'version' twice"),
        (b"[]", "must be a JSON object, got list"),
        (b"null", "must be a JSON object, got NoneType"),
        (b"{}", "schema version None"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_manifest_that_is_no_json_object_is_refused(content, words):
    """Any bytes lead to one sentence about manifest.json."""
    with pytest.raises(ManifestError, match=r"^manifest\.json ") as caught:
        Manifest.from_json(content)

    assert words in str(caught.value)


@pytest.mark.parametrize("digest", [b"", b"0" * 64 + b"\n", None, "upper", "bare", "crlf", "twice"])
def test_read_manifest_compares_the_digest_byte_for_byte(model_dir, digest):
    """Upper case, no line feed, another line feed: each is another file than the one that was written."""
    path = model_dir / "manifest.sha256"
    written = path.read_bytes()
    forms = {
        "upper": written.upper(),
        "bare": written[:-1],
        "crlf": written[:-1] + b"\r\n",
        "twice": written * 2,
    }
    path.write_bytes(written[1:] + b"\n" if digest is None else forms.get(digest, digest))

    with pytest.raises(IntegrityError, match=r"do not match: .*, the file says '"):
        read_manifest(model_dir)

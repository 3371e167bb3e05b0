"""Both clients and the real service: the same bits as `Detector`, and faults where the caller sees them."""

import asyncio
import re

import numpy as np
import pytest
from PIL import Image

from residual_client import (
    AsyncClient,
    BadRequest,
    Client,
    NoAnswer,
    NotFound,
    Problem,
    RequestError,
    ServiceFailed,
    Unauthorized,
)
from residual_client.errors import problem_class
from tests.residual_client.conftest import KEY

RULE = ("threshold", "alpha", "expected_rate")
DECISIONS = ("score", "ratio", "p_value", "is_anomaly")


@pytest.fixture(scope="module")
def samples():
    """500 rows for `tiny`."""
    return np.random.default_rng(0).normal(size=(500, 3))


def assert_same(scores, expected):
    """Check that two results have the same decisions bit for bit, and the same rule."""
    for name in DECISIONS:
        ours, theirs = getattr(scores, name), getattr(expected, name)
        assert ours.dtype == theirs.dtype, name
        assert ours.tobytes() == theirs.tobytes(), name
    assert [getattr(scores, name) for name in RULE] == [getattr(expected, name) for name in RULE]


@pytest.mark.parametrize("max_rows", [1000, 101])
def test_scores_are_those_of_the_detector(connect, url, detectors, samples, max_rows):
    """One request and five give the same scores, with another rate and a selection over all samples, too."""
    client = connect(url, max_rows=max_rows)
    for options in ({}, {"alpha": 0.1}, {"fdr": 0.4}, {"explain": "map"}):
        scores, expected = client.score(samples, **options), detectors["tiny"].score(samples, **options)

        assert (scores.model, scores.version) == ("tiny", 1)
        assert_same(scores, expected)
        assert np.array_equal(scores.selected, expected.selected) if "fdr" in options else True
        assert np.array_equal(scores.explanation, expected.explanation) if "explain" in options else True


def test_selection_over_parts_is_not_that_of_the_parts(url, detectors, samples):
    """The case has a selection that parts alone would not make."""
    rare = samples / 3
    rare[7] = 40
    rare[9, 2] = 30
    with Client(url, max_rows=2) as client:
        selected = client.score(rare, fdr=0.9).selected

    assert (
        np.flatnonzero(selected).tolist()
        == np.flatnonzero(detectors["tiny"].score(rare, fdr=0.9).selected).tolist()
    )


@pytest.mark.parametrize("max_rows", [1000, 101])
def test_explanation_repeats_the_values_to_their_last_digit(connect, url, detectors, samples, max_rows):
    """Float64 is sent as float64 if the answer repeats it, so values come back to their last digit."""
    scores = connect(url, max_rows=max_rows).score(samples, explain=2)

    expected = detectors["tiny"].score(samples, explain=2).explanation
    assert [[vars(part) for part in row] for row in scores.explanation] == [
        [{**vars(part), "expected": float(str(part.expected))} for part in row] for row in expected
    ]


@pytest.mark.parametrize("max_rows", [1000, 101])
def test_other_verbs_are_those_of_the_detector(connect, url, detectors, samples, max_rows):
    """Arrays have the same dtype and content."""
    client, detector = connect(url, max_rows=max_rows), detectors["tiny"]

    assert np.array_equal(client.denoise(samples), detector.reconstruct(samples))
    for dtype in ("float32", "float16", "int8"):
        latent = client.encode(samples, dtype=dtype)
        assert latent.dtype == dtype
        assert np.array_equal(latent, detector.encode(samples, dtype=dtype))
        assert np.array_equal(client.decode(latent, dtype=dtype), detector.decode(latent, dtype=dtype))
    classes, expected = client.classify(samples), detector.classify(samples)
    assert classes.classes == expected.classes
    assert classes.label.tolist() == expected.label.tolist()
    assert np.array_equal(classes.probability, expected.probability)


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: rows.tolist(),
        lambda rows: np.asfortranarray(rows),
        lambda rows: rows.astype(">f8"),
        lambda rows: rows[::-1][::-1],
        lambda rows: rows.astype(np.longdouble),
        lambda rows: [dict(zip("cab", row[[2, 0, 1]].tolist(), strict=True)) for row in rows],
        lambda rows: rows.astype(object),
        lambda rows: {"c": rows[:, 2], "a": rows[:, 0], "b": rows[:, 1].tolist()},
    ],
)
def test_any_form_of_the_same_rows_scores_alike(client, samples, form):
    """Lists, objects by name, columns by name, and arrays however they lie in memory."""
    assert client.score(form(samples)).score.tobytes() == client.score(samples).score.tobytes()


def test_versions_and_labels_are_chosen(connect, url, samples):
    """A client can select the model, the version and the label that a path can."""
    chosen = ({}, {"model": "tiny"}, {"model": "tiny", "version": 2}, {"model": "tiny", "label": "canary"})

    assert [connect(url, **who).score(samples[:1]).version for who in chosen] == [1, 1, 2, 2]
    assert [connect(url, max_rows=1, **who).score(samples[:3]).version for who in chosen] == [1, 1, 2, 2]


@pytest.mark.parametrize("max_rows", [1000, 8])
def test_fault_is_counted_in_the_rows_of_the_call(connect, url, samples, max_rows):
    """The row number does not depend on the number of requests."""
    faulty = samples.copy()
    faulty[123, 1] = np.nan

    with pytest.raises(BadRequest, match=r"got nan in row 123, b") as caught:
        connect(url, max_rows=max_rows).score(faulty)
    assert (caught.value.status, caught.value.type) == (422, "invalid-input")
    assert [(place["row"], place["column"]) for place in caught.value.errors] == [(123, "b")]
    assert re.fullmatch("[0-9a-f]{32}", caught.value.request_id)


@pytest.mark.parametrize("max_rows", [1000, 8])
def test_fault_in_json_is_counted_in_the_rows_of_the_call(connect, url, max_rows):
    """Pointers count the rows of the call, too."""
    rows = [[1.0, "idle", 0]] * 30
    rows[21] = [1.0, "idle", True]

    with pytest.raises(BadRequest) as caught:
        connect(url, model="mixed", max_rows=max_rows).score(rows)
    assert "in row 21" in str(caught.value)
    assert caught.value.errors[0]["pointer"] == "/instances/21/2"


def test_words_and_gaps_score_as_in_the_detector(connect, url, detectors):
    """Lists, objects and columns score alike, in one request and in three."""
    rows = [[1.5, "idle", 0], [None, "run", 2.5], [float("nan"), "stop", 3]]
    columns = {"b": ["idle", "run", "stop"], "c": [0, 2.5, 3], "a": [1.5, None, np.nan]}
    expected = detectors["mixed"].score(rows, explain=3)

    for max_rows in (10, 1):
        client = connect(url, model="mixed", max_rows=max_rows)
        for samples in (rows, np.array(rows, dtype=object), columns):
            scores = client.score(samples, explain=3)
            assert_same(scores, expected)
            assert [[part.actual for part in row] for row in scores.explanation] == [
                [part.actual for part in row] for row in expected.explanation
            ]
        assert client.denoise(columns)[1][1] == "run"
        assert np.array_equal(client.encode(rows), detectors["mixed"].encode(rows))


def test_lists_are_taken_by_every_verb(client, samples, detectors):
    """Every verb takes lists and objects as it takes arrays."""
    rows = samples[:5].tolist()
    objects = [dict(zip("abc", row, strict=True)) for row in rows]
    for form in (rows, objects):
        assert np.array_equal(client.encode(form), detectors["tiny"].encode(samples[:5]))
        assert np.array_equal(client.denoise(form), detectors["tiny"].reconstruct(samples[:5]))
        assert client.classify(form).label.tolist() == detectors["tiny"].classify(samples[:5]).label.tolist()
    latent = client.encode(rows)
    assert np.array_equal(client.decode(latent.tolist()), client.decode(latent))


def test_numbers_for_words_are_refused_in_a_table_as_in_the_detector(client, connect, url):
    """A position in the list of categories is for arrays."""
    with pytest.raises(BadRequest, match="'b' must be a text"):
        connect(url, model="mixed").score({"a": [1.0], "b": [1.0], "c": [0.0]})


def test_series_stays_in_one_piece(connect, url, detectors):
    """Windows across a cut would be lost; windows themselves are cut up."""
    rng = np.random.default_rng(1)
    series, windows = rng.normal(size=300), rng.normal(size=(30, 4))
    client = connect(url, model="pulse", max_rows=7)

    assert_same(client.score(series), detectors["pulse"].score(series))
    assert_same(client.score(series[:, None]), detectors["pulse"].score(series[:, None]))
    assert_same(client.score({"a": series}), detectors["pulse"].score(series))
    assert_same(client.score(windows), detectors["pulse"].score(windows))
    assert client.decode(np.ones((9, 2))).shape == (9, 4, 1)


@pytest.mark.parametrize("max_rows", [10, 2])
def test_images_are_sent_as_files(connect, url, detectors, tmp_path, max_rows):
    """Paths and bytes are sent in order."""
    pixels = np.random.default_rng(2).integers(0, 256, (5, 4, 5), dtype=np.uint8)
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    client = connect(url, model="images", max_rows=max_rows)

    expected = detectors["images"].score((pixels * (16 / 255)).astype(np.float32))
    assert_same(client.score(paths), expected)
    assert_same(client.score([path.read_bytes() for path in paths]), expected)
    assert client.denoise(paths).shape == (5, 4, 5)


def test_limits_of_the_service_are_found_out(connect, narrow_url, detectors, samples):
    """Bodies that are called too large are halved, and stay so."""
    client = connect(narrow_url, api_key=KEY)

    for _ in range(2):
        assert_same(client.score(samples), detectors["tiny"].score(samples))
        assert_same(client.score(samples.tolist()), detectors["tiny"].score(samples))


def test_series_too_large_for_the_service_is_refused(connect, narrow_url):
    """It cannot be cut."""
    client = connect(narrow_url, api_key=KEY, model="pulse")
    with pytest.raises(Problem) as caught:
        client.score(np.zeros(60))
    assert caught.value.type == "too-many-rows"
    assert len(client.score(np.zeros(50)).score) == 50


@pytest.mark.parametrize("key", [None, "other"])
def test_wrong_key_is_unauthorized(connect, narrow_url, key):
    """The key does not appear in the error or in the representation of the client."""
    client = connect(narrow_url, api_key=key)
    with pytest.raises(Unauthorized) as caught:
        client.score([[1, 2, 3]])
    assert "other" not in f"{caught.value} {client!r}"


def test_models_and_readiness(client):
    """The client lists the same models as the service."""
    assert client.ready() is True
    names = ["gaps", "images", "mixed", "photos", "pulse", "tiny"]
    assert [model["name"] for model in client.models()] == names


@pytest.mark.parametrize(
    ("samples", "error", "sentence"),
    [
        (np.zeros((2, 4)), BadRequest, "samples must have shape (n, 3), got (2, 4)"),
        (np.zeros((0, 3)), BadRequest, "at least one sample"),
        ([], BadRequest, "samples must"),
        (5.0, BadRequest, "the .npy shape"),
        ([[1, 2], [3]], BadRequest, "/instances/0 must have 3 elements, got 2"),
        ([["a", 2, 3]], BadRequest, "/instances/0/0: must be a number, got text"),
        (np.array([[1e300, 0, 0]]), BadRequest, "got 1e+300 in row 0, a"),
        (np.array([[True, False, True]]), BadRequest, "must be a number, got a boolean"),
        (None, RequestError, "samples must be an array, a table or a list of images, got one NoneType"),
        ("rows.csv", RequestError, "samples must be an array, a table or a list of images, got one str"),
        (np.zeros((1, 3), dtype=complex), RequestError, "a value must be a number, text or missing, got 0j"),
        ({"a": [1], "b": [2]}, RequestError, "it lacks 'c'"),
        ({"a": [1], "b": [2], "c": [3], "d": [4]}, RequestError, "it has the unknown 'd'"),
        ({"a": [1], "b": [2], "c": [3, 4]}, RequestError, "columns must have one length"),
        ({"a": [1], "b": [2], "c": [[3]]}, RequestError, "a column must have one dimension"),
        ([[1, "x", float("inf")]], RequestError, "samples must be finite"),
    ],
)
def test_samples_that_cannot_be_are_refused_in_a_sentence(client, samples, error, sentence):
    """The client refuses samples that it cannot send; the service refuses the others."""
    with pytest.raises(error) as caught:
        client.score(samples)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alpha": 2}, "alpha"),
        ({"alpha": 1e-9}, "alpha"),
        ({"fdr": 2}, "fdr"),
        ({"explain": 0}, "explain"),
        ({"explain": "all"}, "explain"),
    ],
)
@pytest.mark.parametrize("max_rows", [1000, 3])
def test_options_that_cannot_be_are_refused_in_a_sentence(connect, url, samples, options, sentence, max_rows):
    """The first request is refused."""
    with pytest.raises(BadRequest, match=sentence):
        connect(url, max_rows=max_rows).score(samples, **options)


def test_contributions_are_kept_below_the_limit_of_one_answer(connect, url, monkeypatch, detectors, samples):
    """Explanations of many samples are requested in parts, each below the limit of one answer."""
    monkeypatch.setattr("residual_client.calls.MAX_CONTRIBUTIONS", 20)
    scores = connect(url).score(samples, explain=3)

    assert_same(scores, detectors["tiny"].score(samples))
    assert [len(row) for row in scores.explanation] == [3] * 500


@pytest.mark.parametrize(
    ("who", "error", "sentence"),
    [
        ({"model": "nope"}, NotFound, "there is no model 'nope'"),
        ({"model": "tiny", "version": 9}, NotFound, "has no version 9"),
        ({"model": "tiny", "label": "old"}, NotFound, "has no label 'old'"),
        ({"model": "mixed"}, Problem, "no classifier"),
    ],
)
def test_models_that_are_not_there_are_named(connect, url, who, error, sentence):
    """The error has the sentence of the service."""
    with pytest.raises(error) as caught:
        connect(url, **who).classify([[1, 2, 3]])
    assert sentence in str(caught.value)


def test_label_that_is_not_there_is_named_for_a_table_too(connect, url):
    """The client looks up the model of a table first."""
    client = connect(url, model="tiny", label="old")
    with pytest.raises(RequestError, match=r"has no label 'old', only \['canary', 'stable'\]"):
        client.score({"a": [1], "b": [2], "c": [3]})


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"url": "127.0.0.1:8000"}, "the URL must be like http://127.0.0.1:8000"),
        ({"url": "ftp://127.0.0.1"}, "the URL must be like"),
        ({"url": "http://"}, "the URL must be like"),
        ({"version": 1}, "needs the name of a model"),
        ({"model": ".."}, "a model must match "),
        ({"model": "tiny/score"}, "a model must match "),
        ({"model": "a", "label": ".."}, "a label must match "),
        ({"model": "a", "version": "1"}, "a version must be a positive integer, got '1'"),
        ({"model": "a", "version": True}, "a version must be a positive integer, got True"),
        ({"model": "a", "version": 1, "label": "b"}, "a version or a label"),
        ({"retries": -1}, "retries must be an integer of at least 0, got -1"),
        ({"max_rows": 0}, "max_rows must be an integer of at least 1, got 0"),
        ({"connections": 0}, "connections must be an integer of at least 1, got 0"),
        ({"timeout": 0}, "timeout must be a positive number of seconds, got 0"),
        ({"api_key": "two words"}, "api_key must be printable ASCII without spaces"),
        ({"api_key": "line\n"}, "api_key must be printable ASCII without spaces"),
        ({"url": "http://me:secret@127.0.0.1"}, "must not have a user or a password"),
    ],
)
def test_client_that_cannot_be_is_refused(options, sentence):
    """The error comes when the client is created."""
    with pytest.raises(RequestError) as caught:
        Client(**{"url": "http://127.0.0.1:8000", **options})
    assert sentence in str(caught.value)


def test_nobody_there_is_no_answer(connect):
    """The error comes after the retries, and `ready` is false."""
    client = connect("http://127.0.0.1:1", retries=1)

    with pytest.raises(NoAnswer, match=r"the service at http://127\.0\.0\.1:1 cannot be reached"):
        client.score([[1, 2, 3]])
    assert client.ready() is False


def test_many_calls_at_once_share_a_few_connections(url, samples):
    """Requests that wait for a connection cost the others nothing, and do not time out while they wait."""

    async def ask():
        async with AsyncClient(url, connections=2, timeout=5) as client:
            return await asyncio.gather(*[client.score(samples[row : row + 1]) for row in range(200)])

    with Client(url) as client:
        expected = client.score(samples[:200]).score
    assert [scores.score[0] for scores in asyncio.run(ask())] == expected.tolist()


def test_pinned_client_stays_with_its_version(url, store):
    """The version does not change when a label moves."""
    with Client(url, model="tiny", label="canary") as client:
        pinned = client.pin()
        assert pinned.manifest()["version"] == client.manifest()["version"] == 2
        assert repr(pinned) == f"Client({url!r}, model='tiny', version=2)"
        store.set_label("tiny", "canary", 1)
        try:
            assert pinned.score([[1, 2, 3]]).version == 2
        finally:
            store.set_label("tiny", "canary", 2)


def test_problem_classes_follow_the_status():
    """Other statuses from 500 on are faults of the service; other lower ones are faults of the caller."""
    assert [problem_class(status) for status in (409, 422, 500, 504)] == [
        BadRequest,
        BadRequest,
        ServiceFailed,
        ServiceFailed,
    ]

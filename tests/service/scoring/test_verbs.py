"""The verbs, many requests at a time."""

import dataclasses

import numpy as np
import pytest

from detector import (
    Classes,
    Compressed,
    Detector,
    DetectorError,
    InputError,
    NoClassifier,
    NoInt8Latent,
    NoLatent,
    Scores,
)
from detector.engine.session import Session
from service.scoring import verbs
from service.scoring.verbs import LatentRequest, Request, ScoreRequest
from tests.model_folder import CLASSIFIER, LATENT_INT8, expected_score, write_model_folder

RNG_SEED = 7


@pytest.fixture
def detectors(tmp_path) -> list[Detector]:
    """One with 8-bit latents and a classifier, one for images, one without a latent, one for series."""
    write_model_folder(tmp_path / "a", latent_int8=LATENT_INT8, classifier=CLASSIFIER)
    write_model_folder(tmp_path / "b", sample_shape=(4, 5))
    write_model_folder(tmp_path / "c", latent_shape=None)
    write_model_folder(tmp_path / "d", kind="sequence", sample_shape=(4, 2), stride=3, merge="mean")
    return [Detector.load(tmp_path / name) for name in "abcd"]


def run_by_detector(verb, requests):
    """Return results of requests, the requests for one detector as one list."""
    results = {}
    for detector in {request.detector for request in requests}:
        own = [number for number, request in enumerate(requests) if request.detector is detector]
        results |= zip(own, verb([requests[number] for number in own]), strict=True)
    return [results[number] for number in range(len(requests))]


def mixed_requests(detectors, make, n_requests=60):
    """Return requests for several detectors in turn, of several sizes and dtypes, every seventh one bad."""
    rng = np.random.default_rng(RNG_SEED)
    requests = []
    for position in range(n_requests):
        detector = detectors[position % len(detectors)]
        shape = (int(rng.integers(1, 40)), *detector.manifest.sample_shape)
        if detector.manifest.kind == "sequence" and position % 3:
            shape = (int(rng.integers(2, 99)), shape[-1])
        samples = rng.normal(size=shape).astype(rng.choice([np.float32, np.float64]))
        if position % 7 == 3:
            samples[0, 0] = np.nan
        if position % 11 == 5:
            samples = samples[:, :1]
        if position % 13 == 8:
            samples = samples[:0]
        requests.append(make(detector, samples, position))
    return requests


def assert_same(together, alone):
    """Check that two results have the same bits, or are the same error."""
    if isinstance(alone, DetectorError):
        assert type(together) is type(alone)
        assert str(together) == str(alone)
    elif isinstance(alone, Scores | Compressed | Classes):
        for field in dataclasses.fields(alone):
            np.testing.assert_array_equal(getattr(together, field.name), getattr(alone, field.name))
    else:
        np.testing.assert_array_equal(together, alone)


def test_score_of_many_requests_equals_each_alone(detectors):
    """Neighbours change no bit of a request's result, whatever their options, and a bad one spoils none."""
    options = [{}, {"alpha": 0.1}, {"fdr": 0.2}, {"explain": 2}, {"explain": "map"}, {"alpha": 1e-9}]
    requests = mixed_requests(
        detectors, lambda detector, samples, n: ScoreRequest(detector, samples, **options[n % len(options)])
    )

    together = run_by_detector(verbs.score, requests)

    assert len(together) == len(requests)
    assert sum(isinstance(result, Scores) for result in together) > len(requests) / 2
    assert sum(isinstance(result, InputError) for result in together) > 10
    for request, result in zip(requests, together, strict=True):
        assert_same(result, verbs.score([request])[0])


def test_arrays_of_many_requests_equal_each_alone(detectors):
    """A reconstruction does not depend on other requests."""
    requests = mixed_requests(detectors, lambda detector, samples, _: Request(detector, samples))

    together = run_by_detector(verbs.denoise, requests)

    for request, result in zip(requests, together, strict=True):
        assert_same(result, verbs.denoise([request])[0])


def test_encode_of_many_requests_equals_each_alone(detectors):
    """The same for latents of every dtype, of which one model has no 8-bit form and one none at all."""
    dtypes = ("float32", "float16", "int8")
    requests = mixed_requests(
        detectors, lambda detector, samples, n: LatentRequest(detector, samples, dtypes[n // 3 % 3])
    )

    together = run_by_detector(verbs.encode, requests)

    kinds = {type(result) for result in together}
    assert kinds == {Compressed, InputError, NoInt8Latent, NoLatent}
    for request, result in zip(requests, together, strict=True):
        assert_same(result, verbs.encode([request])[0])


def test_classify_of_many_requests_equals_each_alone(detectors):
    """The same for classes, which one of the models knows."""
    requests = mixed_requests(detectors, lambda detector, samples, _: Request(detector, samples))

    together = run_by_detector(verbs.classify, requests)

    assert {type(result) for result in together} == {Classes, InputError, NoClassifier}
    for request, result in zip(requests, together, strict=True):
        assert_same(result, verbs.classify([request])[0])


def test_decode_of_many_requests_equals_each_alone(detectors):
    """The same for latent vectors, of which one model has none."""
    rng = np.random.default_rng(RNG_SEED)
    requests = [LatentRequest(detectors[n % 3], rng.normal(size=(n + 1, 2))) for n in range(12)]

    together = run_by_detector(verbs.decode, requests)

    assert [isinstance(result, NoLatent) for result in together] == [n % 3 == 2 for n in range(12)]
    for request, result in zip(requests, together, strict=True):
        assert_same(result, verbs.decode([request])[0])


def test_score_runs_the_requests_of_one_detector_as_one_batch(detectors, monkeypatch):
    """A hundred requests are one run of the graph; of series it runs all windows, here 0, 3 and 5."""
    runs, run = [], Session.run

    def count(session: Session, samples: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
        runs.append(len(samples))
        return run(session, samples, names)

    monkeypatch.setattr(Session, "run", count)

    verbs.score([ScoreRequest(detectors[0], np.ones((3, 3))) for _ in range(100)])
    verbs.score([ScoreRequest(detectors[3], np.ones((9, 2))) for _ in range(100)])

    assert runs == [300, 300]


def test_score_equals_the_hand_made_model(detectors):
    """The verb adds nothing to the graph's own answer."""
    samples = np.random.default_rng(0).normal(size=(50, 3))

    (scores,) = verbs.score([ScoreRequest(detectors[0], samples)])

    np.testing.assert_allclose(scores.score, expected_score(samples), rtol=1e-6)


@pytest.mark.parametrize("verb", [verbs.score, verbs.denoise, verbs.encode, verbs.decode, verbs.classify])
def test_verbs_answer_no_requests_with_no_results(verb):
    """An empty list is a list."""
    assert verb([]) == []

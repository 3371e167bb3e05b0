"""The whole way from data to answers: a real fit on digits, the real gunicorn, real HTTP."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from detector import Detector, ModelStore
from detector.images import encode_image
from tests.gunicorn_server import GunicornServer, wait_until
from tests.service.responses import from_npy, to_npy
from training import fit

pytestmark = pytest.mark.slow

DIGITS = load_digits().images
NPY = {"Content-Type": "application/x-npy"}
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A store with `digits` version 1, fitted through the command line."""
    store = ModelStore(tmp_path_factory.mktemp("fitted") / "models")
    fit_digits(store)
    return store


@pytest.fixture(scope="module")
def store(fitted, tmp_path_factory, arguments):
    """The same for each server, which a test adds to."""
    return ModelStore(shutil.copytree(fitted.root, tmp_path_factory.mktemp("end_to_end") / "models"))


@pytest.fixture(scope="module")
def detector(fitted):
    """Version 1 in this process."""
    return Detector.load(fitted.folder("digits", 1))


@pytest.fixture(scope="module")
def server(store, tmp_path_factory, arguments):
    """Two workers on the store."""
    server = GunicornServer(store, tmp_path_factory.mktemp("log") / "log", arguments)
    yield server
    server.stop()


def fit_digits(store, epochs=15):
    """Publish the next version of `digits`."""
    arguments = ["--data", "digits", "--name", "digits", "--preset", "conv", "--epochs", str(epochs)]
    assert fit.main([*arguments, "--store", str(store.root)]) == 0


def post_array(server, path, array, accept="application/json"):
    """POST samples as `.npy`."""
    return server.post(path, data=to_npy(array), headers={**NPY, "Accept": accept})


def test_scores_over_http_are_those_of_the_detector_bit_for_bit(server, detector):
    """All digits are one `.npy`, and so are their scores."""
    answer = post_array(server, "/models/digits/versions/1/score", DIGITS, accept="application/x-npy")

    np.testing.assert_array_equal(from_npy(answer.content), detector.score(DIGITS).score)


def test_single_json_posts_have_the_same_bits_as_one_batch(server, detector):
    """A row scores the same alone, over another body form."""
    together = detector.score(DIGITS[:40]).score

    alone = [
        server.post("/models/digits/versions/1/score", json={"instances": [digit.tolist()]}).json()["score"][
            0
        ]
        for digit in DIGITS[:40]
    ]

    assert alone == together.tolist()


def test_decisions_tell_digits_from_what_is_none(server):
    """Most digits pass, noise and transposed digits do not."""
    noise = np.random.default_rng(0).uniform(0, 16, size=(50, 8, 8))

    normal = post_array(server, "/score", DIGITS).json()
    anomalous = post_array(server, "/score", np.concatenate([noise, DIGITS.transpose(0, 2, 1)])).json()

    assert np.mean(normal["is_anomaly"]) < 0.1
    assert np.mean(anomalous["is_anomaly"]) > 0.9
    assert np.mean(anomalous["ratio"]) > 2 * np.mean(normal["ratio"])


def test_decode_of_encode_is_denoise(server):
    """Compression and restoration are one network."""
    latent = from_npy(post_array(server, "/encode", DIGITS[:5], "application/x-npy").content)
    decoded = from_npy(post_array(server, "/decode", latent, "application/x-npy").content)
    denoised = from_npy(post_array(server, "/denoise", DIGITS[:5], "application/x-npy").content)

    assert latent.shape == (5, 8)
    np.testing.assert_allclose(decoded, denoised, rtol=1e-5, atol=1e-4)


def test_an_image_goes_in_and_comes_out(server, detector):
    """PNG to `/denoise` gives the PNG of the reconstruction; PNG to `/score` scores as its pixels do."""
    image = encode_image(DIGITS[3], (0, 16))
    pixels = np.asarray(Image.open(io.BytesIO(image))) * (16 / 255)

    scored = server.post("/models/digits/versions/1/score", data=image, headers=PNG).json()
    denoised = server.post(
        "/models/digits/versions/1/denoise", data=image, headers={**PNG, "Accept": "image/png"}
    )

    assert scored["score"] == detector.score(pixels[np.newaxis]).score.tolist()
    assert denoised.content == encode_image(detector.reconstruct(pixels[np.newaxis])[0], (0, 16))


def test_explanation_names_the_damaged_pixels(server):
    """A bright blot in a corner that is dark in every digit contributes most of the score."""
    damaged = DIGITS[0].copy()
    damaged[:3, :2] = 16

    answer = post_array(server, "/score?explain=3", damaged[np.newaxis]).json()

    assert answer["is_anomaly"] == [True]
    for contribution in answer["explanation"][0]:
        row, column = contribution["index"]
        assert row <= 3
        assert column <= 2
        assert contribution["actual"] == damaged[row, column]


def test_bad_images_are_refused_with_a_sentence(server):
    """Images of another size and other files are refused."""
    wrong = server.post("/score", data=encode_image(np.zeros((9, 8)), (0, 16)), headers=PNG)
    none = server.post("/score", data=b"hello", headers=PNG)

    assert wrong.status_code == none.status_code == 422
    assert "must be 8 pixels wide and 8 high, got 8 wide and 9 high" in wrong.json()["detail"]
    assert "the image is no PNG, JPEG, BMP, TIFF or WebP that can be read" in none.json()["detail"]


def test_a_second_fit_is_served_and_a_label_holds_the_first(server, store):
    """Publishing moves the bare name on, unless label `stable` says otherwise; workers follow one by one."""

    def both_serve(version):
        return all(server.get("/models/digits").json()["version"] == version for _ in range(20))

    fit_digits(store, epochs=1)
    wait_until(lambda: both_serve(2))

    store.set_label("digits", "stable", 1)

    wait_until(lambda: both_serve(1))
    assert post_array(server, "/models/digits/labels/stable/score", DIGITS[:1]).json()["version"] == 1
    assert server.get("/models/digits/versions/2/report").status_code == 200

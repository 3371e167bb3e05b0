"""A network fitted to undo a corruption undoes it for images that come over HTTP."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from service.settings import Settings
from service.wsgi.app import EXTENSION, create_app
from training import fit

PNG = "image/png"
DIGITS = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
N_TEST = 200


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One model that was fitted to digits and their mosaics by 2."""
    folder = tmp_path_factory.mktemp("restoration")
    labels = np.zeros(len(DIGITS), dtype=int)
    np.savez(
        folder / "digits.npz",
        x_train=DIGITS[N_TEST:],
        y_train=labels[N_TEST:],
        x_test=DIGITS[:N_TEST],
        y_test=labels[:N_TEST],
    )
    network = ["--preset", "restore", "--widths", "8,16", "--learning-rate", "0.003", "--epochs", "12"]
    corruption = ["--corruption", "mosaic", "--corruption-level", "2"]
    store = ["--store", str(folder / "models"), "--name", "sharp"]
    assert fit.main(["--data", str(folder / "digits.npz"), *network, *corruption, *store]) == 0
    return folder / "models"


@pytest.fixture(scope="module")
def client(store):
    """The service of that model."""
    app = create_app(Settings.from_environ({"RESIDUAL_STORE": str(store)}))
    yield app.test_client()
    app.extensions[EXTENSION].models.stop()


def mosaic(images):
    """Replace each tile of 2 x 2 pixels by its mean."""
    tiles = images.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4))
    return np.rint(tiles.repeat(2, axis=1).repeat(2, axis=2)).astype(np.uint8)


def to_png(pixels):
    """Return the file of an image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def squared_error(images, others):
    """Return the mean squared error over all pixels."""
    return np.square(images.astype(np.float64) - others).mean()


@pytest.mark.slow
def test_a_mosaic_goes_in_and_an_image_comes_out(client):
    """PNG for PNG, of the same size, nearer to the original than bicubic up-scaling."""
    originals = DIGITS[:50]
    tiled = mosaic(originals)

    answers = [
        client.post("/denoise", data=to_png(image), content_type=PNG, headers={"Accept": PNG})
        for image in tiled
    ]

    assert {answer.content_type for answer in answers} == {PNG}
    restored = np.stack([np.asarray(Image.open(io.BytesIO(answer.data))) for answer in answers])
    small = [Image.fromarray(image[::2, ::2]) for image in tiled]
    bicubic = np.stack([np.asarray(image.resize((8, 8), Image.Resampling.BICUBIC)) for image in small])
    assert restored.shape == originals.shape
    assert squared_error(restored, originals) < 0.7 * squared_error(bicubic, originals)
    assert squared_error(restored, originals) < 0.7 * squared_error(tiled, originals)


@pytest.mark.slow
def test_an_image_without_accept_is_answered_in_json(client):
    """The restoration is the same, as numbers."""
    image = to_png(mosaic(DIGITS[:1])[0])

    numbers = client.post("/denoise", data=image, content_type=PNG).json["reconstruction"]
    drawn = client.post("/denoise", data=image, content_type=PNG, headers={"Accept": PNG}).data

    np.testing.assert_array_equal(np.rint(numbers[0]), np.asarray(Image.open(io.BytesIO(drawn))))


@pytest.mark.slow
def test_thresholds_are_those_of_clean_images(client):
    """About as many clean images are flagged as was promised."""
    answer = client.post("/score", json={"instances": DIGITS[:N_TEST].tolist()}).json

    assert np.mean(answer["is_anomaly"]) < 2 * answer["alpha"]


@pytest.mark.slow
def test_report_says_how_much_denoising_gains(store):
    """The report has a note about it, so that the fit prints it, too."""
    notes = json.loads((store / "sharp" / "1" / "report.json").read_bytes())["notes"]

    (note,) = (note for note in notes if note.startswith("corrupted validation samples are denoised"))
    assert "worse" not in note


def test_report_shows_images_corrupted_and_denoised(store):
    """Three rows of seven; none of it where no sample may be published."""
    report = (store / "sharp" / "1" / "report.html").read_text()

    assert "<h2>Denoising</h2>" in report
    assert "(mosaic, level 2)" in report

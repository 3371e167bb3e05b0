"""A folder of images of any size, mode and orientation: fit, evaluate, serve and score files alike."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from detector import Detector
from residual_client.__main__ import main as residual
from service.settings import Settings
from service.wsgi.app import create_app
from training import evaluate, fit

pytestmark = pytest.mark.slow

SIZES = ((36, 48), (60, 60), (30, 40))


def picture(rng: np.random.Generator, mark: bool = False) -> tuple[Image.Image, Image.Image]:
    """Return a lit square on dark ground in one of three sizes, and the mask of a dark spot within."""
    height, width = SIZES[rng.integers(len(SIZES))]
    pixels = rng.integers(20, 60, size=(height, width, 3))
    pixels[height // 4 : -height // 4, width // 4 : -width // 4] += 150
    spot = np.zeros((height, width), dtype=np.uint8)
    if mark:
        spot[height // 2 :, width // 3 : width // 2][: height // 5] = 255
    pixels[spot > 0] = 0
    return Image.fromarray(pixels.astype(np.uint8)), Image.fromarray(spot)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A folder like MVTec's, and one turned photograph in another format."""
    root, rng = tmp_path_factory.mktemp("data") / "parts", np.random.default_rng(0)
    for folder, count in (("train/good", 160), ("test/good", 12), ("test/spot", 12)):
        (root / folder).mkdir(parents=True)
        (root / "ground_truth" / "spot").mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image, mask = picture(rng, mark="spot" in folder)
            image.save(root / folder / f"{number:03}.png")
            if "spot" in folder:
                mask.save(root / "ground_truth" / "spot" / f"{number:03}_mask.png")
    return root


@pytest.fixture(scope="module")
def store(parts, tmp_path_factory):
    """A model of 24 x 32 pixels."""
    store = tmp_path_factory.mktemp("store")
    options = ["--resize", "24,32", "--latent-dim", "0", "--alpha", "0.1"]
    assert fit.main(["--data", str(parts), "--store", str(store), *options]) == 0
    return store


def test_masks_give_the_roc_auc_of_pixels(store, parts, tmp_path, capsys):
    """The fit and a later evaluation agree, in print and in their files."""
    figures = json.loads((store / "parts" / "1" / "report.json").read_text())["evaluation"]["pixels"]

    assert evaluate.main([str(store / "parts"), str(parts), "--json", str(tmp_path / "out.json")]) == 0

    assert json.loads((tmp_path / "out.json").read_text())["pixels"] == figures
    assert figures["roc_auc"] > 0.9
    assert (figures["n_images"], figures["n_masks"], figures["n_without_mask"]) == (24, 12, 0)
    words = f"pixel_roc_auc: {figures['roc_auc']:.4f} (all pixels of 24 images, 12 with a mask)"
    assert words in capsys.readouterr().out


def test_every_way_resizes_and_turns_an_image_alike(store, parts, tmp_path, capsys):
    """A photograph that is stored on its side scores as it looks: in Python, over HTTP and from the shell."""
    upright = Image.open(parts / "test" / "spot" / "003.png")
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / "turned.tif"
    turned.save(path, exif=exif)
    detector = Detector.load(store / "parts" / "1")
    expected = detector.score(detector.read_images([parts / "test" / "spot" / "003.png"])).score[0]

    by_path = detector.score(detector.read_images([path])).score[0]
    client = create_app(
        Settings.from_environ({"RESIDUAL_STORE": str(store), "RESIDUAL_DEFAULT_MODEL": "parts"})
    ).test_client()
    answer = client.post("/score", data=path.read_bytes(), content_type="image/tiff")
    drawn = client.post(
        "/score", data=path.read_bytes(), content_type="image/tiff", headers={"Accept": "image/png"}
    )
    assert residual(["score", str(path), "--model", str(store / "parts")]) == 0

    assert by_path == expected
    assert answer.json["score"] == [pytest.approx(expected, rel=1e-12)]
    assert float(capsys.readouterr().out.splitlines()[1].split(",")[1]) == pytest.approx(expected, rel=1e-12)
    assert Image.open(io.BytesIO(drawn.data)).size == (32, 24)


def test_images_of_other_sizes_are_refused_without_resize(parts, tmp_path, capsys):
    """The sentence counts them."""
    assert fit.main(["--data", str(parts), "--store", str(tmp_path)]) == 1

    assert "got 3 sizes (height x width): " in capsys.readouterr().err

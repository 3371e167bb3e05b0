"""`python -m training.latent` on a model with a known latent: files, figures and refusals."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from detector import Detector, ModelStore
from tests.model_folder import publish_model
from training import latent
from training.pages.latent_plane import hull_area, hull_corners

NAMES = {"latent.html", "latent.json", "map.svg", "overview.svg", "sides.svg", "inside.svg", "far.svg"}


@pytest.fixture
def folder(tmp_path):
    """The hand-made model of rows, with a latent of two."""
    return publish_model(ModelStore(tmp_path / "store"))


@pytest.fixture
def data(tmp_path):
    """Rows of three labels, one of them odd."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["ok", "leak <b>", "worn"], 30)
    np.savez(tmp_path / "rows.npz", X=rng.normal(size=(90, 3)) + np.repeat([0, 4, 8], 30)[:, None], y=labels)
    return tmp_path / "rows.npz"


def draw(folder, data, out):
    """Run the command and return its figures."""
    assert latent.main(["--model", str(folder), "--data", str(data), "--out", str(out)]) == 0
    return json.loads((out / "latent.json").read_text())


def test_latent_writes_page_charts_and_figures(folder, data, tmp_path):
    """One page without script or link, every label escaped."""
    draw(folder, data, tmp_path / "out")

    page = (tmp_path / "out" / "latent.html").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == NAMES
    assert not re.search(r"<(script|link|iframe)|leak <b>", page)
    assert all(source.startswith("data:image/svg") for source in re.findall(r'src="([^"]*)"', page))
    assert (tmp_path / "out" / "map.svg").read_bytes().startswith(b"<?xml")


def test_channels_are_drawn_on_scales_of_their_own():
    """Each channel is scaled by itself, so small values are not drawn as a flat line."""
    windows = np.random.default_rng(0).normal(size=(20, 8, 2)) * (1, 1000)
    detector = SimpleNamespace(manifest=SimpleNamespace(kind="sequence"))

    drawn = latent._drawing(detector, windows).of(windows)

    np.testing.assert_allclose(drawn.std(axis=(0, 1)), 1)


def test_figures_are_those_of_the_detector(folder, data, tmp_path):
    """They are recomputed from the listed latents."""
    figures = draw(folder, data, tmp_path / "out")
    detector, arrays = Detector.load(folder), np.load(data)
    latents = detector.encode(arrays["X"])

    for name in ("inside", "far"):
        drawn = np.array([sample["latent"] for sample in figures[name]["samples"]])
        scores = detector.score(detector.decode(drawn))
        np.testing.assert_allclose([sample["score"] for sample in figures[name]["samples"]], scores.score)
        assert figures[name]["share_flagged"] == scores.is_anomaly.mean()
    difference = detector.decode(latents) - arrays["X"].astype(np.float32)
    errors = np.sqrt(np.mean(difference**2, axis=0))
    assert figures["reconstruction_error"] == pytest.approx(dict(zip("abc", errors, strict=True)), rel=1e-5)
    areas = {group["name"]: group["hull_area"] for group in figures["groups"]}
    assert areas["ok"] == pytest.approx(hull_area(hull_corners(latents[arrays["y"] == "ok"])))


def test_the_same_seed_draws_the_same_points(folder, data, tmp_path):
    """Results and charts are equal byte for byte."""
    for out in ("one", "two"):
        draw(folder, data, tmp_path / out)

    for name in NAMES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_unlabelled_data_are_one_group(folder, tmp_path):
    """The group has a default name."""
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(30, 3)))

    figures = draw(folder, tmp_path / "rows.npy", tmp_path / "out")

    assert [group["name"] for group in figures["groups"]] == ["all"]


@pytest.mark.slow
def test_decoded_images_inside_hulls_pass_for_normal(images_folder, tmp_path):
    """A fitted model of digits: inside is below the threshold, far scores higher."""
    figures = draw(images_folder, "digits", tmp_path / "out")

    assert figures["inside"]["share_flagged"] < 0.05
    assert figures["far"]["median_score"] > 3 * figures["inside"]["median_score"]
    assert figures["main_axes_variance"] is None  # the axes separate the labels
    assert [group["name"] for group in figures["groups"]] == list("0123456789")


def test_a_model_without_a_latent_is_refused(tmp_path, data, capsys):
    """The error has the sentence of the detector, and nothing is written."""
    store = ModelStore(tmp_path / "other")
    folder = publish_model(store, latent_shape=None)

    assert latent.main(["--model", str(folder), "--data", str(data), "--out", str(tmp_path / "out")]) == 1

    assert "has no latent" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_out_must_be_a_folder(folder, data, capsys):
    """The error comes before anything is computed."""
    assert latent.main(["--model", str(folder), "--data", str(data), "--out", str(data)]) == 1

    assert "--out must be a folder" in capsys.readouterr().err

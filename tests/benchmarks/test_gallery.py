"""The gallery draws the output of presets on shapes and waves, and keeps existing images."""

import numpy as np
import pytest

from benchmarks import gallery
from training.presets import PRESETS


@pytest.mark.slow
def test_images_of_every_kind_of_sample_are_drawn(tmp_path, capsys):
    """Rows of pixels, images with noise on them, windows; as SVG."""
    presets = ["dense-reduce", "conv-denoise", "conv1d"]
    (tmp_path / "dense.svg").write_text("there already")

    assert (
        gallery.main(["--presets", ",".join([*presets, "dense"]), "--epochs", "1", "--out", str(tmp_path)])
        == 0
    )

    images = [(tmp_path / f"{preset}.svg").read_text().count("<image") for preset in presets]
    assert images == [15, 15, 5]  # three rows of images; of windows the latents alone
    assert (tmp_path / "dense.svg").read_text() == "there already"
    assert capsys.readouterr().out.split() == [f"{tmp_path}/{preset}.svg" for preset in [*presets, "dense"]]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_samples_of_its_own(preset):
    """Images within 0 and 1, each of the shapes among those shown; waves for sequences."""
    kind = next(kind for kind in ("image", "sequence", "vector") if kind in PRESETS[preset].kinds)

    samples = gallery._samples(preset, kind)

    assert len(samples) == gallery.N_TRAIN + gallery.N_VALIDATION + gallery.N_SHOWN
    assert np.isfinite(samples).all()
    if kind != "sequence":
        assert (samples.min(), samples.max()) == pytest.approx((0, 1), abs=0.01)
    assert len(np.unique(samples[-gallery.N_SHOWN :], axis=0)) == gallery.N_SHOWN

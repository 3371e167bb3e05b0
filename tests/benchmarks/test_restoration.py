"""The benchmark of restoration compares the right images, and judges the requested rows."""

import json

import numpy as np
import pytest

from benchmarks import restoration
from benchmarks.restoration import CASES, Case
from benchmarks.rows import write_rows


def row(case, *, psnr=22.0, baseline=19.0):
    """Return a row as an earlier run wrote it."""
    return {
        "case": case,
        "data": "mnist",
        "psnr": psnr,
        "baseline": baseline,
        "baseline_clipped": baseline + 0.5,
        "baseline_name": "wiener",
        "published": CASES[case].published,
        "psnr_corrupted": 10.0,
        "flagged_clean": 0.04,
        "flagged_corrupted": 1.0,
        "n_test": 100,
        "n_train": 100,
        "parameters": 10,
        "epochs": 1,
        "fit_seconds": 1.0,
        "denoise_seconds": 1.0,
    }


@pytest.fixture
def mnist(tmp_path):
    """A folder of data that are not worth a fit."""
    images = np.zeros((4, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=images, x_test=images)
    return tmp_path


@pytest.mark.slow
def test_quick_run_restores_through_the_service(tmp_path, capsys):
    """One epoch is fitted, served and compared; a second run takes the row that is there."""
    out = tmp_path / "restoration.json"
    arguments = ["--quick", "--cases", "mosaic-2", "--epochs", "1", "--out", str(out)]

    assert restoration.main(arguments) == 0
    (first,) = json.loads(out.read_text())["rows"]
    assert (first["case"], first["data"], first["epochs"], first["n_test"]) == ("mosaic-2", "digits", 1, 600)
    assert first["baseline_name"] == "bicubic"
    assert 0 < first["psnr"] < 30

    out.write_text(json.dumps({"machine": "m", "rows": [first | {"psnr": 99.0}]}))
    assert restoration.main(arguments) == 0
    assert json.loads(out.read_text())["rows"][0]["psnr"] == 99
    assert "99.00 dB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("psnr", "baseline", "status"),
    [(21.3, 19.1, 0), (21.19, 19.1, 1), (21.3, 19.31, 1), (21.3, 19.29, 0)],
)
def test_status_tells_whether_the_baseline_is_beaten(mnist, psnr, baseline, status):
    """It must be beaten by 2 dB, computed and published; rows that were not requested do not matter."""
    out = mnist / "out.json"
    write_rows(out, [row("noise-0.3", psnr=psnr, baseline=baseline), row("mosaic-2", psnr=1.0)])

    arguments = ["--data-dir", str(mnist), "--cases", "noise-0.3", "--out", str(out)]
    assert restoration.main(arguments) == status


def test_psnr_is_in_units_of_the_value_range():
    """An error of a tenth of the range everywhere is 20 dB."""
    clean = np.zeros((2, 3, 3), dtype=np.uint8)

    assert restoration.psnr(clean + np.float32(25.5), clean) == pytest.approx(20, abs=1e-3)


def test_linear_filter_is_the_best_affine_estimate():
    """No other gain or offset has a smaller error over many draws of the noise."""
    rng = np.random.default_rng(0)
    shape = rng.uniform(0, 255, size=(6, 4))
    images = (rng.uniform(size=(20_000, 6)) @ shape / 6).reshape(-1, 2, 2)
    case = Case("gaussian", 0.2)
    noisy = restoration.corrupt(images, case)

    estimate = restoration.linear_filter(noisy, images, case)

    known = np.column_stack([np.ones(len(noisy)), noisy.reshape(len(noisy), -1)])
    fitted = known @ np.linalg.lstsq(known, images.reshape(len(noisy), -1))[0]
    best = np.square(fitted - images.reshape(len(noisy), -1)).mean()
    assert np.square(estimate - images).mean() == pytest.approx(best, rel=2e-3)


def test_noise_is_in_units_of_the_value_range_and_not_clipped():
    """Every run has the same draws."""
    images = np.full((50, 20, 20), 255, dtype=np.uint8)

    noisy = restoration.corrupt(images, CASES["noise-0.3"])

    assert noisy.dtype == np.float32
    assert np.std(noisy) == pytest.approx(0.3 * 255, rel=0.02)
    assert noisy.max() > 400
    np.testing.assert_array_equal(restoration.corrupt(images, CASES["noise-0.3"]), noisy)


def test_mosaics_are_means_of_tiles_and_bicubic_starts_from_them():
    """An image of even tiles is not changed; up-scaling keeps the size and an even image."""
    even = np.kron(np.arange(4).reshape(1, 2, 2) * 50, np.ones((1, 4, 4))).astype(np.uint8)
    case = CASES["mosaic-4"]

    np.testing.assert_array_equal(restoration.corrupt(even, case), even)
    np.testing.assert_array_equal(restoration.tiles(even, 4), [[[0, 50], [100, 150]]])
    flat = np.full((3, 8, 12), 70.0, dtype=np.float32)
    np.testing.assert_allclose(restoration.bicubic(flat, flat, case), flat, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--quick", "--cases", "noise-0.3,fog"], "--cases: must be among noise-0.3"),
        ([], "--data-dir must name the folder of mnist.npz"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(tmp_path, capsys, arguments, sentence):
    """Bad usage ends with one sentence before anything runs."""
    with pytest.raises(SystemExit, match="2"):
        restoration.main([*arguments, "--out", str(tmp_path / "out.json")])

    assert sentence in capsys.readouterr().err
